//! `smallvit serve`: a page to try models on pictures, and the interface below it.

mod metrics;
mod routes;
mod wire;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use smallvit::models::file::Contents;
use smallvit::report::picture::png;
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::Recipe;
use smallvit::train::result::read_result;
use smallvit::{Error, Result, words};
use tokio::sync::Semaphore;

use self::metrics::Metrics;
use self::routes::{Shop, routes};
use self::wire::About;
use super::dataset::{self, CopyOptions};
use super::evaluate::{Checkpoint, Which};
use super::hints;
use super::options::{self, DeviceOption, InferencePrecision, Threads};
use super::output::note;
use super::signals;
use super::web::ListenOptions;
use super::web::engine::{Engine, Served};

/// Serve a page to try models on pictures, with a JSON interface beside it.
///
/// Several models answer side by side. The interface is described by /openapi.json; /healthz tells that the
/// server lives, /metrics what it does (for Prometheus). Pictures are kept nowhere.
#[derive(Args)]
pub struct Arguments {
    /// Run folders, or models' safetensors files.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    #[command(flatten)]
    listen: ListenOptions,
    /// Requests that may wait or be worked on; those beyond are told to come again (status 429).
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = options::whole(1, 10_000), allow_hyphen_values = true)]
    queue: u64,
    /// The most bytes of a picture's file, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = options::whole(1, 256), allow_hyphen_values = true)]
    max_body: u64,
    /// How long a client may take to send a picture, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = options::whole(1, 3600), allow_hyphen_values = true)]
    max_wait: u64,
    /// Offer no pictures of the models' data as examples.
    #[arg(long)]
    no_examples: bool,
    #[command(flatten)]
    copy: CopyOptions,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    precision: InferencePrecision,
    #[command(flatten)]
    threads: Threads,
}

pub fn run(arguments: Arguments) -> Result<()> {
    arguments.listen.check()?;
    let device = arguments.device.open()?;
    let workers = arguments
        .precision
        .workers(&arguments.threads, device.clone())?;
    let (mut about, mut served): (Vec<About>, Vec<Served>) = (vec![], vec![]);
    let mut examples = vec![];
    for path in &arguments.models {
        let file = arguments.which.file(path)?;
        let mut contents = Contents::read(&file)?;
        let (info, model) = contents.model(&device)?;
        let recipe = contents
            .text("recipe")
            .map(|text| Recipe::parse(text, file.display()));
        let recipe = recipe.transpose()?.map(|restored| restored.recipe);
        if let (Some(recipe), true) = (&recipe, examples.is_empty() && !arguments.no_examples) {
            let fingerprint = contents.text("fingerprint").map(str::to_owned);
            examples = self::examples(recipe, fingerprint.as_deref(), &arguments.copy);
        }
        let layers: Vec<usize> = model.attentions().iter().map(|(_, a)| a.heads).collect();
        let result = read_result(&path.join("result.json"))
            .ok()
            .and_then(|mut all| all.pop());
        let cut = info.config.cut();
        let side = (info.config.image_size() + 2 * cut.padding - cut.patch) / cut.stride + 1;
        let name = info.config.name().to_string();
        let folder = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        about.push(About {
            id: unique(
                &about,
                [
                    name.clone(),
                    format!("{name} ({folder})"),
                    path.display().to_string(),
                ],
            ),
            name,
            parameters: model.parameters(),
            image_size: info.config.image_size(),
            channels: info.input[2],
            classes: info.classes.clone(),
            data: recipe.map(|recipe| recipe.data.set),
            test_top1: result.map(|result| match arguments.which.checkpoint {
                Checkpoint::Best => result.test_top1,
                Checkpoint::Last => result.last_test_top1,
            }),
            spt: info.config.spt,
            lsa: info.config.lsa,
            layers: layers.len(),
            heads: layers.into_iter().max().unwrap_or(0),
            grid: [side, side],
        });
        served.push(Served { info, model });
    }
    let infos = served.iter().map(|served| served.info.clone()).collect();
    let metrics = Arc::new(Metrics::default());
    let counted = metrics.clone();
    let engine = Engine::start(served, workers, move |images| {
        counted.images.inc_by(images as u64);
        counted.together.observe(images as f64);
    })?;
    let shop = Arc::new(Shop {
        about,
        infos,
        examples,
        engine,
        queue: Arc::new(Semaphore::new(arguments.queue as usize)),
        places: arguments.queue as usize,
        decoding: Arc::new(Semaphore::new(arguments.threads.count())),
        most_bytes: (arguments.max_body as usize) << 20,
        patience: Duration::from_secs(arguments.max_wait),
        metrics,
    });
    let names: Vec<&str> = shop.about.iter().map(|about| about.id.as_str()).collect();
    let what = words::listed(names, 4);
    arguments.listen.serve(
        routes(shop),
        &what,
        &signals::stop_flag_for("answering what has been asked"),
    )
}

/// The first of these names that no other model has; the last with a number else.
fn unique(others: &[About], names: [String; 3]) -> String {
    let taken = |name: &String| others.iter().any(|other| other.id == *name);
    let last = names[2].clone();
    let numbered = (2..).map(move |number| format!("{last} ({number})"));
    let free = names.into_iter().chain(numbered).find(|name| !taken(name));
    free.expect("one of the names is free")
}

/// An example picture.
struct Example {
    /// What it is.
    class: String,
    /// Its file.
    png: Vec<u8>,
}

/// Some of a model's test pictures, of as many classes as there are; none, and told, where they are not here.
fn examples(recipe: &Recipe, fingerprint: Option<&str>, copy: &CopyOptions) -> Vec<Example> {
    const MOST: usize = 12;
    let here = CopyOptions {
        offline: true,
        ..copy.clone()
    };
    let loaded = here.load(&recipe.data.set, dataset::square(recipe));
    let prepared = loaded.and_then(|dataset| match fingerprint {
        Some(known) if known == dataset.fingerprint() => Prepared::new(dataset, recipe),
        _ => Err(Error::data(&recipe.data.set, "it has changed since", "")),
    });
    let data = match prepared {
        Ok(data) => data,
        Err(error) => {
            note!("no example pictures: {}", hints::message(&error));
            return vec![];
        }
    };
    let images = &data.test.split.images;
    let mut of_classes: HashMap<u32, usize> = HashMap::new();
    let rounds = MOST.div_ceil(data.info.classes.len());
    let samples = data.test.samples.iter().filter(|&&sample| {
        let of_class = of_classes
            .entry(data.test.split.labels[sample as usize])
            .or_default();
        *of_class += 1;
        *of_class <= rounds
    });
    let mut chosen: Vec<u32> = samples.copied().collect();
    chosen.sort_by_key(|&sample| data.test.split.labels[sample as usize]);
    // Of many classes, some from all over.
    let step = chosen.len().div_ceil(MOST).max(1);
    let chosen = chosen.into_iter().step_by(step);
    let made = chosen.filter_map(|sample| {
        let pixels = images.image(sample as usize);
        Some(Example {
            class: data.info.classes[data.test.split.labels[sample as usize] as usize].clone(),
            png: png(pixels, [images.height, images.width, images.channels]).ok()?,
        })
    });
    made.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_has_a_name_of_its_own() {
        let about = |id: &str| About {
            id: id.into(),
            name: "vit".into(),
            parameters: 0,
            image_size: 8,
            channels: 3,
            classes: vec![],
            data: None,
            test_top1: None,
            spt: false,
            lsa: false,
            layers: 0,
            heads: 0,
            grid: [1, 1],
        };
        let names = || {
            [
                "vit".to_owned(),
                "vit (run)".to_owned(),
                "runs/run".to_owned(),
            ]
        };
        let mut all = vec![];
        for expected in [
            "vit",
            "vit (run)",
            "runs/run",
            "runs/run (2)",
            "runs/run (3)",
        ] {
            let id = unique(&all, names());
            assert_eq!(id, expected);
            all.push(about(&id));
        }
    }
}
