//! How much memory there is, and how much was taken; and how much room on a disk.

use std::fs;
use std::path::{self, Path};

/// Makes [`peak`] count from now, where the system can: on Linux.
pub fn reset_peak() {
    // Without it the peak is that of the whole process so far, which is still an upper bound.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Memory in bytes that programs may still take, where the system tells: on Linux.
pub fn available() -> Option<u64> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let line = table
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Bytes that may still be written below a folder, which need not be there yet, where the system tells.
pub fn free_on_disk(folder: &Path) -> Option<u64> {
    let folder = path::absolute(folder).ok()?;
    let there = folder.ancestors().find(|path| path.exists())?;
    fs4::available_space(there).ok()
}

/// Largest resident memory in bytes, where the system tells.
pub fn peak() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes * 1024)
    }
    #[cfg(all(unix, not(target_os = "linux")))]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        let most = getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss() as u64;
        // Kilobytes everywhere but on Apple's systems.
        Some(if cfg!(target_vendor = "apple") {
            most
        } else {
            most * 1024
        })
    }
    #[cfg(not(unix))]
    None
}
