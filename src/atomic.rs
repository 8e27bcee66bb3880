//! Files that are whole or absent.
//!
//! What is written goes to a temporary file in the same folder, is synced, and takes the place of
//! the file of that name in one step. A reader finds the old contents or the new ones, and so does
//! whoever comes after a kill, a full disk or a power cut.
//!
//! Devices and pipes have no old contents to keep, and are not ours to replace: they are written
//! into.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// A temporary's name begins and ends so, with random letters between.
const NAME: (&str, &str) = (".smallvit-", ".tmp");

/// Held while there is a temporary.
static WRITING: Mutex<()> = Mutex::new(());

fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits, for so long at most, until this process has no temporary file anywhere, and lets it make
/// none as long as the result lives: for who ends the process at once.
pub fn settled(patience: Duration) -> Option<impl Sized> {
    const LOOK: Duration = Duration::from_millis(5);
    let until = Instant::now() + patience;
    loop {
        match WRITING.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(LOOK),
        }
    }
}

/// Where what is written to a path goes.
enum Place {
    /// To a file of that name, in place of the one with these permissions if there is one.
    File(PathBuf, Option<Permissions>),
    /// Into a device or a pipe.
    Stream(PathBuf),
    /// Into what this process has open under that number.
    Descriptor(u32, PathBuf),
}

/// As [`std::fs::write`], but `path` is at every moment either its old contents or its new ones.
///
/// A new file gets the permissions that any new file gets here, and a file that is replaced leaves
/// its own to its successor. Symbolic links are followed, to a file that is still to be made, too.
/// A device, a named pipe or an open descriptor (`/dev/stdout`) is written into; a named pipe
/// that nobody reads yet is waited for, as the system has it.
///
/// # Errors
/// [`Error::Io`]; a file is as it was, and no temporary is left.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes).map_err(Error::io("write", path))
}

/// As [`write()`], of what `fill` writes, piece by piece.
///
/// # Errors
/// As of [`write()`].
pub fn write_by(
    path: &Path,
    fill: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> Result<()> {
    replace_by(path, fill).map_err(Error::io("write", path))
}

/// As [`write()`], with the system's own error.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_by(path, |to| to.write_all(bytes))
}

fn replace_by(
    path: &Path,
    fill: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut to: Box<dyn io::Write> = match place(path)? {
        Place::File(path, permissions) => return put(&path, permissions, fill),
        Place::Stream(path) => Box::new(existing(&path)?),
        Place::Descriptor(1, _) => Box::new(io::stdout()),
        Place::Descriptor(2, _) => Box::new(io::stderr()),
        // It may be a file, of which only the end is ours.
        Place::Descriptor(_, path) => Box::new(OpenOptions::new().append(true).open(path)?),
    };
    fill(&mut to)?;
    to.flush()
}

/// Refuses a path that [`write()`] could not write to, before long work whose result it is to take.
/// Nothing is changed, and nothing is left there.
///
/// # Errors
/// [`Error::Io`]: no such folder, or one that cannot be written to; a folder; a socket; a file or
/// device that may not be written.
pub fn check_writable(path: &Path) -> Result<()> {
    let check = || match place(path)? {
        Place::File(path, old) => {
            if old.is_some() {
                existing(&path)?;
            }
            try_temporary(folder(&path))
        }
        // A pipe's reader would take it for the end if it were opened and closed.
        Place::Stream(path) if is_pipe(&fs::metadata(&path)?) => Ok(()),
        Place::Stream(path) => existing(&path).map(drop),
        Place::Descriptor(..) => Ok(()),
    };
    check().map_err(Error::io("write", path))
}

/// As [`check_writable`], for a folder that is there or is to be made, with those above it.
///
/// # Errors
/// [`Error::Io`]: a file in the way, or a folder that cannot be written to.
pub fn check_folder(path: &Path) -> Result<()> {
    let check = || {
        for path in path.ancestors() {
            let path = or_here(path);
            match fs::metadata(path) {
                Ok(there) if there.is_dir() => return try_temporary(path),
                Ok(_) => return Err(ErrorKind::NotADirectory.into()),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    // A link that leads nowhere has the name that the folder is to have.
                    if fs::symlink_metadata(path).is_ok() {
                        return Err(ErrorKind::AlreadyExists.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::NotFound.into())
    };
    check().map_err(Error::io("write in", path))
}

/// Whether what is written to this path goes into a device, a pipe or an open descriptor, whose
/// name says nothing of what it is to hold.
pub fn is_stream(path: &Path) -> bool {
    matches!(place(path), Ok(Place::Stream(_) | Place::Descriptor(..)))
}

/// Whether the path is this process's standard output, as `/dev/stdout` is.
pub fn is_standard_output(path: &Path) -> bool {
    matches!(place(path), Ok(Place::Descriptor(1, _)))
}

fn place(path: &Path) -> io::Result<Place> {
    let there = match fs::metadata(path) {
        Ok(there) => Some(there),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        // A circle of links among them, which would be followed for ever.
        Err(error) => return Err(error),
    };
    let mut target = path.to_path_buf();
    let number = loop {
        if let Some(number) = descriptor(&target) {
            break Some(number);
        }
        match fs::read_link(&target) {
            Ok(link) => target = folder(&target).join(link),
            Err(_) => break None,
        }
    };
    let names_a_folder = target.as_os_str().as_encoded_bytes().ends_with(b"/");
    match (there, number) {
        (_, Some(number)) => Ok(Place::Descriptor(number, target)),
        (None, None) if names_a_folder => Err(ErrorKind::IsADirectory.into()),
        (None, None) => Ok(Place::File(target, None)),
        (Some(old), None) if old.is_file() => Ok(Place::File(target, Some(old.permissions()))),
        (Some(old), None) if old.is_dir() => Err(ErrorKind::IsADirectory.into()),
        (Some(old), None) if is_socket(&old) => Err(io::Error::new(
            ErrorKind::Unsupported,
            "it is a socket, which nobody can open as a file",
        )),
        (Some(_), None) => Ok(Place::Stream(path.to_path_buf())),
    }
}

/// The number of this process's open descriptor that the path names. Elsewhere than on Linux and
/// macOS there are no such paths.
fn descriptor(path: &Path) -> Option<u32> {
    let folders = ["/dev/fd", "/proc/self/fd"];
    let ours = path
        .parent()
        .is_some_and(|folder| folders.iter().any(|&ours| folder == Path::new(ours)));
    let number = || path.file_name()?.to_str()?.parse().ok();
    ours.then(number).flatten()
}

#[cfg(unix)]
fn is_socket(there: &Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&there.file_type())
}

#[cfg(unix)]
fn is_pipe(there: &Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&there.file_type())
}

#[cfg(not(unix))]
fn is_socket(_: &Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn is_pipe(_: &Metadata) -> bool {
    false
}

/// What is there, open to be written; never made, never cut off.
fn existing(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

/// The folder that a path's file lies in.
fn folder(path: &Path) -> &Path {
    or_here(path.parent().unwrap_or(Path::new("")))
}

fn or_here(folder: &Path) -> &Path {
    match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    }
}

/// A new file in the folder, which goes unless it is persisted.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    // Opened as any other file: the crate's own way would keep everyone but the owner out.
    let open = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(NAME.0).suffix(NAME.1);
    builder.make_in(folder, open)
}

/// Whether there can be one.
fn try_temporary(folder: &Path) -> io::Result<()> {
    let _writing = writing();
    temporary(folder).map(drop)
}

/// `permissions` are those of the file that is replaced; `fill` writes what is to be in it.
fn put(
    path: &Path,
    permissions: Option<Permissions>,
    fill: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> io::Result<()> {
    let _writing = writing();
    let mut temporary = temporary(folder(path))?;
    let file = temporary.as_file_mut();
    fill(file)?;
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

/// Whether it is the name of a file that was being written when its writer was killed.
pub fn is_temporary(name: &OsStr) -> bool {
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
        assert!(error.remedy().contains("make the folder"));
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
    fn links_stay_links_and_what_they_point_to_is_replaced() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there");
        fs::create_dir(&there).unwrap();
        fs::write(there.join("file"), "old").unwrap();
        let link = |name: &str, target: &str| {
            let link = folder.path().join(name);
            symlink(target, &link).unwrap();
            link
        };
        let first = link("first", "there/file");
        // A chain, of which one link is absolute.
        let absolute = link("absolute", first.to_str().unwrap());
        let chain = link("chain", "absolute");
        // What it points to is still to be made.
        let ahead = link("ahead", "there/new");
        let twice_ahead = link("twice", "ahead");
        for (path, target) in [
            (&first, "file"),
            (&absolute, "file"),
            (&chain, "file"),
            (&ahead, "new"),
            (&twice_ahead, "new"),
        ] {
            check_writable(path).unwrap();
            let text = path.to_str().unwrap();
            write(path, text.as_bytes()).unwrap();
            assert!(fs::symlink_metadata(path).unwrap().is_symlink(), "{text}");
            let target = there.join(target);
            assert!(fs::symlink_metadata(&target).unwrap().is_file(), "{text}");
            assert_eq!(fs::read_to_string(target).unwrap(), text);
        }
        assert_eq!(names(&there), ["file", "new"]);

        let circle = link("circle", "back");
        link("back", "circle");
        let nowhere = link("nowhere", "none/file");
        for path in [circle, nowhere] {
            check_writable(&path).unwrap_err();
            write(&path, b"x").unwrap_err();
            assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        }
        assert_eq!(names(folder.path()).len(), 9);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_written_into_and_sockets_refused() {
        use std::os::unix::net::UnixListener;
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let before = fs::symlink_metadata(&pipe).unwrap().file_type();
        // Nobody reads yet; the check does not wait for it.
        check_writable(&pipe).unwrap();
        assert!(is_stream(&pipe) && !is_standard_output(&pipe));
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert_eq!(fs::symlink_metadata(&pipe).unwrap().file_type(), before);

        check_writable(Path::new("/dev/null")).unwrap();
        write(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());

        let socket = folder.path().join("socket");
        let _listening = UnixListener::bind(&socket).unwrap();
        for result in [check_writable(&socket), write(&socket, b"x")] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("is a socket"), "{error}");
        }
        assert_eq!(names(folder.path()), ["pipe", "socket"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_stays_one_and_open_descriptors_are_known() {
        use std::os::fd::AsRawFd as _;
        let full = Path::new("/dev/full");
        check_writable(full).unwrap();
        let error = write(full, b"x").unwrap_err();
        assert!(error.remedy().contains("no room left"), "{error}");
        assert!(!fs::metadata(full).unwrap().is_file());

        for path in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            assert!(is_standard_output(Path::new(path)), "{path}");
        }
        assert!(!is_standard_output(Path::new("/dev/stderr")));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open");
        fs::write(&path, "before,").unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        let descriptor = PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()));
        check_writable(&descriptor).unwrap();
        assert!(is_stream(&descriptor));
        write(&descriptor, b"after").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before,after");
        assert_eq!(names(folder.path()), ["open"]);
        write(Path::new("/dev/fd/99999"), b"x").unwrap_err();
    }

    #[test]
    fn what_cannot_be_written_is_known_beforehand_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "kept").unwrap();
        for name in ["file", "new"] {
            check_writable(&at(name)).unwrap();
            assert!(!is_stream(&at(name)));
        }
        for (name, remedy) in [
            ("none/file", "make the folder"),
            ("file/file", "a file"),
            ("", "a folder"),
            ("new/", "a folder"),
        ] {
            let error = check_writable(&at(name)).unwrap_err();
            assert!(error.remedy().contains(remedy), "{name}: {error}");
        }
        check_writable(&at(&"n".repeat(300))).unwrap_err();
        for name in ["", "new", "new/and/newer"] {
            check_folder(&at(name)).unwrap();
        }
        let error = check_folder(&at("file/new")).unwrap_err();
        assert!(error.remedy().contains("a file"), "{error}");
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(fs::read(at("file")).unwrap(), b"kept");
        check_writable(Path::new("surely-not-there.png")).unwrap();
        check_folder(Path::new("surely-not-there")).unwrap();
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

    #[test]
    fn who_ends_the_program_waits_for_a_temporary_and_lets_none_be_made() {
        let writes = writing();
        assert!(settled(Duration::from_millis(20)).is_none());
        drop(writes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let settled = settled(Duration::from_secs(60)).unwrap();
        thread::scope(|scope| {
            let writer = scope.spawn(|| write(&path, b"whole"));
            thread::sleep(Duration::from_millis(20));
            assert_eq!(names(folder.path()), [""; 0]);
            drop(settled);
            writer.join().unwrap().unwrap();
        });
        assert_eq!(names(folder.path()), ["a"]);
    }
}
