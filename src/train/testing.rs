//! A small data set and model, for tests of training.

use super::prepare::Prepared;
use super::recipe::Recipe;
use crate::data::{Dataset, Images, Split};
use crate::models::{ModelConfig, VitConfig};
use crate::random::{Purpose, Stream};

/// Two epochs of five steps; the last batch of an epoch is smaller.
pub fn recipe() -> Recipe {
    let mut recipe = Recipe {
        model: ModelConfig {
            spt: true,
            lsa: true,
            arch: VitConfig {
                image_size: 8,
                patch_size: 4,
                dim: 8,
                depth: 1,
                heads: 2,
                key_dim: 4,
                mlp_width: 16,
                head: vec![16],
                dropout: 0.1,
                ..VitConfig::default()
            }
            .into(),
        },
        ..Recipe::default()
    };
    recipe.train.epochs = 2;
    recipe.train.batch = 10;
    recipe.train.micro_batch = 2;
    recipe.check().unwrap();
    recipe
}

/// Images of three classes, which their brightness tells apart.
pub fn prepared(recipe: &Recipe) -> Prepared {
    let mut stream = Stream::new(5, Purpose::Show, 0, 0);
    let mut split = |count: u32| {
        let labels: Vec<u32> = (0..count).map(|i| i % 3).collect();
        let pixel = |label: u32| (80 * label) as u8 + stream.below(60) as u8;
        let pixels = labels
            .iter()
            .flat_map(|&label| [label; 8 * 8 * 3])
            .map(pixel)
            .collect();
        let images = Images {
            height: 8,
            width: 8,
            channels: 3,
            pixels,
        };
        Split {
            images,
            labels,
            ..Split::default()
        }
    };
    let dataset = Dataset {
        name: "bright".into(),
        classes: ["dark", "grey", "light"].map(String::from).to_vec(),
        train: split(47),
        validation: Some(split(12)),
        test: Some(split(15)),
        ..Dataset::default()
    };
    Prepared::new(dataset, recipe).unwrap()
}
