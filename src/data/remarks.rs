//! What the user of a data set should know before training on it.

use std::collections::HashMap;

use super::statistics::class_counts;
use super::{Dataset, Split};
use crate::error::printable;
use crate::words;

/// How many of a kind are named.
const NAMED: usize = 3;

/// What is odd about a data set, a sentence each: classes with a single image, images that are there
/// twice (equal in every pixel, at the size that they were brought to), in two splits or in one,
/// as two classes.
pub fn remarks(dataset: &Dataset) -> Vec<String> {
    let mut remarks = small_classes(dataset);
    let twins = twins(dataset);
    let across = twins.iter().filter(|twin| twin.splits[0] != twin.splits[1]);
    remarks.extend(told(
        across,
        "is in two splits, and so not new when it is tested",
        "are in two splits, and so not new when they are tested",
    ));
    let within = twins.iter().filter(|twin| twin.splits[0] == twin.splits[1]);
    remarks.extend(told(
        within,
        "is there twice in one split",
        "are there twice in one split",
    ));
    let differing = twins.iter().filter(|twin| twin.differs);
    remarks.extend(told(
        differing,
        "is there twice, as two classes",
        "are there twice, as two classes",
    ));
    remarks
}

fn small_classes(dataset: &Dataset) -> Vec<String> {
    let counts = class_counts(&dataset.train.labels, dataset.classes.len());
    let of = |wanted: usize, images: &str| {
        let classes = dataset.classes.iter().zip(&counts);
        let few: Vec<_> = classes
            .filter(|(_, count)| **count == wanted)
            .map(|(class, _)| printable(class))
            .collect();
        let classes = match few.len() {
            0 => return None,
            1 => "1 class has".to_owned(),
            count => format!("{count} classes have"),
        };
        Some(format!(
            "{classes} {images} to train on: {}",
            words::listed(few, NAMED)
        ))
    };
    let few = [of(0, "no image"), of(1, "a single image")];
    few.into_iter().flatten().collect()
}

/// An image that equals one before it.
struct Twin {
    splits: [&'static str; 2],
    names: [String; 2],
    /// In its class.
    differs: bool,
}

fn twins(dataset: &Dataset) -> Vec<Twin> {
    let mut first: HashMap<&[u8], (&'static str, &Split, usize)> = HashMap::new();
    let mut twins = vec![];
    for (name, split) in dataset.splits() {
        for image in 0..split.len() {
            let Some(&(other_name, other_split, other)) = first.get(split.images.image(image))
            else {
                first.insert(split.images.image(image), (name, split, image));
                continue;
            };
            twins.push(Twin {
                splits: [other_name, name],
                names: [
                    image_name(other_name, other_split, other),
                    image_name(name, split, image),
                ],
                differs: split.labels[image] != other_split.labels[other],
            });
        }
    }
    twins
}

/// Its file, where it has one.
fn image_name(name: &str, split: &Split, image: usize) -> String {
    match split.files.get(image) {
        Some(file) => printable(&file.display().to_string()).into_owned(),
        None => format!("{name} {image}"),
    }
}

fn told<'a>(twins: impl Iterator<Item = &'a Twin>, one: &str, more: &str) -> Option<String> {
    let pairs: Vec<String> = twins.map(|twin| twin.names.join(" = ")).collect();
    let which = match pairs.len() {
        0 => return None,
        1 => one,
        _ => more,
    };
    let count = words::counted(pairs.len() as u64, "image");
    Some(format!("{count} {which}: {}", words::listed(pairs, NAMED)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;

    fn split(images: &[(u8, u32)]) -> Split {
        Split {
            images: Images {
                height: 1,
                width: 1,
                channels: 3,
                pixels: images.iter().flat_map(|&(value, _)| [value; 3]).collect(),
            },
            labels: images.iter().map(|&(_, label)| label).collect(),
            ..Split::default()
        }
    }

    fn dataset(train: &[(u8, u32)], test: &[(u8, u32)]) -> Dataset {
        Dataset {
            classes: ["a", "b", "c"].map(String::from).to_vec(),
            train: split(train),
            test: Some(split(test)),
            ..Dataset::default()
        }
    }

    #[test]
    fn an_ordinary_data_set_needs_no_remark() {
        let train = [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2)];
        assert_eq!(remarks(&dataset(&train, &[(7, 0)])), [""; 0]);
    }

    #[test]
    fn twins_and_small_classes_are_told() {
        let train = [(1, 0), (1, 0), (2, 0), (3, 1), (4, 1), (3, 2)];
        let mut data = dataset(&train, &[(2, 0), (9, 1)]);
        data.train.files = (0..6).map(|n| format!("{n}.png").into()).collect();
        assert_eq!(
            remarks(&data),
            [
                "1 class has a single image to train on: c",
                "1 image is in two splits, and so not new when it is tested: 2.png = test 0",
                "2 images are there twice in one split: 0.png = 1.png, 3.png = 5.png",
                "1 image is there twice, as two classes: 3.png = 5.png",
            ]
        );
        let many = [(1, 0); 20];
        let all = remarks(&dataset(&many, &[(2, 0)]));
        assert!(all[1].starts_with("19 images are there twice"), "{all:?}");
        assert!(all[1].ends_with("and 16 more"), "{all:?}");
        assert!(all[0].starts_with("2 classes have no image"), "{all:?}");
    }
}
