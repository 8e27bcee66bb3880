//! One file a command: it parses, calls the library and prints. Results go to standard output,
//! progress and errors to standard error.

mod bench;
mod compare;
mod data;
mod evaluate;
mod hints;
mod import;
mod options;
mod output;
mod predict;
mod progress;
mod recipes;
mod show;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Once;

use clap::{CommandFactory, Parser, Subcommand};
use smallvit::Error;
use smallvit::report::picture::{Format, MissingLetters};

use output::note;

/// Train Vision Transformers from scratch on small image sets.
///
/// Without a data set of yours, begin with `smallvit compare`: it trains a plain ViT and an
/// SL-ViT (with Shifted Patch Tokenization and Locality Self-Attention, arXiv 2112.13492) on
/// pictures that come with the program.
#[derive(Parser)]
#[command(name = "smallvit", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train several models from the same seed and compare them.
    Compare(compare::Arguments),
    /// Train one model, or go on with a run.
    Train(train::Arguments),
    /// Evaluate a trained model: accuracy, a table of classes, a confusion matrix.
    Evaluate(evaluate::Arguments),
    /// Say what is in pictures.
    Predict(predict::Arguments),
    /// Draw what the program does to images and learning rates.
    #[command(subcommand)]
    Show(show::Command),
    /// List, fetch and inspect data sets.
    #[command(subcommand)]
    Data(data::Command),
    /// List the built-in recipes, or print one.
    Recipes(recipes::Arguments),
    /// Time a training step and its parts.
    Bench(bench::Arguments),
    /// Bring in a model from elsewhere.
    #[command(subcommand)]
    Import(import::Command),
    /// Print a script that completes this program's commands in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Compare(arguments) => compare::run(arguments),
        Command::Train(arguments) => train::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Show(command) => show::run(command),
        Command::Data(command) => data::run(command),
        Command::Recipes(arguments) => recipes::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Import(command) => import::run(command),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Arguments::command(), "smallvit", &mut script);
            output::print(String::from_utf8_lossy(&script));
            Ok(())
        }
    };
    let lost = |source| Error::Io {
        action: "write",
        path: "standard output".into(),
        source,
    };
    match result.and_then(|()| output::lost().map_or(Ok(()), |error| Err(lost(error)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note!("smallvit: {}", hints::message(&error));
            let remedy = hints::remedy(&error);
            if !remedy.is_empty() {
                note!("  {remedy}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Parses the name of a picture to write: refused before the work whose result it shows.
fn picture_file(name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    match Format::of(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("{error}; {}", error.remedy())),
    }
}

/// Says which letters a picture lacks, once a run of the program: all its pictures have the same
/// names in them.
fn tell_missing(missing: &MissingLetters) {
    static TOLD: Once = Once::new();
    if !missing.is_empty() {
        TOLD.call_once(|| note!("smallvit: {missing}"));
    }
}
