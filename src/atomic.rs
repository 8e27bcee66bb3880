//! Files that are whole or absent.
//!
//! What is written goes to a temporary file in the same folder, is synced, and takes the place of
//! the file of that name in one step. A reader finds the old contents or the new ones, and so does
//! whoever comes after a kill, a full disk or a power cut.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::{Error, Result};

/// A temporary's name begins and ends so, with random letters between.
const NAME: (&str, &str) = (".smallvit-", ".tmp");

/// As [`std::fs::write`], but `path` is at every moment either its old contents or its new ones.
///
/// A new file gets the permissions that any new file gets here, and a file that is replaced leaves
/// its own to its successor. A link is followed. A device or pipe, which cannot be replaced, is
/// written into.
///
/// # Errors
/// [`Error::Io`]; the file is as it was, and no temporary is left.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes).map_err(Error::io("write", path))
}

/// As [`write`], with the system's own error.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Ok(target) = fs::canonicalize(path) else {
        return put(path, bytes, None);
    };
    let old = fs::metadata(&target)?;
    if old.is_file() || old.is_dir() {
        put(&target, bytes, Some(old.permissions()))
    } else {
        fs::write(&target, bytes)
    }
}

/// `permissions` are those of the file that is replaced.
fn put(path: &Path, bytes: &[u8], permissions: Option<fs::Permissions>) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Opened as any other file: the crate's own way would keep everyone but the owner out.
    let open = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
    let mut builder = tempfile::Builder::new();
    // Dropped before the end, the temporary is removed.
    let mut temporary = builder
        .prefix(NAME.0)
        .suffix(NAME.1)
        .make_in(folder, open)?;
    let file = temporary.as_file_mut();
    file.write_all(bytes)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Removes the temporaries that killed processes have left in a folder. Only for a folder that
/// nobody else writes to at that moment: a temporary in use would be removed, too.
///
/// What cannot be removed stays: it is in nobody's way.
pub fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if is_temporary(&entry.file_name()) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let name = name.to_str();
    name.is_some_and(|name| name.starts_with(NAME.0) && name.ends_with(NAME.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_made_and_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for contents in [&b"first, and longer"[..], b"second", b""] {
            write(&path, contents).unwrap();
            assert_eq!(fs::read(&path).unwrap(), contents);
        }
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_failure_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "kept").unwrap();
        let error = write(&path, b"x").unwrap_err();
        assert!(matches!(&error, Error::Io { path: of, .. } if *of == path));
        assert_eq!(names(folder.path()), ["a"]);
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"kept");

        let error = write(&folder.path().join("none/a"), b"x").unwrap_err();
        assert_eq!(error.remedy(), "check the path");
        assert!(!error.to_string().contains(NAME.0), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_as_of_any_other_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        write(&ours, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        assert_eq!(mode(&ours), mode(&plain));
        for kept in [0o600, 0o640, 0o755] {
            fs::set_permissions(&ours, fs::Permissions::from_mode(kept)).unwrap();
            write(&ours, b"y").unwrap();
            assert_eq!(mode(&ours), kept);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_devices_devices() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there");
        fs::create_dir(&there).unwrap();
        fs::write(there.join("file"), "old").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("there/file", &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(there.join("file")).unwrap(), b"new");
        assert_eq!(names(&there), ["file"]);
        write(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn only_what_was_left_behind_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        // As a killed process leaves it.
        let prefix = tempfile::Builder::new()
            .prefix(NAME.0)
            .suffix(NAME.1)
            .tempfile_in(folder.path());
        prefix.unwrap().keep().unwrap();
        for name in [".smallvit-notes", "x.smallvit-a.tmp", "last.tmp", ".tmp"] {
            fs::write(folder.path().join(name), "mine").unwrap();
        }
        fs::create_dir(folder.path().join(".smallvit-folder.tmp")).unwrap();
        assert_eq!(names(folder.path()).len(), 6);
        sweep(folder.path());
        assert_eq!(
            names(folder.path()),
            [
                ".smallvit-folder.tmp",
                ".smallvit-notes",
                ".tmp",
                "last.tmp",
                "x.smallvit-a.tmp"
            ]
        );
        sweep(&folder.path().join("nowhere"));
    }
}
