//! Where results and notes go, and what happens when they cannot go there.

use super::*;

/// A run folder of a model that knows the ten digits, and pictures to ask it about.
fn trained() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema1")
}

/// The command as a shell runs it in a script, where it is `"$@"`.
#[cfg(unix)]
fn in_shell(script: &str, program: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(program.get_program());
    shell.args(program.get_args());
    shell.current_dir(program.get_current_dir().unwrap());
    let variables = program.get_envs();
    shell.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// Folders of pictures, all of a class in one colour and so many shades.
fn class_folders(folder: &Path, shades: u8, classes: &[(&str, [u8; 3])]) {
    for (class, colour) in classes {
        let folder = folder.join(class);
        fs::create_dir_all(&folder).unwrap();
        for shade in 0..shades {
            let pixel = |x: u32, y: u32| {
                image::Rgb(colour.map(|c| c.saturating_add(shade).saturating_add((x ^ y) as u8)))
            };
            let picture = image::RgbImage::from_fn(16, 16, pixel);
            picture.save(folder.join(format!("{shade}.png"))).unwrap();
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_training_ends_whole_wherever_its_words_go() {
    let dir = TempDir::new().unwrap();
    let cases = [
        ("\"$@\" >/dev/full", 1),
        ("\"$@\" 2>/dev/full", 0),
        ("\"$@\" >/dev/full 2>&1", 1),
        ("\"$@\" >&-", 0),
        ("\"$@\" 2>&-", 0),
        ("\"$@\" >&- 2>&-", 0),
        // The program's own exit status, not that of what reads its output.
        (
            "{ \"$@\" 2>&1; echo $? >status; } | head -n 1; exit $(cat status)",
            0,
        ),
        (
            "{ \"$@\" --json; echo $? >status; } 2>&1 | true; exit $(cat status)",
            0,
        ),
    ];
    for (number, (script, code)) in cases.into_iter().enumerate() {
        let out = number.to_string();
        let mut training = tiny(dir.path(), &["train", "--out", &out]);
        for setting in ["train.epochs=2", "train.batch=512"] {
            training.args(["--set", setting]);
        }
        let output = run(in_shell(script, &training));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{script}: {error}");
        assert!(!error.contains("panicked"), "{error}");
        let folder = dir.path().join(out);
        assert_eq!(history(&folder).lines().count(), 3, "{script}");
        assert!(json(&folder.join("result.json"))["models"][0]["test_top1"].is_f64());
        assert!(folder.join("curves.png").exists());
        arrays(&folder);
        assert_eq!(temporaries(&folder), [""; 0]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_could_not_be_printed_shows_in_the_exit_status() {
    let dir = TempDir::new().unwrap();
    let run_folder = trained().join("run");
    let (model, picture) = (run_folder.to_str().unwrap(), trained().join("ramp.png"));
    let picture = picture.to_str().unwrap();
    for arguments in [
        &["predict", model, picture, "--json"][..],
        &["predict", model, picture],
        &["evaluate", model, "--json", "-o", "a.png"],
        &["show", "schedule", "--steps-per-epoch", "9"],
        &["recipes"],
        &["recipes", "quickstart"],
        &["data", "list"],
        &["completions", "zsh"],
        &["--help"],
        &["predict", "--help"],
        &["--version"],
    ] {
        let program = smallvit(dir.path(), arguments);
        let message = fails(in_shell("\"$@\" >/dev/full", &program), 1);
        assert!(message.contains("standard output: "), "{message}");
        // A reader that has had enough is no fault.
        let script = "{ \"$@\"; echo $? >status; } | true; exit $(cat status)";
        let output = run(in_shell(script, &program));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
        assert_eq!(error, "", "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn pictures_go_through_what_is_no_file() {
    use std::os::unix::fs::FileTypeExt as _;
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let show = |out: &str| smallvit(dir.path(), &["show", "patches", "--index", "3", "-o", out]);
    let message = fails(show("/dev/full"), 1);
    assert!(message.contains("/dev/full"), "{message}");
    let full = fs::symlink_metadata("/dev/full").unwrap();
    assert!(full.file_type().is_char_device());

    // Standard output holds the picture alone, whatever it is.
    succeeds(in_shell("\"$@\" >file.png", &show("/dev/stdout")));
    succeeds(in_shell("\"$@\" | cat >pipe.png", &show("/dev/stdout")));
    fs::write(at("more.png"), "before").unwrap();
    succeeds(in_shell("\"$@\" >>more.png", &show("/dev/stdout")));
    let file = fs::read(at("file.png")).unwrap();
    image::load_from_memory(&file).unwrap();
    assert!(fs::read(at("pipe.png")).unwrap() == file);
    let more = fs::read(at("more.png")).unwrap();
    assert!(more[..6] == b"before"[..] && more[6..] == file);
    // Nobody is left to look at it.
    let script = "{ \"$@\"; echo $? >status; } | true; exit $(cat status)";
    succeeds(in_shell(script, &show("/dev/stdout")));

    let made = Command::new("mkfifo").arg(at("fifo")).status();
    assert!(made.unwrap().success());
    let script = "cat fifo >through.png & \"$@\" && wait";
    succeeds(in_shell(script, &show("fifo")));
    assert!(fs::read(at("through.png")).unwrap() == file);
    let fifo = fs::symlink_metadata(at("fifo")).unwrap();
    assert!(fifo.file_type().is_fifo());

    std::os::unix::fs::symlink("target.jpg", at("link.jpg")).unwrap();
    succeeds(show("link.jpg"));
    assert!(fs::symlink_metadata(at("link.jpg")).unwrap().is_symlink());
    assert!(
        fs::read(at("target.jpg"))
            .unwrap()
            .starts_with(b"\xFF\xD8\xFF")
    );
    let _listening = std::os::unix::net::UnixListener::bind(at("socket.png")).unwrap();
    let message = fails(show("socket.png"), 1);
    assert!(message.contains("it is a socket"), "{message}");
}

#[test]
fn what_cannot_be_written_is_refused_before_the_work() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    fs::create_dir(dir.path().join("folder.png")).unwrap();
    // None of these would get far with such data.
    let data = ["--data", "folder:nowhere"];
    let model = trained().join("run");
    for (out, said) in [
        ("none/a.png", "make the folder first"),
        ("file/a.png", "a part of the path is a file"),
        ("folder.png", "name a file in it"),
    ] {
        let commands = [
            &["show", "patches"][..],
            &["show", "augment"],
            &["show", "schedule"],
            &["evaluate", model.to_str().unwrap()],
        ];
        for command in commands {
            let arguments = [command, &data, &["-o", out]].concat();
            let message = fails(smallvit(dir.path(), &arguments), 1);
            assert!(message.contains(out) && message.contains(said), "{message}");
        }
    }
    for (out, said) in [
        ("file", "a part of the path"),
        ("file/a", "Not a directory"),
    ] {
        let import = ["import", "keras", "nowhere.safetensors", "-o", out];
        let message = fails(smallvit(dir.path(), &import), 1);
        assert!(message.contains(out) && message.contains(said), "{message}");
    }
    for name in ["a.gif", "a", "jpg"] {
        let output = run(smallvit(dir.path(), &["show", "augment", "-o", name]));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(".png, .jpg or .svg"), "{error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_matrix_that_cannot_be_drawn_costs_no_numbers() {
    let dir = TempDir::new().unwrap();
    let model = trained().join("run/checkpoints/best.safetensors");
    fs::create_dir_all(dir.path().join("run/checkpoints")).unwrap();
    fs::create_dir(dir.path().join("run/confusion.png")).unwrap();
    fs::copy(&model, dir.path().join("run/checkpoints/best.safetensors")).unwrap();
    // Beside a model's file nothing is drawn unless asked for: what is there is somebody's.
    fs::write(dir.path().join("confusion.png"), "mine").unwrap();
    succeeds(smallvit(dir.path(), &["evaluate", model.to_str().unwrap()]));
    let mine = fs::read(dir.path().join("confusion.png")).unwrap();
    assert_eq!(mine, b"mine");
    let output = run(smallvit(dir.path(), &["evaluate", "run"]));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(error.contains("-o FILE draws it elsewhere"), "{error}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("top-1"));
}

#[test]
fn curves_that_cannot_be_drawn_cost_no_table() {
    let dir = TempDir::new().unwrap();
    succeeds(tiny(
        dir.path(),
        &["train", "--quiet", "--out", "run", "--epochs", "1"],
    ));
    let curves = dir.path().join("run/curves.png");
    fs::remove_file(&curves).unwrap();
    fs::create_dir(&curves).unwrap();
    let output = run(smallvit(
        dir.path(),
        &["train", "--quiet", "--resume", "run"],
    ));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("test top-1"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("curves.png"));
}

#[test]
fn a_model_of_digits_does_not_take_other_names_for_them() {
    let dir = TempDir::new().unwrap();
    // Its classes are called 0 to 9, as those of a model from elsewhere without names are.
    succeeds(tiny(
        dir.path(),
        &["train", "--quiet", "--out", "run", "--epochs", "1"],
    ));
    for (number, animal) in [
        "ape", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay",
    ]
    .iter()
    .enumerate()
    {
        let folder = dir.path().join("zoo").join(animal);
        fs::create_dir_all(&folder).unwrap();
        let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([20 * number as u8; 3]));
        picture.save(folder.join("1.png")).unwrap();
    }
    let evaluate = ["evaluate", "run", "--data", "folder:zoo"];
    let message = fails(smallvit(dir.path(), &evaluate), 2);
    assert!(message.contains("--by-position"), "{message}");
    succeeds(smallvit(
        dir.path(),
        &[&evaluate[..], &["--by-position"]].concat(),
    ));
}

#[test]
fn the_exit_status_is_documented_and_kept() {
    let dir = TempDir::new().unwrap();
    let help = succeeds(smallvit(dir.path(), &["--help"]));
    for line in [
        "0    done",
        "1    something",
        "2    a request",
        "130  stopped",
    ] {
        assert!(help.contains(line), "{help}");
    }
    // What a command says of itself is there in short and in full.
    let help = succeeds(smallvit(dir.path(), &["predict", "--help"]));
    assert!(
        help.contains("A picture that cannot be read costs"),
        "{help}"
    );
    for command in ["compare", "train", "show", "data", "import", "recipes"] {
        let help = succeeds(smallvit(dir.path(), &[command, "-h"]));
        assert!(!help.starts_with("Usage"), "{help}");
    }
    for (arguments, code) in [
        (&["train", "--set", "train.batch=0"][..], 2),
        (&["train", "--no-such-flag"], 2),
        (&["no-such-command"], 2),
        (&[], 2),
        (&["predict", "nowhere.safetensors", "a.png"], 1),
    ] {
        let output = run(smallvit(dir.path(), arguments));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn tables_fit_the_terminal_and_rows_stay_lines_elsewhere() {
    let dir = TempDir::new().unwrap();
    let breadth = |text: &str| text.lines().map(|line| line.chars().count()).max();
    let table = |arguments: &[&str], columns: Option<&str>| {
        let mut command = smallvit(dir.path(), arguments);
        command.env_remove("COLUMNS");
        command.envs(columns.map(|columns| ("COLUMNS", columns)));
        let out = succeeds(command);
        out.split("\n\n").next().unwrap().to_owned()
    };
    let list = table(&["data", "list"], Some("80"));
    assert!(breadth(&list) <= Some(80), "{list}");
    let mut training = tiny(dir.path(), &["train", "--quiet", "--out", "run"]);
    training.args(["--set", "train.batch=512"]);
    succeeds(training);
    let resume = ["train", "--quiet", "--resume", "run"];
    let result = table(&resume, Some("80"));
    assert!(breadth(&result) <= Some(80), "{result}");
    assert!(result.contains("test top-1"), "{result}");
    let result = table(&resume, None);
    assert_eq!(result.lines().count(), 3, "{result}");
}

#[test]
fn whoever_asks_for_no_colour_gets_none() {
    let dir = TempDir::new().unwrap();
    for arguments in [&["--help"][..], &["train", "--help"], &["train", "--none"]] {
        let coloured = |no_colour: bool| {
            let mut command = smallvit(dir.path(), arguments);
            command.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1");
            if no_colour {
                command.env("NO_COLOR", "1");
            }
            let output = run(command);
            [output.stdout, output.stderr].concat().contains(&0x1b)
        };
        assert!(coloured(false), "{arguments:?}");
        assert!(!coloured(true), "{arguments:?}");
    }
}

#[test]
fn a_bad_picture_costs_its_own_answer_only() {
    let dir = TempDir::new().unwrap();
    let model = trained().join("run");
    let model = model.to_str().unwrap();
    fs::write(dir.path().join("bad.png"), "no picture").unwrap();
    for (name, copy) in [("ramp.png", "a.png"), ("rings.png", "b.png")] {
        fs::copy(trained().join(name), dir.path().join(copy)).unwrap();
    }
    fs::create_dir(dir.path().join("empty")).unwrap();
    let images = ["a.png", "bad.png", "none.png", "empty", "b.png"];
    let predict = |images: &[&str], json: bool| {
        let flag: &[&str] = if json { &["--json"] } else { &[] };
        let arguments = [&["predict", model], images, flag].concat();
        let output = run(smallvit(dir.path(), &arguments));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, out, error) = predict(&images, false);
    assert_eq!(code, Some(1), "{error}");
    assert_eq!(out.matches(" %").count(), 10, "{out}");
    for (name, lines) in [("bad.png", 1), ("none.png", 1), ("empty", 1), ("a.png", 0)] {
        let said = error.lines().filter(|line| line.contains(name)).count();
        assert_eq!(said, lines, "{error}");
    }
    assert!(error.contains("3 of 5 have no answer"), "{error}");
    let (code, out, _) = predict(&images, true);
    assert_eq!(code, Some(1));
    let answers: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answers.as_array().unwrap().len(), 5);
    for (name, answer) in images.iter().zip(answers.as_array().unwrap()) {
        assert_eq!(answer["image"], *name);
        let good = ["a.png", "b.png"].contains(name);
        assert_eq!(answer["logits"].is_array(), good);
        assert_eq!(answer["error"].is_string(), !good);
    }
    // A folder stands for the pictures in it, and one picture's answer does not depend on others.
    let (code, out, _) = predict(&["."], true);
    assert_eq!(code, Some(1));
    let all: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|a| &a["image"])
        .collect();
    assert_eq!(names, ["./a.png", "./b.png", "./bad.png"]);
    assert_eq!(all[0]["logits"], answers[0]["logits"]);
    assert_eq!(all[1]["logits"], answers[4]["logits"]);
    // Alone, it is the error.
    let (code, out, error) = predict(&["bad.png"], true);
    assert_eq!(code, Some(1));
    assert_eq!(error.matches("bad.png").count(), 1, "{error}");
    assert!(serde_json::from_str::<Value>(&out).unwrap()[0]["error"].is_string());
    let (code, ..) = predict(&["a.png"], true);
    assert_eq!(code, Some(0));
}

#[cfg(unix)]
#[test]
fn names_of_files_cannot_steer_the_terminal() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let dir = TempDir::new().unwrap();
    let wild = OsStr::from_bytes(b"a\x1b]0;owned\x07\nb.png");
    fs::copy(trained().join("ramp.png"), dir.path().join(wild)).unwrap();
    let predict = |names: &[&OsStr], json: bool| {
        let mut command = smallvit(dir.path(), &["predict"]);
        command.arg(trained().join("run")).args(names);
        command.args(json.then_some("--json"));
        run(command)
    };
    let output = predict(&[wild], false);
    let out = String::from_utf8(output.stdout).unwrap();
    let first = out.lines().next();
    assert_eq!(first, Some(r"a\u001b]0;owned\u0007\nb.png"));
    let answer: Value = serde_json::from_slice(&predict(&[wild], true).stdout).unwrap();
    assert_eq!(answer[0]["image"], wild.to_str().unwrap());
    // Not even Unicode, and not there.
    let worse = OsStr::from_bytes(b"\xff\x1b[31m.png");
    for json in [false, true] {
        let output = predict(&[worse, wild], json);
        assert_eq!(output.status.code(), Some(1));
        assert!(!output.stderr.contains(&0x1b) && !output.stdout.contains(&0x1b));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!error.contains("panicked"), "{error}");
    }
}

#[test]
fn classes_are_matched_by_name_and_accuracies_carry_their_error() {
    let dir = TempDir::new().unwrap();
    let (red, blue) = ([200, 10, 10], [10, 10, 200]);
    class_folders(&dir.path().join("data"), 8, &[("blue", blue), ("red", red)]);
    let mut command = tiny(dir.path(), &["train", "--quiet", "--data", "folder:data"]);
    command.args(["--out", "run", "--set", "train.batch=4"]);
    command.args([
        "--set",
        "train.epochs=20",
        "--set",
        "train.learning_rate=3e-3",
    ]);
    succeeds(command);
    let evaluate = |set: &str, more: &[&str]| {
        let data = format!("folder:{set}");
        let arguments = ["evaluate", "run", "--data", &data, "--split", "test"];
        smallvit(dir.path(), &[&arguments, more].concat())
    };
    let numbers = |set: &str, more: &[&str]| -> Value {
        let out = succeeds(evaluate(set, &[more, &["--json"]].concat()));
        serde_json::from_str(&out).unwrap()
    };
    // The same classes; by other names their order is another.
    class_folders(&dir.path().join("same"), 5, &[("blue", blue), ("red", red)]);
    class_folders(
        &dir.path().join("other"),
        5,
        &[("azure", blue), ("scarlet", red)],
    );
    class_folders(
        &dir.path().join("turned"),
        5,
        &[("ruby", red), ("sky", blue)],
    );
    let same = numbers("same", &[]);
    assert_eq!(
        (&same["images"], &same["top1"]),
        (&10.into(), &100.0.into())
    );
    assert_eq!(same["top1_standard_error"], 0.0);
    let message = fails(evaluate("other", &[]), 2);
    for part in ["azure", "scarlet", "blue", "red", "--map", "--by-position"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(numbers("other", &["--by-position"])["top1"], 100.0);
    assert_eq!(
        numbers("other", &["--map", "azure=blue,scarlet=red"])["top1"],
        100.0
    );
    assert_eq!(numbers("turned", &["--by-position"])["top1"], 0.0);
    let turned = numbers("turned", &["--map", "ruby=red,sky=blue"]);
    assert_eq!(turned["top1"], 100.0);
    assert_eq!(turned["confusion"], same["confusion"]);
    // Of two classes, each is always among the five likeliest.
    assert!(same["top5"].is_null() && same["classes"][0]["top5"].is_null());
    let text = succeeds(evaluate("same", &[]));
    assert!(text.contains("top-1 100.00 ± 0.00 %"), "{text}");
    assert!(!text.contains("top-5") && !text.contains("NaN"), "{text}");
    let text = succeeds(smallvit(
        dir.path(),
        &[
            "evaluate",
            trained().join("run").to_str().unwrap(),
            "-o",
            "a.jpg",
        ],
    ));
    assert!(text.contains("top-5") && text.contains(" ± "), "{text}");
    let jpeg = fs::read(dir.path().join("a.jpg")).unwrap();
    assert!(jpeg.starts_with(b"\xFF\xD8\xFF"));
}

#[test]
fn a_picture_without_a_name_takes_no_other_file_s_place() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("schedule.png"), "mine").unwrap();
    let show = ["show", "schedule", "--steps-per-epoch", "3"];
    for expected in ["schedule-2.png", "schedule-3.png"] {
        let text = succeeds(smallvit(dir.path(), &show));
        assert!(text.contains(expected), "{text}");
        assert!(fs::read(path(expected)).unwrap().starts_with(b"\x89PNG"));
    }
    assert_eq!(fs::read(path("schedule.png")).unwrap(), b"mine");
    // A name that was given is meant.
    succeeds(smallvit(
        dir.path(),
        &[&show[..], &["-o", "schedule.png"]].concat(),
    ));
    assert!(
        fs::read(path("schedule.png"))
            .unwrap()
            .starts_with(b"\x89PNG")
    );
}

#[test]
fn licences_are_printed_whole() {
    let dir = TempDir::new().unwrap();
    let text = succeeds(smallvit(dir.path(), &["licences"]));
    for part in [
        "MIT License",
        "Apache License",
        "DejaVu",
        "burn-core",
        "signal-hook",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_any_command_and_leaves_no_temporary() {
    let dir = TempDir::new().unwrap();
    let signalled = |mut command: Command, signal: &str, after: u64| {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(after));
        let kill = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        // It may have ended already, and then has its own status.
        assert!(kill.is_ok());
        ended(&mut child).code()
    };
    // Nobody reads from the pipe, so that the command is still there.
    let pipe = dir.path().join("pipe.png");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for signal in ["-INT", "-TERM"] {
        let show = smallvit(dir.path(), &["show", "schedule", "-o", "pipe.png"]);
        assert_eq!(signalled(show, signal, 1500), Some(130), "{signal}");
    }
    // Wherever in its work it is.
    for after in (0..300).step_by(20) {
        let show = smallvit(dir.path(), &["show", "patches", "-o", "a.png"]);
        // Before the program has begun to catch signals they end it by themselves.
        let code = signalled(show, "-INT", after);
        assert!([Some(0), Some(130), None].contains(&code), "{code:?}");
    }
    let mut left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    left.retain(|name| name != "pipe.png" && name != "a.png");
    assert!(left.is_empty(), "{left:?}");
}
