//! What a page shows beside its curves: seeds, classes, mistakes, a token, temperatures.

use smallvit::Result;
use smallvit::models::file;
use smallvit::models::look::Look;
use smallvit::report::page::{Class, Classes, Mistake, Mistakes, Temperatures};
use smallvit::report::picture::seeds::{self, Ahead};
use smallvit::report::picture::sheet::SheetImage;
use smallvit::report::picture::{Picture, token};
use smallvit::train::answers::ClassAnswers;
use smallvit::train::device;
use smallvit::train::prepare::Prepared;
use smallvit::train::trials::Difference;

use super::{Entry, Group, are_comparable};
use crate::cli::explain::{Seen, looked};
use crate::cli::hints;
use crate::cli::output::note;

/// Mistakes that a page shows.
const MISTAKES: usize = 20;

/// Each seed's accuracy, where there are several.
pub fn seeds_figure(groups: &[Group]) -> Result<Option<(Picture, String)>> {
    let seeds_of = |group: &Group| -> Vec<u64> {
        let ended = group.runs.iter().filter(|run| run.result.is_some());
        ended.map(|run| run.recipe.train.seed).collect()
    };
    let seeds = seeds_of(&groups[0]);
    let same = groups.iter().all(|group| seeds_of(group) == seeds);
    if seeds.len() < 2 || !same || !are_comparable(groups) {
        return Ok(None);
    }
    let trials: Vec<seeds::Trials> = groups
        .iter()
        .map(|group| seeds::Trials {
            label: group.model.name.clone(),
            values: group.tests(),
            colour: group.model.colour,
        })
        .collect();
    let than = &groups[0];
    let ahead: Vec<Ahead> = groups[1..]
        .iter()
        .filter_map(|group| {
            let (own, others) = group.beside(than);
            let difference = Difference::paired(&own, &others)?;
            Some(Ahead {
                label: format!("{} − {}", group.model.name, than.model.name),
                mean: difference.mean,
                interval: [difference.low, difference.high],
            })
        })
        .collect();
    let said = match ahead.is_empty() {
        true => "Test top-1 of each seed; the thick mark is their mean.",
        false => {
            "Test top-1 of each seed; thin lines join runs of one seed, thick marks are means. Below, the mean \
             difference and its 95 % interval (Student's t of the paired differences)."
        }
    };
    let picture = seeds::picture("Test top-1 of each seed", &seeds, &trials, &ahead)?;
    Ok(Some((picture, said.to_owned())))
}

/// Class by class, where the answers of a run are known.
pub fn class_table(groups: &[Group]) -> Option<Classes> {
    let groups: Vec<&Group> = groups
        .iter()
        .filter(|group| !group.answers().is_empty())
        .collect();
    let names = groups.first()?.classes()?;
    if groups.iter().any(|group| group.classes() != Some(names)) {
        return None;
    }
    // [model][seed][class]
    let of_classes: Vec<Vec<Vec<_>>> = groups
        .iter()
        .map(|group| {
            group
                .answers()
                .iter()
                .map(|answers| answers.of_classes())
                .collect()
        })
        .collect();
    let mean = |values: Vec<f64>| {
        let told: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        told.iter().sum::<f64>() / told.len() as f64
    };
    let rows = (0..names.len()).map(|class| Class {
        name: names[class].clone(),
        images: of_classes[0].iter().map(|all| all[class].images).sum(),
        shares: of_classes
            .iter()
            .map(|seeds| {
                let of = |value: fn(&ClassAnswers) -> f64| {
                    mean(seeds.iter().map(|all| value(&all[class])).collect())
                };
                [of(|c| c.recall), of(|c| c.precision), of(|c| c.f1)]
            })
            .collect(),
    });
    let several = groups.iter().any(|group| group.answers().len() > 1);
    Some(Classes {
        models: groups.iter().map(|group| group.model.clone()).collect(),
        rows: rows.collect(),
        note: format!(
            "Of the test images, in percent{}. The classes that are recognised least come first.",
            if several {
                ", means over the seeds; images of all seeds"
            } else {
                ""
            }
        ),
    })
}

/// The worst mistakes of a run, with the attention that they were made under.
pub fn mistakes(
    entry: &Entry,
    data: &Prepared,
    models: bool,
    seeds: bool,
) -> Result<Option<Mistakes>> {
    let Some(answers) = &entry.answers else {
        return Ok(None);
    };
    if entry
        .result
        .as_ref()
        .is_some_and(|result| result.best_lost.is_some())
    {
        return Ok(None); // the answers are another model's
    }
    let device = device::cpu();
    let (info, model) = match file::open(&entry.run.best(), &device) {
        Ok(opened) => opened,
        Err(error) => {
            note!("the page shows no mistakes: {}", hints::message(&error));
            return Ok(None);
        }
    };
    let images = &data.test.split.images;
    let shape = [images.height, images.width, images.channels];
    if shape != info.input {
        return Ok(None);
    }
    let (mut all, mut through) = (vec![], true);
    for row in answers.mistakes(MISTAKES) {
        if row.image as usize >= data.test.split.len() {
            return Ok(None);
        }
        let pixels = images.image(row.image as usize);
        let (look, seen) = looked(&info, &model, pixels, &device);
        let map = overall(&look);
        through &= look.rollout().is_some();
        let name = |class: u32| info.classes[class as usize].clone();
        all.push(Mistake {
            image: SheetImage {
                caption: String::new(),
                height: shape[0],
                width: shape[1],
                channels: shape[2],
                pixels: pixels.to_vec(),
                borders: vec![],
            },
            attention: map.map(|(values, grid)| seen.under("", &values, grid)),
            number: row.image,
            class: name(row.class),
            answer: row.answer.map(name).unwrap_or_default(),
            confidence: row.confidence,
        });
    }
    let whose = match (models, seeds) {
        (false, false) => String::new(),
        (_, false) => format!("Of {}. ", entry.label),
        _ => format!("Of {} with seed {}. ", entry.label, entry.recipe.train.seed),
    };
    let looked = match (
        all.first().is_some_and(|m: &Mistake| m.attention.is_some()),
        through,
    ) {
        (false, _) => "",
        (true, true) => "Beside each image: where the model looked, through all of its layers.",
        (true, false) => "Beside each image: where the model's last layer looked.",
    };
    Ok(Some(Mistakes {
        note: format!("{whose}{looked}"),
        all,
    }))
}

/// Where a model looked, all in all: through all layers where that can be said, else in the last.
fn overall(look: &Look) -> Option<(Vec<f32>, [usize; 2])> {
    let last = look.layers.last()?;
    let values = look.rollout().unwrap_or_else(|| last.received(None));
    Some((values, last.grid))
}

/// What a token of a run's model sees of its first training image.
pub fn token_figure(entry: &Entry, data: &Prepared) -> Result<Option<(Picture, String)>> {
    let images = &data.train.split.images;
    let shape = [images.height, images.width, images.channels];
    let config = &entry.recipe.model;
    let index = data.train.samples[0] as usize;
    let seen = Seen::new(images.image(index), shape, config.image_size());
    let cut = config.cut();
    let Some(token) = seen.token(cut, config.spt, None) else {
        return Ok(None);
    };
    let numbers = cut.patch * cut.patch * images.channels;
    let said = match config.spt {
        true => format!(
            "With Shifted Patch Tokenization a token sees its own patch and what is half a patch away on the \
             diagonals: 5 × {numbers} numbers, of which a layer makes {}. Training image {index}.",
            cut.dim
        ),
        false => format!(
            "A token sees its own patch alone: {numbers} numbers, of which a layer makes {}. Training image \
             {index}.",
            cut.dim
        ),
    };
    Ok(Some((token::picture("", &token)?, said)))
}

/// What Locality Self-Attention has learned, of each model that has it.
pub fn temperatures(groups: &[Group]) -> Vec<Temperatures> {
    let with_lsa = groups.iter().filter(|group| group.runs[0].recipe.model.lsa);
    let of_group = |group: &Group| {
        let (_, model) = file::open(&group.runs[0].run.best(), &device::cpu()).ok()?;
        let layers = model.attentions().into_iter();
        Some(Temperatures {
            model: group.model.clone(),
            sharpness: layers
                .filter_map(|(_, attention)| attention.sharpness)
                .collect(),
        })
    };
    with_lsa
        .filter_map(of_group)
        .filter(|of| !of.sharpness.is_empty())
        .collect()
}
