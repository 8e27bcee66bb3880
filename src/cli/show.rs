//! `smallvit show`: pictures of what the program does.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use clap::{Args, Subcommand};
use smallvit::augment::{Instance, Pipeline, Preprocess, resize};
use smallvit::data::statistics::Statistics;
use smallvit::data::{Dataset, Split};
use smallvit::nn::embedding::{SHIFT_NAMES, patches, shifted_patches};
use smallvit::random::{Purpose, Stream};
use smallvit::report::ascii;
use smallvit::report::picture::curves::{self, Axis, Figure, Panel, Series};
use smallvit::report::picture::sheet::{self, PatchPanel, SheetImage};
use smallvit::train::device;
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::Recipe;
use smallvit::{Error, Result};

use super::dataset::{self, DataOptions};
use super::options::{self, RecipeOptions};
use super::output;

/// Draw what the program does to images and learning rates.
#[derive(Subcommand)]
pub enum Command {
    /// An image, its vanilla patches, and the patches of its five shifted versions.
    Patches(Shown),
    /// Augmented samples beside their originals.
    Augment(Shown),
    /// The learning rate over the steps.
    Schedule(ScheduleArguments),
}

#[derive(Args)]
pub struct Shown {
    #[command(flatten)]
    recipe: RecipeOptions,
    #[command(flatten)]
    data: DataOptions,
    /// The number of a training image [default: drawn with the seed].
    #[arg(long, value_name = "N", value_parser = options::whole(0, u32::MAX.into()), allow_hyphen_values = true)]
    index: Option<u64>,
    /// The picture to write, as PNG, JPEG or SVG [default: patches.png or augment.png, or with a
    /// number where that is there].
    #[arg(long, short, value_name = "FILE", value_parser = super::picture_file())]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub struct ScheduleArguments {
    #[command(flatten)]
    recipe: RecipeOptions,
    /// Steps an epoch [default: those of the recipe's data set].
    #[arg(long, value_name = "N", value_parser = options::whole(1, 1 << 40), allow_hyphen_values = true)]
    steps_per_epoch: Option<u64>,
    #[command(flatten)]
    data: DataOptions,
    /// The picture to write, as PNG, JPEG or SVG [default: schedule.png, or schedule-2.png where that is
    /// there].
    #[arg(long, short, value_name = "FILE", value_parser = super::picture_file())]
    out: Option<PathBuf>,
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Patches(shown) => {
            let out = picture(shown.out.as_ref(), "patches");
            output::reserve(&out)?;
            show_patches(&shown, &out)
        }
        Command::Augment(shown) => {
            let out = picture(shown.out.as_ref(), "augment");
            output::reserve(&out)?;
            show_augment(&shown, &out)
        }
        Command::Schedule(arguments) => show_schedule(&arguments),
    }
}

/// Where a picture goes that may have been given no name: to one that no file has.
fn picture(asked: Option<&PathBuf>, name: &str) -> PathBuf {
    let free = |number: u32| {
        let name = match number {
            1 => format!("{name}.png"),
            _ => format!("{name}-{number}.png"),
        };
        let path = PathBuf::from(name);
        path.symlink_metadata().is_err().then_some(path)
    };
    let found = asked.cloned().or_else(|| (1..).find_map(free));
    found.expect("one of the names is free")
}

impl Shown {
    fn load(&self) -> Result<(Recipe, Dataset)> {
        let recipe = self.recipe.load(self.data.data.as_deref(), false)?;
        let dataset = self.data.load(&recipe.data.set, dataset::square(&recipe))?;
        Ok((recipe, dataset))
    }

    /// `count` numbers of training images, the first as asked for.
    fn indices(&self, recipe: &Recipe, images: usize, count: usize) -> Result<Vec<usize>> {
        let asked = self.index.map(|index| index as usize);
        if let Some(index) = asked.filter(|&index| index >= images) {
            return Err(Error::recipe(
                "--index",
                format!("there is no image {index}"),
                format!("choose 0 to {}", images.saturating_sub(1)),
            ));
        }
        let mut stream = Stream::new(recipe.train.seed, Purpose::Show, 0, 0);
        let drawn = std::iter::repeat_with(|| stream.below(images));
        Ok(asked.into_iter().chain(drawn).take(count).collect())
    }
}

fn show_patches(shown: &Shown, out: &Path) -> Result<()> {
    let (recipe, dataset) = shown.load()?;
    let index = shown.indices(&recipe, dataset.train.len(), 1)?[0];
    let title = draw_patches(
        &dataset.name,
        &dataset.train,
        &dataset.classes,
        &recipe,
        index,
        out,
    )?;
    output::prose(format!("{}: {title}", out.display()));
    Ok(())
}

/// Draws what a token of the recipe's model sees of an image; returns the picture's title.
pub fn draw_patches(
    name: &str,
    split: &Split,
    classes: &[String],
    recipe: &Recipe,
    index: usize,
    out: &Path,
) -> Result<String> {
    let images = &split.images;
    let (size, patch) = (recipe.model.image_size(), recipe.model.patch_size());
    let channels = images.channels;
    let pixels: Vec<f32> = images.image(index).iter().map(|&p| f32::from(p)).collect();
    let mut resized = vec![0.0; size * size * channels];
    let shape = [images.height, images.width, channels];
    resize::bilinear(&pixels, shape, [size, size], &mut resized);

    let bytes = |values: &[f32]| -> Vec<u8> {
        values
            .iter()
            .map(|v| v.round().clamp(0.0, 255.0) as u8)
            .collect()
    };
    let numbers = |tensor: Tensor<3>| smallvit::params::Array::of(tensor).values;
    let grid = size / patch;
    // Of a hybrid's stem the last patch may reach over the edge: whole ones are drawn.
    let image = || -> Tensor<4> {
        let data = TensorData::new(resized.clone(), [1, size, size, channels]);
        let image = Tensor::<4>::from_data(data, &device::cpu());
        image.narrow(1, 0, grid * patch).narrow(2, 0, grid * patch)
    };
    let panel = |title: &str, pixels: Vec<u8>| PatchPanel {
        title: title.into(),
        rows: grid,
        columns: grid,
        patch,
        channels,
        pixels,
    };
    let mut panels = vec![
        PatchPanel {
            title: "IMAGE".into(),
            rows: 1,
            columns: 1,
            patch: size,
            channels,
            pixels: bytes(&resized),
        },
        panel("VANILLA", bytes(&numbers(patches(image(), patch)))),
    ];
    // Each pixel of a shifted patch holds the five versions' channels one after another.
    let shifted = bytes(&numbers(shifted_patches(image(), patch)));
    let names = std::iter::once("original").chain(SHIFT_NAMES);
    for (version, name) in names.enumerate() {
        let of_version = |pixel: &[u8]| pixel[version * channels..][..channels].to_vec();
        let pixels = shifted.chunks_exact(5 * channels).flat_map(of_version);
        panels.push(panel(&name.to_uppercase(), pixels.collect()));
    }
    let class = &classes[split.labels[index] as usize];
    let title = format!("{name} image {index}, “{class}”: what a token sees");
    let missing = sheet::draw_patches(&title, &panels, 4, (288 / size).max(1), out)?;
    super::tell_missing(&missing);
    Ok(title)
}

fn show_augment(shown: &Shown, out: &Path) -> Result<()> {
    const ROWS: usize = 6;
    const VARIANTS: usize = 7;
    let (recipe, dataset) = shown.load()?;
    let images = &dataset.train.images;
    let indices = shown.indices(&recipe, images.len(), ROWS)?;
    let size = recipe.model.image_size();
    let input = [images.height, images.width, images.channels];
    let output = [size, size, images.channels];
    recipe.augment.check_images(input, output)?;
    // Normalised and back, since what is erased is filled with what the model takes for noise.
    let Statistics { mean, variance } = Statistics::of(images);
    let preprocess = Preprocess {
        input,
        image_size: size,
        mean: mean.iter().map(|&m| m as f32).collect(),
        variance: variance.iter().map(|&v| v as f32).collect(),
    };
    let mut cells = vec![];
    for index in indices {
        let class = &dataset.classes[dataset.train.labels[index] as usize];
        for variant in 0..=VARIANTS {
            let mut caption = format!("{class} ({index})");
            let mut epoch = None;
            if variant > 0 {
                caption = format!("epoch {variant}");
                epoch = Some(recipe.augmentation(variant as u64 - 1));
            }
            let instance = Instance::once(index as u32);
            let mut pipeline = Pipeline::new(epoch);
            let image = pipeline.image(images.image(index), &preprocess, instance);
            cells.push(SheetImage {
                caption,
                height: size,
                width: size,
                channels: images.channels,
                pixels: preprocess.to_pixels(image),
            });
        }
    }
    let title = format!("{} as {} augments it", dataset.name, recipe.name);
    let missing = sheet::draw_images(&title, &cells, VARIANTS + 1, (128 / size).max(1), out)?;
    super::tell_missing(&missing);
    output::prose(format!("{}: {title}", out.display()));
    Ok(())
}

fn show_schedule(arguments: &ScheduleArguments) -> Result<()> {
    let out = picture(arguments.out.as_ref(), "schedule");
    output::reserve(&out)?;
    let recipe = arguments
        .recipe
        .load(arguments.data.data.as_deref(), false)?;
    let steps_per_epoch = match arguments.steps_per_epoch {
        Some(steps) => steps,
        None => {
            let size = dataset::square(&recipe);
            let dataset = arguments.data.load(&recipe.data.set, size)?;
            let prepared = Prepared::new(dataset, &recipe)?;
            prepared.train.samples.len().div_ceil(recipe.train.batch) as u64
        }
    };
    let schedule = recipe.schedule(steps_per_epoch);
    let steps = steps_per_epoch * recipe.train.epochs;
    let rate = |step: u64| schedule.rate(step);
    let points = 400.min(steps);
    let at = |i: u64| i * (steps - 1) / (points - 1).max(1);
    let series = Series {
        label: recipe.name.clone(),
        points: (0..points).map(|i| (at(i) as f64, rate(at(i)))).collect(),
        ..Series::default()
    };
    let figure = Figure {
        title: format!("Learning rate of {}", recipe.name),
        subtitle: format!(
            "{steps_per_epoch} steps an epoch, {} epochs",
            recipe.train.epochs
        ),
        panels: vec![Panel {
            x_label: "step".into(),
            y_axis: Axis::FromZero,
            series: vec![series],
            ..Panel::default()
        }],
        ..Figure::default()
    };
    super::tell_missing(&curves::draw(&figure, &out)?);
    let rates: Vec<f64> = (0..points).map(|i| rate(at(i))).collect();
    output::print(ascii::sparkline(&rates, 60));
    let rows: Vec<Vec<String>> = (0..=10)
        .map(|tenth| (steps - 1) * tenth / 10)
        .map(|step| {
            let epoch = step / steps_per_epoch + 1;
            vec![
                epoch.to_string(),
                step.to_string(),
                format!("{:.3e}", rate(step)),
            ]
        })
        .collect();
    output::table(&["epoch", "step", "rate"], &rows);
    output::prose(format!("\nthe picture is in {}", out.display()));
    Ok(())
}
