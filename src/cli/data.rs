//! `smallvit data`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};
use smallvit::Result;
use smallvit::data::catalogue::{Entry, Format, Set, Spec};
use smallvit::data::pictures::{Fit, Square};
use smallvit::data::remarks::remarks;
use smallvit::data::statistics::{Statistics, class_counts};
use smallvit::data::{Dataset, Skipped, Split, search};
use smallvit::words;

use super::dataset::{self, CopyOptions};
use super::hints;
use super::options::whole;
use super::output;

/// List, fetch and inspect data sets.
#[derive(Subcommand)]
pub enum Command {
    /// List the data sets by name, where a copy was found, and how your own images may be laid out.
    List {
        /// Look in this folder instead of the usual places.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Print the data sets as JSON.
        #[arg(long)]
        json: bool,
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
        /// A data set by its name, or your own as folder:PATH; `smallvit data list` has them all.
        #[arg(value_name = "SET")]
        spec: String,
        /// Pixels a side to which pictures are brought.
        #[arg(long, value_name = "N", default_value = "72", value_parser = whole(1, 4096), allow_hyphen_values = true)]
        folder_size: u64,
        /// How pictures that are not square become so: crop, squash or pad.
        #[arg(long, default_value_t, value_parser = hints::value::<Fit>)]
        fit: Fit,
        #[command(flatten)]
        copy: CopyOptions,
        /// Print the numbers as JSON.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::List { data_dir, json } => {
            let copies = Set::ALL.map(|set| (set, search::locate(set, data_dir.as_deref())));
            let copies = copies.map(|(set, found)| (set, found.map(|found| found.path)));
            match json {
                true => output::print(json!(copies.map(|(set, copy)| listed(set, copy)))),
                false => list(&copies),
            }
            Ok(())
        }
        #[cfg(feature = "download")]
        Command::Fetch { set, mirror } => fetch(&set, mirror.as_deref()),
        Command::Info {
            spec,
            folder_size,
            fit,
            copy,
            json,
        } => {
            let set: Spec = spec.parse()?;
            let dataset = copy.load(
                &spec,
                Square {
                    side: folder_size as usize,
                    fit,
                },
            )?;
            match json {
                true => output::print(measured(&set, &dataset)),
                false => {
                    info(&set, &dataset);
                    dataset::tell_remarks(&dataset);
                }
            }
            Ok(())
        }
    }
}

/// Two lines a set, however long the path of its copy is.
fn list(copies: &[(Set, Option<PathBuf>)]) {
    for (set, copy) in copies {
        let entry = set.entry();
        let [train, test] = entry.images.map(|images| words::count(images as u64));
        output::print(format!(
            "{:14}{}, {}, {} classes, {train} + {test} images",
            entry.name,
            entry.shows,
            size(entry.side, entry.side, entry.channels),
            entry.classes
        ));
        output::print(format!("{:14}{}", "", place(entry, copy.as_deref())));
    }
    output::print("\nYour own images:");
    for format in Format::ALL {
        let (usage, description) = (format.usage(), format.description());
        output::print(format!("{usage:21}{description}"));
    }
    output::print("\n`smallvit data info SET` counts and measures one, and tells its licence.");
}

/// Where a set's copy is, or how it can be had.
fn place(entry: &Entry, copy: Option<&Path>) -> String {
    match copy {
        Some(_) if entry.files.is_empty() => "in the program".to_owned(),
        Some(path) => format!("in {}", path.display()),
        None if cfg!(feature = "download") => {
            format!("not here: smallvit data fetch {}", entry.name)
        }
        None => format!("not here: {}", entry.url),
    }
}

fn size(height: usize, width: usize, channels: usize) -> String {
    let colour = if channels == 1 { "grey" } else { "RGB" };
    format!("{height}×{width} {colour}")
}

/// A set of the list, as JSON.
fn listed(set: Set, copy: Option<PathBuf>) -> Value {
    let entry = set.entry();
    let [train, test] = entry.images;
    let built_in = entry.files.is_empty();
    json!({
        "name": entry.name,
        "title": entry.title,
        "shows": entry.shows,
        "height": entry.side,
        "width": entry.side,
        "channels": entry.channels,
        "classes": entry.classes,
        "images": { "train": train, "test": test },
        "licence": entry.licence,
        "url": (!built_in).then_some(entry.url),
        "download_bytes": set.bytes(),
        "built_in": built_in,
        "copy": copy.filter(|_| !built_in),
    })
}

#[cfg(feature = "download")]
fn fetch(set: &str, mirror: Option<&str>) -> Result<()> {
    use super::dataset::{download_bar, show_download};
    use smallvit::Error;
    use smallvit::data::fetch::fetch;

    let set = match set.parse()? {
        Spec::Named(Set::SignDigits) => {
            output::print("sign-digits is in the program: there is nothing to fetch");
            return Ok(());
        }
        Spec::Named(set) => set,
        own @ Spec::Files(..) => {
            return Err(Error::recipe(
                "SET",
                format!("{own} is your own and here already: there is nothing to fetch"),
                format!("use it: --data {own}"),
            ));
        }
    };
    let bar = download_bar();
    let path = fetch(set, mirror, &mut |done, total| {
        show_download(&bar, set.name(), done, total);
    })?;
    bar.finish_and_clear();
    output::print(format!("{} is in {}", set.name(), path.display()));
    Ok(())
}

fn licence(set: &Spec) -> Option<&'static str> {
    match set {
        Spec::Named(set) => Some(set.entry().licence),
        Spec::Files(..) => None,
    }
}

/// The deviation of each channel, in 0..255.
fn deviation(statistics: &Statistics) -> Vec<f64> {
    statistics.variance.iter().map(|v| v.sqrt()).collect()
}

/// Images of each class in each split.
fn counts<'a>(dataset: &'a Dataset) -> Vec<(&'static str, &'a Split, Vec<usize>)> {
    let classes = dataset.classes.len();
    let count = |(name, split): (_, &'a Split)| (name, split, class_counts(&split.labels, classes));
    dataset.splits().map(count).collect()
}

fn info(set: &Spec, dataset: &Dataset) {
    let images = &dataset.train.images;
    let statistics = Statistics::of(images);
    let numbers = |values: &[f64]| {
        let numbers = |by: f64| {
            let texts = values.iter().map(|v| format!("{:.4}", v / by));
            texts.collect::<Vec<_>>().join(", ")
        };
        format!("{}   (of 0..1: {})", numbers(1.0), numbers(255.0))
    };
    output::print(format!(
        "{}: {}, {} classes",
        output::name(&dataset.name),
        size(images.height, images.width, images.channels),
        words::count(dataset.classes.len() as u64)
    ));
    if let Some(licence) = licence(set) {
        output::print(format!("licence      {licence}"));
    }
    output::print(format!("mean         {}", numbers(&statistics.mean)));
    output::print(format!("deviation    {}", numbers(&deviation(&statistics))));
    output::print(format!("fingerprint  {}", dataset.fingerprint()));
    let counts = counts(dataset);
    let names = counts.iter().map(|(name, ..)| *name);
    let header: Vec<&str> = std::iter::once("class").chain(names).collect();
    let row = |name: &str, counts: Vec<usize>| -> Vec<String> {
        let counts = counts.into_iter().map(|n| words::count(n as u64));
        std::iter::once(name.to_owned()).chain(counts).collect()
    };
    let class = |(class, name): (usize, &String)| {
        row(
            name,
            counts.iter().map(|(.., counts)| counts[class]).collect(),
        )
    };
    let mut rows: Vec<Vec<String>> = dataset.classes.iter().enumerate().map(class).collect();
    rows.push(row(
        "all",
        counts.iter().map(|(_, split, _)| split.len()).collect(),
    ));
    output::table(&header, &rows);
}

/// What [`info`] prints, as JSON.
fn measured(set: &Spec, dataset: &Dataset) -> Value {
    let images = &dataset.train.images;
    let statistics = Statistics::of(images);
    let split = |(name, split, counts): (&'static str, &Split, Vec<usize>)| {
        (
            name.to_owned(),
            json!({ "images": split.len(), "by_class": counts }),
        )
    };
    let skipped =
        |file: &Skipped| json!({ "path": file.path.display().to_string(), "reason": file.reason });
    let skipped: Vec<Value> = dataset.skipped.iter().map(skipped).collect();
    let notes = [&dataset.notes[..], &remarks(dataset)].concat();
    let splits: serde_json::Map<_, _> = counts(dataset).into_iter().map(split).collect();
    json!({
        "name": dataset.name,
        "licence": licence(set),
        "height": images.height,
        "width": images.width,
        "channels": images.channels,
        "classes": dataset.classes,
        "splits": splits,
        "mean": statistics.mean,
        "deviation": deviation(&statistics),
        "fingerprint": dataset.fingerprint(),
        "skipped": skipped,
        "notes": notes,
    })
}
