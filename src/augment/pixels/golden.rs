//! What Pillow and torchvision make of some images (`tests/fixtures/augment/make.py`).

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::auto_augment::Policy;
use super::edit::{Edit, Kind, Moved, Ranges};
use super::geometry::Sampling;
use super::{colour, resized_crop};
use crate::augment::{Canvas, Rectangle};

const GOLDEN: &[u8] = include_bytes!("../../../tests/fixtures/augment/golden.safetensors");

/// By their numbers in the fixture.
const KINDS: [Kind; 15] = [
    Kind::Identity,
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
    Kind::Rotate,
    Kind::Brightness,
    Kind::Saturation,
    Kind::Contrast,
    Kind::Sharpness,
    Kind::Posterize,
    Kind::Solarize,
    Kind::AutoContrast,
    Kind::Equalize,
    Kind::Invert,
];

/// The edit that a tensor's name stands for.
fn edit(name: &str, amount: f64) -> Edit {
    match name {
        "shear-x" => Edit::ShearX(amount),
        "shear-y" => Edit::ShearY(amount),
        "translate-x" => Edit::TranslateX(amount),
        "translate-y" => Edit::TranslateY(amount),
        "rotate" => Edit::Rotate(amount),
        "brightness" => Edit::Brightness(1.0 + amount),
        "saturation" => Edit::Saturation(1.0 + amount),
        "contrast" => Edit::Contrast(1.0 + amount),
        "sharpness" => Edit::Sharpness(1.0 + amount),
        "posterize" => Edit::Posterize(amount as u32),
        "solarize" => Edit::Solarize(amount),
        "solarize-add" => Edit::SolarizeAdd(amount as u8),
        "auto-contrast" => Edit::AutoContrast,
        "equalize" => Edit::Equalize,
        "invert" => Edit::Invert,
        other => panic!("{other}"),
    }
}

fn shape(view: &TensorView) -> [usize; 3] {
    let [_, height, width, channels] = *view.shape() else {
        panic!("{:?}", view.shape())
    };
    [height, width, channels]
}

#[test]
fn every_operation_equals_pillows_and_torchvisions() {
    let golden = SafeTensors::deserialize(GOLDEN).unwrap();
    let mut compared = 0;
    for (name, expected) in golden.tensors() {
        let parts: Vec<&str> = name.split('/').collect();
        let [operation, amount, ref how @ .., colours] = parts[..] else {
            continue; // an image
        };
        if operation == "policy" || operation == "space" {
            continue;
        }
        let images = golden.tensor(&format!("image.{colours}")).unwrap();
        let shape = shape(&images);
        let length = shape.iter().product();
        let pairs = images.data().chunks_exact(length);
        for (number, (image, expected)) in
            pairs.zip(expected.data().chunks_exact(length)).enumerate()
        {
            let mut canvas = Canvas::default();
            canvas.load(image);
            match (operation, how) {
                ("resized-crop", [left, height, width]) => {
                    let [top, left, height, width] =
                        [amount, left, height, width].map(|n| n.parse().unwrap());
                    let part = Rectangle {
                        top,
                        left,
                        height,
                        width,
                    };
                    canvas.redraw(|from, to| resized_crop::resize(from, shape, part, to));
                }
                ("hue", _) => colour::hue(canvas.image_mut(), shape[2], amount.parse().unwrap()),
                (_, [sampling, outside]) => {
                    let moved = Moved {
                        sampling: match *sampling {
                            "nearest" => Sampling::Nearest,
                            "bilinear" => Sampling::Bilinear,
                            "bicubic" => Sampling::Bicubic,
                            other => panic!("{other}"),
                        },
                        outside: outside.parse().unwrap(),
                    };
                    let amount = amount.parse().unwrap();
                    edit(operation, amount).apply(&mut canvas, shape, moved);
                }
                _ => panic!("{name}"),
            }
            let differ = canvas.image().iter().zip(expected).filter(|(a, b)| a != b);
            let differ: Vec<_> = differ.take(8).collect();
            assert!(differ.is_empty(), "{name}, image {number}: {differ:?}");
            compared += 1;
        }
    }
    assert!(compared > 600, "{compared}");
}

#[test]
fn the_policies_are_torchvisions() {
    let golden = SafeTensors::deserialize(GOLDEN).unwrap();
    for (name, policy) in [
        ("cifar10", Policy::Cifar10),
        ("svhn", Policy::Svhn),
        ("imagenet", Policy::Imagenet),
    ] {
        let expected = golden.tensor(&format!("policy/{name}")).unwrap();
        let found = policy
            .pairs()
            .as_flattened()
            .iter()
            .flat_map(|&(kind, tenths, level)| {
                let kind = KINDS.iter().position(|&k| k == kind).unwrap();
                [kind as u8, tenths, level]
            });
        assert_eq!(found.collect::<Vec<_>>(), expected.data(), "{name}");
    }
}

#[test]
fn the_ranges_are_torchvisions() {
    let golden = SafeTensors::deserialize(GOLDEN).unwrap();
    let shape = shape(&golden.tensor("image.colour").unwrap());
    let mut compared = 0;
    for (name, amounts) in golden.tensors() {
        let ["space", policy, kind, signed] = name.split('/').collect::<Vec<_>>()[..] else {
            continue;
        };
        let kind = KINDS[kind.parse::<usize>().unwrap()];
        let ranges = match policy {
            "wide" => Ranges::WIDE,
            _ => Ranges::ordinary(shape),
        };
        let (amounts, _) = amounts.data().as_chunks::<4>();
        for (level, expected) in amounts.iter().enumerate() {
            let expected = f64::from(f32::from_le_bytes(*expected));
            let strength = level as f64 / (amounts.len() - 1) as f64;
            for negative in [false, true] {
                let expected = match (signed, negative) {
                    ("1", true) => -expected,
                    _ => expected,
                };
                let found = match kind.at(strength, negative, &ranges) {
                    Edit::ShearX(x) | Edit::ShearY(x) | Edit::Rotate(x) | Edit::Solarize(x) => x,
                    Edit::Brightness(x)
                    | Edit::Saturation(x)
                    | Edit::Contrast(x)
                    | Edit::Sharpness(x) => x - 1.0,
                    Edit::Posterize(bits) => f64::from(bits),
                    Edit::TranslateX(x) | Edit::TranslateY(x) => {
                        // They cut to whole pixels later. (Half of 32 is 15.999999 in their table, which they
                        // cut to 15; here it is 16.)
                        let near = expected + expected.signum() * 1e-4;
                        assert_eq!(x, near.trunc(), "{name} {level}");
                        continue;
                    }
                    _ => continue,
                };
                assert!(
                    (found - expected).abs() < 2e-5,
                    "{name} {level}: {found} {expected}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 500, "{compared}");
}
