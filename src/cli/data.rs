//! `smallvit data`.

use std::path::PathBuf;

use clap::Subcommand;
use smallvit::Result;
use smallvit::data::catalogue::Set;
use smallvit::data::search;
use smallvit::data::statistics::{Statistics, class_counts};
use smallvit::report::table;

use super::options::DataOptions;
use super::output;

/// List, fetch and inspect data sets.
#[derive(Subcommand)]
pub enum Command {
    /// List the data sets by name, and where a copy was found.
    List {
        /// Look in this folder instead of the usual places.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Download a data set into the cache: resumed if broken off, verified, then moved into place.
    #[cfg(feature = "download")]
    Fetch {
        /// cifar100, cifar10, fashion-mnist or mnist.
        set: String,
        /// Take the files from here instead of their publisher; checksums must still fit.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// Count and measure a data set.
    Info {
        /// cifar100, cifar10, fashion-mnist, mnist, sign-digits or folder:PATH.
        spec: String,
        /// Pixels a side to which a folder's images are brought.
        #[arg(long, default_value_t = 72)]
        folder_size: usize,
        #[command(flatten)]
        data: DataOptions,
    },
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::List { data_dir } => {
            let rows: Vec<Vec<String>> = Set::ALL
                .into_iter()
                .map(|set| {
                    let entry = set.entry();
                    let here = match search::locate(set, data_dir.as_deref()) {
                        Some(_) if set == Set::SignDigits => "in the program".into(),
                        Some(found) => found.path.display().to_string(),
                        None if cfg!(feature = "download") => {
                            format!("not here: smallvit data fetch {}", entry.name)
                        }
                        None => format!("not here: {}", entry.url),
                    };
                    [entry.name, entry.description, entry.licence, &here]
                        .map(String::from)
                        .to_vec()
                })
                .collect();
            output::table(&["name", "what", "licence", "copy"], &rows);
            output::print("\nfolder:PATH is a folder of class folders of PNG and JPEG pictures.");
            Ok(())
        }
        #[cfg(feature = "download")]
        Command::Fetch { set, mirror } => fetch(&set, mirror.as_deref()),
        Command::Info {
            spec,
            folder_size,
            data,
        } => info(&spec, folder_size, &data),
    }
}

#[cfg(feature = "download")]
fn fetch(set: &str, mirror: Option<&str>) -> Result<()> {
    use super::options::{download_bar, show_download};
    use smallvit::Error;
    use smallvit::data::catalogue::Spec;
    use smallvit::data::fetch::fetch;

    let Spec::Named(set) = set.parse()? else {
        return Err(Error::recipe(
            "SET",
            "a folder is already here",
            "use it: --data folder:PATH",
        ));
    };
    let bar = download_bar();
    let path = fetch(set, mirror, &mut |done, total| {
        show_download(&bar, set.name(), done, total);
    })?;
    bar.finish_and_clear();
    output::print(format!("{} is in {}", set.name(), path.display()));
    Ok(())
}

fn info(spec: &str, folder_size: usize, options: &DataOptions) -> Result<()> {
    let dataset = options.load(spec, folder_size)?;
    let images = &dataset.train.images;
    let statistics = Statistics::of(images);
    let deviation: Vec<f64> = statistics.variance.iter().map(|v| v.sqrt()).collect();
    let numbers = |values: &[f64], by: f64| {
        let texts: Vec<String> = values.iter().map(|v| format!("{:.4}", v / by)).collect();
        texts.join(", ")
    };
    output::print(format!(
        "{}: {}×{} pixels, {} channel(s), {} classes",
        dataset.name,
        images.height,
        images.width,
        images.channels,
        dataset.classes.len()
    ));
    output::print(format!(
        "mean       {}   (of 0..1: {})",
        numbers(&statistics.mean, 1.0),
        numbers(&statistics.mean, 255.0)
    ));
    output::print(format!(
        "deviation  {}   (of 0..1: {})",
        numbers(&deviation, 1.0),
        numbers(&deviation, 255.0)
    ));
    let splits: Vec<_> = dataset.splits().collect();
    let header: Vec<&str> = std::iter::once("class")
        .chain(splits.iter().map(|(name, _)| *name))
        .collect();
    let classes = dataset.classes.len();
    let counts: Vec<Vec<usize>> = splits
        .iter()
        .map(|(_, split)| class_counts(&split.labels, classes))
        .collect();
    let mut rows: Vec<Vec<String>> = dataset
        .classes
        .iter()
        .enumerate()
        .map(|(class, name)| {
            let counts = counts.iter().map(|c| table::count(c[class] as u64));
            std::iter::once(name.clone()).chain(counts).collect()
        })
        .collect();
    let totals = splits
        .iter()
        .map(|(_, split)| table::count(split.len() as u64));
    rows.push(std::iter::once("all".into()).chain(totals).collect());
    output::table(&header, &rows);
    Ok(())
}
