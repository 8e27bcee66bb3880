//! A whole run: from a recipe and prepared data to a trained model and its result.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;

use super::checkpoint::{self, Origin};
use super::device;
use super::epoch::{EpochConfig, epoch, interrupted};
use super::evaluate::answers;
use super::folder::RunFolder;
use super::history;
use super::metrics::{Metrics, standard_error};
use super::observer::{Begin, Observer, tell};
use super::prepare::Prepared;
use super::recipe::Recipe;
use super::result::{RunResult, write_result};
use super::room::{self, Disk};
use super::state::{Counters, TrainState};
use super::step::StepConfig;
use super::workers::Workers;
use crate::atomic;
use crate::error::{Error, Result};
use crate::memory;
use crate::models::Model;

/// What a run is made of.
pub struct Run<'a> {
    /// How.
    pub recipe: &'a Recipe,
    /// On what.
    pub data: &'a Prepared,
    /// Where to.
    pub folder: &'a RunFolder,
    /// Threads for the model and for augmentation.
    pub threads: usize,
    /// Where the model is computed.
    pub device: Device,
    /// Set from outside to end after the current step.
    pub stop: &'a AtomicBool,
    /// The command that would go on, for the message.
    pub resume_command: String,
    /// From which checkpoint a run that has begun goes on.
    pub from: checkpoint::From,
}

/// Trains from the folder's last checkpoint, or from the beginning where there is none, and
/// evaluates the best and the last epoch's weights on the test images.
pub fn train(run: &Run, observers: &mut [&mut dyn Observer]) -> Result<RunResult> {
    memory::reset_peak();
    let (recipe, folder) = (run.recipe, run.folder);
    refuse_without_room(run)?;
    let checkpoints = folder.checkpoints();
    fs::create_dir_all(&checkpoints).map_err(Error::io("create", &checkpoints))?;
    let _lock = folder.lock()?;
    // What a killed run was writing.
    atomic::sweep(&checkpoints);
    atomic::sweep(&folder.0);

    let train = &recipe.train;
    let workers = Workers::new(run.threads, train.micro_batch, run.device.clone())?
        .in_precision(train.precision)?;
    let how = config(run, &workers);
    let mut state = checkpoint::state(how.origin, run.from, workers.device())?;
    atomic::write(&folder.recipe(), recipe.to_toml().as_bytes())?;
    tell(observers, |observer| {
        observer.begin(&Begin {
            recipe,
            steps_per_epoch: how.steps,
            model: state.model(),
            classes: run.data.info.classes.len(),
            device: workers.device(),
            from: &state.counters,
        })
    })?;
    epochs(&mut state, &how, observers).map_err(|error| with_what_is_kept(error, folder))?;
    let result = test(&state, &how)?;
    write_result(&folder.result(), std::slice::from_ref(&result))?;
    Ok(result)
}

/// Refuses a run for which there is not enough memory, or room on the disk.
pub(super) fn refuse_without_room(run: &Run) -> Result<()> {
    check_memory(run.recipe, run.data, run.threads, &run.device)?;
    room::check(
        &run.folder.0,
        &[Disk::of(run.recipe, &run.data.info)],
        written(run.folder, run.from),
    )
}

/// Refuses a run for which there is not enough memory, where that is known: on the CPU.
///
/// # Errors
/// [`Error::Recipe`], with how much it would take.
pub fn check_memory(
    recipe: &Recipe,
    data: &Prepared,
    threads: usize,
    device: &Device,
) -> Result<()> {
    if *device != device::cpu() {
        return Ok(());
    }
    let (channels, classes) = (data.info.input[2], data.info.classes.len());
    let images = data.train.samples.len();
    recipe.check_memory(channels, classes, images, threads, 0)
}

/// Bytes of what the run in this folder has written, and will replace where it goes on from there.
pub fn written(folder: &RunFolder, from: checkpoint::From) -> u64 {
    let files = match from {
        checkpoint::From::Last => vec![folder.last(), folder.previous(), folder.best()],
        // The last one is set aside, and stays.
        checkpoint::From::Previous => vec![folder.previous(), folder.best()],
        checkpoint::From::Best => vec![folder.best()],
    };
    let sizes = files
        .iter()
        .filter_map(|file| Some(fs::metadata(file).ok()?.len()));
    sizes.sum()
}

/// All that stays the same from epoch to epoch.
pub(super) fn config<'a>(run: &'a Run, workers: &'a Workers) -> EpochConfig<'a> {
    let (recipe, data) = (run.recipe, run.data);
    let size = recipe.model.image_size();
    let [_, _, channels] = data.info.input;
    let steps = data.train.samples.len().div_ceil(recipe.train.batch) as u64;
    EpochConfig {
        step: StepConfig {
            workers,
            schedule: recipe.schedule(steps),
            steps: recipe.train.epochs * steps,
            shape: [size, size, channels],
            loss: recipe.loss(&data.train.class_counts(data.info.classes.len())),
            seed: recipe.train.seed,
        },
        origin: Origin {
            folder: run.folder,
            recipe,
            data,
        },
        preprocess: data.preprocess(),
        steps,
        threads: run.threads,
        stop: run.stop,
        resume_command: &run.resume_command,
    }
}

/// The epochs that are left.
fn epochs(
    state: &mut TrainState,
    how: &EpochConfig,
    observers: &mut [&mut dyn Observer],
) -> Result<()> {
    let train = &how.origin.recipe.train;
    let mut saving = checkpoint::Policy::every(train.checkpoint_minutes);
    let ended = |counters: &Counters| {
        counters.epochs >= train.epochs || history::is_stale(&counters.history, train.patience)
    };
    while !ended(&state.counters) {
        epoch(state, how, &mut saving, observers)?;
        if how.stop.load(Ordering::Relaxed) && !ended(&state.counters) {
            return Err(interrupted(&state.counters, how.resume_command));
        }
    }
    Ok(())
}

/// A diverged run's error also says which checkpoint there still is.
fn with_what_is_kept(error: Error, folder: &RunFolder) -> Error {
    let Error::Diverged {
        place,
        problem,
        remedy,
    } = error
    else {
        return error;
    };
    let last = folder.last();
    let kept = if last.exists() {
        format!("the checkpoint before it is kept in {}", last.display())
    } else {
        "there was no checkpoint yet".into()
    };
    Error::Diverged {
        place,
        problem: format!("{problem}; {kept}"),
        remedy,
    }
}

/// The result of a run whose epochs are all done. The only place where the test images are read.
fn test(state: &TrainState, how: &EpochConfig) -> Result<RunResult> {
    let Origin { recipe, data, .. } = how.origin;
    let StepConfig { workers, shape, .. } = how.step;
    let classes = data.info.classes.len();
    let answers =
        |model: &Model| answers(workers, model, &data.test, &how.preprocess, shape, classes);
    let counters = &state.counters;
    let last = answers(&state.judged())?;
    let of_last = last.means();
    let last_epoch = counters.history.len() - 1;
    let mut best_epoch = history::best(&counters.history).unwrap_or_default();
    let mut best_lost = None;
    let best = if best_epoch == last_epoch {
        last
    } else {
        match checkpoint::best(how.origin, &counters.history, workers.device()) {
            Ok(model) => answers(&model)?,
            // Not all is lost with it.
            Err(error) => {
                best_lost = Some(error.to_string());
                best_epoch = last_epoch;
                last
            }
        }
    };
    best.write(&how.origin.folder.answers())?;
    let (best, last) = (best.means(), of_last);
    let row = &counters.history[best_epoch];
    let tested = data.test.samples.len() as u64;
    // Of five classes, each is among the first five.
    let top5 = |metrics: Metrics| (classes > 5).then_some(metrics.top5);
    Ok(RunResult {
        model: data.info.config.name(),
        parameters: state.model().parameters(),
        recipe: recipe.name.clone(),
        data: data.name.clone(),
        seed: recipe.train.seed,
        epochs: counters.epochs,
        best_epoch: row.epoch,
        val_top1: row.validation.top1,
        val_top5: top5(row.validation),
        test_top1: best.top1,
        test_top1_standard_error: Some(standard_error(best.top1, tested)),
        test_top5: top5(best),
        last_test_top1: last.top1,
        last_test_top5: top5(last),
        val_images: Some(data.validation.samples.len() as u64),
        test_images: Some(tested),
        best_lost,
        restarted_at_step: Some(counters.restarted).filter(|&step| step > 0),
        seconds: counters.seconds,
        seconds_per_step: counters.step_seconds.median(),
        peak_rss_bytes: memory::peak(),
        processor: device::processor(),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::models::Architecture;
    use crate::models::file::{self, Contents};
    use crate::params::{Arrays, weights};
    use crate::train::average::AverageRecipe;
    use crate::train::evaluate::evaluate;
    use crate::train::events::EventFile;
    use crate::train::groups::GroupRecipe;
    use crate::train::history::{Epoch, HistoryFile};
    use crate::train::optimizer::Rule;
    use crate::train::step::StepOutcome;
    use crate::train::testing;

    fn recipe(epochs: u64, average: bool) -> Recipe {
        let mut recipe = testing::recipe();
        recipe.train.epochs = epochs;
        recipe.train.average = average.then_some(AverageRecipe {
            lookahead: 0,
            decay: 0.7,
            power: 0.75,
        });
        recipe.train.groups = vec![GroupRecipe {
            pattern: "*.temperature".into(),
            decay: Some(0.0),
            rate: 0.5,
        }];
        recipe
    }

    /// Notes what it is told, and asks to stop after each step where it should.
    struct Notes<'a> {
        told: Vec<String>,
        stop: Option<&'a AtomicBool>,
    }

    impl Observer for Notes<'_> {
        fn begin(&mut self, begin: &Begin) -> Result<()> {
            self.told.push(format!(
                "begin after {} of {}",
                begin.from.step, begin.steps_per_epoch
            ));
            Ok(())
        }

        fn step(&mut self, counters: &Counters, step: &StepOutcome) -> Result<()> {
            assert!(step.loss.is_finite());
            self.told.push(format!("step {}", counters.step));
            if let Some(stop) = self.stop {
                stop.store(true, Ordering::Relaxed);
            }
            Ok(())
        }

        fn saved(&mut self) -> Result<()> {
            self.told.push("saved".into());
            Ok(())
        }

        fn epoch(&mut self, epoch: &Epoch) -> Result<()> {
            self.told.push(format!("epoch {}", epoch.epoch));
            Ok(())
        }
    }

    fn train_in(
        folder: &RunFolder,
        recipe: &Recipe,
        threads: usize,
        stop_each_step: bool,
    ) -> (Result<RunResult>, Vec<String>) {
        let stop = AtomicBool::new(false);
        let run = Run {
            recipe,
            data: &testing::prepared(recipe),
            folder,
            threads,
            device: device::cpu(),
            stop: &stop,
            resume_command: "call it again".into(),
            from: checkpoint::From::Last,
        };
        let mut notes = Notes {
            told: vec![],
            stop: stop_each_step.then_some(&stop),
        };
        let mut table = HistoryFile::new(folder.history());
        let mut events = EventFile::new(folder.0.clone(), "test");
        let result = train(&run, &mut [&mut table, &mut events, &mut notes]);
        (result, notes.told)
    }

    fn folder() -> (TempDir, RunFolder) {
        let dir = TempDir::new().unwrap();
        let folder = RunFolder(dir.path().to_path_buf());
        (dir, folder)
    }

    /// Every array of both checkpoints.
    fn arrays(folder: &RunFolder, average: bool) -> Vec<Arrays> {
        let mut last = Contents::read(&folder.last()).unwrap();
        let mut best = Contents::read(&folder.best()).unwrap();
        let mut all = vec![best.take("weights").unwrap()];
        for group in ["weights", "moment1", "moment2"] {
            // Lion has one moment.
            if last.has(group) || group != "moment2" {
                all.push(last.take(group).unwrap());
            }
        }
        assert_eq!(last.take("average").map(|a| all.push(a)).is_ok(), average);
        assert!(best.take("average").is_err());
        all
    }

    /// The history without its times.
    fn rows(folder: &RunFolder) -> Vec<String> {
        let text = fs::read_to_string(folder.history()).unwrap();
        // All but the seconds and the images a second.
        let row = |line: &str| {
            let columns = line.split(',').enumerate();
            let kept = columns.filter(|(column, _)| !(9..11).contains(column));
            kept.map(|(_, value)| value).collect::<Vec<_>>().join(",")
        };
        text.lines().map(row).collect()
    }

    #[test]
    fn a_run_stopped_after_every_step_ends_with_the_same_bits() {
        let cases = [
            (Rule::Adamw, false, 0, false),
            (Rule::Adamw, true, 0, false),
            (Rule::Muon, true, 2, false),
            (Rule::Lion, false, 0, false),
            // With images of half the size in the first epoch.
            (Rule::Adamw, true, 0, true),
        ];
        for (optimizer, average, lookahead, resizes) in cases {
            let mut recipe = recipe(2, average);
            if resizes {
                recipe.train.first_size = 4;
                recipe.model = recipe.model.named("sl-hybrid".parse().unwrap());
                if let Architecture::Hybrid(own) = &mut recipe.model.arch {
                    own.image_size = 8;
                    own.stem_stride = 1;
                    (own.dims, own.head_dim) = (vec![8], 4);
                    (own.depths, own.expansions) = (vec![1], vec![2]);
                    own.convolution_stages = 0;
                }
                recipe.check().unwrap();
            }
            recipe.train.optimizer = optimizer;
            if let Some(average) = &mut recipe.train.average {
                average.lookahead = lookahead;
            }
            let (_whole, whole) = folder();
            let (result, told) = train_in(&whole, &recipe, 2, false);
            let result = result.unwrap();
            let mut expected = vec!["begin after 0 of 5".to_owned()];
            for epoch in 1..=2 {
                expected.extend((1..=5).map(|step| format!("step {}", 5 * (epoch - 1) + step)));
                expected.push(format!("epoch {epoch}"));
            }
            assert_eq!(told, expected);

            let (_broken, broken) = folder();
            for step in 1..=10 {
                let (stopped, told) = train_in(&broken, &recipe, 1 + step % 3, true);
                let error = stopped.unwrap_err();
                assert!(matches!(error, Error::Interrupted { .. }), "{error}");
                assert_eq!(error.remedy(), "go on with: call it again");
                assert_eq!(told.last().unwrap(), "saved");
                assert_eq!(told[0], format!("begin after {} of 5", step - 1));
            }
            let (resumed, told) = train_in(&broken, &recipe, 2, true);
            let resumed = resumed.unwrap();
            assert_eq!(told, ["begin after 10 of 5", "epoch 2"]);
            assert!(arrays(&whole, average) == arrays(&broken, average));
            assert_eq!(rows(&whole).len(), 3);
            assert_eq!(rows(&whole), rows(&broken));
            let accuracies = |r: &RunResult| (r.best_epoch, r.test_top1, r.last_test_top1);
            assert_eq!(accuracies(&result), accuracies(&resumed));
        }
    }

    #[test]
    fn a_run_ends_when_it_has_not_become_better_for_long() {
        let mut recipe = recipe(30, false);
        // Nothing changes, and so the first epoch is the best.
        recipe.train.learning_rate = 1e-30;
        recipe.train.weight_decay = 0.0;
        recipe.train.patience = 2;
        let (_dir, folder) = folder();
        let (result, told) = train_in(&folder, &recipe, 2, false);
        let result = result.unwrap();
        assert_eq!((result.epochs, result.best_epoch), (3, 1));
        assert_eq!(told.last().unwrap(), "epoch 3");
        let (again, told) = train_in(&folder, &recipe, 2, false);
        assert_eq!(again.unwrap().epochs, 3);
        assert_eq!(told[0], "begin after 15 of 5");
        assert!(
            told.iter().all(|told| !told.starts_with("step")),
            "{told:?}"
        );
    }

    #[test]
    fn averaged_weights_are_judged_kept_and_predict() {
        let recipe = recipe(1, true);
        let (_dir, folder) = folder();
        let (result, _) = train_in(&folder, &recipe, 2, false);
        let result = result.unwrap();
        assert_eq!(Recipe::restore(&folder.recipe()).unwrap().recipe, recipe);
        let mut all = arrays(&folder, true);
        let (average, own) = (all.pop().unwrap(), &all[1]);
        assert!(average != *own);
        assert!(all[0] == average, "the best model is the averaged one");
        for path in [folder.last(), folder.best()] {
            let (info, model) = file::open(&path, &device::cpu()).unwrap();
            assert!(weights(&model) == average);
            // What the run says of the test images is what the file does on them.
            let data = testing::prepared(&recipe);
            let workers = Workers::new(1, 8, device::cpu()).unwrap();
            let preprocess = std::sync::Arc::new(info.preprocess());
            let sums = evaluate(&workers, &model, &data.test, &preprocess, [8, 8, 3]).unwrap();
            assert_eq!(sums.images, 15);
            assert_eq!(sums.means().top1, result.test_top1);
            assert_eq!(result.test_top1, result.last_test_top1);
        }
        // A run goes on with averages if it began with them, and else without.
        let (_other, other) = self::folder();
        let without = self::recipe(1, false);
        assert!(train_in(&other, &without, 1, false).0.is_ok());
        for (folder, recipe) in [(&other, &recipe), (&folder, &without)] {
            let error = train_in(folder, recipe, 1, false).0.unwrap_err();
            assert!(error.to_string().contains("train.average"), "{error}");
        }
    }

    #[test]
    fn an_observers_error_ends_the_run_and_keeps_what_was_saved() {
        struct Full;
        impl Observer for Full {
            fn epoch(&mut self, _: &Epoch) -> Result<()> {
                Err(Error::data("observer", "no room", "make some"))
            }
        }
        let recipe = recipe(2, false);
        let (_dir, folder) = folder();
        let run = Run {
            recipe: &recipe,
            data: &testing::prepared(&recipe),
            folder: &folder,
            threads: 1,
            device: device::cpu(),
            stop: &AtomicBool::new(false),
            resume_command: String::new(),
            from: checkpoint::From::Last,
        };
        let error = train(&run, &mut [&mut Full]).unwrap_err();
        assert_eq!(error.remedy(), "make some");
        let state =
            checkpoint::state(origin(&run), checkpoint::From::Last, &device::cpu()).unwrap();
        assert_eq!((state.counters.epochs, state.counters.step), (1, 5));
        assert!(!folder.history().exists(), "nobody was asked to write it");
    }

    fn origin<'a>(run: &'a Run) -> Origin<'a> {
        Origin {
            folder: run.folder,
            recipe: run.recipe,
            data: run.data,
        }
    }
}
