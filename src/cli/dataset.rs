//! Where a command's images come from.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use smallvit::data::catalogue::Spec;
use smallvit::data::pictures::Square;
use smallvit::data::remarks::remarks;
use smallvit::data::{self, Dataset, LoadOptions, Loading, search};
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::Recipe;
use smallvit::words;
use smallvit::{Error, Result};

use super::hints;
use super::output::{self, note};

/// Where images come from.
#[derive(Args, Clone)]
pub struct DataOptions {
    /// cifar100, cifar10, fashion-mnist, mnist or sign-digits; or your own: folder:PATH, csv:FILE,
    /// npz:FILE, tiny-imagenet:PATH, svhn:PATH (`smallvit data list` says what each is).
    #[arg(long, value_name = "SET")]
    pub data: Option<String>,
    #[command(flatten)]
    pub copy: CopyOptions,
}

impl DataOptions {
    /// As [`CopyOptions::load`].
    pub fn load(&self, set: &str, square: Square) -> Result<Dataset> {
        self.copy.load(set, square)
    }
}

/// Where a data set's copy lies, and what is done about one that is not there or not whole.
#[derive(Args, Clone)]
pub struct CopyOptions {
    /// Where a copy of the data set lies; otherwise it is looked for and fetched.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Refuse pictures of which one does not decode, instead of passing over it.
    #[arg(long)]
    pub strict: bool,
    /// Never download.
    #[arg(long)]
    pub offline: bool,
}

impl CopyOptions {
    /// Loads a data set, pictures in files of their own as squares, and says what was passed over.
    pub fn load(&self, set: &str, square: Square) -> Result<Dataset> {
        let spec: Spec = set.parse()?;
        if let (Spec::Files(..), Some(_)) = (&spec, &self.data_dir) {
            let problem = format!("{spec} says where it is, and so is not looked for");
            return Err(Error::recipe("--data-dir", problem, "leave it out"));
        }
        let options = LoadOptions {
            data_dir: self.data_dir.clone(),
            square,
            strict: self.strict,
            may_fetch: !self.offline,
            mirror: None,
        };
        let (bar, pictures) = (download_bar(), pictures_bar());
        let loaded = data::load(&spec, &options, &mut |loading| match loading {
            Loading::Download(done, total) => show_download(&bar, set, done, total),
            Loading::Pictures(done, total) => {
                pictures.set_length(total as u64);
                pictures.set_position(done as u64);
            }
        });
        pictures.finish_and_clear();
        let dataset = loaded.map_err(|error| match &spec {
            Spec::Named(set) if search::locate(*set, self.data_dir.as_deref()).is_none() => {
                hints::and(error, self.where_from())
            }
            _ if self.strict && error.remedy().ends_with("to be passed over") => {
                hints::and(error, "leave --strict out")
            }
            _ => error,
        })?;
        bar.finish_and_clear();
        tell_skipped(&dataset);
        for text in &dataset.notes {
            note!("{text}");
        }
        Ok(dataset)
    }

    /// Which flags bear on a copy that was not found.
    fn where_from(&self) -> &'static str {
        match (&self.data_dir, self.offline) {
            (Some(_), _) => "give another --data-dir, or leave it out",
            (None, true) if cfg!(feature = "download") => {
                "leave --offline out, or give --data-dir DIR"
            }
            (None, _) => "--data-dir DIR names the folder of a copy",
        }
    }
}

/// A bar for bytes that come in.
pub fn download_bar() -> ProgressBar {
    let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}";
    ProgressBar::with_draw_target(None, target())
        .with_style(ProgressStyle::with_template(style).expect("the template is well-formed"))
}

/// Where bars are drawn.
fn target() -> ProgressDrawTarget {
    match output::is_live() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    }
}

/// Moves the bar.
pub fn show_download(bar: &ProgressBar, file: &str, done: u64, total: Option<u64>) {
    bar.set_message(file.to_owned());
    if let Some(total) = total {
        bar.set_length(total);
    }
    bar.set_position(done);
}

/// A bar for pictures that are decoded.
fn pictures_bar() -> ProgressBar {
    let style = "reading pictures {bar:30} {pos}/{len} ETA {eta}";
    ProgressBar::with_draw_target(None, target())
        .with_style(ProgressStyle::with_template(style).expect("the template is well-formed"))
}

/// Which pictures were passed over, the first of them by name.
fn tell_skipped(dataset: &Dataset) {
    const NAMED: usize = 5;
    let skipped = &dataset.skipped;
    for skipped in skipped.iter().take(NAMED) {
        note!("passed over {skipped}");
    }
    let more = match skipped.len() {
        0 => return,
        1..=NAMED => String::new(),
        all => format!(", {} more", all - NAMED),
    };
    note!(
        "{} passed over in all{more}; --strict refuses such a data set",
        words::counted(skipped.len() as u64, "picture")
    );
}

/// What is odd about a data set that is to be trained on.
pub fn tell_remarks(dataset: &Dataset) {
    for remark in remarks(dataset) {
        note!("{}: {remark}", dataset.name);
    }
}

/// A data set as a recipe divides it; what is odd about either is told.
pub fn prepared(dataset: Dataset, recipe: &Recipe) -> Result<Prepared> {
    tell_remarks(&dataset);
    let prepared = Prepared::new(dataset, recipe)?;
    for remark in prepared.remarks() {
        note!("{}: {remark}", prepared.name);
    }
    Ok(prepared)
}

/// What pictures in files of their own are brought to.
pub fn square(recipe: &Recipe) -> Square {
    let side = match recipe.data.folder_size {
        0 => recipe.model.image_size(),
        size => size,
    };
    let fit = recipe.data.fit;
    Square { side, fit }
}
