//! Sweeps, fine-tuning, and what is chosen when a run begins.

use super::*;

/// A sweep of two rates, two models and two seeds.
const SWEEP: &str = r#"
models = ["vit", "sl-vit"]
seeds = 2
set = ["train.epochs=1"]
[grid]
"train.learning_rate" = [1e-3, 1e-2]
"#;

#[test]
fn a_sweep_trains_each_combination_once() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("sweep.toml"), SWEEP).unwrap();
    let sweep = |more: &[&str]| {
        tiny(
            dir.path(),
            &[&["sweep", "sweep.toml", "--out", "all"], more].concat(),
        )
    };
    let listed = succeeds(sweep(&["--dry-run"]));
    assert_eq!(
        listed.matches("sl-vit, train.learning_rate=0.01").count(),
        2,
        "{listed}"
    );
    assert!(!dir.path().join("all").exists());
    let message = fails(sweep(&["--index", "9"]), 2);
    assert!(message.contains("there is no run 9"), "{message}");

    // One by its number, as a machine of several would.
    let told = succeeds(sweep(&["--index", "6", "--quiet", "--json"]));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["left"], told["cases"].as_array().unwrap().len()),
        (&7.into(), 1)
    );
    let all = dir.path().join("all");
    let recipe = fs::read_to_string(all.join("006/recipe.toml")).unwrap();
    assert!(
        recipe.contains("seed = 43") && recipe.contains("learning_rate = 0.001"),
        "{recipe}"
    );
    assert!(recipe.contains("lsa = true"), "{recipe}");
    let before = fs::metadata(all.join("006/result.json"))
        .unwrap()
        .modified()
        .unwrap();

    let table = succeeds(sweep(&["--quiet"]));
    assert!(table.contains("vit, train.learning_rate=0.001"), "{table}");
    assert!(
        table.contains("Best is") && table.contains("95 % interval"),
        "{table}"
    );
    let after = fs::metadata(all.join("006/result.json"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(before, after, "a run that has ended is passed over");
    let summary = json(&all.join("summary.json"));
    assert_eq!(summary["left"], 0);
    let cases = summary["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for number in 1..=8 {
        let run = all.join(format!("00{number}"));
        assert!(run.join("checkpoints/best.safetensors").exists());
        assert!(!run.join("checkpoints/last.safetensors").exists());
        assert!(run.join("curves.png").exists());
    }
    // A case is the mean of its runs.
    let top1 = |number: u64| {
        let result = json(&all.join(format!("00{number}/result.json")));
        result["models"][0]["val_top1"].as_f64().unwrap()
    };
    let mean = cases[0]["val_top1"]["mean"].as_f64().unwrap();
    assert!((mean - (top1(1) + top1(2)) / 2.0).abs() < 1e-9);

    // Runs that were made with other settings are not these.
    let message = fails(sweep(&["--set", "train.seed=7"]), 2);
    assert!(message.contains("train.seed"), "{message}");

    // Another document would number other runs.
    fs::write(dir.path().join("sweep.toml"), SWEEP.replace("1e-2", "2e-2")).unwrap();
    let message = fails(sweep(&[]), 2);
    assert!(message.contains("holds another sweep"), "{message}");
}

#[test]
fn a_training_begins_with_the_weights_of_another() {
    let dir = TempDir::new().unwrap();
    let first = ["train", "--quiet", "--model", "spt-vit", "--out", "first"];
    succeeds(tiny(dir.path(), &first));
    // The model is the first one's, and only what is set differs.
    let arguments = [
        "train",
        "--init",
        "first",
        "--epochs",
        "1",
        "--out",
        "second",
        "--set",
        "model.dropout=0.2",
        "--set",
        "train.layer_decay=0.5",
        "--set",
        "data.redivide=false",
    ];
    let output = run(smallvit(dir.path(), &arguments));
    let notes = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    assert!(output.status.success(), "{notes}");
    assert!(
        notes.contains("begin with the file's weights (100"),
        "{notes}"
    );
    let recipe = fs::read_to_string(dir.path().join("second/recipe.toml")).unwrap();
    for line in [
        "dim = 8",
        "spt = true",
        "lsa = false",
        "dropout = 0.2",
        "sha256 = \"",
    ] {
        assert!(recipe.contains(line), "{line}: {recipe}");
    }
    // A run that began so goes on without the file.
    let message = fails(smallvit(dir.path(), &["train", "--init", "nowhere"]), 1);
    assert!(message.contains("nowhere"), "{message}");
    let other = ["train", "--init", "first", "--model", "hybrid", "--dry-run"];
    let message = fails(smallvit(dir.path(), &other), 1);
    assert!(message.contains("no weights in it fit"), "{message}");
}

#[test]
fn epochs_are_chosen_for_the_minutes_that_there_are() {
    let dir = TempDir::new().unwrap();
    let arguments = ["train", "--minutes", "0.001", "--out", "run"];
    let output = run(tiny(dir.path(), &arguments));
    let notes = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    assert!(output.status.success(), "{notes}");
    assert!(notes.contains("chosen"), "{notes}");
    assert!(notes.contains(" 3 epochs of "), "{notes}");
    let recipe = fs::read_to_string(dir.path().join("run/recipe.toml")).unwrap();
    assert!(
        recipe.contains("epochs = 3\n") && recipe.contains("minutes = 0.0"),
        "{recipe}"
    );
    // What is set stands above what is chosen, for pictures as they come.
    let folder = dir.path().join("pictures");
    for (class, value) in [("dark", 20u8), ("light", 220)] {
        let own = folder.join(class);
        fs::create_dir_all(&own).unwrap();
        // Twenty pictures of their own shades.
        let pixels: Vec<u8> = (0..20u8)
            .flat_map(|n| vec![value + n; 40 * 40 * 3])
            .collect();
        pictures(&own, &pixels, 40);
    }
    let arguments = [
        "train",
        "--data",
        "folder:pictures",
        "--batch",
        "8",
        "--epochs",
        "1",
        "--out",
        "small",
        "--set",
        "model.dims=[8,8,8]",
        "--set",
        "model.head_dim=4",
    ];
    succeeds(smallvit(dir.path(), &arguments));
    let recipe = fs::read_to_string(dir.path().join("small/recipe.toml")).unwrap();
    for line in [
        "batch = 8",
        "epochs = 1",
        "family = \"hybrid\"",
        "sizes = false",
        "redivide = false",
    ] {
        assert!(recipe.contains(&format!("{line}\n")), "{line}: {recipe}");
    }
    // Read in 72 pixels, as the ViT is given, and trained in 64: it goes on with the pictures as they were.
    let arguments = [
        "train",
        "--data",
        "folder:pictures",
        "--model",
        "vit",
        "--epochs",
        "1",
        "--out",
        "vit",
        "--set",
        "model.depth=1",
        "--set",
        "model.head=[]",
    ];
    succeeds(smallvit(dir.path(), &arguments));
    let recipe = fs::read_to_string(dir.path().join("vit/recipe.toml")).unwrap();
    assert!(
        recipe.contains("folder_size = 72\n") && recipe.contains("image_size = 64\n"),
        "{recipe}"
    );
    fs::remove_file(dir.path().join("vit/result.json")).unwrap();
    succeeds(smallvit(dir.path(), &["train", "--resume", "vit"]));
    let both = run(tiny(
        dir.path(),
        &["train", "--minutes", "1", "--epochs", "3"],
    ));
    let message = String::from_utf8_lossy(&both.stderr);
    assert_eq!(both.status.code(), Some(2), "{message}");
    assert!(message.contains("cannot be used with"), "{message}");
}

#[test]
fn a_hybrid_trains_is_evaluated_and_predicts() {
    let dir = TempDir::new().unwrap();
    let arguments = [
        "train",
        "--quiet",
        "--recipe",
        "small",
        "--epochs",
        "1",
        "--out",
        "run",
        "--set",
        "choose.sizes=false",
        "--set",
        "model.dims=[8,8]",
        "--set",
        "model.depths=[1,1]",
        "--set",
        "model.expansions=[1,1]",
        "--set",
        "model.head_dim=4",
        "--set",
        "model.image_size=16",
        "--set",
        "model.convolution_stages=1",
        "--set",
        "train.optimizer=muon",
    ];
    succeeds(smallvit(dir.path(), &arguments));
    let told = succeeds(smallvit(
        dir.path(),
        &["evaluate", "run", "--flip", "--json"],
    ));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["with_mirror"]["top1"].is_f64());
    let csv = fs::read_to_string(dir.path().join("run/history.csv")).unwrap();
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let (names, row) = (lines.next().unwrap(), lines.next().unwrap());
    for name in ["gradient_norm", "weight_norm", "temperature"] {
        let column = names.iter().position(|own| *own == name).unwrap();
        assert!(row[column].parse::<f64>().unwrap() > 0.0, "{name}: {row:?}");
    }
}

/// Small sizes of each family of the paper's but the ViT.
const ZOO: [(&str, &[&str]); 4] = [
    (
        "sl-t2t",
        &[
            "token_dim=8",
            "dim=16",
            "depth=2",
            "heads=2",
            "image_size=16",
        ],
    ),
    (
        "sl-cait",
        &[
            "dim=8",
            "depth=1",
            "class_depth=1",
            "heads=2",
            "key_dim=4",
            "mlp_width=8",
            "image_size=16",
        ],
    ),
    (
        "pit",
        &[
            "dims=[8,16]",
            "depths=[1,1]",
            "heads=[1,2]",
            "head_dim=4",
            "image_size=16",
            "patch_size=2",
        ],
    ),
    (
        "sl-swin",
        &[
            "dims=[8,16]",
            "depths=[2,1]",
            "heads=[1,2]",
            "image_size=16",
            "patch_size=2",
        ],
    ),
];

#[test]
fn the_papers_other_models_train_go_on_predict_and_show_where_they_look() {
    for (model, sizes) in ZOO {
        let dir = TempDir::new().unwrap();
        let train = |out: &str, epochs: &str| {
            let common = [
                "train", "--quiet", "--model", model, "--batch", "128", "--out", out, "--set",
            ];
            let mut command = smallvit(dir.path(), &common);
            command.arg(format!("train.epochs={epochs}"));
            for size in sizes {
                command.args(["--set", &format!("model.{size}")]);
            }
            command
        };
        // In bfloat16, with a stop in between, and at another number of threads: the same bits.
        let mut whole = train("whole", "2");
        whole.args(["--precision", "bf16-emulated", "--threads", "1"]);
        succeeds(whole);
        let mut broken = train("broken", "2");
        broken.args(["--precision", "bf16-emulated", "--threads", "2"]);
        let mut child = broken.stderr(Stdio::null()).spawn().unwrap();
        wait_for(&dir.path().join("broken/checkpoints/last.safetensors"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!dir.path().join("broken/result.json").exists());
        let resume = ["train", "--quiet", "--resume", "broken"];
        succeeds(smallvit(dir.path(), &resume));
        let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
        assert_eq!(history(&whole), history(&broken), "{model}");
        assert_eq!(arrays(&whole), arrays(&broken), "{model}");

        let told = succeeds(smallvit(dir.path(), &["evaluate", "whole", "--json"]));
        let told: Value = serde_json::from_str(&told).unwrap();
        assert!(told["top1"].is_f64(), "{told}");
        let picture = &pictures(dir.path(), &[90; 32 * 32 * 3], 32)[0];
        let picture = picture.to_str().unwrap();
        let said = succeeds(smallvit(dir.path(), &["predict", "whole", picture]));
        assert!(said.contains('%'), "{said}");
        let show = ["show", "attention", "whole", picture, "-o", "where.svg"];
        succeeds(smallvit(dir.path(), &show));
        assert!(dir.path().join("where.svg").is_file());
        assert!(broken.join("report.html").is_file());
    }
}

#[test]
fn models_of_a_comparison_are_given_as_much_work() {
    let dir = TempDir::new().unwrap();
    let arguments = ["compare", "--quiet", "--pflop", "2e-5", "--out", "both"];
    succeeds(tiny(dir.path(), &arguments));
    let epochs = |model: &str| {
        let recipe = fs::read_to_string(dir.path().join("both").join(model).join("recipe.toml"));
        let recipe: toml::Table = recipe.unwrap().parse().unwrap();
        assert_eq!(recipe["choose"]["pflop"].as_float(), Some(0.0));
        recipe["train"]["epochs"].as_integer().unwrap()
    };
    let result = json(&dir.path().join("both/result.json"));
    let (plain, sl) = (epochs("vit"), epochs("sl-vit"));
    // Patches with their shifts are five times as wide, and so is the first product.
    assert!(plain > sl && sl > 1, "{plain} {sl}");
    assert_eq!(result["models"].as_array().unwrap().len(), 2);
    // It goes on with what each was given.
    fs::remove_file(dir.path().join("both/sl-vit/result.json")).unwrap();
    fs::remove_file(dir.path().join("both/result.json")).unwrap();
    succeeds(smallvit(
        dir.path(),
        &["compare", "--quiet", "--resume", "both"],
    ));
    assert_eq!((epochs("vit"), epochs("sl-vit")), (plain, sl));
    let both = ["train", "--pflop", "1", "--minutes", "3"];
    let both = run(tiny(dir.path(), &both));
    assert_eq!(both.status.code(), Some(2));
}
