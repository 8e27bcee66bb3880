//! The program from outside: what a person at the keyboard sees, and what is on disk afterwards.

mod limits;
mod output;
mod pages;
mod pictures;
mod readers;
mod runs;
mod sweeps;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use smallvit_kernels::matrix::Precision;
use tempfile::TempDir;

/// A model that trains in a second or two.
const TINY: [&str; 16] = [
    "data.redivide=false",
    "data.validation=0.1",
    "data.test=0.15",
    "train.seeds=1",
    "model.patch_size=8",
    "model.dim=8",
    "model.depth=1",
    "model.heads=2",
    "model.key_dim=4",
    "model.mlp_width=16",
    "model.head=[16]",
    "model.dropout=0.1",
    "train.epochs=3",
    "train.warmup_epochs=1",
    "train.batch=128",
    "train.micro_batch=32",
];

fn smallvit(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smallvit"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("SMALLVIT_CACHE", folder.join("cache"))
        .env("KERAS_HOME", folder.join("keras"))
        .env_remove("COLUMNS")
        .stdin(Stdio::null());
    command
}

fn tiny(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = smallvit(folder, arguments);
    // The recipe of other data leaves sizes to be chosen.
    let names_data = |argument: &&str| *argument == "--data" || argument.starts_with("data.set=");
    if arguments.iter().any(names_data) && !arguments.contains(&"--recipe") {
        command.args(["--recipe", "quickstart"]);
    }
    for setting in TINY {
        command.args(["--set", setting]);
    }
    command
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

fn succeeds(command: Command) -> String {
    let output = run(command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names of temporary files in a run and its checkpoints.
fn temporaries(run: &Path) -> Vec<String> {
    let folders = [run.to_path_buf(), run.join("checkpoints")];
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("tmp")).collect()
}

/// The message of a command that must fail, in a person's words and without a panic.
fn fails(command: Command, code: i32) -> String {
    let output = run(command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    assert!(error.contains("smallvit: "), "{error}");
    error
}

fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "no {}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How a program ended that has been told to. A shell without job control, and `nohup`, have what they put in the
/// background ignore interrupts; so do these tests then, and all programs that they start.
fn ended(child: &mut std::process::Child) -> std::process::ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!(
                "it goes on 120 s after it was told to end (are these tests run with signals ignored?)"
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The history without its times, which no two runs share.
fn history(run: &Path) -> String {
    let csv = fs::read_to_string(run.join("history.csv")).unwrap();
    let names: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let timed = |column: usize| ["seconds", "images_per_second"].contains(&names[column]);
    let without = |line: &str| -> String {
        let columns = line.split(',').enumerate();
        let kept = columns.filter(|(column, _)| !timed(*column));
        kept.map(|(_, value)| value).collect::<Vec<_>>().join(",")
    };
    let lines: Vec<String> = csv.lines().map(without).collect();
    assert!(lines.len() > 1, "an epoch at least");
    lines.join("\n")
}

/// Every weight and moment of a checkpoint, as bytes, and its best model's.
fn arrays(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![];
    for name in ["last", "best"] {
        let path = run.join(format!("checkpoints/{name}.safetensors"));
        let bytes = fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Vec<_> = file
            .tensors()
            .into_iter()
            .map(|(tensor, view)| (format!("{name} {tensor}"), view.data().to_vec()))
            .collect();
        assert!(!tensors.is_empty());
        tensors.sort();
        all.extend(tensors);
    }
    all
}

#[test]
fn compare_trains_both_models_and_leaves_everything_in_the_run_folder() {
    let dir = TempDir::new().unwrap();
    let out = succeeds(tiny(dir.path(), &["compare", "--out", "run"]));
    assert!(
        out.contains("sl-vit") && out.contains("test top-1"),
        "{out}"
    );
    let run = dir.path().join("run");
    let result = json(&run.join("result.json"));
    let models = result["models"].as_array().unwrap();
    assert_eq!(models.len(), 2);
    for model in models {
        for key in [
            "model",
            "parameters",
            "recipe",
            "data",
            "seed",
            "epochs",
            "best_epoch",
            "val_top1",
            "val_top5",
            "test_top1",
            "test_top5",
            "seconds",
            "seconds_per_step",
            "peak_rss_bytes",
            "version",
        ] {
            assert!(!model[key].is_null() || key == "peak_rss_bytes", "{key}");
        }
        // Of the 411 test images, a whole number is right.
        let correct = model["test_top1"].as_f64().unwrap() * 411.0 / 100.0;
        assert!((correct - correct.round()).abs() < 1e-6);
        let name = model["model"].as_str().unwrap();
        assert_eq!(history(&run.join(name)).lines().count(), 4);
        assert!(run.join(name).join("curves.png").exists());
    }
    // Every head of every layer aside, SPT's layer norm and LSA's temperature are the difference.
    let parameters = |i: usize| models[i]["parameters"].as_u64().unwrap();
    let patch = 8 * 8 * 3;
    assert_eq!(
        parameters(1) - parameters(0),
        4 * patch * 8 + 2 * 5 * patch + 1
    );
    assert!(image::open(run.join("curves.png")).unwrap().width() > 600);
    // The folder is a run's already: nothing is overwritten.
    let message = fails(tiny(dir.path(), &["compare", "--out", "run"]), 2);
    assert!(message.contains("already hold a run"), "{message}");
    let message = fails(smallvit(dir.path(), &["train", "--resume", "run"]), 1);
    assert!(
        message.contains("smallvit compare --resume run"),
        "{message}"
    );
    let message = fails(smallvit(dir.path(), &["compare", "--resume", "run/vit"]), 1);
    assert!(
        message.contains("smallvit train --resume run/vit"),
        "{message}"
    );
}

#[test]
fn several_seeds_are_told_apart_from_chance() {
    let dir = TempDir::new().unwrap();
    let arguments = ["compare", "--seeds", "3", "--epochs", "1", "--out", "run"];
    let out = succeeds(tiny(dir.path(), &arguments));
    assert!(out.contains("3 seeds, 95 % interval"), "{out}");
    let run = dir.path().join("run");
    let results = json(&run.join("result.json"));
    let of = |model: &str| -> Vec<f64> {
        let own = results["models"].as_array().unwrap().iter();
        let own = own.filter(|result| result["model"] == model);
        own.map(|result| result["test_top1"].as_f64().unwrap())
            .collect()
    };
    let (vit, sl_vit) = (of("vit"), of("sl-vit"));
    assert_eq!((vit.len(), sl_vit.len()), (3, 3));
    // The numbers printed are those of the runs.
    let mean = |values: &[f64]| values.iter().sum::<f64>() / 3.0;
    for values in [&vit, &sl_vit] {
        assert!(out.contains(&format!("{:.2} ± ", mean(values))), "{out}");
    }
    let by = (mean(&sl_vit) - mean(&vit)).abs();
    assert!(out.contains(&format!("by {by:.2} points")), "{out}");
    // A seed of its own is another run, and the first is the recipe's.
    let histories = ["seed-42", "seed-43", "seed-44"].map(|seed| {
        assert!(run.join(seed).join("sl-vit/curves.png").exists());
        history(&run.join(seed).join("vit"))
    });
    assert!(histories[0] != histories[1] && histories[1] != histories[2]);
    let single = [
        "train", "--model", "vit", "--epochs", "1", "--seed", "43", "--out", "one",
    ];
    succeeds(tiny(dir.path(), &single));
    assert_eq!(history(&dir.path().join("one")), histories[1]);

    // It goes on where it was, and what was done stays.
    fs::remove_dir_all(run.join("seed-44")).unwrap();
    fs::remove_file(run.join("result.json")).unwrap();
    let resumed = smallvit(dir.path(), &["compare", "--resume", "run", "--json"]);
    let resumed: serde_json::Value =
        serde_json::from_str(succeeds(resumed).lines().last().unwrap()).unwrap();
    assert_eq!(
        json(&run.join("result.json"))["models"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
    assert_eq!(history(&run.join("seed-44/vit")), histories[2]);
    // Who asks the comparison itself for an answer is shown to a run of it.
    let message = fails(smallvit(dir.path(), &["predict", "run", "-"]), 1);
    assert!(message.contains("run/seed-42/sl-vit"), "{message}");
    let difference = &resumed["differences"][0];
    assert_eq!(difference["pairs"], 3);
    assert!((difference["mean"].as_f64().unwrap().abs() - by).abs() < 1e-9);
    for (seeds, problem) in [("0", "--seeds"), ("1001", "--seeds")] {
        let arguments = ["compare", "--seeds", seeds];
        assert!(fails(tiny(dir.path(), &arguments), 2).contains(problem));
    }
}

#[test]
fn a_run_does_not_depend_on_the_number_of_threads() {
    let dir = TempDir::new().unwrap();
    for threads in ["1", "2", "3"] {
        let arguments = ["train", "--quiet", "--threads", threads, "--out", threads];
        succeeds(tiny(dir.path(), &arguments));
    }
    let one = dir.path().join("1");
    for threads in ["2", "3"] {
        let other = dir.path().join(threads);
        assert_eq!(history(&one), history(&other));
        assert!(arrays(&one) == arrays(&other), "weights differ");
    }
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_bits() {
    let dir = TempDir::new().unwrap();
    // All that draws random numbers or has a state of its own is on.
    let settings = [
        "--set",
        "train.epochs=6",
        "--set",
        "train.checkpoint_minutes=0.002",
        "--set",
        "train.average.decay=0.99",
        "--set",
        "augment.mix.probability=0.7",
        "--set",
        "augment.erasing.probability=0.3",
        "--set",
        "augment.crop_padding=2",
        "--set",
        "model.stochastic_depth=0.1",
        "--set",
        "model.pool=class",
    ];
    let train = |out: &str| {
        let mut command = tiny(dir.path(), &["train", "--quiet", "--out", out]);
        command.args(settings);
        command
    };
    let began = Instant::now();
    succeeds(train("whole"));
    let whole_time = began.elapsed();

    // Killed again and again at moments spread over the run, with nothing to tell it beforehand.
    let mut kills = 0;
    let mut child = train("broken").spawn().unwrap();
    for part in [0.35, 0.2, 0.3, 0.15, 0.4] {
        std::thread::sleep(whole_time.mul_f64(part) + Duration::from_millis(3));
        wait_for(&dir.path().join("broken/recipe.toml"));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        child = smallvit(dir.path(), &["train", "--quiet", "--resume", "broken"])
            .spawn()
            .unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert!(kills > 0);
    assert_eq!(temporaries(&dir.path().join("broken")), [""; 0]);
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    assert_eq!(history(&whole), history(&broken));
    assert!(arrays(&whole) == arrays(&broken), "weights differ");
    let result = |run: &Path| {
        let result = json(&run.join("result.json"));
        result["models"][0]["test_top1"].as_f64().unwrap()
    };
    assert_eq!(result(&whole), result(&broken));
}

#[test]
fn bfloat16_is_part_of_a_run_and_its_instruction_gives_the_same_bits() {
    let dir = TempDir::new().unwrap();
    let train = |precision: &str| {
        let out = ["--out", precision];
        let mut command = tiny(dir.path(), &["train", "--quiet", "--precision", precision]);
        command.args(out);
        command
    };
    for precision in ["f32", "bf16-emulated", "bf16-amx-emulated"] {
        succeeds(train(precision));
        let recipe = fs::read_to_string(dir.path().join(precision).join("recipe.toml")).unwrap();
        assert!(recipe.contains(&format!("precision = \"{precision}\"")));
    }
    let message = fails(
        smallvit(
            dir.path(),
            &["train", "--resume", "f32", "--precision", "bf16"],
        ),
        2,
    );
    assert!(message.contains("began in f32"), "{message}");
    // What began with the instruction goes on without it: the bits are the same.
    let recipe = dir.path().join("bf16-emulated/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("\"bf16-emulated\"", "\"bf16\"")).unwrap();
    fs::remove_file(dir.path().join("bf16-emulated/result.json")).unwrap();
    let go_on = ["train", "--quiet", "--resume", "bf16-emulated"];
    succeeds(smallvit(
        dir.path(),
        &[&go_on[..], &["--precision", "bf16-emulated"]].concat(),
    ));
    assert_eq!(fs::read_to_string(&recipe).unwrap(), text);
    let emulated = arrays(&dir.path().join("bf16-emulated"));
    assert!(emulated != arrays(&dir.path().join("f32")));
    let tiles = arrays(&dir.path().join("bf16-amx-emulated"));
    // Added up in another order.
    assert!(emulated != tiles);
    for (precision, emulated, lacks) in [
        (Precision::Bf16, emulated, "AVX-512 BF16"),
        (Precision::Bf16Amx, tiles, "AMX"),
    ] {
        let name = precision.to_string();
        if precision.available() {
            succeeds(train(&name));
            assert!(
                emulated == arrays(&dir.path().join(&name)),
                "{name}: weights differ"
            );
        } else {
            let message = fails(train(&name), 2);
            assert!(message.contains(lacks), "{message}");
            assert!(!dir.path().join(&name).exists());
            let evaluate = ["evaluate", "f32", "--precision", &name];
            let message = fails(smallvit(dir.path(), &evaluate), 2);
            assert!(message.contains(lacks), "{message}");
        }
    }
    // A model answers in any precision, and about the same.
    let loss = |precision: &str| -> f64 {
        let evaluate = ["evaluate", "f32", "--json", "--precision", precision];
        let numbers = succeeds(smallvit(dir.path(), &evaluate));
        let numbers: Value = serde_json::from_str(&numbers).unwrap();
        numbers["loss"].as_f64().unwrap()
    };
    let whole = loss("f32");
    for precision in ["bf16-emulated", "bf16-amx-emulated"] {
        let rounded = loss(precision);
        assert!(rounded != whole, "{precision}");
        assert!((rounded / whole - 1.0).abs() < 0.02, "{rounded} {whole}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let dir = TempDir::new().unwrap();
    let mut command = tiny(dir.path(), &["train", "--out", "run"]);
    command
        .args(["--set", "train.epochs=1000"])
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let last = dir.path().join("run/checkpoints/last.safetensors");
    wait_for(&last);
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.contains("smallvit train --resume run"), "{error}");
}

#[test]
fn a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint() {
    let dir = TempDir::new().unwrap();
    let mut command = tiny(dir.path(), &["train", "--out", "run", "--batch", "1483"]);
    // Weights grow 99 times a step, which is an epoch here: one or two are fine, forty are not.
    for setting in [
        "train.epochs=40",
        "train.schedule=constant",
        "train.warmup_epochs=0",
        "train.epsilon=1e-30",
        "train.weight_decay=100.0",
        "train.decay_scale=none",
    ] {
        command.args(["--set", setting]);
    }
    let message = fails(command, 1);
    assert!(
        message.contains("not a number") && message.contains("learning_rate"),
        "{message}"
    );
    let run = dir.path().join("run");
    assert!(!run.join("result.json").exists());
    assert!((2..40).contains(&history(&run).lines().count()));
    let kept = arrays(&run);
    assert!(!kept.is_empty());
    for (name, bytes) in kept {
        let (numbers, _) = bytes.as_chunks::<4>();
        let finite = |&number: &[u8; 4]| f32::from_le_bytes(number).is_finite();
        assert!(numbers.iter().all(finite), "{name}");
    }
}

/// Writes pictures, `[row, column, channel]` of three channels, as PNG files.
fn pictures(folder: &Path, pixels: &[u8], side: usize) -> Vec<PathBuf> {
    let length = side * side * 3;
    assert!(!pixels.is_empty() && pixels.len().is_multiple_of(length));
    let save = |(number, pixels): (usize, &[u8])| {
        let path = folder.join(format!("{number}.png"));
        let side = side as u32;
        image::save_buffer(&path, pixels, side, side, image::ColorType::Rgb8).unwrap();
        path
    };
    pixels.chunks_exact(length).enumerate().map(save).collect()
}

/// The logits that `predict --json` answers, an image after the other.
fn logits(answer: &str, classes: usize) -> Vec<f64> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let of_image = |image: &Value| -> Vec<f64> {
        assert_eq!(image["likeliest"].as_array().unwrap().len(), 5);
        let logits = image["logits"].as_array().unwrap();
        assert_eq!(logits.len(), classes);
        logits.iter().map(|logit| logit.as_f64().unwrap()).collect()
    };
    answer
        .as_array()
        .unwrap()
        .iter()
        .flat_map(of_image)
        .collect()
}

fn assert_near(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    assert!(!expected.is_empty());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < tolerance, "{found} {expected}");
    }
}

#[test]
fn imported_models_predict_what_their_own_programs_predicted() {
    // Logits are of order 1; float32 through two blocks.
    for (from, name, side, classes, tolerance) in [
        ("keras", "vit", 16, 5, 1e-4),
        ("keras", "sl_vit", 16, 5, 1e-4),
        ("pytorch", "paper-vit", 32, 10, 2e-5),
        ("pytorch", "paper-sl-vit", 32, 10, 2e-5),
    ] {
        let dir = TempDir::new().unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(format!("{name}.safetensors"));
        let out = succeeds(smallvit(
            dir.path(),
            &["import", from, file.to_str().unwrap(), "-o", "model"],
        ));
        let kind = if name.contains("sl") { "sl-vit" } else { "vit" };
        assert!(out.starts_with(kind), "{out}");
        let bytes = fs::read(&file).unwrap();
        let fixture = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let pixels = ["input.images", "input.pixels"]
            .iter()
            .filter_map(|name| fixture.tensor(name).ok())
            .find(|tensor| tensor.dtype() == safetensors::Dtype::U8);
        let images = pictures(dir.path(), pixels.unwrap().data(), side);
        let mut command = smallvit(dir.path(), &["predict", "model", "--json"]);
        command.args(&images);
        let found = logits(&succeeds(command), classes);
        let expected = fixture.tensor("activation.logits").unwrap();
        let (four, _) = expected.data().as_chunks::<4>();
        let expected: Vec<f64> = four
            .iter()
            .map(|&bytes| f64::from(f32::from_le_bytes(bytes)))
            .collect();
        assert_eq!(expected.len(), images.len() * classes);
        assert_near(&found, &expected, tolerance);
    }
}

/// A run folder and what the program answered of it, both from before recipes and model files had a
/// schema.
#[test]
fn a_run_of_schema_1_predicts_and_evaluates_as_it_did_but_does_not_go_on() {
    let dir = TempDir::new().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema1");
    let run = fixture.join("run");
    let mut command = smallvit(&fixture, &["predict"]);
    command.arg(&run).arg("--json");
    command.args(["ramp.png", "rings.png", "blocks.png"]);
    let found = logits(&succeeds(command), 10);
    let expected = fs::read_to_string(fixture.join("predictions.json")).unwrap();
    assert_near(&found, &logits(&expected, 10), 1e-5);

    let mut command = smallvit(dir.path(), &["evaluate"]);
    command.arg(&run).args(["--json", "-o", "confusion.png"]);
    command.args(["--reliability", "reliability.png"]);
    let found: Value = serde_json::from_str(&succeeds(command)).unwrap();
    let expected = json(&fixture.join("evaluation.json"));
    // The same images were held out, and the same of them are right.
    for key in ["images", "top1", "top5"] {
        assert!(!expected[key].is_null());
        assert_eq!(found[key], expected[key], "{key}");
    }
    let rows = found["confusion"].as_array().unwrap();
    let counts = rows.iter().flat_map(|row| row.as_array().unwrap());
    assert_eq!(
        counts.collect::<Vec<_>>(),
        expected["confusion"]
            .as_array()
            .unwrap()
            .iter()
            .collect::<Vec<_>>()
    );

    let copy = dir.path().join("copy");
    fs::create_dir_all(copy.join("checkpoints")).unwrap();
    for name in ["recipe.toml", "checkpoints/last.safetensors"] {
        fs::copy(run.join(name), copy.join(name)).unwrap();
    }
    let message = fails(smallvit(dir.path(), &["train", "--resume", "copy"]), 1);
    assert!(message.contains("schema 1"), "{message}");
    // A file of a program to come says so, before anything else is wrong with it.
    let recipe = fs::read_to_string(copy.join("recipe.toml")).unwrap();
    fs::write(copy.join("recipe.toml"), format!("schema = 99\n{recipe}")).unwrap();
    let message = fails(smallvit(dir.path(), &["train", "--resume", "copy"]), 1);
    assert!(message.contains("newer smallvit (schema 99"), "{message}");
}

/// Chance gives 10 %; a nearest neighbour 70 %.
#[test]
fn training_learns() {
    let dir = TempDir::new().unwrap();
    for model in ["vit", "sl-vit"] {
        let mut command = smallvit(
            dir.path(),
            &["train", "--quiet", "--out", model, "--model", model],
        );
        for setting in [
            "data.redivide=false",
            "data.validation=0.1",
            "train.epochs=10",
            "train.warmup_epochs=1",
            "train.learning_rate=2e-3",
            "model.depth=2",
        ] {
            command.args(["--set", setting]);
        }
        succeeds(command);
        let result = json(&dir.path().join(model).join("result.json"));
        let top1 = result["models"][0]["test_top1"].as_f64().unwrap();
        // With 411 test images and ten classes, chance passes 30 % once in 10^27 runs.
        assert!(top1 > 60.0, "{model}: {top1} %");
        let csv = history(&dir.path().join(model));
        let losses: Vec<f64> = csv
            .lines()
            .skip(1)
            .map(|line| line.split(',').nth(3).unwrap().parse().unwrap())
            .collect();
        assert_eq!(losses.len(), 10);
        // ln 10 is 2.30.
        assert!(losses[0] > 1.8 && losses[9] < 1.5, "{losses:?}");
    }
}

#[test]
fn a_run_can_be_evaluated_and_predicts() {
    let dir = TempDir::new().unwrap();
    succeeds(tiny(dir.path(), &["train", "--quiet", "--out", "run"]));
    let result = json(&dir.path().join("run/result.json"));
    let out = succeeds(smallvit(dir.path(), &["evaluate", "run", "--json"]));
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert!(answer["top1"].is_f64());
    assert_eq!(answer["top1"], result["models"][0]["test_top1"]);
    assert_eq!(answer["images"], 411);
    let rows = answer["confusion"].as_array().unwrap();
    let counts = rows.iter().flat_map(|row| row.as_array().unwrap());
    assert_eq!(counts.map(|n| n.as_u64().unwrap()).sum::<u64>(), 411);
    assert!(dir.path().join("run/confusion.png").exists());
    // A single file, elsewhere, is all that a prediction needs; pictures may have any size.
    fs::copy(
        dir.path().join("run/checkpoints/best.safetensors"),
        dir.path().join("alone.safetensors"),
    )
    .unwrap();
    let grey = image::GrayImage::from_fn(70, 41, |x, y| image::Luma([(x * 3 + y) as u8]));
    grey.save(dir.path().join("any.png")).unwrap();
    let out = succeeds(smallvit(
        dir.path(),
        &["predict", "alone.safetensors", "any.png"],
    ));
    assert_eq!(out.matches(" %").count(), 5, "{out}");
    let message = fails(
        smallvit(dir.path(), &["predict", "alone.safetensors", "none.png"]),
        1,
    );
    assert!(message.contains("none.png"), "{message}");
}

#[test]
fn bad_requests_are_refused_before_any_work() {
    let dir = TempDir::new().unwrap();
    let refused = |arguments: &[&str], code, parts: &[&str]| {
        let message = fails(smallvit(dir.path(), arguments), code);
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    };
    refused(
        &["train", "--set", "train.batch=0"],
        2,
        &["train.batch", "1 to 1048576"],
    );
    refused(
        &["train", "--set", "train.epoch=1"],
        2,
        &["train.epoch", "train.epochs"],
    );
    refused(
        &["train", "--set", "model.patch_size=5"],
        2,
        &["model.patch_size", "divides 32"],
    );
    refused(
        &["train", "--set", "train.warmup_epochs=99"],
        2,
        &["longer than the training"],
    );
    refused(
        &["train", "--set", "model.mlp=[128, 64]"],
        2,
        &["model.mlp", "model.mlp_width = 128"],
    );
    let output = run(smallvit(dir.path(), &["train", "--model", "sl-vitt"]));
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("did you mean sl-vit?"), "{message}");
    refused(
        &["train", "--set", "model.layer_scale=2"],
        2,
        &["model.layer_scale", "\"off\""],
    );
    refused(
        &["bench", "--precision", "bf16-emulated", "--composed"],
        2,
        &["float32"],
    );
    refused(
        &["train", "--set", "train.groups[0].pattern=*.bais"],
        2,
        &["train.groups[0].pattern", ".bias"],
    );
    refused(
        &["train", "--set", "schema=2"],
        2,
        &["schema", "leave it out"],
    );
    refused(&["train", "--recipe", "quickstar"], 2, &["quickstart"]);
    refused(&["train", "--data", "cifar"], 2, &["data.set", "cifar10"]);
    // The library speaks of values, the program of the flags that set them.
    refused(
        &["train", "--data", "cifar100", "--offline"],
        1,
        &["cifar100", "leave --offline out", "--data-dir DIR"],
    );
    refused(
        &["train", "--data", "cifar100", "--data-dir", "."],
        1,
        &["no copy of cifar100", "--data-dir"],
    );
    refused(&["train", "--set", "nonsense"], 2, &["--set: `nonsense`"]);
    refused(
        &["train", "--device", "tpu"],
        2,
        &["--device: ", "choose cpu"],
    );
    fs::write(dir.path().join("broken.toml"), "train = [").unwrap();
    refused(
        &["train", "--recipe", "broken.toml"],
        2,
        &[
            "broken.toml: this is not TOML",
            "smallvit recipes quickstart --full",
        ],
    );
    let message = run(smallvit(dir.path(), &["train", "--model", "vitt"])).stderr;
    let message = String::from_utf8_lossy(&message);
    assert!(message.contains("did you mean vit?"), "{message}");
    refused(&["train", "--resume", "nowhere"], 1, &["nowhere", "no run"]);
    refused(
        &["evaluate", "nowhere.safetensors", "--data", "sign-digits"],
        1,
        &["nowhere"],
    );
    fs::write(dir.path().join("broken.safetensors"), b"not a model").unwrap();
    refused(
        &["predict", "broken.safetensors", "x.png"],
        1,
        &["safetensors"],
    );
    assert!(!dir.path().join("runs").exists());
}

#[test]
fn a_damaged_checkpoint_is_refused_and_kept() {
    let dir = TempDir::new().unwrap();
    let mut command = tiny(dir.path(), &["train", "--quiet", "--out", "run"]);
    command.args(["--set", "train.epochs=1"]);
    succeeds(command);
    let last = dir.path().join("run/checkpoints/last.safetensors");
    fs::remove_file(dir.path().join("run/result.json")).unwrap();
    let whole = fs::read(&last).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&last, &whole[..length]).unwrap();
        fails(smallvit(dir.path(), &["train", "--resume", "run"]), 1);
        assert_eq!(fs::read(&last).unwrap().len(), length);
    }
}

#[test]
fn folders_of_pictures_train_and_bad_pictures_are_named() {
    let dir = TempDir::new().unwrap();
    let picture = |path: &Path, value: u8| {
        let image = image::RgbImage::from_fn(40, 30, |x, y| {
            image::Rgb([value, (x * 5) as u8, (y * 7) as u8])
        });
        image.save(path).unwrap();
    };
    for (class, value) in [("dark", 20u8), ("light", 220)] {
        let folder = dir.path().join("pictures").join(class);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..20u8 {
            picture(&folder.join(format!("{number}.png")), value + number % 10);
        }
    }
    fs::write(dir.path().join("pictures/dark/broken.png"), b"no picture").unwrap();
    let data = ["--data", "folder:pictures", "--quiet"];
    let mut command = tiny(
        dir.path(),
        &[&["train", "--out", "run"], &data[..]].concat(),
    );
    command.args(["--set", "train.batch=8", "--seed", "7"]);
    let output = run(command);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(error.contains("broken.png"), "{error}");
    // A file alone knows which of the pictures were held out for the test, six of forty; of other
    // pictures all are new to it.
    let result = json(&dir.path().join("run/result.json"));
    let file = "run/checkpoints/best.safetensors";
    let evaluate = |set: &str| -> Value {
        let arguments = ["evaluate", file, "--data", set, "--json"];
        serde_json::from_str(&succeeds(smallvit(dir.path(), &arguments))).unwrap()
    };
    let same = evaluate("folder:pictures");
    assert_eq!(same["images"], 6);
    assert!(same["top1"].is_f64());
    assert_eq!(same["top1"], result["models"][0]["test_top1"]);
    for class in ["dark", "light"] {
        let folder = dir.path().join("others").join(class);
        fs::create_dir_all(&folder).unwrap();
        picture(
            &folder.join("one.png"),
            if class == "dark" { 11 } else { 250 },
        );
    }
    assert_eq!(evaluate("folder:others")["images"], 2);
    let strict = ["train", "--out", "strict", "--strict"];
    let command = tiny(dir.path(), &[&strict, &data[..]].concat());
    assert!(fails(command, 1).contains("broken.png"));
    fs::create_dir_all(dir.path().join("one/only")).unwrap();
    picture(&dir.path().join("one/only/a.png"), 1);
    let one = ["train", "--out", "one-run", "--data", "folder:one"];
    let command = tiny(dir.path(), &one);
    assert!(fails(command, 1).contains("class"));
}

#[test]
fn pictures_lists_and_completions_come_out() {
    let dir = TempDir::new().unwrap();
    succeeds(smallvit(dir.path(), &["show", "patches", "--index", "3"]));
    succeeds(smallvit(dir.path(), &["show", "augment", "--index", "3"]));
    let out = succeeds(smallvit(dir.path(), &["show", "schedule"]));
    assert!(out.contains("rate"), "{out}");
    for name in ["patches.png", "augment.png", "schedule.png"] {
        assert!(
            image::open(dir.path().join(name)).unwrap().width() > 300,
            "{name}"
        );
    }
    succeeds(smallvit(
        dir.path(),
        &["show", "schedule", "-o", "rate.svg"],
    ));
    let svg = fs::read_to_string(dir.path().join("rate.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains(">step</text>"));
    // Refused before any work.
    let output = run(smallvit(dir.path(), &["show", "augment", "-o", "a.gif"]));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains(".png, .jpg or .svg"), "{error}");
    let out = succeeds(smallvit(dir.path(), &["data", "list"]));
    assert!(
        out.contains("cifar100") && out.contains("in the program"),
        "{out}"
    );
    let out = succeeds(smallvit(dir.path(), &["data", "info", "sign-digits"]));
    assert!(out.contains("1,651") && out.contains("411"), "{out}");
    let out = succeeds(smallvit(dir.path(), &["recipes"]));
    assert!(out.contains("keras-2022-cosine"), "{out}");
    let out = succeeds(smallvit(dir.path(), &["recipes", "keras-3", "--full"]));
    for line in ["schema = 2", "beta1 = 0.9", "layer_scale = \"off\""] {
        assert!(out.lines().any(|found| found == line), "{out}");
    }
    assert!(succeeds(smallvit(dir.path(), &["completions", "bash"])).contains("smallvit"));
}

/// A mirror on loopback whose files are not what their publisher's were.
#[test]
fn a_corrupted_download_is_refused_and_leaves_nothing_in_the_cache() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mirror = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(format!("{head}corrupted").as_bytes());
        }
    });
    let dir = TempDir::new().unwrap();
    let arguments = ["data", "fetch", "cifar100", "--mirror", &mirror];
    let message = fails(smallvit(dir.path(), &arguments), 1);
    assert!(message.contains("cifar-100-python.tar.gz"), "{message}");
    assert!(message.contains("85cd44d0"), "the expected sum: {message}");
    let out = succeeds(smallvit(dir.path(), &["data", "list"]));
    assert!(out.contains("smallvit data fetch cifar100"), "{out}");
}
