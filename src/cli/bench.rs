//! `smallvit bench`: what a training step costs here.

use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use clap::Args;
use smallvit::augment::Targets;
use smallvit::augment::loader::{EpochAugmentation, Loader, Sampler, make};
use smallvit::data::{Dataset, Images, Split};
use smallvit::memory;
use smallvit::models::{Model, ModelName};
use smallvit::nn::Context;
use smallvit::params::Array;
use smallvit::random::{Purpose, Stream};
use smallvit::train::clock::median;
use smallvit::train::gradients::Gradients;
use smallvit::train::metrics::{LossConfig, cross_entropy};
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::Recipe;
use smallvit::train::schedule::{Schedule, ScheduleKind};
use smallvit::train::state::TrainState;
use smallvit::train::step::{StepConfig, train_step};
use smallvit::train::workers::Workers;
use smallvit::words;
use smallvit::{Error, Result};
use smallvit_kernels::matrix::{self, Precision};

use super::hints;
use super::options::{self, DeviceOption, PrecisionOption, Threads};
use super::output;

/// Time a training step and its parts, on made-up images.
#[derive(Args)]
pub struct Arguments {
    /// A built-in recipe or a TOML file.
    #[arg(long, value_name = "NAME|FILE", default_value = "keras-2022")]
    recipe: String,
    /// Override a field of the recipe; may be repeated.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    settings: Vec<String>,
    #[arg(long, help = format!("Which: {}", ModelName::list()), default_value = "sl-vit", value_parser = hints::value::<ModelName>)]
    model: ModelName,
    /// Images a step [default: the recipe's].
    #[arg(long, value_name = "N", value_parser = options::whole(1, 1 << 20), allow_hyphen_values = true)]
    batch: Option<u64>,
    /// Pixels a side of the images, before resizing.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = options::whole(1, 1 << 16), allow_hyphen_values = true)]
    input: u64,
    /// Classes.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::whole(2, 1 << 16), allow_hyphen_values = true)]
    classes: u64,
    /// Steps to time, after one that is not counted.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = options::whole(1, 1 << 16), allow_hyphen_values = true)]
    steps: u64,
    #[command(flatten)]
    threads: Threads,
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
    // Settings are of the model that is timed.
    let own = options::recipe(&arguments.recipe, &[])?.model;
    let is_other = own.name().family != arguments.model.family;
    let other = is_other.then(|| own.named(arguments.model));
    let mut recipe = options::recipe_for(&arguments.recipe, other.as_ref(), &settings)?;
    recipe.model = recipe.model.named(arguments.model);
    let threads = arguments.threads.count();
    check_room(&recipe, &arguments, threads)?;
    let precision = recipe.train.precision;
    if precision != Precision::F32 && arguments.composed {
        return Err(Error::recipe(
            "--precision",
            "Burn's own operations are in float32 only",
            "leave out --composed, or choose f32",
        ));
    }
    let mut workers = Workers::new(threads, recipe.train.micro_batch, arguments.device.open()?)?
        .in_precision(precision)?
        .inferring_in(precision)?;
    if arguments.composed {
        workers = workers.composed();
    }
    let bench = Bench {
        data: made_up(
            &recipe,
            arguments.input as usize,
            arguments.classes as usize,
        )?,
        workers,
        recipe: &recipe,
        threads,
        steps: arguments.steps as usize,
    };
    let ceiling = gemm_ceiling(threads, precision);
    let whole = if arguments.inference {
        bench.inference()
    } else {
        bench.training()?
    };
    let peak = memory::peak();
    let images = recipe.train.batch as f64;
    let passes = if arguments.inference { 1.0 } else { 3.0 };
    let model = bench.data.info.init(0, bench.workers.device());
    let gflops = 2e-9 * passes * model.macs() as f64 * images / whole.median;
    let parts = if arguments.whole || arguments.inference {
        vec![]
    } else {
        bench.parts()?
    };

    let computed_by = model.computed_by(bench.workers.device(), arguments.composed);
    if arguments.json {
        let parts: serde_json::Map<_, _> = parts
            .iter()
            .map(|(name, time)| (name.to_string(), time.median.into()))
            .collect();
        output::print(serde_json::json!({
            "model": arguments.model, "recipe": recipe.name, "batch": recipe.train.batch,
            "parameters": model.parameters(), "threads": threads, "precision": precision.to_string(), "composed": arguments.composed, "inference": arguments.inference,
            "seconds_per_step": whole.median, "min": whole.min, "max": whole.max,
            "images_per_second": images / whole.median,
            "gflops": gflops, "gemm_ceiling_gflops": ceiling, "share_of_ceiling": gflops / ceiling,
            "config": recipe.model, "peak_rss_bytes": peak, "parts": parts, "computed": computed_by, "version": env!("CARGO_PKG_VERSION"),
        }));
        return Ok(());
    }
    let row = |name: &str, time: &Times| {
        vec![
            name.to_string(),
            words::seconds(time.median),
            words::seconds(time.min),
            words::seconds(time.max),
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
    output::table(&["", "median", "min", "max", "of the whole"], &rows);
    output::prose(format!(
        "\n{} of {}, batch {}, {precision}, {threads} threads: {:.1} images/s, {gflops:.0} Gflop/s of the {ceiling:.0} \
         that products in cache reach here ({:.0} %){}",
        arguments.model,
        recipe.name,
        recipe.train.batch,
        images / whole.median,
        100.0 * gflops / ceiling,
        peak.map_or(String::new(), |peak| format!(
            ", peak memory {}",
            words::bytes(peak)
        )),
    ));
    output::prose(format!("computed {computed_by}"));
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

/// Images of the training set that is made up.
fn training_images(batch: usize) -> usize {
    4 * batch.max(16)
}

/// Refuses what would not find room, before anything of it is made.
fn check_room(recipe: &Recipe, arguments: &Arguments, threads: usize) -> Result<()> {
    /// Bytes of images that are made up.
    const MOST: u64 = 1 << 31;
    let (input, classes) = (arguments.input, arguments.classes as usize);
    let train = &recipe.train;
    let images = (training_images(train.batch) + 2 * classes) as u64;
    let bytes = images * 3 * input * input;
    if bytes > MOST {
        return Err(Error::recipe(
            "--input",
            format!(
                "{images} images of {input}×{input} pixels would be made up, {}; at most {} are",
                words::bytes(bytes),
                words::bytes(MOST)
            ),
            "choose a smaller --input, --batch (4 batches are made) or --classes",
        ));
    }
    match arguments.device.device.as_str() {
        "cpu" => recipe.check_memory(3, classes, images as usize, threads, bytes),
        _ => recipe.model.check_for(3, classes),
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
        ..Split::default()
    };
    let dataset = Dataset {
        name: "made up".into(),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        train: split(training_images(recipe.train.batch)),
        validation: Some(split(classes)),
        test: Some(split(classes)),
        ..Dataset::default()
    };
    // Made up with as many images for each purpose as are needed.
    let mut recipe = recipe.clone();
    recipe.data.redivide = false;
    Prepared::new(dataset, &recipe)
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

/// What a part's output is made to: of a micro-batch's first image and their number.
type Loss<'a> = dyn Fn(&Model, &mut Context, usize, usize) -> Tensor<1> + Sync + 'a;

struct Bench<'a> {
    recipe: &'a Recipe,
    data: Prepared,
    workers: Workers,
    threads: usize,
    steps: usize,
}

impl Bench<'_> {
    fn shape(&self) -> [usize; 3] {
        let size = self.recipe.model.image_size();
        [size, size, self.data.info.input[2]]
    }

    fn epoch(&self, epoch: u64) -> EpochAugmentation {
        // Never one of a recipe's clean last ones.
        EpochAugmentation {
            epoch,
            ..self.recipe.augmentation(0)
        }
    }

    /// The training loop's own step: the loader runs, and nothing is left out.
    fn training(&self) -> Result<Times> {
        let train = &self.recipe.train;
        let mut state = self.state()?;
        let how = StepConfig {
            workers: &self.workers,
            schedule: Schedule {
                kind: ScheduleKind::Constant,
                ..self.recipe.schedule(1)
            },
            steps: 1000,
            shape: self.shape(),
            loss: LossConfig::smoothed(train.label_smoothing),
            seed: train.seed,
        };
        let samples = &self.data.train.samples;
        let mut times = vec![];
        let mut began = Instant::now();
        for epoch in 0.. {
            let batches = Loader::start(
                self.data.train.split.clone(),
                Sampler::shuffled(samples, train.batch, train.seed, epoch, 0)
                    .repeated(self.recipe.augment.repeats),
                self.data.preprocess(),
                Some(self.epoch(epoch)),
                self.threads,
            )?;
            for batch in batches {
                train_step(&mut state, &batch, &how)?;
                times.push(began.elapsed().as_secs_f32());
                began = Instant::now();
                if times.len() > self.steps {
                    return Ok(Times::of(&times[1..]));
                }
            }
        }
        unreachable!("there is always another epoch")
    }

    /// Before the first step.
    fn state(&self) -> Result<TrainState> {
        let (info, fingerprint) = (&self.data.info, &self.data.fingerprint);
        TrainState::new(self.recipe, info, fingerprint, self.workers.device())
    }

    fn inference(&self) -> Times {
        let model = self
            .data
            .info
            .init(self.recipe.train.seed, self.workers.device());
        let batch = self.batch();
        let inference = self.workers.inference(&model, self.shape());
        self.time(|| drop(inference.logits(&batch)))
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

    /// The step's parts, each by itself.
    fn parts(&self) -> Result<Vec<(&'static str, Times)>> {
        let train = &self.recipe.train;
        let model = self.data.info.init(train.seed, self.workers.device());
        let batch = self.batch();
        let shape = self.shape();
        let image = shape.iter().product::<usize>();
        let images = |first: usize, count: usize| -> Tensor<4> {
            let [height, width, channels] = shape;
            let part = batch[first * image..][..count * image].to_vec();
            let data = TensorData::new(part, [count, height, width, channels]);
            Tensor::from_data(data, self.workers.device())
        };
        // What goes into the encoder and into the classifier, as one image shows.
        let embedded = model.embed(images(0, 1), &mut Context::inference());
        let encoded = model.encode(embedded.clone(), &mut Context::inference());
        let (embedded, encoded) = (embedded.dims(), encoded.dims());
        let tokens = |[_, tokens, dim]: [usize; 3], count: usize| -> Tensor<3> {
            let numbers = (0..count * tokens * dim).map(|i| (i % 1009) as f32 / 504.0 - 1.0);
            let data = TensorData::new(numbers.collect(), [count, tokens, dim]);
            let tensor = Tensor::from_data(data, self.workers.device());
            tensor.autodiff().require_grad()
        };
        let classes = self.data.info.classes.len() as u32;
        let targets = Targets::Hard((0..train.batch as u32).map(|i| i % classes).collect());
        let embedding = self.differentiate(&model, &|model, context, first, count| {
            model.embed(images(first, count).autodiff(), context).sum()
        });
        let encoder = self.differentiate(&model, &|model, context, _, count| {
            model.encode(tokens(embedded, count), context).sum()
        });
        let classifier = self.differentiate(&model, &|model, context, first, count| {
            let logits = model.classify(tokens(encoded, count), context);
            cross_entropy(logits, &targets.slice(first, count), &LossConfig::default())
        });
        Ok(vec![
            ("augmentation, beside it", self.augmentation()),
            ("embedding", embedding),
            ("encoder", encoder),
            ("classifier", classifier),
            ("optimizer", self.optimizer()?),
        ])
    }

    /// Making a batch, by as many threads as the loader has.
    fn augmentation(&self) -> Times {
        let mut times = self.time(|| drop(self.batch()));
        // One thread did what the loader's threads share.
        for time in [&mut times.median, &mut times.min, &mut times.max] {
            *time /= self.threads as f64;
        }
        times
    }

    /// A loss of each micro-batch, forward and backward, with all gradients: those that a whole step forms
    /// within the optimizer, too.
    fn differentiate(&self, model: &Model, loss: &Loss) -> Times {
        let train = &self.recipe.train;
        self.time(|| {
            let gradients = self.workers.gradients(
                model,
                train.batch,
                |first| Context::training(train.seed, 0, first),
                |model, context, first, count| (loss(model, context, first, count), ()),
                |_, ()| (),
            );
            let form = || {
                gradients
                    .into_iter()
                    .for_each(|all| drop(all.formed().last()))
            };
            self.workers.together(form);
        })
    }

    /// The optimizer's step, and the average's, with the weights for gradients.
    fn optimizer(&self) -> Result<Times> {
        let mut state = self.state()?;
        let mut times = vec![];
        for _ in 0..=self.steps {
            let mut gradients = Gradients::default();
            for (name, Array { values, .. }) in smallvit::params::weights(state.model()) {
                let data = TensorData::new(values.clone(), [values.len()]);
                let values = Tensor::<1>::from_data(data, self.workers.device());
                gradients.insert(name, values)?;
            }
            let gradients = gradients.checked(state.optimizer.names())?;
            let began = Instant::now();
            let rate = self.recipe.train.learning_rate;
            self.workers.together(|| state.update(gradients, rate, 0.5));
            times.push(began.elapsed().as_secs_f32());
        }
        Ok(Times::of(&times[1..]))
    }
}
