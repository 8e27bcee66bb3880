//! Ctrl-C, and the signals that ask a program to end: exit status 130, and nothing half-written.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use smallvit::atomic;

use super::output::note;

/// Set by the first signal, where a run is to end with everything saved.
static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on a signal ends the program, after the file that is just written is whole (for which it
/// waits two seconds at most). Where there is a
/// [`stop_flag`], the first one sets it, and the second ends the program. One that follows within a
/// moment is taken for the same: a wrapper often passes on what its whole group has got.
pub fn catch() {
    let mut first: Option<Instant> = None;
    let handler = move || match (STOP.get(), first) {
        (Some(stop), None) => {
            first = Some(Instant::now());
            stop.store(true, Ordering::Relaxed);
            // Aside, so that somebody who does not read it cannot keep the next one waiting.
            std::thread::spawn(|| {
                note!("\nfinishing the step and saving; once more to stop at once");
            });
        }
        (Some(_), Some(first)) if first.elapsed() < Duration::from_millis(100) => {}
        _ => {
            let _settled = atomic::settled(Duration::from_secs(2));
            process::exit(130);
        }
    };
    if ctrlc::set_handler(handler).is_err() {
        note!("Ctrl-C cannot be caught here: it will lose what came after the last checkpoint");
    }
}

/// A flag that a signal sets, in place of ending the program.
pub fn stop_flag() -> Arc<AtomicBool> {
    STOP.get_or_init(Arc::default).clone()
}
