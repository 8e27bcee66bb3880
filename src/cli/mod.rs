//! One file a command: it parses, calls the library and prints. Results go to standard output,
//! progress and errors to standard error.

mod bench;
mod charts;
mod classes;
mod compare;
mod data;
mod dataset;
mod evaluate;
mod explain;
mod hints;
mod import;
mod options;
mod output;
mod predict;
mod progress;
mod recipes;
mod report;
#[cfg(feature = "serve")]
mod serve;
mod show;
mod signals;
mod sweep;
mod train;
#[cfg(feature = "serve")]
mod watch;
#[cfg(feature = "serve")]
mod web;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Once;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{CommandFactory, Parser, Subcommand};
use smallvit::report::picture::{Format, MissingLetters};
use smallvit::{Error, Result};

use output::note;

const EXIT_STATUS: &str = "\
Exit status:
  0    done
  1    something failed, or part of the result is missing
  2    a request that cannot be met; nothing was done
  130  stopped by Ctrl-C or a termination signal; a training has saved all, unless it came twice";

/// Train Vision Transformers from scratch on small image sets.
///
/// Without a data set of yours, begin with `smallvit compare`: it trains a plain ViT and an
/// SL-ViT (with Shifted Patch Tokenization and Locality Self-Attention, arXiv 2112.13492) on
/// pictures that come with the program.
#[derive(Parser)]
#[command(name = "smallvit", version, after_help = EXIT_STATUS)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What a binary has to carry.
const LICENCES: [&str; 5] = [
    "smallvit is licensed under the MIT licence or the Apache licence 2.0, at your choice.\n",
    include_str!("../../LICENSE-MIT"),
    include_str!("../../LICENSE-APACHE"),
    include_str!("../../assets/DejaVuSans-LICENSE.txt"),
    include_str!("../../THIRD-PARTY.md"),
];

// What a command does is said where its arguments are.
#[derive(Subcommand)]
enum Command {
    Compare(compare::Arguments),
    Train(train::Arguments),
    Sweep(sweep::Arguments),
    Evaluate(evaluate::Arguments),
    Predict(predict::Arguments),
    Report(report::Arguments),
    #[cfg(feature = "serve")]
    Watch(watch::Arguments),
    #[cfg(feature = "serve")]
    Serve(serve::Arguments),
    #[command(subcommand)]
    Show(show::Command),
    #[command(subcommand)]
    Data(data::Command),
    Recipes(recipes::Arguments),
    Bench(bench::Arguments),
    #[command(subcommand)]
    Import(import::Command),
    /// Print the licences of the program and of all that it is built of.
    Licences,
    /// Print a script that completes this program's commands in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

pub fn main() -> ExitCode {
    signals::catch();
    let code = match Arguments::try_parse() {
        Ok(arguments) => match run(arguments.command) {
            Err(error) if !is_closed_pipe(&error) => tell(&error),
            _ => 0,
        },
        // Help and the version come out here, too.
        Err(refusal) => {
            let written = refusal.print();
            if !refusal.use_stderr() {
                output::remember(written);
            }
            refusal.exit_code() as u8
        }
    };
    let Some(lost) = output::lost() else {
        return code.into();
    };
    let problem = format!("part of the result could not be written ({lost})");
    let remedy = "send it elsewhere; files that the command wrote are whole";
    let failed = tell(&Error::data("standard output", problem, remedy));
    if code == 0 { failed } else { code }.into()
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Compare(arguments) => compare::run(arguments),
        Command::Train(arguments) => train::run(arguments),
        Command::Sweep(arguments) => sweep::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        #[cfg(feature = "serve")]
        Command::Watch(arguments) => watch::run(arguments),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => serve::run(arguments),
        Command::Show(command) => show::run(command),
        Command::Data(command) => data::run(command),
        Command::Recipes(arguments) => recipes::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Import(command) => import::run(command),
        Command::Licences => {
            for text in LICENCES {
                output::print(text);
            }
            Ok(())
        }
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Arguments::command(), "smallvit", &mut script);
            output::print(String::from_utf8_lossy(&script));
            Ok(())
        }
    }
}

/// Whether it is but a picture's reader that has gone: no loss, as with what is printed.
fn is_closed_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { action: "write", source, .. } if source.kind() == ErrorKind::BrokenPipe)
}

/// Says what was wrong and what to do, and returns the exit status.
fn tell(error: &Error) -> u8 {
    note!("smallvit: {}", hints::message(error));
    let remedy = hints::remedy(error);
    if !remedy.is_empty() {
        note!("  {remedy}");
    }
    error.exit_code()
}

/// Parses the name of a picture to write: refused before the work whose result it shows.
fn picture_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match Format::of(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("{error}; {}", error.remedy())),
    })
}

/// Says which letters a picture lacks, once a run of the program: all its pictures have the same
/// names in them.
fn tell_missing(missing: &MissingLetters) {
    static TOLD: Once = Once::new();
    if !missing.is_empty() {
        TOLD.call_once(|| note!("smallvit: {missing}"));
    }
}
