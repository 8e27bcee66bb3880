//! Run folders: two at once, edited, damaged, out of room.

use super::*;

/// A short run that ended.
fn finished(dir: &Path) -> PathBuf {
    succeeds(tiny(dir, &["train", "--quiet", "--out", "run"]));
    dir.join("run")
}

/// A run that was stopped after its first epoch, and would have gone on for a long time.
#[cfg(unix)]
fn stopped(dir: &Path, out: &str, epochs: usize) -> PathBuf {
    let epochs = epochs.to_string();
    let mut command = tiny(
        dir,
        &["train", "--quiet", "--out", out, "--epochs", &epochs],
    );
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let run = dir.join(out);
    wait_for(&run.join("checkpoints/best.safetensors"));
    wait_for(&run.join("checkpoints/previous.safetensors"));
    interrupt(&child);
    assert_eq!(ended(&mut child).code(), Some(130));
    run
}

#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
}

fn state(checkpoint: &Path) -> Value {
    let bytes = fs::read(checkpoint).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    serde_json::from_str(&header.metadata().as_ref().unwrap()["state"]).unwrap()
}

#[cfg(unix)]
#[test]
fn a_run_has_one_writer_at_a_time() {
    let dir = TempDir::new().unwrap();
    let arguments = ["train", "--quiet", "--out", "run", "--epochs", "3000"];
    let mut child = tiny(dir.path(), &arguments)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let run = dir.path().join("run");
    wait_for(&run.join("checkpoints/last.safetensors"));
    let message = fails(smallvit(dir.path(), &["train", "--resume", "run"]), 1);
    let holder = format!("process {} is at work on this run", child.id());
    assert!(message.contains(&holder), "{message}");
    // Those who only read are not kept out.
    succeeds(smallvit(dir.path(), &["evaluate", "run"]));
    // A process that is killed takes its lock with it.
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = smallvit(dir.path(), &["train", "--quiet", "--resume", "run"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[cfg(unix)]
#[test]
fn a_comparison_has_one_writer_at_a_time() {
    let dir = TempDir::new().unwrap();
    let arguments = ["compare", "--quiet", "--out", "run", "--epochs", "3000"];
    let mut child = tiny(dir.path(), &arguments)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&dir.path().join("run/vit/checkpoints/last.safetensors"));
    let before = fs::read(dir.path().join("run/recipe.toml")).unwrap();
    let message = fails(smallvit(dir.path(), &["compare", "--resume", "run"]), 1);
    let holder = format!("process {} is at work on this run", child.id());
    assert!(message.contains(&holder), "{message}");
    interrupt(&child);
    assert_eq!(ended(&mut child).code(), Some(130));
    assert_eq!(
        fs::read(dir.path().join("run/recipe.toml")).unwrap(),
        before
    );
    assert_eq!(temporaries(&dir.path().join("run/vit")), [""; 0]);
    arrays(&dir.path().join("run/vit"));
}

#[test]
fn a_folder_in_which_nothing_can_be_written_is_refused_before_the_work() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("shut");
    fs::create_dir(&folder).unwrap();
    let mut shut = fs::metadata(&folder).unwrap().permissions();
    shut.set_readonly(true);
    fs::set_permissions(&folder, shut).unwrap();
    // Whoever may do anything, or a system on which this keeps nobody out, has another way there.
    let out = match fs::write(folder.join("try"), "") {
        Err(_) => folder.join("run"),
        Ok(()) => PathBuf::from("/proc/run"),
    };
    if out.starts_with("/proc") && !cfg!(target_os = "linux") {
        return;
    }
    let out = out.to_str().unwrap();
    let message = fails(
        tiny(
            dir.path(),
            &["train", "--data", "folder:nowhere", "--out", out],
        ),
        1,
    );
    assert!(
        message.contains(out) && !message.contains("nowhere"),
        "{message}"
    );
}

#[cfg(unix)]
#[test]
fn an_edited_recipe_is_refused_with_the_difference() {
    let dir = TempDir::new().unwrap();
    let run = stopped(dir.path(), "run", 300);
    let recipe = run.join("recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let edited = text
        .replace("epochs = 300\n", "epochs = 4\n")
        .replace("dropout = 0.1\n", "dropout = 0.3\n");
    fs::write(&recipe, &edited).unwrap();
    let last = fs::read(run.join("checkpoints/last.safetensors")).unwrap();
    let message = fails(smallvit(dir.path(), &["train", "--resume", "run"]), 2);
    for difference in ["train.epochs: 300, now 4", "model.dropout: 0.1, now 0.3"] {
        assert!(message.contains(difference), "{message}");
    }
    assert!(message.contains("put back what was"), "{message}");
    assert_eq!(fs::read_to_string(&recipe).unwrap(), edited);
    assert_eq!(
        fs::read(run.join("checkpoints/last.safetensors")).unwrap(),
        last
    );
    // Of a run that has ended, too.
    let other = TempDir::new().unwrap();
    let run = finished(other.path());
    let recipe = run.join("recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("epochs = 3\n", "epochs = 4\n")).unwrap();
    let message = fails(smallvit(other.path(), &["train", "--resume", "run"]), 2);
    assert!(message.contains("train.epochs: 3, now 4"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_checkpoint_whole() {
    let dir = TempDir::new().unwrap();
    let run = stopped(dir.path(), "run", 30);
    let last = run.join("checkpoints/last.safetensors");
    let before = fs::read(&last).unwrap();
    // A process that was killed left a piece of a checkpoint behind.
    let left = run.join("checkpoints/.smallvit-abcdef.tmp");
    fs::write(&left, &before[..100]).unwrap();
    // Go on where no file may grow to half of a checkpoint.
    let best = run.join("checkpoints/best.safetensors");
    let best_before = fs::read(&best).unwrap();
    // Counted in units of 512 bytes or of 1,024, as the shell has it. Ignored, the signal leaves
    // it to the write to fail.
    let units = before.len().min(best_before.len()) / 2 / 1024;
    let limited = format!("trap '' XFSZ; ulimit -f {units}; exec \"$0\" \"$@\"");
    let program = smallvit(dir.path(), &["train", "--resume", "run"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &limited]).arg(program.get_program());
    shell.args(program.get_args()).current_dir(dir.path());
    shell.envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let message = fails(shell, 1);
    assert!(message.contains("safetensors"), "{message}");
    assert!(message.contains("no room left"), "{message}");
    assert_eq!(fs::read(&last).unwrap(), before);
    assert_eq!(fs::read(&best).unwrap(), best_before);
    assert_eq!(temporaries(&run), [""; 0]);
    // With room again, it goes on.
    succeeds(smallvit(
        dir.path(),
        &["train", "--quiet", "--resume", "run"],
    ));
    assert_eq!(history(&run).lines().count(), 31);
}

#[cfg(unix)]
#[test]
fn a_damaged_checkpoint_has_ways_out() {
    let dir = TempDir::new().unwrap();
    let arguments = ["train", "--quiet", "--out", "whole"];
    succeeds(tiny(dir.path(), &arguments));
    let broken = dir.path().join("broken");
    succeeds(tiny(dir.path(), &["train", "--quiet", "--out", "broken"]));
    fs::remove_file(broken.join("result.json")).unwrap();
    let last = broken.join("checkpoints/last.safetensors");
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();

    let message = fails(smallvit(dir.path(), &["train", "--resume", "broken"]), 1);
    assert!(
        message.contains("not a whole safetensors file"),
        "{message}"
    );
    assert!(message.contains("--from previous|best"), "{message}");

    // One bit of the numbers, too.
    let mut flipped = bytes.clone();
    let middle = flipped.len() - 100;
    flipped[middle] ^= 4;
    fs::write(&last, flipped).unwrap();
    let message = fails(smallvit(dir.path(), &["train", "--resume", "broken"]), 1);
    assert!(message.contains("the file is damaged"), "{message}");
    assert!(message.contains("--from previous|best"), "{message}");
    fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();

    // And of what is evaluated.
    let best = broken.join("checkpoints/best.safetensors");
    let whole_best = fs::read(&best).unwrap();
    let mut flipped = whole_best.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&best, flipped).unwrap();
    let message = fails(smallvit(dir.path(), &["evaluate", "broken"]), 1);
    assert!(
        message.contains("`weights` in it is not as it was written"),
        "{message}"
    );
    fs::write(&best, whole_best).unwrap();

    // The one before it has the same bits as the run that was never damaged, in the end.
    let go_on = [
        "train", "--quiet", "--resume", "broken", "--from", "previous",
    ];
    succeeds(smallvit(dir.path(), &go_on));
    let whole = dir.path().join("whole");
    assert_eq!(history(&whole), history(&broken));
    assert!(arrays(&whole) == arrays(&broken), "weights differ");
    let aside = broken.join("checkpoints/last.aside-1.safetensors");
    assert_eq!(fs::read(aside).unwrap(), &bytes[..bytes.len() / 2]);
    assert_eq!(
        json(&broken.join("result.json"))["models"][0]["restarted_at_step"],
        Value::Null
    );
}

#[test]
fn damage_in_the_averaged_weights_is_called_damage() {
    let dir = TempDir::new().unwrap();
    let mut command = tiny(dir.path(), &["train", "--quiet", "--out", "run"]);
    command.args(["--set", "train.average={ decay = 0.9 }"]);
    succeeds(command);
    let run = dir.path().join("run");
    fs::remove_file(run.join("result.json")).unwrap();
    let last = run.join("checkpoints/last.safetensors");
    let mut bytes = fs::read(&last).unwrap();
    // The numbers of the arrays that come first by their names, `average.…`.
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    bytes[8 + header] ^= 1;
    fs::write(&last, bytes).unwrap();
    let message = fails(smallvit(dir.path(), &["train", "--resume", "run"]), 1);
    assert!(
        message.contains("`average` in it is not as it was written"),
        "{message}"
    );
    assert!(message.contains("--from previous|best"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_run_goes_on_from_the_best_epoch_as_another_run() {
    let dir = TempDir::new().unwrap();
    succeeds(tiny(
        dir.path(),
        &["train", "--quiet", "--out", "run", "--epochs", "6"],
    ));
    let run = dir.path().join("run");
    fs::remove_file(run.join("result.json")).unwrap();
    let best = state(&run.join("checkpoints/best.safetensors"));
    let step = best["step"].as_u64().unwrap();
    fs::write(run.join("checkpoints/last.safetensors"), "gone").unwrap();
    let go_on = ["train", "--quiet", "--resume", "run", "--from", "best"];
    let output = run_and_take(smallvit(dir.path(), &go_on));
    let result = json(&run.join("result.json"));
    let result = &result["models"][0];
    if best["epochs"] == 6 {
        // Nothing was left to do.
        assert_eq!(result["restarted_at_step"].as_u64(), Some(step));
    } else {
        assert_eq!(result["restarted_at_step"].as_u64(), Some(step), "{output}");
        let last = state(&run.join("checkpoints/last.safetensors"));
        assert_eq!(last["epochs"], 6);
        assert_eq!(last["restarted"].as_u64(), Some(step));
    }
    assert!(
        output.contains("an optimizer that began afresh"),
        "{output}"
    );
    assert_eq!(history(&run).lines().count(), 7);
}

#[cfg(unix)]
#[test]
fn a_run_whose_last_checkpoint_is_gone_does_not_begin_anew() {
    let dir = TempDir::new().unwrap();
    let run = stopped(dir.path(), "run", 300);
    let best = run.join("checkpoints/best.safetensors");
    // Some epochs on, with a best one among them.
    let mut child = smallvit(dir.path(), &["train", "--quiet", "--resume", "run"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while state(&best)["epochs"].as_u64() < Some(3) {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let step = state(&best)["step"].as_u64();
    let kept = fs::read(&best).unwrap();
    for name in ["last", "previous", "next"] {
        let _ = fs::remove_file(run.join(format!("checkpoints/{name}.safetensors")));
    }
    let message = fails(smallvit(dir.path(), &["train", "--resume", "run"]), 1);
    assert!(
        message.contains("there is a best model of epoch"),
        "{message}"
    );
    assert!(message.contains("--from previous|best"), "{message}");
    assert_eq!(fs::read(&best).unwrap(), kept);
    // From the best one there is a checkpoint at once, and a kill loses nothing.
    let go_on = ["train", "--quiet", "--resume", "run", "--from", "best"];
    let mut child = smallvit(dir.path(), &go_on)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&run.join("checkpoints/last.safetensors"));
    child.kill().unwrap();
    child.wait().unwrap();
    let last = state(&run.join("checkpoints/last.safetensors"));
    assert_eq!(last["restarted"].as_u64(), step);
    // Between two renamings only the new one is there, under its other name.
    let [last, next] =
        ["last", "next"].map(|name| run.join(format!("checkpoints/{name}.safetensors")));
    fs::rename(&last, &next).unwrap();
    let found = state(&next)["step"].as_u64();
    let mut child = smallvit(dir.path(), &["train", "--resume", "run"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&last);
    interrupt(&child);
    let output = {
        ended(&mut child);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
        text
    };
    let going = format!("going on after step {}", found.unwrap());
    assert!(output.contains(&going) || found == Some(0), "{output}");
}

#[cfg(unix)]
#[test]
fn lost_weights_are_said_and_show_in_the_exit_status() {
    let dir = TempDir::new().unwrap();
    // So slow that no epoch is better than the first.
    let slow = ["train", "--quiet", "--lr", "1e-12", "--out"];
    succeeds(tiny(dir.path(), &[&slow[..], &["run"]].concat()));
    succeeds(tiny(
        dir.path(),
        &[&slow[..], &["other", "--seed", "7"]].concat(),
    ));
    let (run, other) = (dir.path().join("run"), dir.path().join("other"));
    let best = run.join("checkpoints/best.safetensors");
    assert_eq!(state(&best)["epochs"], 1);
    fs::remove_file(run.join("result.json")).unwrap();
    // The best of another run is not taken for this one's; without one, the last epoch's is told.
    fs::copy(other.join("checkpoints/best.safetensors"), &best).unwrap();
    let resume = ["train", "--resume", "run"];
    let message = fails(smallvit(dir.path(), &resume), 1);
    assert!(
        message.contains("the best epoch's weights are lost"),
        "{message}"
    );
    let result = &json(&run.join("result.json"))["models"][0];
    assert!(result["best_lost"].is_string() && result["best_epoch"] == 3);
    fs::remove_file(run.join("result.json")).unwrap();
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let before = history(&run);
    let message = fails(smallvit(dir.path(), &resume), 1);
    assert!(message.contains("knows of 3 epochs"), "{message}");
    assert_eq!(history(&run), before);
}

#[test]
fn a_finished_run_keeps_its_result_whatever_becomes_of_its_checkpoints() {
    let dir = TempDir::new().unwrap();
    let run = finished(dir.path());
    let again = ["train", "--resume", "run"];
    let table = succeeds(smallvit(dir.path(), &again));
    fs::write(run.join("checkpoints/last.safetensors"), "damaged").unwrap();
    assert_eq!(succeeds(smallvit(dir.path(), &again)), table);
    let message = fails(
        smallvit(dir.path(), &["train", "--resume", "run", "--from", "best"]),
        2,
    );
    assert!(message.contains("this run has ended"), "{message}");
    // Removed to save room, say: the table has the curves.
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    fs::remove_file(run.join("curves.png")).unwrap();
    assert_eq!(succeeds(smallvit(dir.path(), &again)), table);
    assert!(run.join("curves.png").is_file());
    fs::remove_file(run.join("history.csv")).unwrap();
    let output = super::run(smallvit(dir.path(), &again));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), table);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("no curves are drawn"), "{notes}");
}

#[cfg(unix)]
#[test]
fn a_finished_run_is_shown_where_nothing_can_be_drawn() {
    let dir = TempDir::new().unwrap();
    let run = finished(dir.path());
    let table = succeeds(smallvit(dir.path(), &["train", "--resume", "run"]));
    let curves = fs::read(run.join("curves.png")).unwrap();
    let program = smallvit(dir.path(), &["train", "--resume", "run"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 0; exec \"$0\" \"$@\""]);
    shell.arg(program.get_program()).args(program.get_args());
    shell.current_dir(dir.path()).stdin(Stdio::null());
    let output = super::run(shell);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{notes}");
    assert!(notes.contains("not drawn again"), "{notes}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), table);
    assert_eq!(fs::read(run.join("curves.png")).unwrap(), curves);
}

#[test]
fn a_run_that_was_killed_before_it_began_is_no_run() {
    let dir = TempDir::new().unwrap();
    let checkpoints = dir.path().join("run/checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    for left in ["run/.lock", "run/.smallvit-abc123.tmp"] {
        fs::write(dir.path().join(left), "12345").unwrap();
    }
    let run = finished(dir.path());
    assert!(run.join("result.json").exists());
    assert!(temporaries(&run).is_empty());
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_grow_is_an_error_and_leaves_nothing_half_written() {
    let dir = TempDir::new().unwrap();
    let program = tiny(dir.path(), &["train", "--quiet", "--out", "run"]);
    let mut shell = Command::new("sh");
    // 20 blocks of 512 bytes, or of 1,024: a checkpoint is larger.
    shell.args(["-c", "ulimit -f 20; exec \"$0\" \"$@\""]);
    shell.arg(program.get_program()).args(program.get_args());
    shell.current_dir(dir.path()).stdin(Stdio::null());
    let message = fails(shell, 1);
    assert!(message.contains("too large"), "{message}");
    let run = dir.path().join("run");
    assert!(temporaries(&run).is_empty());
    assert!(!run.join("checkpoints/last.safetensors").exists());
}

#[test]
fn a_comparison_that_was_refused_can_begin_in_the_same_folder() {
    let dir = TempDir::new().unwrap();
    let compare = ["compare", "--quiet", "--out", "both"];
    // Each model is asked for its room before the first is trained.
    let mut too_large = smallvit(dir.path(), &compare);
    for setting in [
        "model.image_size=4096",
        "model.patch_size=512",
        "model.dim=64",
        "train.batch=1048576",
        "train.micro_batch=1048576",
    ] {
        too_large.args(["--set", setting]);
    }
    let message = fails(too_large, 2);
    assert!(message.contains("MB of memory"), "{message}");
    assert!(!dir.path().join("both").exists());
    succeeds(tiny(dir.path(), &compare));
    // What has ended is shown again, from a place that is not written in.
    let both = dir.path().join("both");
    let before = fs::read(both.join("result.json")).unwrap();
    fs::remove_file(both.join(".lock")).unwrap();
    let again = ["compare", "--resume", "both"];
    let table = succeeds(smallvit(dir.path(), &again));
    assert!(table.contains("sl-vit"), "{table}");
    assert!(!both.join(".lock").exists());
    assert_eq!(fs::read(both.join("result.json")).unwrap(), before);
}

#[test]
fn a_run_s_table_is_written_to_a_file_and_to_nothing_else() {
    let dir = TempDir::new().unwrap();
    let run = dir.path().join("run");
    fs::create_dir_all(run.join("history.csv")).unwrap();
    // The folder is not empty, but it may be one that somebody has prepared: said, not waited for.
    let message = fails(tiny(dir.path(), &["train", "--quiet", "--out", "run"]), 2);
    assert!(message.contains("not empty"), "{message}");
    fs::remove_dir_all(&run).unwrap();
    finished(dir.path());
    fs::remove_file(run.join("history.csv")).unwrap();
    fs::remove_file(run.join("result.json")).unwrap();
    #[cfg(unix)]
    {
        let pipe = Command::new("mkfifo").arg(run.join("history.csv")).status();
        assert!(pipe.unwrap().success());
        let message = fails(smallvit(dir.path(), &["train", "--resume", "run"]), 1);
        assert!(message.contains("this is no file"), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn an_edited_comparison_is_refused_before_it_is_written_over() {
    let dir = TempDir::new().unwrap();
    succeeds(tiny(
        dir.path(),
        &["compare", "--quiet", "--out", "run", "--epochs", "1"],
    ));
    let recipe = dir.path().join("run/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let edited = format!("# mine\n{}", text.replace("epochs = 1\n", "epochs = 2\n"));
    fs::write(&recipe, &edited).unwrap();
    let message = fails(smallvit(dir.path(), &["compare", "--resume", "run"]), 2);
    assert!(
        message.contains("run/recipe.toml: this is not the recipe"),
        "{message}"
    );
    assert!(message.contains("train.epochs: 1, now 2"), "{message}");
    assert_eq!(fs::read_to_string(&recipe).unwrap(), edited);
    // Nor may one model's recipe be another than the comparison's.
    fs::write(&recipe, text).unwrap();
    let own = dir.path().join("run/vit/recipe.toml");
    let text = fs::read_to_string(&own).unwrap();
    fs::write(&own, text.replace("seed = 42", "seed = 43")).unwrap();
    let message = fails(smallvit(dir.path(), &["compare", "--resume", "run"]), 2);
    assert!(
        message.contains("this is not the comparison's recipe"),
        "{message}"
    );
}

/// What a command that succeeds says on standard error.
fn run_and_take(command: Command) -> String {
    let output = super::run(command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    error
}

#[test]
fn a_checkpoint_s_header_does_not_grow_with_the_steps() {
    let dir = TempDir::new().unwrap();
    let run = finished(dir.path());
    let state = state(&run.join("checkpoints/last.safetensors"));
    assert_eq!(state["step"], 36);
    let classes = state["step_seconds"].as_array().unwrap();
    let counted: u64 = classes.iter().map(|class| class[1].as_u64().unwrap()).sum();
    assert_eq!(counted, 36);
    let result = json(&run.join("result.json"));
    assert!(result["models"][0]["seconds_per_step"].as_f64().unwrap() > 0.0);
}

#[test]
fn as_many_checkpoints_are_kept_as_the_recipe_says() {
    let dir = TempDir::new().unwrap();
    for (keep, kept) in [("1", false), ("2", true)] {
        let mut command = tiny(dir.path(), &["train", "--quiet", "--out", keep]);
        command.arg("--set").arg(format!("train.keep={keep}"));
        succeeds(command);
        let checkpoints = dir.path().join(keep).join("checkpoints");
        assert_eq!(checkpoints.join("previous.safetensors").exists(), kept);
        let files = fs::read_dir(checkpoints).unwrap().count();
        assert_eq!(files, 2 + usize::from(kept));
    }
    let mut command = tiny(dir.path(), &["train"]);
    command.args(["--set", "train.keep=3"]);
    let message = fails(command, 2);
    assert!(message.contains("train.keep: 3"), "{message}");
    assert!(message.contains("choose 1 to 2"), "{message}");
}

#[test]
fn a_dry_run_tells_what_a_run_takes_and_writes_nothing() {
    let dir = TempDir::new().unwrap();
    let out = succeeds(tiny(dir.path(), &["train", "--dry-run", "--out", "run"]));
    for word in [
        "sl-vit",
        "parameters",
        "memory",
        "disk",
        "epochs",
        "12 steps an epoch",
    ] {
        assert!(out.contains(word), "{out}");
    }
    let out = succeeds(tiny(dir.path(), &["compare", "--dry-run", "--json"]));
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["models"][0]["model"], "vit");
    assert_eq!(plan["models"][1]["model"], "sl-vit");
    let plan = &plan["models"][1];
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing was written"
    );
    // It refuses what the run would refuse.
    fs::write(dir.path().join("file"), "x").unwrap();
    let message = fails(
        tiny(dir.path(), &["train", "--dry-run", "--out", "file"]),
        1,
    );
    assert!(message.contains("file"), "{message}");
    // What was foretold is what there is.
    let run = finished(dir.path());
    let result = json(&run.join("result.json"));
    assert_eq!(plan["parameters"], result["models"][0]["parameters"]);
    let files = fs::read_dir(run.join("checkpoints")).unwrap();
    let bytes: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    let foretold = plan["disk_bytes"].as_u64().unwrap();
    // Headers come on top of the numbers: a lot of a model as small as this one.
    assert!(
        (foretold..foretold + 100_000).contains(&bytes),
        "{foretold} {bytes}"
    );
}

#[test]
fn short_forms_set_the_recipe_and_shorten_the_warm_up() {
    let dir = TempDir::new().unwrap();
    let arguments = [
        "train",
        "--out",
        "run",
        "--epochs",
        "2",
        "--batch",
        "5e2",
        "--lr",
        "0.002",
        "--seed",
        "7",
        "--set",
        "model.patch_size=16",
        "--set",
        "model.dim=8",
        "--set",
        "model.depth=1",
    ];
    let notes = run_and_take(smallvit(dir.path(), &arguments));
    assert!(notes.contains("from 5 to 0.125 epochs"), "{notes}");
    let recipe = fs::read_to_string(dir.path().join("run/recipe.toml")).unwrap();
    for line in [
        "epochs = 2",
        "batch = 500",
        "learning_rate = 0.002",
        "seed = 7",
        "warmup_epochs = 0.125",
    ] {
        assert!(recipe.contains(&format!("\n{line}\n")), "{line} {recipe}");
    }
    // Who says what the warm-up is, gets it, or hears why not.
    let arguments = ["train", "--epochs", "2", "--set", "train.warmup_epochs=3"];
    let message = fails(smallvit(dir.path(), &arguments), 2);
    assert!(message.contains("longer than the training"), "{message}");
}

#[test]
fn numbers_that_cannot_be_say_what_can() {
    let dir = TempDir::new().unwrap();
    for (flag, value, words) in [
        ("--epochs", "-1", "from 1 to 100000"),
        ("--epochs", "0", "from 1 to 100000"),
        ("--epochs", "1.5", "from 1 to 100000"),
        ("--batch", "99999999999", "from 1 to 1048576"),
        ("--lr", "-1", "above 0"),
        ("--lr", "nan", "above 0"),
        ("--seed", "x", "from 0 to"),
        ("--threads", "100000", "0 is one a core"),
        ("--threads", "-2", "0 is one a core"),
    ] {
        let output = run(smallvit(dir.path(), &["train", flag, value]));
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flag} {value}: {message}");
        assert!(message.contains(words), "{flag} {value}: {message}");
    }
    succeeds(tiny(dir.path(), &["train", "--quiet", "--threads", "0"]));
}

#[test]
fn what_is_told_of_a_run() {
    let dir = TempDir::new().unwrap();
    let mut command = tiny(dir.path(), &["train", "--out", "run"]);
    command.env("COLUMNS", "80");
    let output = run(command);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(
        notes.lines().all(|line| line.chars().count() <= 80),
        "{notes}"
    );
    let notes = notes.replace('\n', " ");
    assert!(
        notes.contains("1,483 images to train on, 168 to choose on, 411 to test on; 10 classes"),
        "{notes}"
    );
    assert!(notes.contains("to go"), "{notes}");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains(" ± "), "{table}");
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let result = json(&dir.path().join("run/result.json"));
    let result = &result["models"][0];
    assert_eq!(
        (&result["val_images"], &result["test_images"]),
        (&168.into(), &411.into())
    );
    let (accuracy, error) = (&result["test_top1"], &result["test_top1_standard_error"]);
    let share = accuracy.as_f64().unwrap() / 100.0;
    let expected = 100.0 * (share * (1.0 - share) / 411.0).sqrt();
    assert!((error.as_f64().unwrap() - expected).abs() < 1e-9);
}

#[test]
fn one_is_not_many() {
    let dir = TempDir::new().unwrap();
    let mut plan = tiny(dir.path(), &["train", "--dry-run", "--quiet"]);
    plan.args(["--set", "train.batch=2048"]);
    let text = succeeds(plan);
    assert!(text.contains("\n1 step an epoch; "), "{text}");
}

#[test]
fn progress_as_json_is_a_line_an_object_at_any_width() {
    let dir = TempDir::new().unwrap();
    let mut command = tiny(dir.path(), &["train", "--json", "--out", "run"]);
    command.env("COLUMNS", "40");
    let output = run(command);
    assert!(output.status.success());
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.lines().count() >= 3, "{progress}");
    for line in progress.lines() {
        let object: Value = serde_json::from_str(line).expect(line);
        assert!(object.is_object(), "{line}");
    }
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["models"][0]["test_top1"].is_number());
}

/// Sends a signal by name, `HUP`.
#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let kill = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_ignored_from_the_start_stays_ignored() {
    let dir = TempDir::new().unwrap();
    let program = tiny(dir.path(), &["train", "--quiet", "--out", "run"]);
    // As `nohup` does, and a shell with what it puts in the background.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\""]);
    shell.arg(program.get_program()).args(program.get_args());
    shell.current_dir(dir.path()).stderr(Stdio::null());
    let mut child = shell.stdout(Stdio::null()).spawn().unwrap();
    wait_for(&dir.path().join("run/recipe.toml"));
    for name in ["HUP", "INT"] {
        signal(&child, name);
    }
    assert_eq!(ended(&mut child).code(), Some(0));
    assert!(dir.path().join("run/result.json").exists());
}

#[cfg(unix)]
#[test]
fn a_terminal_that_goes_twice_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let arguments = [
        "train",
        "--out",
        "run",
        "--batch",
        "256",
        "--set",
        "model.depth=8",
    ];
    let mut command = smallvit(dir.path(), &arguments);
    let mut child = command
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&dir.path().join("run/recipe.toml"));
    signal(&child, "HUP");
    std::thread::sleep(Duration::from_millis(200));
    // It may have ended by now.
    let _ = Command::new("kill")
        .args(["-s", "HUP", &child.id().to_string()])
        .stderr(Stdio::null())
        .status();
    assert_eq!(ended(&mut child).code(), Some(130));
    assert!(dir.path().join("run/checkpoints/last.safetensors").exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_twice_ends_at_once() {
    let dir = TempDir::new().unwrap();
    // Steps that take much longer than the pause between the two.
    let arguments = [
        "train",
        "--out",
        "run",
        "--batch",
        "1400",
        "--set",
        "model.dim=192",
        "--set",
        "model.depth=12",
        "--set",
        "train.micro_batch=64",
    ];
    let mut command = smallvit(dir.path(), &arguments);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&dir.path().join("run/recipe.toml"));
    std::thread::sleep(Duration::from_millis(500));
    interrupt(&child);
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&child);
    let began = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_millis(500));
    assert_eq!(output.status.code(), Some(130));
    assert!(!dir.path().join("run/checkpoints/last.safetensors").exists());
}
