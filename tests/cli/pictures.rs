//! Folders of pictures as people have them.

use image::{Rgb, RgbImage};

use super::*;

/// A picture of one colour, a little different each time.
fn picture(path: &Path, width: u32, height: u32, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let shade = |x, y| Rgb([value, (x * 3) as u8, (y * 5) as u8]);
    RgbImage::from_fn(width, height, shade).save(path).unwrap();
}

/// Two classes of so many pictures, 24 × 16 pixels.
fn pets(dir: &Path, count: u8) {
    for number in 0..count {
        picture(&dir.join(format!("pets/cat/{number}.png")), 24, 16, number);
        picture(
            &dir.join(format!("pets/dog/{number}.webp")),
            24,
            16,
            200 - number,
        );
    }
}

fn told(command: Command) -> String {
    let output = run(command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    error
}

#[test]
fn strict_refuses_with_right_counts_and_names() {
    let dir = TempDir::new().unwrap();
    pets(dir.path(), 12);
    let folder = dir.path().join("pets");
    for number in 0..4 {
        fs::write(folder.join(format!("cat/bad{number}.png")), "no picture").unwrap();
    }
    fs::write(folder.join("dog/old.tiff"), "II").unwrap();
    picture(&folder.join("loose.png"), 8, 8, 1);
    for name in ["README.md", ".DS_Store", "Thumbs.db", "dog/notes.txt"] {
        fs::write(folder.join(name), "x").unwrap();
    }
    let notes = told(smallvit(dir.path(), &["data", "info", "folder:pets"]));
    assert!(
        notes.contains("6 pictures passed over in all, 1 more"),
        "{notes}"
    );
    assert!(notes.contains("bad0.png: this is no picture"), "{notes}");
    assert!(!notes.contains("README"), "{notes}");
    for command in [
        &["data", "info", "folder:pets", "--strict"][..],
        &["train", "--data", "folder:pets", "--strict", "--out", "run"],
    ] {
        let message = fails(smallvit(dir.path(), command), 1);
        assert!(message.contains("6 pictures cannot be used"), "{message}");
        assert!(message.contains("and 3 more"), "{message}");
        assert!(message.contains("leave --strict out"), "{message}");
    }
    assert!(!dir.path().join("run").exists());
    for name in [
        "cat/bad0.png",
        "cat/bad1.png",
        "cat/bad2.png",
        "cat/bad3.png",
        "dog/old.tiff",
        "loose.png",
    ] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    succeeds(smallvit(
        dir.path(),
        &["data", "info", "folder:pets", "--strict"],
    ));
}

#[test]
fn twins_and_classes_of_one_are_told_before_training() {
    let dir = TempDir::new().unwrap();
    for (path, value) in [
        ("train/cat/1.png", 1),
        ("train/cat/2.png", 2),
        ("train/cat/same.png", 1),
        ("train/dog/3.png", 30),
        ("train/dog/also.png", 2),
        ("train/owl/4.png", 60),
        ("test/cat/5.png", 1),
        ("test/dog/6.png", 90),
    ] {
        picture(&dir.path().join("pets").join(path), 8, 8, value);
    }
    let notes = told(smallvit(
        dir.path(),
        &["data", "info", "folder:pets", "--folder-size", "8"],
    ));
    for remark in [
        "1 class has a single image to train on: owl",
        "1 image is in two splits",
        "2 images are there twice in one split",
        "1 image is there twice, as two classes",
        "same.png",
    ] {
        assert!(notes.contains(remark), "{remark}: {notes}");
    }
    let out = succeeds(smallvit(
        dir.path(),
        &[
            "data",
            "info",
            "folder:pets",
            "--folder-size",
            "8",
            "--json",
        ],
    ));
    let info: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(info["notes"].as_array().unwrap().len(), 4, "{out}");
}

#[test]
fn a_model_sees_pictures_as_those_it_was_trained_on_were_made_square() {
    let dir = TempDir::new().unwrap();
    pets(dir.path(), 20);
    let wide = dir.path().join("wide.png");
    RgbImage::from_fn(48, 16, |x, _| Rgb([(x * 5) as u8, 0, 255 - (x * 5) as u8]))
        .save(&wide)
        .unwrap();
    let mut answers = vec![];
    for fit in ["crop", "squash", "pad"] {
        let mut command = tiny(
            dir.path(),
            &["train", "--quiet", "--data", "folder:pets", "--out", fit],
        );
        command.arg("--set").arg(format!("data.fit={fit}"));
        command.args(["--batch", "16"]);
        succeeds(command);
        let recipe = fs::read_to_string(dir.path().join(fit).join("recipe.toml")).unwrap();
        assert!(recipe.contains(&format!("fit = \"{fit}\"")), "{recipe}");
        // Of two classes, each is always among the five likeliest.
        let trained = json(&dir.path().join(fit).join("result.json"));
        for key in ["val_top5", "test_top5", "last_test_top5"] {
            assert!(trained["models"][0][key].is_null(), "{key}");
        }
        let out = succeeds(smallvit(
            dir.path(),
            &["predict", fit, "wide.png", "--json"],
        ));
        let answer: Value = serde_json::from_str(&out).unwrap();
        answers.push(answer[0]["logits"].to_string());
        // Evaluated on the very images that it was tested on.
        let out = succeeds(smallvit(dir.path(), &["evaluate", fit, "--json"]));
        let found: Value = serde_json::from_str(&out).unwrap();
        let result = json(&dir.path().join(fit).join("result.json"));
        assert_eq!(found["top1"], result["models"][0]["test_top1"]);
    }
    assert!(answers[0] != answers[1] && answers[1] != answers[2] && answers[0] != answers[2]);
    // With a picture less, nobody can tell any more which were held out.
    fs::rename(dir.path().join("pets/cat/0.png"), dir.path().join("0.png")).unwrap();
    let mut ways = vec![
        vec![],
        vec!["--data", "folder:pets"],
        vec!["--data", "folder:pets/"],
        vec!["--data", "folder:crop/../pets"],
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path().join("pets"), dir.path().join("link")).unwrap();
        ways.push(vec!["--data", "folder:link"]);
    }
    for more in ways {
        let arguments = [&["evaluate", "crop"], &more[..]].concat();
        let message = fails(smallvit(dir.path(), &arguments), 1);
        assert!(
            message.contains("are not those that the run began with"),
            "{message}"
        );
    }
    // Elsewhere, they are another data set.
    fs::rename(dir.path().join("pets"), dir.path().join("others")).unwrap();
    let elsewhere = ["evaluate", "crop", "--data", "folder:others"];
    succeeds(smallvit(dir.path(), &elsewhere));
    fs::rename(dir.path().join("others"), dir.path().join("pets")).unwrap();
    let mut command = tiny(dir.path(), &["train", "--data", "folder:pets"]);
    command.args(["--set", "data.fit=stretch"]);
    let message = fails(command, 2);
    assert!(
        message.contains("data.fit") && message.contains("squash"),
        "{message}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_small_file_of_many_pixels_costs_no_memory() {
    let dir = TempDir::new().unwrap();
    // 12,000 × 12,000 pixels of white in a few kilobytes.
    let path = dir.path().join("large.png");
    image::GrayImage::from_pixel(12_000, 12_000, image::Luma([255]))
        .save(&path)
        .unwrap();
    let run = trained(dir.path());
    let program = smallvit(dir.path(), &["predict", run.to_str().unwrap(), "large.png"]);
    let mut shell = Command::new("sh");
    // In less memory than its pixels would take as colours.
    shell.args(["-c", "ulimit -v 2000000; exec \"$0\" \"$@\""]);
    shell.arg(program.get_program()).args(program.get_args());
    let message = fails(
        {
            shell.current_dir(dir.path());
            shell
        },
        1,
    );
    assert!(message.contains("12000×12000 pixels"), "{message}");
    assert!(message.contains("over the limit"), "{message}");
}

fn trained(dir: &Path) -> PathBuf {
    succeeds(tiny(
        dir,
        &["train", "--quiet", "--out", "run", "--epochs", "1"],
    ));
    dir.join("run")
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_listed_costs_its_own_answer_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    pets(dir.path(), 1);
    let shut = dir.path().join("pets/shut");
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&shut).is_ok() {
        return; // whoever may do anything
    }
    let run = trained(dir.path());
    let output = super::run(smallvit(
        dir.path(),
        &["predict", run.to_str().unwrap(), "pets"],
    ));
    let (answers, errors) = (
        output.stdout,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("cannot list"), "{errors}");
    let answers = String::from_utf8(answers).unwrap();
    assert!(
        answers.contains("cat/0.png") && answers.contains("dog/0.webp"),
        "{answers}"
    );
}
