//! How much memory there is, and how much was taken; and how much room on a disk.

use std::fs;
use std::path::{self, Path};

/// Makes [`peak`] count from now, where the system can: on Linux.
pub fn reset_peak() {
    // Without it the peak is that of the whole process so far, which is still an upper bound.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Memory in bytes that this process may still take, where the system tells, on Linux: what the machine
/// has left, its container, or the limit of its address space, whichever is least.
pub fn available() -> Option<u64> {
    let machine = kilobytes("/proc/meminfo", "MemAvailable:");
    [machine, in_container(), in_address_space()]
        .into_iter()
        .flatten()
        .min()
}

/// The number behind a word in one of the kernel's tables, in bytes.
fn kilobytes(table: &str, word: &str) -> Option<u64> {
    let table = fs::read_to_string(table).ok()?;
    let line = table.lines().find(|line| line.starts_with(word))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// What the limit of address space (`ulimit -v`) leaves.
fn in_address_space() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    // "unlimited" is no number, and no limit.
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let used = kilobytes("/proc/self/status", "VmSize:")?;
    Some(limit.saturating_sub(used))
}

/// What the limits of control groups leave, this process's own and those around it (Linux's
/// documentation of cgroups, version 2, and of version 1's memory controller).
fn in_container() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let left = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (root, limit, used) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            _ if controllers.split(',').any(|name| name == "memory") => (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            ),
            _ => return None,
        };
        let own = Path::new(root).join(path.trim_start_matches('/'));
        let around = own
            .ancestors()
            .take_while(|folder| folder.starts_with(root));
        around
            .filter_map(|folder| left_in(folder, limit, used))
            .min()
    });
    left.min()
}

/// What one group's limit leaves. Files that are only kept in case they are read again make way.
fn left_in(group: &Path, limit: &str, used: &str) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(group.join(name)).ok()?;
        text.trim().parse().ok()
    };
    // "max" is no number, and no limit.
    let (limit, used) = (number(limit)?, number(used)?);
    let counts = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let files: Option<u64> = counts
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "))
        .and_then(|count| count.trim().parse().ok());
    Some(limit.saturating_sub(used.saturating_sub(files.unwrap_or(0))))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_s_limit_leaves_what_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let left = || left_in(folder.path(), "memory.max", "memory.current");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(left(), None);
        write("memory.current", "70\n");
        write("memory.max", "max\n");
        assert_eq!(left(), None);
        write("memory.max", "100\n");
        assert_eq!(left(), Some(30));
        write("memory.stat", "anon 5\ninactive_file 20\nactive_file 3\n");
        assert_eq!(left(), Some(50));
        write("memory.current", "130\n");
        assert_eq!(left(), Some(0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn there_is_memory_left() {
        assert!(available().unwrap() > 1 << 20);
    }
}
