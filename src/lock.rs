//! One writer at a time: a lock on a file, which ends with the process that holds it, however that
//! ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

/// A lock that this process holds until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// Unlocked when it is closed.
    _file: File,
}

impl Lock {
    /// Takes the lock on a file, which is made if it is not there. While another process holds it,
    /// `taken` is called five times a second, with that process's number where it is known; the
    /// first error that it returns ends the wait.
    ///
    /// Where the file system has no locks, as on some networks, nobody is kept out.
    ///
    /// # Errors
    /// What `taken` returns; [`Error::Io`] where the file cannot be written.
    pub fn take(path: &Path, mut taken: impl FnMut(Option<u32>) -> Result<()>) -> Result<Self> {
        // The file stays for good: were it removed, one that waits for the old file and one that
        // makes a new one would both believe that they have the lock.
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(path).map_err(Error::io("write", path))?;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    // For the message to others; the lock holds without it.
                    let _ = file.set_len(0);
                    let _ = write!(file, "{}", process::id());
                    return Ok(Self { _file: file });
                }
                Err(TryLockError::Error(error)) if is_without_locks(&error) => {
                    return Ok(Self { _file: file });
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
                Err(TryLockError::WouldBlock) => {
                    taken(holder(&mut file))?;
                    thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }
}

/// Whether the file system has no locks: also what NFS says whose server does not answer for them.
fn is_without_locks(error: &io::Error) -> bool {
    /// ENOLCK, which has no name among the kinds of errors.
    const NO_LOCKS: i32 = if cfg!(target_os = "linux") { 37 } else { 77 };
    error.kind() == ErrorKind::Unsupported || (cfg!(unix) && error.raw_os_error() == Some(NO_LOCKS))
}

fn holder(file: &mut File) -> Option<u32> {
    let mut number = String::new();
    file.rewind().ok()?;
    file.take(20).read_to_string(&mut number).ok()?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_and_the_others_wait_or_give_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mut held = Some(Lock::take(&path, |_| unreachable!()).unwrap());
        let give_up = |holder: Option<u32>| Err(Error::data("lock", format!("{holder:?}"), "wait"));
        let error = Lock::take(&path, give_up).unwrap_err().to_string();
        assert_eq!(error, format!("lock: Some({})", process::id()));
        let mut asked = 0;
        let waited = Lock::take(&path, |_| {
            asked += 1;
            // Freed after the second time.
            (asked == 2).then(|| held.take());
            Ok(())
        });
        waited.unwrap();
        assert_eq!(asked, 2);
        let nowhere = folder.path().join("none/lock");
        assert!(matches!(
            Lock::take(&nowhere, give_up),
            Err(Error::Io { .. })
        ));
    }
}
