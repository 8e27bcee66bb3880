//! The model, its gradients, the optimizer, the pipeline and the metrics against numbers that
//! Keras 3.15 computed (`tests/fixtures/*.safetensors`).

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use serde_json::Value;
use smallvit::augment::floats::affine::{self, Affine};
use smallvit::augment::loader::Batch;
use smallvit::augment::{Preprocess, resize};
use smallvit::models::foreign::{Foreign, Given, from_pytorch};
use smallvit::models::{Architecture, Family, Model, ModelConfig, VitConfig};
use smallvit::nn::Context;
use smallvit::params::{self, Array, Arrays, keras, pytorch};
use smallvit::train::gradients::parameters;
use smallvit::train::groups;
use smallvit::train::metrics::{LossConfig, Sums, cross_entropy};
use smallvit::train::optimizer::{DecayOn, DecayScale, Optimizer, OptimizerConfig, Rule};
use smallvit::train::schedule::{Schedule, ScheduleKind};
use smallvit::train::workers::Workers;

struct Fixture {
    floats: BTreeMap<String, Array>,
    labels: Vec<u32>,
    pixels: Vec<u8>,
    config: Value,
}

impl Fixture {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default();
        let mut fixture = Fixture {
            floats: BTreeMap::new(),
            labels: vec![],
            pixels: vec![],
            config: metadata
                .get("config")
                .map_or(Value::Null, |c| serde_json::from_str(c).unwrap()),
        };
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            match view.dtype() {
                safetensors::Dtype::F32 => {
                    let values = view
                        .data()
                        .chunks(4)
                        .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                    let array = Array {
                        shape: view.shape().to_vec(),
                        values: values.collect(),
                    };
                    fixture.floats.insert(name, array);
                }
                safetensors::Dtype::U8 => fixture.pixels = view.data().to_vec(),
                _ if name.ends_with("labels") => {
                    let ints = view
                        .data()
                        .chunks(8)
                        .map(|b| i64::from_le_bytes(b.try_into().unwrap()));
                    fixture.labels = ints.map(|i| i as u32).collect();
                }
                _ => {
                    let values = view
                        .data()
                        .chunks(8)
                        .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32);
                    let array = Array {
                        shape: view.shape().to_vec(),
                        values: values.collect(),
                    };
                    fixture.floats.insert(name, array);
                }
            }
        }
        fixture
    }

    fn get(&self, name: &str) -> &[f32] {
        &self
            .floats
            .get(name)
            .unwrap_or_else(|| panic!("{name}"))
            .values
    }

    fn group(&self, prefix: &str) -> Arrays {
        let strip = |(name, array): (&String, &Array)| {
            Some((name.strip_prefix(prefix)?.to_string(), array.clone()))
        };
        self.floats.iter().filter_map(strip).collect()
    }
}

/// The largest difference, relative to the largest expected value: the natural scale for sums of
/// products in float32, whose rounding errors do not shrink with the result.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|x| x.is_finite()));
    let scale = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let most = found
        .iter()
        .zip(expected)
        .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    f64::from(most) / f64::from(scale).max(f64::MIN_POSITIVE)
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    let difference = difference(found, expected);
    assert!(
        difference <= tolerance,
        "{what}: {difference:.2e} > {tolerance:.0e}"
    );
}

fn model_config(config: &Value, shifted: bool) -> ModelConfig {
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let numbers = |key: &str| -> Vec<usize> {
        let list = config[key].as_array().unwrap();
        list.iter().map(|n| n.as_u64().unwrap() as usize).collect()
    };
    let vit = VitConfig {
        image_size: number("image_size"),
        patch_size: number("patch_size"),
        dim: number("projection_dim"),
        depth: number("layers"),
        heads: number("num_heads"),
        key_dim: number("key_dim"),
        mlp_width: numbers("transformer_units")[0],
        head: numbers("mlp_head_units"),
        dropout: 0.0,
        head_dropout: 0.0,
        layer_norm_epsilon: config["layer_norm_eps"].as_f64().unwrap(),
        ..VitConfig::default()
    };
    ModelConfig {
        spt: shifted,
        lsa: shifted,
        arch: vit.into(),
    }
}

/// Keras's name of an intermediate of ours, where the fixtures have it.
fn keras_activation(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["embedding", "patches"] => Some("patches".into()),
        ["embedding"] => Some("tokens".into()),
        ["sequence"] => Some("encoded".into()),
        ["blocks", block, "attention", "branch"] => Some(format!("attention{block}")),
        ["blocks", block, "mlp"] => Some(format!("block{block}")),
        _ => None,
    }
}

/// Queries, keys and values by themselves: each is compared on its own scale.
fn apart(arrays: Arrays) -> Arrays {
    let mut all = Arrays::new();
    for (name, array) in arrays {
        let Some((path, leaf)) = name.split_once(".qkv.") else {
            all.insert(name, array);
            continue;
        };
        let width = array.shape.last().unwrap() / 3;
        for (place, third) in ["query", "key", "value"].iter().enumerate() {
            let rows = array.values.chunks_exact(3 * width);
            let values: Vec<f32> = rows
                .flat_map(|row| &row[place * width..][..width])
                .copied()
                .collect();
            let shape = vec![values.len()];
            all.insert(format!("{path}.{third}.{leaf}"), Array { shape, values });
        }
    }
    all
}

/// Another device's name runs the models on it: SMALLVIT_TEST_DEVICE=gpu, in a build that has it.
fn device() -> Device {
    let device = std::env::var("SMALLVIT_TEST_DEVICE").unwrap_or("cpu".into());
    smallvit::train::device::open(&device).unwrap()
}

fn model_equals_keras(name: &str, shifted: bool) {
    let fixture = Fixture::read(name);
    let config = model_config(&fixture.config, shifted);
    let device = device();
    let images = fixture.labels.len();

    // Preprocessing: adapted on these very images, as the fixture's.
    let preprocess = Preprocess {
        input: [16, 16, 3],
        image_size: config.image_size(),
        mean: fixture.get("normalization.mean").to_vec(),
        variance: fixture.get("normalization.variance").to_vec(),
    };
    assert!(images > 0);
    assert_eq!(fixture.pixels.len(), images * 16 * 16 * 3);
    let mut resized = vec![0.0; images * preprocess.output_len()];
    for (pixels, out) in fixture
        .pixels
        .chunks(16 * 16 * 3)
        .zip(resized.chunks_mut(preprocess.output_len()))
    {
        preprocess.apply(pixels, out);
    }
    assert_close("resized", &resized, fixture.get("activation.resized"), 1e-5);

    let ours = |prefix: &str| keras::translate(fixture.group(prefix));
    let model = Model::new(&config, 3, 5, 0, &device);
    let mut model = params::load(model, &ours("weights."), name).unwrap();
    let size = config.image_size();
    let workers = Workers::new(2, 4, device.clone()).unwrap();
    let batch = Batch {
        images: resized.clone(),
        targets: fixture.labels.clone().into(),
    };
    let input: Tensor<4> =
        Tensor::from_data(TensorData::new(resized, [images, size, size, 3]), &device);

    // Every activation.
    let mut context = Context::inference().traced();
    let logits = model.forward(input.clone(), &mut context);
    assert_close(
        "logits",
        &Array::of(logits).values,
        fixture.get("activation.logits"),
        1e-4,
    );
    let trace = context.into_trace();
    let Architecture::Vit(vit) = &config.arch else {
        unreachable!("the golden models are ViTs")
    };
    let mut compared = 0;
    for (name, value) in trace {
        let expected = match keras_activation(&name) {
            Some(theirs) => fixture.get(&format!("activation.{theirs}")),
            None => continue,
        };
        assert_close(&name, &Array::of(value).values, expected, 1e-4);
        compared += 1;
    }
    assert_eq!(compared, 3 + 2 * vit.depth);

    // Three steps: every loss, the first step's gradients, the weights at the end.
    let own = parameters(&model).unwrap();
    let scales = groups::resolve(&[], DecayOn::All, &own, &own).unwrap();
    let config = OptimizerConfig {
        rule: Rule::Adamw,
        momentum: 0.95,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-7,
        weight_decay: 1e-4,
        decay_scale: DecayScale::LearningRate,
        clip_norm: 0.0,
    };
    let mut optimizer = Optimizer::new(config, scales);
    for step in 0..3 {
        // In parts and on two threads, as a run does it.
        let outcome = workers
            .train(
                &model,
                &batch,
                [size, size, 3],
                &LossConfig::default(),
                0,
                step,
            )
            .unwrap();
        let expected = fixture.get(&format!("loss.step{step}"));
        assert_close("loss", &[outcome.loss as f32], expected, 1e-5);
        if step == 0 {
            let again = workers.train(
                &model,
                &batch,
                [size, size, 3],
                &LossConfig::default(),
                0,
                step,
            );
            let found = again.unwrap().gradients.formed();
            // Gradients come flat.
            let weights = params::weights(&model);
            let found = found.map(|(name, gradient)| {
                let array = Array::of(gradient).reshaped(weights[&name].shape.clone());
                (name, array)
            });
            let (found, expected) = (apart(found.collect()), apart(ours("gradient.")));
            assert_eq!(found.len(), expected.len());
            for (name, expected) in expected {
                let found = &found[&name].values;
                if name.ends_with("key.bias") {
                    // Exactly 0 in theory: adding the same to every key moves all scores of a
                    // query alike, and softmax does not see it. Both are rounding noise.
                    assert!(found.iter().chain(&expected.values).all(|g| g.abs() < 1e-7));
                } else {
                    assert_close(&name, found, &expected.values, 1e-4);
                }
            }
        }
        let gradients = outcome.gradients.checked(optimizer.names()).unwrap();
        let norm;
        (model, norm) = optimizer.step(model, gradients, 1e-3);
        if step == 0 {
            let theirs = ours("gradient.")
                .into_values()
                .flat_map(|array| array.values);
            let theirs = theirs
                .map(|g| f64::from(g) * f64::from(g))
                .sum::<f64>()
                .sqrt();
            assert!((norm - theirs).abs() < 1e-4 * theirs, "{norm} {theirs}");
        }
    }
    let found = apart(params::weights(&model));
    let expected = apart(ours("after3.weights."));
    let (start, gradients) = (apart(ours("weights.")), apart(ours("gradient.")));
    assert_eq!(found.len(), expected.len());
    for (name, expected) in &expected {
        let found = &found[name].values;
        assert_eq!(found.len(), expected.values.len());
        if name.ends_with("key.bias") {
            // Its gradients are noise of up to 1e-8 or so (above), which Adam's ε damps to a
            // fraction of the rate; a real gradient would move it by 3e-3.
            let pairs = found.iter().zip(&expected.values);
            assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-4), "{name}");
            continue;
        }
        assert_close(name, found, &expected.values, 1e-4);
        // The change itself, too: at 1e-3 a step it is small beside most weights. Adam divides a
        // gradient by its own size, so the noise of float32, 1e-7 of the largest gradient, shows
        // in the change of a weight whose gradient is hardly larger than that or than ε.
        let gradient = &gradients[name].values;
        assert_eq!(gradient.len(), found.len());
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let (most, noise) = (largest(gradient), 1e-7 * largest(gradient));
        let change = |values: &[f32]| -> Vec<f32> {
            assert_eq!(values.len(), start[name].values.len());
            let pairs = values.iter().zip(&start[name].values);
            pairs.map(|(after, before)| after - before).collect()
        };
        let (found, expected) = (change(found), change(&expected.values));
        let moved = largest(&expected);
        for ((a, b), g) in found.iter().zip(&expected).zip(gradient) {
            let error = (a - b).abs();
            let tolerance = 3e-3 * (1e-3 + noise / (g.abs() + 3e-6));
            assert!(error <= tolerance, "{name}: {error:e} > {tolerance:e}");
            if g.abs() >= 1e-5 * most {
                assert!(error <= 2e-3 * moved, "{name}: {error:e}");
            }
        }
    }
}

#[test]
fn the_vanilla_vit_equals_keras() {
    model_equals_keras("vit.safetensors", false);
}

#[test]
fn the_sl_vit_equals_keras() {
    model_equals_keras("sl_vit.safetensors", true);
}

/// The paper's ViT against its own code's numbers: by composed operations and by the kernels.
fn model_equals_the_papers(name: &str, spt: bool) {
    let family = name.split(['-', '.']).find_map(|part| part.parse().ok());
    let family: Family = family.unwrap();
    // float32 differs from float64 by 1e-6 here; another epsilon or GELU moves logits by 1e-4. Other
    // devices have exponentials of their own.
    let device = device();
    let on_cpu = device == smallvit::train::device::cpu();
    let tight = if on_cpu { 2e-5 } else { 1e-4 };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}"));
    let fixture = Fixture::read(name);
    let Foreign { info, weights, .. } = from_pytorch(&path, Given::default()).unwrap();
    assert_eq!((info.config.spt, info.config.lsa), (spt, spt));
    let model = info.with_weights(&weights, name, &device).unwrap();
    let preprocess = info.preprocess();
    let length = preprocess.output_len();
    let images = fixture.labels.len();
    assert_eq!((images, fixture.pixels.len()), (2, 2 * length));
    let mut pixels = vec![0.0; images * length];
    for (image, out) in fixture.pixels.chunks(length).zip(pixels.chunks_mut(length)) {
        preprocess.apply(image, out);
    }
    let given = channels_last(fixture.get("input.images"), images, 3);
    assert_close("images", &pixels, &given, 1e-6);
    let size = info.config.image_size();
    let shape = [size, size, 3];
    let workers = Workers::new(2, 1, device.clone()).unwrap();
    let of_pixels = workers.infer(&model, &pixels, shape);
    // From here on exactly theirs: some gradients are a thousand times as far apart as the images.
    let by_kernels = workers.infer(&model, &given, shape);
    let data = TensorData::new(given.clone(), [images, size, size, 3]);
    let input: Tensor<4> = Tensor::from_data(data, &device);
    let mut context = Context::inference().traced();
    let logits = Array::of(model.forward(input.clone(), &mut context)).values;
    let expected = fixture.get("activation.logits");
    for found in [&logits, &by_kernels, &of_pixels] {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(f64::from((found - expected).abs()) < tight);
        }
    }
    let mut theirs_left = fixture.group("activation.");
    theirs_left.remove("logits");
    for (name, value) in context.into_trace() {
        let theirs = match family {
            Family::T2t => t2t_activation(&name),
            Family::Cait => cait_activation(&name),
            Family::Pit => pit_activation(&name),
            Family::Swin => swin_activation(&name, spt),
            _ => paper_activation(&name),
        };
        // (Of the first of three soft splits there is nothing in the fixtures.)
        let Some(theirs) = theirs.filter(|theirs| theirs_left.contains_key(theirs)) else {
            continue;
        };
        let mut expected = fixture.get(&format!("activation.{theirs}")).to_vec();
        let width = value.dims()[2];
        if theirs.starts_with("split") {
            expected = unfolded(&expected, width, spt && theirs == "split0");
        }
        if theirs == "shifted" {
            expected = channels_last(&swapped(&expected, images), images, 15);
        }
        let mut found = Array::of(value).values;
        if theirs.starts_with("class") {
            // The tokens that the class token has attended to come after it.
            let tokens = found.len() / images / width;
            let first = found.chunks(width).step_by(tokens);
            found = first.flatten().copied().collect();
        }
        assert_close(&name, &found, &expected, tight);
        theirs_left.remove(&theirs).unwrap();
    }
    assert!(theirs_left.is_empty(), "{:?}", theirs_left.keys());

    let mut expected = fixture.group("gradient.");
    expected.retain(|name, _| !name.starts_with("tokens_to_token.norm."));
    let expected = pytorch::translate(family, expected, 3);
    let batch = Batch {
        images: given,
        targets: fixture.labels.clone().into(),
    };
    let composed = Workers::new(1, 2, device).unwrap().composed();
    for (how, workers) in [("kernels", workers), ("composed", composed)] {
        let outcome = workers
            .train(&model, &batch, shape, &LossConfig::default(), 0, 0)
            .unwrap();
        let loss = fixture.get("loss");
        assert_close(how, &[outcome.loss as f32], loss, tight);
        let mut gradients: BTreeMap<_, _> = outcome.gradients.formed().collect();
        assert_eq!(gradients.len(), expected.len());
        for (name, expected) in &expected {
            let found = Array::of(gradients.remove(name).unwrap()).values;
            // A temperature's is a sum of thousands of numbers that nearly cancel, which Burn adds one
            // after another.
            let tolerance = match (how, name.ends_with("temperature")) {
                ("composed", true) => 1e-4,
                // Their own float32 is as far as that from float64 (`float64_gap` in the fixtures).
                _ if family == Family::Cait => 1e-4,
                _ => tight,
            };
            let what = format!("{how} {name}");
            assert_close(&what, &found, &expected.values, tolerance);
        }
    }
}

/// The paper's name of an intermediate of ours, where the fixtures have it.
fn paper_activation(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["embedding", "shifted"] => Some("shifted".into()),
        ["embedding"] => Some("tokens".into()),
        ["sequence"] => Some("embedded".into()),
        ["blocks", block, "attention"] => Some(format!("block{block}.attended")),
        ["blocks", block, "mlp"] => Some(format!("block{block}")),
        ["pooling"] => Some("features".into()),
        _ => None,
    }
}

/// The same of a T2T.
fn t2t_activation(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["splits", "0", "unfold", "shifted"] => Some("shifted".into()),
        ["splits", split, "unfold"] => Some(format!("split{split}")),
        ["splits", split, "attention"] => Some(format!("token{split}.attended")),
        ["splits", split, "mlp"] => Some(format!("token{split}")),
        _ => paper_activation(name),
    }
}

/// The same of a CaiT.
fn cait_activation(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["blocks", block, "attention"] => Some(format!("patch{block}.attended")),
        ["blocks", block, "mlp"] => Some(format!("patch{block}")),
        ["class_blocks", block, "attention"] => Some(format!("class{block}.attended")),
        ["class_blocks", block, "mlp"] => Some(format!("class{block}")),
        _ => paper_activation(name),
    }
}

/// Overlapping patches of 3 × 3, channel by channel, as this program has them; `shifted` ones' channels are five
/// versions of three.
fn unfolded(values: &[f32], width: usize, shifted: bool) -> Vec<f32> {
    let channels = width / 9;
    let place = |i: usize| {
        let (cell, channel) = (i / channels, i % channels);
        let channel = match (shifted, channel / 3) {
            (true, 1) => 12 + channel % 3,
            (true, 4) => 3 + channel % 3,
            _ => channel,
        };
        channel * 9 + cell
    };
    let patches = values.chunks(width);
    let of_patch = |patch: &[f32]| (0..width).map(|i| patch[place(i)]).collect::<Vec<_>>();
    patches.flat_map(of_patch).collect()
}

/// The same of a PiT.
fn pit_activation(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["stages", stage, "merge" | "downsample"] => {
            let before = stage.parse::<usize>().unwrap() - 1;
            Some(format!("stage{before}.pool"))
        }
        _ => swin_activation(name, true),
    }
}

/// The same of a Swin Transformer, whose plain patches are normalised once they are projected.
fn swin_activation(name: &str, spt: bool) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["embedding"] if !spt => None,
        ["norm"] => Some("tokens".into()),
        ["stages", stage, "merge"] => {
            let before = stage.parse::<usize>().unwrap() - 1;
            Some(format!("stage{before}.merge"))
        }
        ["stages", stage, "blocks", block, "attention"] => {
            Some(format!("stage{stage}.block{block}.attended"))
        }
        ["stages", stage, "blocks", block, "mlp"] => Some(format!("stage{stage}.block{block}")),
        _ => paper_activation(name),
    }
}

/// `[image, channel, pixel]` → `[image, pixel, channel]`.
fn channels_last(values: &[f32], images: usize, channels: usize) -> Vec<f32> {
    let pixels = values.len() / images / channels;
    let place = |i: usize| {
        let (image, rest) = (i / (pixels * channels), i % (pixels * channels));
        (image * channels + rest % channels) * pixels + rest / channels
    };
    (0..values.len()).map(|i| values[place(i)]).collect()
}

/// The paper's order of an image's shifted versions, `[image, version, …]`, in ours: the first shift
/// and the last change places.
fn swapped(values: &[f32], images: usize) -> Vec<f32> {
    let version = values.len() / images / 5;
    let versions: Vec<&[f32]> = values.chunks_exact(version).collect();
    (0..images)
        .flat_map(|image| [0, 4, 2, 3, 1].map(|version| versions[5 * image + version]))
        .flatten()
        .copied()
        .collect()
}

#[test]
fn the_papers_vit_equals_its_code() {
    model_equals_the_papers("paper-vit.safetensors", false);
}

#[test]
fn the_papers_sl_vit_equals_its_code() {
    model_equals_the_papers("paper-sl-vit.safetensors", true);
}

#[test]
fn the_papers_t2t_equals_its_code() {
    model_equals_the_papers("paper-t2t.safetensors", false);
    model_equals_the_papers("paper-t2t-64.safetensors", false);
}

#[test]
fn the_papers_sl_t2t_equals_its_code() {
    model_equals_the_papers("paper-sl-t2t.safetensors", true);
    model_equals_the_papers("paper-sl-t2t-64.safetensors", true);
}

#[test]
fn the_papers_cait_equals_its_code() {
    model_equals_the_papers("paper-cait.safetensors", false);
}

#[test]
fn the_papers_sl_cait_equals_its_code() {
    model_equals_the_papers("paper-sl-cait.safetensors", true);
}

#[test]
fn the_papers_pit_equals_its_code() {
    model_equals_the_papers("paper-pit.safetensors", false);
}

#[test]
fn the_papers_sl_pit_equals_its_code() {
    model_equals_the_papers("paper-sl-pit.safetensors", true);
}

#[test]
fn the_papers_swin_equals_its_code() {
    model_equals_the_papers("paper-swin.safetensors", false);
}

#[test]
fn the_papers_sl_swin_equals_its_code() {
    model_equals_the_papers("paper-sl-swin.safetensors", true);
}

#[test]
fn rotation_and_zoom_equal_keras() {
    let fixture = Fixture::read("pipeline.safetensors");
    let images = fixture.get("images").chunks(24 * 24 * 3);
    let check = |kind: &str, affine_of: &dyn Fn(usize) -> Affine| {
        let outputs = fixture.get(&format!("{kind}.output")).chunks(24 * 24 * 3);
        assert_eq!(outputs.len(), images.len());
        for (number, (image, expected)) in images.clone().zip(outputs).enumerate() {
            let affine = affine_of(number);
            let rows = &fixture.get(&format!("{kind}.affine"))[8 * number..];
            assert!(rows.len() >= 6);
            for (found, expected) in affine.column.iter().chain(&affine.row).zip(rows) {
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{kind} {number}: {found} {expected}"
                );
            }
            let mut found = vec![0.0; 24 * 24 * 3];
            affine::transform(image, [24, 24, 3], &affine, &mut found);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{kind} {number}: {found} {expected}"
                );
            }
        }
    };
    for kind in ["rotation", "rotation_large"] {
        let degrees = fixture.get(&format!("{kind}.degrees"));
        check(kind, &|n| Affine::rotation(degrees[n].to_radians(), 24, 24));
    }
    let (height, width) = (fixture.get("zoom.height"), fixture.get("zoom.width"));
    check("zoom", &|n| Affine::zoom(height[n], width[n], 24, 24));
}

#[test]
fn resizing_equals_keras() {
    let fixture = Fixture::read("pipeline.safetensors");
    let mut found = vec![0.0; 72 * 72 * 3];
    resize::bilinear(
        fixture.get("resize.32to72.input"),
        [32, 32, 3],
        [72, 72],
        &mut found,
    );
    let expected = fixture.get("resize.32to72.output");
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4);
    }
}

#[test]
fn the_schedule_equals_keras() {
    let fixture = Fixture::read("pipeline.safetensors");
    let schedule = Schedule {
        kind: ScheduleKind::WarmupCosine,
        peak: 1e-3,
        warmup_rate: 0.0,
        warmup_steps: 20,
        final_rate: 0.0,
        restarts: 0,
        total_steps: 200,
    };
    let steps = fixture.get("warmup_cosine.steps");
    assert_eq!(steps.len(), fixture.get("warmup_cosine.rates").len());
    assert!(steps.len() > 10);
    for (&step, &expected) in steps.iter().zip(fixture.get("warmup_cosine.rates")) {
        // Keras computes in float32: its rates carry errors of 1e-7 of the peak.
        assert!(
            (schedule.rate(step as u64) - f64::from(expected)).abs() < 2e-10,
            "{step}"
        );
    }
}

#[test]
fn loss_and_accuracies_equal_keras() {
    let fixture = Fixture::read("pipeline.safetensors");
    let logits = fixture.get("metrics.logits");
    let tensor = Tensor::from_data(TensorData::new(logits.to_vec(), [8, 10]), &Device::flex());
    let targets = fixture.labels.clone().into();
    let loss: f32 = cross_entropy(tensor, &targets, &LossConfig::default()).into_scalar();
    assert_close("loss", &[loss], fixture.get("metrics.loss"), 1e-6);
    let mut sums = Sums::default();
    sums.add(f64::from(loss), logits, &fixture.labels);
    assert_eq!(
        sums.means().top1,
        f64::from(100.0 * fixture.get("metrics.top1")[0])
    );
    assert_eq!(
        sums.means().top5,
        f64::from(100.0 * fixture.get("metrics.top5")[0])
    );
}
