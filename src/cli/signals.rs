//! Ctrl-C, and the signals that ask a program to end: exit status 130, and nothing half-written.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use smallvit::atomic;

use super::output::note;

/// Set by the first signal, where a run is to end with everything saved.
static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// What is said then.
static SAID: OnceLock<&str> = OnceLock::new();

/// Whether signals come here.
static CAUGHT: AtomicBool = AtomicBool::new(false);

/// What was asked for.
#[cfg_attr(not(unix), expect(dead_code, reason = "there only Ctrl-C is caught"))]
#[derive(Clone, Copy, PartialEq)]
enum Wish {
    /// By a person, or by somebody in their place: a second time it is meant.
    Stop,
    /// By a terminal that goes, perhaps more than once.
    HangUp,
}

/// From now on a signal ends the program, after the file that is just written is whole (for which it
/// waits two seconds at most). Where there is a [`stop_flag`], the first one sets it, and the second
/// ends the program. One that follows within a moment is taken for the same: a wrapper often passes
/// on what its whole group has got.
///
/// What was ignored when the program began stays so: `nohup smallvit …` is to outlive its terminal.
pub fn catch() {
    let mut first: Option<Instant> = None;
    let caught = on_signal(move |wish| match (STOP.get(), first) {
        (Some(stop), None) => {
            first = Some(Instant::now());
            stop.store(true, Ordering::Relaxed);
            // Aside, so that somebody who does not read it cannot keep the next one waiting; where
            // the system has no thread left, without a word.
            let _ = std::thread::Builder::new().spawn(|| {
                let said = SAID.get().unwrap_or(&"finishing the step and saving");
                note!("\n{said}; once more to stop at once");
            });
        }
        (Some(_), Some(_)) if wish == Wish::HangUp => {}
        (Some(_), Some(first)) if first.elapsed() < Duration::from_millis(100) => {}
        _ => {
            let _settled = atomic::settled(Duration::from_secs(2));
            process::exit(130);
        }
    });
    CAUGHT.store(caught, Ordering::Relaxed);
}

/// A flag that a signal sets, in place of ending the program.
pub fn stop_flag() -> Arc<AtomicBool> {
    if !CAUGHT.load(Ordering::Relaxed) {
        note!("Ctrl-C cannot be caught here: it will lose what came after the last checkpoint");
    }
    STOP.get_or_init(Arc::default).clone()
}

/// The same, for what does something else than to finish a step: `doing` says what.
#[cfg(feature = "serve")]
pub fn stop_flag_for(doing: &'static str) -> Arc<AtomicBool> {
    let _ = SAID.set(doing);
    STOP.get_or_init(Arc::default).clone()
}

/// Calls `handle` with each signal, on a thread of its own; returns whether it will.
#[cfg(unix)]
fn on_signal(mut handle: impl FnMut(Wish) + Send + 'static) -> bool {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::iterator::Signals;

    // A file that grows past its limit (`ulimit -f`) is an error as any other, once somebody takes the
    // signal that would end the program without a word.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let ignored = ignored();
    let wanted = [SIGINT, SIGTERM, SIGHUP];
    let wanted = wanted
        .into_iter()
        .filter(|signal| ignored >> (signal - 1) & 1 == 0);
    // The thread first: without it signals are to do what they do by themselves.
    let (send, receive) = std::sync::mpsc::sync_channel::<Signals>(1);
    let work = move || {
        let Ok(mut signals) = receive.recv() else {
            return;
        };
        for signal in signals.forever() {
            handle(match signal {
                SIGHUP => Wish::HangUp,
                _ => Wish::Stop,
            });
        }
    };
    let thread = std::thread::Builder::new().name("signals".into());
    if thread.spawn(work).is_err() {
        return false;
    }
    Signals::new(wanted).is_ok_and(|signals| send.send(signals).is_ok())
}

/// The signals that whoever began the program wants ignored: a bit each, the first one's the lowest.
/// None where the system does not tell.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0)
}

/// Calls `handle` with each Ctrl-C, on a thread of its own; returns whether it will.
#[cfg(not(unix))]
fn on_signal(mut handle: impl FnMut(Wish) + Send + 'static) -> bool {
    ctrlc::set_handler(move || handle(Wish::Stop)).is_ok()
}
