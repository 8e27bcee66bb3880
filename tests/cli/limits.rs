//! What is too large, too long or no file of its kind is refused at once, in little memory.

use super::*;

/// The command where no more than so many megabytes can be had.
#[cfg(target_os = "linux")]
fn within(megabytes: u64, command: &Command) -> Command {
    let limited = format!("ulimit -v {}; exec \"$0\" \"$@\"", megabytes << 10);
    let mut shell = Command::new("sh");
    shell.args(["-c", &limited]).arg(command.get_program());
    shell.args(command.get_args());
    shell.current_dir(command.get_current_dir().unwrap());
    let set = command.get_envs();
    shell.envs(set.filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(Stdio::null());
    shell
}

#[cfg(not(target_os = "linux"))]
fn within(_: u64, command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    same.current_dir(command.get_current_dir().unwrap());
    same
}

/// A command that must refuse within seconds; what it says.
fn refuses(command: &Command, code: i32) -> String {
    let began = Instant::now();
    let message = fails(within(4096, command), code);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: {message}");
    let wild = |c: char| c.is_control() && c != '\n';
    assert!(!message.contains(wild), "{message:?}");
    message
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

#[test]
fn models_that_are_too_large_are_refused_by_their_fields() {
    let dir = TempDir::new().unwrap();
    for (settings, field, remedy) in [
        (&["model.dim=1000000"][..], "model.dim: ", "1 to 65536"),
        (
            &["model.dim=65536", "model.head=[2048]"],
            "model.head: ",
            "model.dim",
        ),
        (&["model.depth=100000"], "model.depth: ", "1 to 1024"),
        (
            &["model.depth=1024", "model.mlp_width=1e6"],
            "model.mlp_width: ",
            "model.depth",
        ),
        (
            &["model.image_size=100000"],
            "model.image_size: ",
            "1 to 4096",
        ),
        (&["model.heads=1e9"], "model.heads: ", "1 to 1024"),
        (
            &["model.image_size=4096", "model.patch_size=2"],
            "model.patch_size: ",
            "larger patches",
        ),
        (
            &[
                "model.image_size=4096",
                "model.patch_size=1",
                "model.spt=false",
            ],
            "model.patch_size: ",
            "larger patches",
        ),
        (
            &["model.head=[1048576, 1048576]"],
            "model.head: ",
            "smaller",
        ),
        (&["train.batch=1e18"], "train.batch: ", "such as 256"),
        (&["train.epochs=-1"], "train.epochs: -1", "not negative"),
        (&["train.epochs=0"], "train.epochs: 0", "1 to 100000"),
    ] {
        let mut train = smallvit(dir.path(), &["train", "--out", "run"]);
        for setting in settings {
            train.args(["--set", setting]);
        }
        let message = refuses(&train, 2);
        assert!(
            message.starts_with(&format!("smallvit: {field}")),
            "{message}"
        );
        assert!(message.contains(remedy), "{message}");
        assert!(!dir.path().join("run").exists(), "{settings:?}");
    }
}

#[test]
fn bench_refuses_what_would_find_no_room() {
    let dir = TempDir::new().unwrap();
    for (arguments, problem) in [
        (
            &["--input", "65536"][..],
            "--input: 1224 images of 65536×65536",
        ),
        (&["--batch", "1000000"], "4000200 images of 32×32"),
        (
            &["--classes", "65536", "--set", "model.head=[65536]"],
            "model.head: the model would have",
        ),
        #[cfg(target_os = "linux")]
        (
            &[
                "--batch",
                "1048576",
                "--input",
                "1",
                "--set",
                "model.image_size=4096",
                "--set",
                "model.patch_size=512",
            ],
            "MB of memory, and",
        ),
    ] {
        let message = refuses(&smallvit(dir.path(), &[&["bench"], arguments].concat()), 2);
        assert!(message.contains(problem), "{message}");
    }
    for (arguments, problem) in [
        (["--steps", "0"], "a whole number from 1 to 65536"),
        (["--steps", "1e6"], "a whole number from 1 to 65536"),
        (["--classes", "1"], "a whole number from 2 to 65536"),
        (["--batch", "-1"], "a whole number from 1 to 1048576"),
    ] {
        let output = run(smallvit(dir.path(), &[&["bench"], &arguments[..]].concat()));
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(problem), "{message}");
    }
    let one = [
        "bench",
        "--recipe",
        "quickstart",
        "--classes",
        "2",
        "--steps",
        "1",
        "--whole",
        "--json",
    ];
    let told: Value = serde_json::from_str(&succeeds(tiny(dir.path(), &one))).unwrap();
    for number in [
        "seconds_per_step",
        "min",
        "max",
        "images_per_second",
        "gflops",
        "share_of_ceiling",
    ] {
        assert!(
            told[number].as_f64().is_some_and(|n| n > 0.0),
            "{number}: {told}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn training_is_refused_where_its_address_space_is_too_small() {
    let dir = TempDir::new().unwrap();
    let train = ["train", "--recipe", "keras-2022", "--data", "sign-digits"];
    let message = fails(within(1200, &smallvit(dir.path(), &train)), 2);
    assert!(message.contains("MB of memory"), "{message}");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_read() {
    let dir = TempDir::new().unwrap();
    let fifo = Command::new("mkfifo").arg(dir.path().join("pipe")).status();
    assert!(fifo.unwrap().success());
    fs::write(dir.path().join("long.toml"), "# long\n".repeat(200_000)).unwrap();
    fs::write(dir.path().join("bytes"), [7; 100]).unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    for (path, problem) in [
        ("/dev/zero", "no regular file"),
        ("/dev/null", "no regular file"),
        ("./pipe", "no regular file"),
        (".", "a folder"),
        ("./none", "No such file"),
        ("./long.toml", "longer than 1048576 bytes"),
    ] {
        let message = refuses(&smallvit(dir.path(), &["train", "--recipe", path]), 1);
        assert!(message.contains(problem), "{message}");
    }
    for (path, problem) in [
        ("/dev/zero", "no regular file"),
        ("./pipe", "no regular file"),
        ("./bytes", "not a whole safetensors file"),
        ("./empty", "it has 0 bytes"),
    ] {
        for command in [
            &["predict", path, "a.png"][..],
            &["evaluate", path],
            &["import", "keras", path, "-o", "out"],
            &["import", "pytorch", path, "-o", "out"],
        ] {
            let message = refuses(&smallvit(dir.path(), command), 1);
            assert!(message.contains(problem), "{command:?}: {message}");
        }
    }
    assert!(!dir.path().join("out").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn training_that_finds_no_memory_is_refused_and_a_batch_is_no_larger_than_its_images() {
    let dir = TempDir::new().unwrap();
    let train = |settings: &[&str]| {
        let mut train = tiny(dir.path(), &["train", "--quiet", "--out", "run"]);
        for setting in settings {
            train.args(["--set", setting]);
        }
        train
    };
    // Hundreds of images at once, of gigabytes each.
    let wide = [
        "model.image_size=512",
        "model.heads=16",
        "train.batch=1e5",
        "train.micro_batch=1e5",
    ];
    let message = refuses(&train(&wide), 2);
    assert!(
        message.contains("train.batch: training would need about"),
        "{message}"
    );
    let large = [
        "train.epochs=1",
        "train.batch=1048576",
        "train.micro_batch=1048576",
    ];
    succeeds(train(&large));
}

/// The fixture's model with one change to its JSON, and one to its bytes.
fn changed(to: &Path, from: &str, into: &str, change: impl FnOnce(&mut [u8])) {
    let bytes = fs::read(fixture("schema1/run/checkpoints/best.safetensors")).unwrap();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + size].to_vec()).unwrap();
    assert!(header.contains(from), "{header}");
    let header = header.replacen(from, into, 1);
    let mut data = bytes[8 + size..].to_vec();
    change(&mut data);
    let size = (header.len() as u64).to_le_bytes();
    fs::write(to, [&size[..], header.as_bytes(), &data].concat()).unwrap();
}

#[test]
fn a_models_file_cannot_ask_for_more_than_it_holds() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("model.safetensors");
    let refused = |from: &str, into: &str| {
        changed(&path, from, into, |_| ());
        refuses(
            &smallvit(dir.path(), &["predict", "model.safetensors", "a.png"]),
            1,
        )
    };
    for (from, into, problem) in [
        (r#"\"depth\":2"#, r#"\"depth\":1024"#, "is missing"),
        (
            r#"\"depth\":2"#,
            r#"\"depth\":1000000000"#,
            "model.depth: 1000000000 is out",
        ),
        (
            r#"\"heads\":2"#,
            r#"\"heads\":1024"#,
            "blocks.0.attention.output.kernel is [8, 8], not [4096, 8]",
        ),
        (
            r#"\"image_size\":32"#,
            r#"\"image_size\":4096"#,
            "patch_size: 262144 tokens",
        ),
        (r#"\"patch_size\":8"#, r#"\"patch_size\":1"#, "patch_size"),
        (
            r#"\"head\":[16]"#,
            r#"\"head\":[1048576,1048576]"#,
            "parameters",
        ),
        (
            r#"\"head\":[16]"#,
            r#"\"head\":[1048]"#,
            "head.hidden.0.bias is [16], not [1048]",
        ),
        (r#"\"0\",\"1\","#, r#"\"\\u001b[31m\","#, "model"),
        (
            r#"\"0\",\"1\","#,
            r#"\"0\",\"1\",\"2\","#,
            "head.logits.bias is [10], not [11]",
        ),
        (
            "weights.block0.mlp.dense1.bias",
            r"weights.\u001b[31m\u0007.bias",
            r"\u{1b}[31m\u{7}.bias is none",
        ),
    ] {
        let message = refused(from, into);
        assert!(message.contains(problem), "{into}: {message}");
    }
}

#[test]
fn weights_that_are_no_numbers_answer_nothing() {
    let dir = TempDir::new().unwrap();
    let run = fixture("schema1/run");
    let path = dir.path().join("model.safetensors");
    let picture = fixture("schema1/ramp.png");
    let picture = picture.to_str().unwrap();
    let ask = || {
        smallvit(
            dir.path(),
            &["predict", "model.safetensors", picture, "--json"],
        )
    };
    changed(&path, "weights", "weights", |_| ());
    let whole = succeeds(ask());
    assert_eq!(logits(&whole, 10).len(), 10);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        changed(&path, "weights", "weights", |data| {
            data[..4].copy_from_slice(&bad.to_le_bytes());
        });
        for command in [
            ask(),
            smallvit(dir.path(), &["evaluate", "model.safetensors"]),
        ] {
            let message = refuses(&command, 1);
            assert!(message.contains("is NaN or infinite at 1 of "), "{message}");
        }
    }
    assert!(run.exists());
}

#[test]
fn imports_say_what_the_file_does_not_and_replace_nothing() {
    let dir = TempDir::new().unwrap();
    let keras = fixture("vit.safetensors");
    let keras = keras.to_str().unwrap();
    let import = |more: &[&str]| {
        let arguments = [&["import", "keras", keras, "-o", "model"][..], more].concat();
        smallvit(dir.path(), &arguments)
    };
    let rates = || {
        let bytes = fs::read(dir.path().join("model/model.safetensors")).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let info = header.metadata().clone().unwrap()["model"].clone();
        let info: Value = serde_json::from_str(&info).unwrap();
        ["dropout", "head_dropout"].map(|rate| info["config"][rate].as_f64().unwrap())
    };
    let output = run(import(&[]));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("model.dropout = 0.1, model.head_dropout = 0.5"),
        "{told}"
    );
    assert_eq!(rates(), [0.1, 0.5]);

    let message = refuses(&import(&[]), 2);
    assert!(
        message.contains("is there already") && message.contains("--force"),
        "{message}"
    );
    let output = run(import(&[
        "--force",
        "--dropout",
        "0.2",
        "--head-dropout",
        "0",
    ]));
    assert!(output.status.success());
    assert_eq!(output.stderr, b"", "nothing is left to be said");
    assert_eq!(rates(), [0.2, 0.0]);

    for (more, problem) in [
        (&["--dropout", "1.5"][..], "model.dropout: 1.5"),
        (&["--head-dropout", "nan"], "model.head_dropout: NaN"),
        (&["--classes", "a,b"], "2 names for 5 classes"),
        (&["--classes", "a,b,c,d,a"], "`a` is named twice"),
        (&["--classes", "a,b,,d,e"], "a name is empty"),
    ] {
        let message = refuses(&import(&[&["--force"], more].concat()), 2);
        assert!(message.contains(problem), "{message}");
    }
    assert_eq!(rates(), [0.2, 0.0]);
    // A run's own models would be found before an imported one.
    fs::write(dir.path().join("model/recipe.toml"), "").unwrap();
    let message = refuses(&import(&["--force"]), 2);
    assert!(message.contains("holds a run"), "{message}");
}

#[test]
fn imports_refuse_configurations_and_weights_that_cannot_be() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("theirs.safetensors");
    for (from, into, problem) in [
        (
            r#"\"layers\": 2"#,
            r#"\"layers\": 1000000000"#,
            "model.depth",
        ),
        (
            r#"\"num_classes\": 5"#,
            r#"\"num_classes\": 1000000000"#,
            "1000000000 classes",
        ),
        (
            r#"\"num_classes\": 5"#,
            r#"\"num_classes\": 1000000"#,
            "not [1000000]",
        ),
        (
            r#"\"num_heads\": "#,
            r#"\"num_heads\": 77777"#,
            "model.heads",
        ),
        (r#"\"image_size\": "#, r#"\"image_size\": -"#, "config"),
    ] {
        let bytes = fs::read(fixture("vit.safetensors")).unwrap();
        let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = String::from_utf8(bytes[8..8 + size].to_vec()).unwrap();
        assert!(header.contains(from), "{}", &header[..1000]);
        let header = header.replacen(from, into, 1);
        let size_now = (header.len() as u64).to_le_bytes();
        fs::write(
            &path,
            [&size_now[..], header.as_bytes(), &bytes[8 + size..]].concat(),
        )
        .unwrap();
        let import = ["import", "keras", "theirs.safetensors", "-o", "model"];
        let message = refuses(&smallvit(dir.path(), &import), 1);
        assert!(message.contains(problem), "{into}: {message}");
        assert!(!dir.path().join("model").exists());
    }
}

#[test]
fn an_import_with_a_number_that_is_none_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut bytes = fs::read(fixture("vit.safetensors")).unwrap();
    let (size, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let (first, _) = header
        .info("weights.position_embedding")
        .unwrap()
        .data_offsets;
    bytes[8 + size + first..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(dir.path().join("theirs.safetensors"), bytes).unwrap();
    let import = ["import", "keras", "theirs.safetensors", "-o", "model"];
    let message = refuses(&smallvit(dir.path(), &import), 1);
    assert!(
        message.contains("sequence.position is NaN or infinite at 1 of "),
        "{message}"
    );
    assert!(!dir.path().join("model").exists());
}
