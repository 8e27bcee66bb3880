//! `smallvit show`: pictures of what the program does.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use smallvit::augment::{Instance, Pipeline, Preprocess};
use smallvit::data::statistics::Statistics;
use smallvit::data::{Dataset, Split};
use smallvit::models::file;
use smallvit::random::{Purpose, Stream};
use smallvit::report::ascii;
use smallvit::report::picture::curves::{self, Axis, Figure, Panel, Series};
use smallvit::report::picture::sheet::{self, SheetImage};
use smallvit::report::picture::token;
use smallvit::train::device;
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::Recipe;
use smallvit::{Error, Result};

use super::dataset::{self, DataOptions};
use super::evaluate::Which;
use super::explain::{self, Seen, looked};
use super::options::{self, RecipeOptions};
use super::output;
use super::predict;

/// Draw what the program does to images and learning rates, and where a model looks.
#[derive(Subcommand)]
pub enum Command {
    /// What one token sees: its patch of an image and of the image's four shifts, and the vector that they
    /// become. (Without Shifted Patch Tokenization, the first patch is all.)
    Patches(Patches),
    /// Where a model looks in a picture: the attention of every layer and head.
    Attention(Attention),
    /// Augmented samples beside their originals.
    Augment(Shown),
    /// The learning rate over the steps.
    Schedule(ScheduleArguments),
}

#[derive(Args)]
pub struct Patches {
    #[command(flatten)]
    shown: Shown,
    /// Which token, counted from 0 [default: the one whose patch varies the most].
    #[arg(long, value_name = "ROW,COLUMN", value_parser = row_and_column)]
    token: Option<[usize; 2]>,
}

#[derive(Args)]
pub struct Attention {
    /// A run folder, or a model's safetensors file.
    model: PathBuf,
    /// A picture file, of any size.
    image: PathBuf,
    #[command(flatten)]
    which: Which,
    /// The attention that one token pays the others (rows and columns of its grid, counted from 0), in
    /// place of what each is paid on average.
    #[arg(long, value_name = "ROW,COLUMN", value_parser = row_and_column)]
    from: Option<[usize; 2]>,
    /// The picture to write, as PNG, JPEG or SVG [default: attention.png, or with a number where that is
    /// there].
    #[arg(long, short, value_name = "FILE", value_parser = super::picture_file())]
    out: Option<PathBuf>,
}

/// Parses a token's place.
fn row_and_column(text: &str) -> Result<[usize; 2], String> {
    let numbers: Option<Vec<usize>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    let place = numbers.and_then(|numbers| numbers.try_into().ok());
    place.ok_or_else(|| "give a row and a column, as 3,4".into())
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
    /// The picture to write, as PNG, JPEG or SVG [default: the command's name.png, or with a number where
    /// that is there].
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
        Command::Patches(patches) => {
            let out = picture(patches.shown.out.as_ref(), "patches");
            output::reserve(&out)?;
            show_patches(&patches, &out)
        }
        Command::Attention(attention) => {
            let out = picture(attention.out.as_ref(), "attention");
            output::reserve(&out)?;
            show_attention(&attention, &out)
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

fn show_patches(shown: &Patches, out: &Path) -> Result<()> {
    let (recipe, dataset) = shown.shown.load()?;
    let index = shown.shown.indices(&recipe, dataset.train.len(), 1)?[0];
    let (name, classes) = (&dataset.name, &dataset.classes);
    let title = draw_token(
        name,
        &dataset.train,
        classes,
        &recipe,
        index,
        shown.token,
        out,
    )?;
    output::prose(format!("{}: {title}", out.display()));
    Ok(())
}

/// Whether a recipe's model has a token whose patch lies wholly inside of an image.
pub fn draws_tokens(recipe: &Recipe) -> bool {
    let (size, cut) = (recipe.model.image_size(), recipe.model.cut());
    !explain::whole_tokens(size, cut).is_empty()
}

/// Draws what a token of the recipe's model sees of an image with Shifted Patch Tokenization; returns the
/// picture's title.
pub fn draw_token(
    name: &str,
    split: &Split,
    classes: &[String],
    recipe: &Recipe,
    index: usize,
    token: Option<[usize; 2]>,
    out: &Path,
) -> Result<String> {
    let images = &split.images;
    let shape = [images.height, images.width, images.channels];
    let seen = Seen::new(images.image(index), shape, recipe.model.image_size());
    let cut = recipe.model.cut();
    let tokens = explain::whole_tokens(seen.size, cut);
    if tokens.is_empty() {
        return Err(Error::recipe(
            "model",
            "no patch of its first tokens lies wholly inside of an image",
            "take a smaller patch",
        ));
    }
    if let Some(asked) = token.filter(|asked| !asked.iter().all(|at| tokens.contains(at))) {
        return Err(Error::recipe(
            "--token",
            format!(
                "there is no whole patch in row {}, column {}",
                asked[0], asked[1]
            ),
            format!(
                "choose rows and columns from {} to {}",
                tokens.start,
                tokens.end - 1
            ),
        ));
    }
    let class = &classes[split.labels[index] as usize];
    let title = format!("{name} image {index}, “{class}”: what a token sees");
    let seen = seen
        .token(cut, true, token)
        .expect("there is a whole patch");
    let missing = token::draw(&title, &seen, out)?;
    super::tell_missing(&missing);
    Ok(title)
}

fn show_attention(asked: &Attention, out: &Path) -> Result<()> {
    let device = device::cpu();
    let file = asked.which.file(&asked.model)?;
    let (info, model) = file::open(&file, &device)?;
    let pixels = predict::pixels(&asked.image, &info)?;
    let (look, seen) = looked(&info, &model, &pixels, &device);
    if look.layers.is_empty() {
        let problem = format!("{} has no attention", info.config.name());
        let remedy = "take a model that has: of a hybrid, one with fewer stages of convolutions";
        return Err(Error::model(asked.model.display(), problem, remedy));
    }
    if let Some([row, column]) = asked.from {
        // Of a pyramid, the smallest grid.
        let side = look.layers.iter().map(|map| map.grid[0]).min().unwrap_or(0);
        if row >= side || column >= side {
            return Err(Error::recipe(
                "--from",
                format!("there is no token in row {row}, column {column}"),
                format!("choose rows and columns from 0 to {}", side - 1),
            ));
        }
    }
    let first = (0..look.logits.len()).max_by(|&a, &b| look.logits[a].total_cmp(&look.logits[b]));
    let answer = &info.classes[first.unwrap_or_default()];
    let who = match asked.from {
        None => "it".to_owned(),
        Some([row, column]) => format!("the token in row {row}, column {column}"),
    };
    let title = format!("{} says “{answer}”; where {who} looks", info.config.name());
    let (cells, columns) = seen.sheet(&look, asked.from);
    let missing = sheet::draw_images(&title, &cells, columns, (128 / seen.size).max(1), out)?;
    super::tell_missing(&missing);
    output::prose(format!("{}: {title}", output::name(out.display())));
    Ok(())
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
                borders: vec![],
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
