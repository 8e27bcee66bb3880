//! `smallvit bench`: what a training step costs here.

use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use clap::Args;
use smallvit::augment::loader::{EpochAugmentation, Loader, Plan, make};
use smallvit::data::{Dataset, Images, Split};
use smallvit::model::weights::Array;
use smallvit::model::{ModelName, Pass, Vit};
use smallvit::random::{Purpose, Stream};
use smallvit::report::table;
use smallvit::train::fit::{median, peak_memory};
use smallvit::train::metrics::cross_entropy;
use smallvit::train::optimizer::AdamW;
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::Recipe;
use smallvit::train::workers::Workers;
use smallvit::{Error, Result};
use smallvit_kernels::matrix::{self, Precision};

use super::options::{self, DeviceOption, PrecisionOption};

/// Time a training step and its parts, on made-up images.
#[derive(Args)]
pub struct Arguments {
    /// A built-in recipe or a TOML file.
    #[arg(long, value_name = "NAME|FILE", default_value = "keras-2022")]
    recipe: String,
    /// Override a field of the recipe; may be repeated.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    settings: Vec<String>,
    /// vit, spt-vit, lsa-vit or sl-vit.
    #[arg(long, default_value = "sl-vit")]
    model: ModelName,
    /// Images a step [default: the recipe's].
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Pixels a side of the images, before resizing.
    #[arg(long, value_name = "N", default_value_t = 32)]
    input: usize,
    /// Classes.
    #[arg(long, value_name = "N", default_value_t = 100)]
    classes: usize,
    /// Steps to time, after one that is not counted.
    #[arg(long, value_name = "N", default_value_t = 8)]
    steps: usize,
    /// Threads [default: one a core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    precision: PrecisionOption,
    /// Time inference instead.
    #[arg(long)]
    inference: bool,
    /// By Burn's own operations, without smallvit's kernels, to compare.
    #[arg(long)]
    composed: bool,
    /// Only the whole step, not its parts.
    #[arg(long)]
    whole: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let mut settings = arguments.settings.clone();
    settings.extend(arguments.batch.map(|batch| format!("train.batch={batch}")));
    settings.extend(arguments.precision.setting());
    let mut recipe = Recipe::load(&arguments.recipe, &settings)?;
    recipe.model = recipe.model.named(arguments.model);
    for (flag, value, least) in [
        ("--steps", arguments.steps, 1),
        ("--classes", arguments.classes, 2),
        ("--input", arguments.input, 1),
    ] {
        if value < least || value > 1 << 16 {
            let remedy = format!("choose {least} to {}", 1 << 16);
            return Err(Error::recipe(
                flag,
                format!("{value} is out of range"),
                remedy,
            ));
        }
    }
    let precision = recipe.train.precision;
    if precision != Precision::F32 && (arguments.inference || arguments.composed) {
        return Err(Error::recipe(
            "--precision",
            "inference and Burn's own operations are in float32 only",
            "leave out --inference or --composed, or choose f32",
        ));
    }
    let threads = options::threads(arguments.threads);
    let mut workers = Workers::new(threads, recipe.train.micro_batch, arguments.device.open()?)?
        .in_precision(precision)?;
    if arguments.composed {
        workers = workers.composed();
    }
    let bench = Bench {
        data: made_up(&recipe, arguments.input, arguments.classes)?,
        workers,
        recipe: &recipe,
        threads,
        steps: arguments.steps,
    };
    let ceiling = gemm_ceiling(threads, precision);
    let whole = if arguments.inference {
        bench.inference()
    } else {
        bench.training()
    };
    let peak = peak_memory();
    let images = recipe.train.batch as f64;
    let passes = if arguments.inference { 1.0 } else { 3.0 };
    let products = bench.recipe.model.products(3, arguments.classes) as f64;
    let gflops = 2e-9 * passes * products * images / whole.median;
    let parts = if arguments.whole || arguments.inference {
        vec![]
    } else {
        bench.parts()
    };

    if arguments.json {
        let parts: serde_json::Map<_, _> = parts
            .iter()
            .map(|(name, time)| (name.to_string(), time.median.into()))
            .collect();
        super::print(serde_json::json!({
            "model": arguments.model, "recipe": recipe.name, "batch": recipe.train.batch,
            "threads": threads, "precision": precision.to_string(), "composed": arguments.composed, "inference": arguments.inference,
            "seconds_per_step": whole.median, "min": whole.min, "max": whole.max,
            "images_per_second": images / whole.median,
            "gflops": gflops, "gemm_ceiling_gflops": ceiling, "share_of_ceiling": gflops / ceiling,
            "peak_rss_bytes": peak, "parts": parts, "version": env!("CARGO_PKG_VERSION"),
        }));
        return Ok(());
    }
    let row = |name: &str, time: &Times| {
        vec![
            name.to_string(),
            table::seconds(time.median),
            table::seconds(time.min),
            table::seconds(time.max),
            format!("{:.1} %", 100.0 * time.median / whole.median),
        ]
    };
    let what = if arguments.inference {
        "inference"
    } else {
        "training step"
    };
    let mut rows = vec![row(what, &whole)];
    rows.extend(parts.iter().map(|(name, time)| row(name, time)));
    super::print(table::plain(
        &["", "median", "min", "max", "of the whole"],
        &rows,
    ));
    super::print(format!(
        "\n{} of {}, batch {}, {precision}, {threads} threads: {:.1} images/s, {gflops:.0} Gflop/s of the {ceiling:.0} \
         that products in cache reach here ({:.0} %){}",
        arguments.model,
        recipe.name,
        recipe.train.batch,
        images / whole.median,
        100.0 * gflops / ceiling,
        peak.map_or(String::new(), |peak| format!(
            ", peak memory {}",
            table::bytes(peak)
        )),
    ));
    Ok(())
}

/// Times in seconds.
struct Times {
    median: f64,
    min: f64,
    max: f64,
}

impl Times {
    fn of(seconds: &[f32]) -> Self {
        let fold = |pick: fn(f32, f32) -> f32| {
            f64::from(seconds.iter().copied().reduce(pick).unwrap_or(f32::NAN))
        };
        Self {
            median: median(seconds),
            min: fold(f32::min),
            max: fold(f32::max),
        }
    }
}

/// Images and labels from a named stream.
fn made_up(recipe: &Recipe, side: usize, classes: usize) -> Result<Prepared> {
    let mut stream = Stream::new(recipe.train.seed, Purpose::Show, 1, 0);
    let mut split = |count: usize| Split {
        images: Images {
            height: side,
            width: side,
            channels: 3,
            pixels: (0..count * side * side * 3)
                .map(|_| stream.next() as u8)
                .collect(),
        },
        labels: (0..count).map(|i| (i % classes) as u32).collect(),
    };
    let dataset = Dataset {
        name: "made up".into(),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        train: split(4 * recipe.train.batch.max(16)),
        validation: Some(split(classes)),
        test: Some(split(classes)),
        skipped: vec![],
    };
    Prepared::new(dataset, recipe)
}

/// All threads together.
fn gemm_ceiling(threads: usize, precision: Precision) -> f64 {
    std::thread::scope(|scope| {
        let each = || matrix::ceiling(precision, 0.4);
        let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(each)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or(f64::NAN))
            .sum()
    })
}

struct Bench<'a> {
    recipe: &'a Recipe,
    data: Prepared,
    workers: Workers,
    threads: usize,
    steps: usize,
}

impl Bench<'_> {
    fn shape(&self) -> [usize; 3] {
        let size = self.recipe.model.image_size;
        [size, size, self.data.info.input[2]]
    }

    fn epoch(&self, epoch: u64) -> EpochAugmentation {
        EpochAugmentation {
            augmentation: self.recipe.augment.clone(),
            seed: self.recipe.train.seed,
            epoch,
        }
    }

    /// The training loop's own step: the loader runs, and nothing is left out.
    fn training(&self) -> Times {
        let train = &self.recipe.train;
        let mut model = self.data.info.init(train.seed, self.workers.device());
        let mut optimizer = AdamW::new(self.recipe.adamw());
        let samples = &self.data.train.samples;
        let batches = (0..).flat_map(|epoch| {
            Loader::start(
                self.data.train.split.clone(),
                Plan::shuffled(samples, train.batch, train.seed, epoch, 0),
                self.data.preprocess(),
                Some(self.epoch(epoch)),
                self.threads,
            )
        });
        let mut times = vec![];
        let mut began = Instant::now();
        for (step, batch) in batches.take(self.steps + 1).enumerate() {
            let (smoothing, seed) = (train.label_smoothing, train.seed);
            let outcome =
                self.workers
                    .train(&model, &batch, self.shape(), smoothing, seed, step as u64);
            model = optimizer.step(model, outcome.gradients, train.learning_rate);
            times.push(began.elapsed().as_secs_f32());
            began = Instant::now();
        }
        Times::of(&times[1..])
    }

    fn inference(&self) -> Times {
        let model = self
            .data
            .info
            .init(self.recipe.train.seed, self.workers.device());
        let batch = self.batch();
        self.time(|| drop(self.workers.infer(&model, &batch, self.shape())))
    }

    /// A batch's preprocessed and augmented images.
    fn batch(&self) -> Vec<f32> {
        let samples: Vec<u32> = (0..self.recipe.train.batch as u32).collect();
        let (split, preprocess) = (&self.data.train.split, self.data.preprocess());
        make(split, &samples, &preprocess, Some(&self.epoch(0))).images
    }

    fn time(&self, mut work: impl FnMut()) -> Times {
        work();
        let times: Vec<f32> = (0..self.steps)
            .map(|_| {
                let began = Instant::now();
                work();
                began.elapsed().as_secs_f32()
            })
            .collect();
        Times::of(&times)
    }

    fn parts(&self) -> Vec<(&'static str, Times)> {
        let train = &self.recipe.train;
        let config = &self.recipe.model;
        let images = train.batch;
        let model = self.data.info.init(train.seed, self.workers.device());
        let batch = self.batch();
        let [height, width, channels] = self.shape();
        let numbers = images * config.tokens() * config.dim;
        let tokens: Vec<f32> = (0..numbers)
            .map(|i| (i % 1009) as f32 / 504.0 - 1.0)
            .collect();
        let tensor = |first: usize, count: usize| -> Tensor<3> {
            let image = config.tokens() * config.dim;
            let part = tokens[first * image..][..count * image].to_vec();
            let data = TensorData::new(part, [count, config.tokens(), config.dim]);
            Tensor::from_data(data, self.workers.device())
                .autodiff()
                .require_grad()
        };
        let labels: Vec<u32> = (0..images as u32)
            .map(|i| i % self.data.info.classes.len() as u32)
            .collect();

        let augmentation = {
            let mut times = self.time(|| drop(self.batch()));
            // One thread did what the loader's threads share.
            for time in [&mut times.median, &mut times.min, &mut times.max] {
                *time /= self.threads as f64;
            }
            times
        };
        let differentiate = |loss: &(dyn Fn(&Vit, &mut Pass, usize, usize) -> Tensor<1> + Sync)| {
            self.time(|| {
                drop(self.workers.gradients(
                    &model,
                    images,
                    |first| Pass::training(train.seed, 0, first),
                    |model, pass, first, count| (loss(model, pass, first, count), ()),
                    |_, ()| (),
                ));
            })
        };
        let tokenizer = differentiate(&|model, pass, first, count| {
            let image = height * width * channels;
            let part = batch[first * image..][..count * image].to_vec();
            let data = TensorData::new(part, [count, height, width, channels]);
            let input = Tensor::from_data(data, self.workers.device()).autodiff();
            model.tokenize(input, pass).sum()
        });
        let blocks = differentiate(&|model, pass, first, count| {
            model.encode(tensor(first, count), pass).sum()
        });
        let head = differentiate(&|model, pass, first, count| {
            let logits = model.classify(tensor(first, count), pass);
            cross_entropy(logits, &labels[first..][..count], 0.0)
        });
        let mut optimizer = AdamW::new(self.recipe.adamw());
        let mut moving = Some(model);
        let mut times = vec![];
        for _ in 0..=self.steps {
            let Some(model) = moving.take() else { break };
            let gradients = smallvit::model::weights::weights(&model)
                .into_iter()
                .map(|(name, Array { values, .. })| {
                    let length = [values.len()];
                    let data = TensorData::new(values, length);
                    (name, Tensor::from_data(data, self.workers.device()))
                })
                .collect();
            let began = Instant::now();
            moving = Some(optimizer.step(model, gradients, train.learning_rate));
            times.push(began.elapsed().as_secs_f32());
        }
        vec![
            ("augmentation, beside it", augmentation),
            ("tokenizer", tokenizer),
            ("blocks", blocks),
            ("head", head),
            ("optimizer", Times::of(&times[1..])),
        ]
    }
}
