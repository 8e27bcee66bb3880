//! `smallvit watch`: the report's page, served while runs go on.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use smallvit::report::page;
use smallvit::train::folder::RunFolder;
use smallvit::{Error, Result, words};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;

use super::output::{self, note};
use super::report::{self, Entry};
use super::signals;
use super::web::ListenOptions;
use super::{compare, hints};

/// Watch runs while they go on: the report's page, which renews itself.
///
/// Runs may be on their way, ended, or yet to begin; several are shown side by side.
#[derive(Args)]
pub struct Arguments {
    /// Run folders, comparisons', sweeps', or folders with such in them.
    #[arg(required = true, value_name = "RUN|DIR")]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    listen: ListenOptions,
    /// Serve no page: print a table, and again whenever an epoch has ended, until all runs have.
    #[arg(long)]
    plain: bool,
}

/// How often the runs' files are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// How deep runs are looked for in a folder, and how many are shown: those that went on last.
const DEEPEST: usize = 3;
const MOST: usize = 100;

pub fn run(arguments: Arguments) -> Result<()> {
    if !arguments.plain {
        arguments.listen.check()?;
    }
    for path in &arguments.runs {
        if !path.is_dir() {
            let problem = "there is no such folder";
            let remedy = "give the folder of a run, or one that runs will be in";
            return Err(Error::model(path.display(), problem, remedy));
        }
    }
    let stop = signals::stop_flag_for("ending");
    if arguments.plain {
        return print(&arguments.runs, &stop);
    }
    let shown = Arc::new(Shown::default());
    let (changed, changes) = watch::channel(0);
    let (paths, looker) = (arguments.runs.clone(), shown.clone());
    looker.renew(&paths);
    let ended = stop.clone();
    let thread = thread::Builder::new().name("watch".into());
    thread
        .spawn(move || {
            let mut before = stamps(&paths);
            while !ended.load(Ordering::Relaxed) {
                thread::sleep(EVERY);
                let now = stamps(&paths);
                if now != before {
                    before = now;
                    looker.renew(&paths);
                    changed.send_modify(|version| *version += 1);
                }
            }
        })
        .map_err(Error::io("start", "the thread that looks at the runs"))?;
    let what = words::listed(arguments.runs.iter().map(|path| path.display()), 4);
    let routes = Router::new()
        .route("/", get(whole))
        .route("/fragment", get(fragment))
        .route("/events", get(events))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(Watched {
            shown,
            changes,
            stop: stop.clone(),
        });
    arguments.listen.serve(routes, &what, &stop)
}

/// What is shown: the page's `main` element, and its title.
#[derive(Default)]
struct Shown(Mutex<(String, String)>);

impl Shown {
    fn renew(&self, paths: &[PathBuf]) {
        let make = || {
            let report = report::report(&entries(paths)?, None)?;
            Ok((report.title.clone(), page::fragment(&report)?))
        };
        // A fault in one run's page is not to end the others'.
        let made = std::panic::catch_unwind(make).unwrap_or_else(|_| {
            let remedy = "this is a fault of the program; please report it with the message above";
            Err(Error::data("the page", "its making broke off", remedy))
        });
        // A run may be just about to begin, or a file half way to its place.
        let (title, main) = made.unwrap_or_else(|error| {
            let said = hints::message(&error);
            ("waiting for a run".into(), page::waiting(&said))
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (title, main);
    }

    fn now(&self) -> (String, String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The runs below some paths.
fn runs(paths: &[PathBuf]) -> Vec<RunFolder> {
    let mut found = vec![];
    for path in paths {
        look_into(path, DEEPEST, &mut found);
    }
    if found.len() > MOST {
        // The newest, in the order of their names.
        let written = |run: &RunFolder| {
            fs::metadata(run.history())
                .and_then(|file| file.modified())
                .ok()
        };
        let mut times: Vec<Option<SystemTime>> = found.iter().map(written).collect();
        times.sort_by(|a, b| b.cmp(a));
        let oldest = times[MOST - 1];
        found.retain(|run| written(run) >= oldest);
        found.truncate(MOST);
    }
    found
}

fn look_into(path: &Path, deeper: usize, found: &mut Vec<RunFolder>) {
    let folder = RunFolder(path.to_path_buf());
    if folder.models().exists() {
        // One that has just been made may not be whole yet.
        found.extend(compare::runs_in(&folder).unwrap_or_default());
    } else if folder.recipe().exists() {
        found.push(folder);
    } else if deeper > 0 {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        folders.sort();
        for folder in folders {
            look_into(&folder, deeper - 1, found);
        }
    }
}

fn entries(paths: &[PathBuf]) -> Result<Vec<Entry>> {
    report::entries(&runs(paths))
}

/// When what is shown of the runs was written.
fn stamps(paths: &[PathBuf]) -> Vec<(PathBuf, Option<SystemTime>)> {
    let files = |run: &RunFolder| [run.recipe(), run.history(), run.result()];
    let runs = runs(paths);
    let files = runs.iter().flat_map(files);
    files
        .map(|file| {
            let written = fs::metadata(&file).and_then(|file| file.modified()).ok();
            (file, written)
        })
        .collect()
}

/// What handlers share.
#[derive(Clone)]
struct Watched {
    shown: Arc<Shown>,
    changes: watch::Receiver<u64>,
    stop: Arc<AtomicBool>,
}

async fn whole(State(watched): State<Watched>) -> Response {
    let (title, main) = watched.shown.now();
    let (html, policy) = page::live(&title, main);
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response()
}

async fn fragment(State(watched): State<Watched>) -> Html<String> {
    Html(watched.shown.now().1)
}

async fn events(State(watched): State<Watched>) -> impl IntoResponse {
    let changes = WatchStream::from_changes(watched.changes);
    let events =
        changes.map(|version| Ok::<_, Infallible>(Event::default().data(version.to_string())));
    // A connection that never ends by itself is not waited for at the end.
    let stop = watched.stop;
    let ended = async move {
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let events = futures_util::StreamExt::take_until(events, Box::pin(ended));
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// The table of runs, again and again.
fn print(paths: &[PathBuf], stop: &AtomicBool) -> Result<()> {
    let mut before = None;
    while !stop.load(Ordering::Relaxed) {
        let now = stamps(paths);
        if before.as_ref() == Some(&now) {
            thread::sleep(EVERY);
            continue;
        }
        before = Some(now);
        match entries(paths) {
            Ok(entries) => {
                let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
                output::table(
                    &[
                        "run",
                        "model",
                        "epoch",
                        "loss",
                        "val loss",
                        "val top-1",
                        "best",
                        "test top-1",
                    ],
                    &rows,
                );
                output::print("");
                // A comparison's later runs are known before they begin.
                if runs(paths).iter().all(|run| run.result().exists()) {
                    return Ok(());
                }
            }
            Err(error) => note!("{}", hints::message(&error)),
        }
        if output::is_broken() {
            return Ok(());
        }
    }
    Ok(())
}

fn row(entry: &Entry) -> Vec<String> {
    let none = || "–".to_owned();
    let last = entry.history.last();
    let best = smallvit::train::history::best(&entry.history).and_then(|at| entry.history.get(at));
    let percent = |value: f64| format!("{value:.2} %");
    vec![
        entry.run.0.display().to_string(),
        entry.recipe.model.name().to_string(),
        format!(
            "{}/{}",
            last.map_or(0, |epoch| epoch.epoch),
            entry.recipe.train.epochs
        ),
        last.map_or_else(none, |epoch| format!("{:.3}", epoch.train.loss)),
        last.map_or_else(none, |epoch| format!("{:.3}", epoch.validation.loss)),
        last.map_or_else(none, |epoch| percent(epoch.validation.top1)),
        best.map_or_else(none, |epoch| {
            format!("{} ({})", percent(epoch.validation.top1), epoch.epoch)
        }),
        entry
            .result
            .as_ref()
            .map_or_else(none, |result| percent(result.test_top1)),
    ]
}
