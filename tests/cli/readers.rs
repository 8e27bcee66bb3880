//! Data sets in the layouts of others, and the commands about data.

use super::*;

fn fixture(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/readers");
    root.join(name).display().to_string()
}

fn parsed(command: Command) -> Value {
    serde_json::from_str(&succeeds(command)).unwrap()
}

/// Forty pictures of two classes, and their folder.
fn dark_and_light(folder: &Path) -> Vec<String> {
    let mut names = vec![];
    for number in 0..40u8 {
        let value = if number % 2 == 0 { 20 } else { 220 };
        let picture = image::RgbImage::from_fn(8, 8, |x, y| {
            image::Rgb([value + number % 10, (x * 5) as u8, (y * 7) as u8])
        });
        let name = format!("{number}.png");
        picture.save(folder.join(&name)).unwrap();
        names.push(name);
    }
    names
}

#[test]
fn a_csv_file_trains_and_its_run_knows_it_from_anywhere() {
    let dir = TempDir::new().unwrap();
    let pictures = dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    let rows = dark_and_light(&pictures).into_iter().enumerate();
    let rows = rows.map(|(i, name)| {
        let (class, split) = (
            ["dark", "light"][i % 2],
            ["train", "val", "test"][i / 2 % 3],
        );
        format!("{name},{class},{split}\n")
    });
    let csv = format!("file,label,split\n{}", rows.collect::<String>());
    fs::write(pictures.join("list.csv"), &csv).unwrap();
    let arguments = [
        "train",
        "--quiet",
        "--out",
        "run",
        "--data",
        "csv:pictures/list.csv",
    ];
    let mut command = tiny(dir.path(), &arguments);
    command.args(["--set", "train.batch=8"]);
    succeeds(command);
    // Named by a setting, or by a recipe's own file, it is the same.
    let arguments = [
        "train",
        "--quiet",
        "--out",
        "set",
        "--set",
        "data.set=csv:pictures/list.csv",
    ];
    let mut command = tiny(dir.path(), &arguments);
    command.args(["--set", "train.batch=8"]);
    succeeds(command);
    let recipe = |run: &str| fs::read_to_string(dir.path().join(run).join("recipe.toml")).unwrap();
    assert_eq!(recipe("set"), recipe("run"));
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let answer = parsed(smallvit(&elsewhere, &["evaluate", "../run", "--json"]));
    // Every third pair.
    assert_eq!(answer["images"], 12);

    let refused = |text: &str, parts: &[&str]| {
        fs::write(pictures.join("list.csv"), text).unwrap();
        let arguments = ["train", "--data", "csv:pictures/list.csv"];
        let message = fails(smallvit(dir.path(), &arguments), 1);
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    };
    refused(
        &csv.replace("7.png,", "seven.png,"),
        &["seven.png (line 9)"],
    );
    refused(
        &csv.replace(",val\n", ",hold-out\n"),
        &["line 4", "train, val or test"],
    );
    refused("file,label\n0.png,a\n1.png,a\n", &["only one class"]);
    fs::remove_file(pictures.join("list.csv")).unwrap();
    let message = fails(
        smallvit(dir.path(), &["train", "--data", "csv:pictures/list.csv"]),
        1,
    );
    assert!(message.contains("check the path"), "{message}");
    assert!(!dir.path().join("runs").exists());
}

#[test]
fn arrays_of_numpy_train() {
    let dir = TempDir::new().unwrap();
    fs::copy(fixture("medmnist.npz"), dir.path().join("a.npz")).unwrap();
    let arguments = ["train", "--quiet", "--out", "run", "--data", "npz:a.npz"];
    let mut command = tiny(dir.path(), &arguments);
    for setting in [
        "model.patch_size=2",
        "train.batch=2",
        "augment.crop_padding=0",
    ] {
        command.args(["--set", setting]);
    }
    succeeds(command);
    let result = json(&dir.path().join("run/result.json"));
    assert_eq!(
        result["models"][0]["data"]
            .as_str()
            .unwrap()
            .split(':')
            .next(),
        Some("npz")
    );
    let message = fails(smallvit(dir.path(), &["data", "info", "a.npz"]), 2);
    assert!(message.contains("did you mean npz:a.npz?"), "{message}");
    let message = fails(smallvit(dir.path(), &["data", "info", "npz:."]), 1);
    assert!(message.contains("it is a folder"), "{message}");
}

#[test]
fn data_info_counts_and_measures() {
    let dir = TempDir::new().unwrap();
    let svhn = format!("svhn:{}", fixture("svhn"));
    let info = parsed(smallvit(dir.path(), &["data", "info", &svhn, "--json"]));
    assert_eq!(info["splits"]["train"]["images"], 12);
    assert_eq!(info["splits"]["test"]["by_class"][1], 1);
    assert_eq!(info["classes"].as_array().unwrap().len(), 10);
    assert_eq!(info["fingerprint"].as_str().unwrap().len(), 64);
    assert!(info["licence"].is_null());
    let text = succeeds(smallvit(dir.path(), &["data", "info", "sign-digits"]));
    let info = parsed(smallvit(
        dir.path(),
        &["data", "info", "sign-digits", "--json"],
    ));
    for key in ["licence", "fingerprint"] {
        let value = info[key].as_str().unwrap();
        assert!(text.contains(&format!("{key:13}{value}")), "{text}");
    }
    let mean = info["mean"][0].as_f64().unwrap();
    assert!(text.contains(&format!("mean         {mean:.4},")), "{text}");
    assert_eq!(
        (&info["height"], &info["channels"]),
        (&32.into(), &3.into())
    );
    // One set, named once.
    let arguments = ["data", "info", "sign-digits", "--data", "cifar10"];
    let output = run(smallvit(dir.path(), &arguments));
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.contains("unexpected argument '--data'"),
        "{message}"
    );
}

#[test]
fn lists_fit_a_terminal_and_come_as_json() {
    let dir = TempDir::new().unwrap();
    let list = succeeds(smallvit(dir.path(), &["data", "list"]));
    for line in list.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for part in ["csv:FILE", "npz:FILE", "tiny-imagenet:PATH", "svhn:PATH"] {
        assert!(list.contains(part), "{list}");
    }
    let list = parsed(smallvit(dir.path(), &["data", "list", "--json"]));
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 5);
    for set in list {
        assert!(set["copy"].is_null() && set["licence"].is_string(), "{set}");
        assert_eq!(set["built_in"], set["name"] == "sign-digits");
        assert_eq!(set["url"].is_null(), set["built_in"] == true);
    }

    let list = parsed(smallvit(dir.path(), &["recipes", "--json"]));
    for recipe in list.as_array().unwrap() {
        let name = recipe["name"].as_str().unwrap();
        let fields = parsed(smallvit(dir.path(), &["recipes", name, "--json"]));
        assert_eq!(fields["name"], recipe["name"]);
        assert_eq!(fields["schema"], 2);
        assert!(fields["train"]["beta1"].is_f64());
    }
}

#[test]
fn what_needs_no_fetching_is_said() {
    let dir = TempDir::new().unwrap();
    let out = succeeds(smallvit(dir.path(), &["data", "fetch", "sign-digits"]));
    assert!(out.contains("in the program"), "{out}");
    let message = fails(smallvit(dir.path(), &["data", "fetch", "csv:a.csv"]), 2);
    assert!(message.contains("nothing to fetch"), "{message}");
    let twice = ["train", "--data", "csv:a.csv", "--data-dir", "."];
    let message = fails(smallvit(dir.path(), &twice), 2);
    assert!(message.contains("says where it is"), "{message}");
    assert!(!dir.path().join("cache").exists());
}

#[test]
fn half_a_copy_and_an_archive_cut_short_are_named() {
    let dir = TempDir::new().unwrap();
    let refused = |parts: &[&str]| {
        let arguments = ["data", "info", "cifar100", "--offline"];
        let message = fails(smallvit(dir.path(), &arguments), 1);
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    };
    let folder = dir.path().join("cache/cifar-100-python");
    fs::create_dir_all(folder.join("test")).unwrap();
    refused(&["cifar-100-python/test", "this is a folder"]);
    fs::write(folder.join("train"), b"").unwrap();
    refused(&["cifar-100-python", "incomplete: test missing"]);
    fs::remove_dir(folder.join("test")).unwrap();
    fs::write(folder.join("test"), b"").unwrap();
    refused(&[
        "cifar-100-python/train",
        "the file is empty",
        "delete it and fetch it again",
    ]);
    fs::remove_file(folder.join("test")).unwrap();
    let archive = dir.path().join("cache/cifar-100-python.tar.gz");
    fs::write(&archive, b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xed\xbd").unwrap();
    refused(&["cifar-100-python.tar.gz", "cannot be unpacked", "delete it"]);
}
