//! Brings a named data set into the cache: downloaded, verified, unpacked, moved into place.
//!
//! Nothing is removed or written over that this did not write itself: a folder that is there already
//! gets the files that it lacks.

use std::fs;
use std::path::{Path, PathBuf};

use super::Progress;
use super::catalogue::{RemoteFile, Set};
use super::cifar::{Cifar, Layout as CifarLayout};
use super::download::{cannot_write, download};
use super::files::{self, beside};
use super::search::{Layout, cache_dir, is_there, missing};
use crate::atomic;
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::{memory, words};

/// Downloads a set into the cache, unless it is there already, and returns its folder. `mirror` is
/// the address of a folder with files of the same names, to use instead of the publisher's.
///
/// Processes that fetch the same set at once wait for each other.
///
/// # Errors
/// As of [`download`]; [`Error::Data`] for an archive that cannot be unpacked or lacks a file, and
/// for something else in the set's place in the cache; [`Error::Recipe`] for a set inside the
/// program, which lies nowhere.
pub fn fetch(set: Set, mirror: Option<&str>, progress: &mut Progress) -> Result<PathBuf> {
    let entry = set.entry();
    let url = mirror.unwrap_or(entry.url);
    let folder = fetch_into(&cache_dir()?, set, url, entry.files, progress)?;
    check_lengths(set, &folder, entry.files)?;
    Ok(folder)
}

/// Refuses files that are there and are not as long as the set's own.
fn check_lengths(set: Set, folder: &Path, files: &[RemoteFile]) -> Result<()> {
    /// Of MNIST's files, and of all that are made like them, in the catalogue's order: 60,000 images of
    /// 28 × 28 pixels to train on and 10,000 to test on, with their labels, each behind its header.
    const UNPACKED: [u64; 4] = [47_040_016, 60_008, 7_840_016, 10_008];
    if set.cifar().is_some() {
        return Ok(());
    }
    for (file, unpacked) in files.iter().zip(UNPACKED) {
        let plain = folder.join(file.name.trim_end_matches(".gz"));
        for (path, expected) in [(folder.join(file.name), file.bytes), (plain, unpacked)] {
            let found = fs::metadata(&path).map_or(expected, |metadata| metadata.len());
            if found != expected {
                let problem = format!("it has {found} bytes, and {expected} are right");
                let remedy = "delete it, and fetch the set again";
                return Err(Error::data(path.display(), problem, remedy));
            }
        }
    }
    Ok(())
}

fn fetch_into(
    cache: &Path,
    set: Set,
    url: &str,
    files: &[RemoteFile],
    progress: &mut Progress,
) -> Result<PathBuf> {
    let (layout, folder) = match set {
        Set::SignDigits => {
            let problem = format!(
                "{} is in the program: there is nothing to fetch",
                set.name()
            );
            return Err(Error::recipe("data set", problem, "use it as it is"));
        }
        Set::Cifar100 => (Layout::Cifar(CifarLayout::Python), "cifar-100-python"),
        Set::Cifar10 => (Layout::Cifar(CifarLayout::Python), "cifar-10-batches-py"),
        Set::FashionMnist | Set::Mnist => (Layout::Idx, set.name()),
    };
    let folder = cache.join(folder);
    let total = files.iter().map(|file| file.bytes).sum();
    fs::create_dir_all(cache).map_err(Error::io("create", cache))?;
    let _lock = Lock::take(&cache.join(format!("{}.lock", set.name())), |_| {
        progress(0, Some(total));
        Ok(())
    })?;
    let missing = missing(set, layout, &folder);
    if missing.is_empty() {
        return Ok(folder);
    }
    in_the_way(&folder, &missing)?;
    check_room(cache, set, files)?;
    // What is downloaded waits here; it is kept when a download fails, to go on from.
    let work = cache.join(format!("{}.partial", set.name()));
    let mut before = 0;
    let lacks = |file: &&RemoteFile| match layout {
        Layout::Idx => !is_there(layout, &folder, file.name.trim_end_matches(".gz")),
        _ => true,
    };
    for file in files.iter().filter(lacks) {
        let url = format!("{}/{}", url.trim_end_matches('/'), file.name);
        let mut report = |done, _| progress(before + done, Some(total));
        let (dest, size) = (work.join(file.name), Some(file.bytes));
        download(&url, &dest, Some(file.checksum), size, &mut report)?;
        before += file.bytes;
    }
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    for file in files.iter().filter(lacks) {
        let downloaded = work.join(file.name);
        match set.cifar() {
            Some(cifar) => write_unpacked(cifar, &downloaded, &folder)?,
            None => fs::rename(&downloaded, folder.join(file.name))
                .map_err(Error::io("write", folder.join(file.name)))?,
        }
    }
    tidy(&work, files);
    Ok(folder)
}

/// Refuses a download for which there is no room.
fn check_room(cache: &Path, set: Set, files: &[RemoteFile]) -> Result<()> {
    // An archive lies beside what is in it, which is no less, until all is unpacked.
    let times = if set.cifar().is_some() { 2 } else { 1 };
    let work = cache.join(format!("{}.partial", set.name()));
    let arrived = |file: &RemoteFile| {
        let file = work.join(file.name);
        let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        length(&file) + length(&beside(&file, "part"))
    };
    let needed: u64 = files
        .iter()
        .map(|file| file.bytes.saturating_mul(times))
        .sum();
    let needed = needed.saturating_sub(files.iter().map(arrived).sum());
    match memory::free_on_disk(cache) {
        Some(free) if free < needed => {
            let problem = format!(
                "{} takes {} more, and there is room for {}",
                set.name(),
                words::bytes(needed),
                words::bytes(free)
            );
            let remedy = "free some space, or choose another folder with SMALLVIT_CACHE";
            Err(Error::data(cache.display(), problem, remedy))
        }
        // A system that does not tell is no reason to refuse.
        _ => Ok(()),
    }
}

/// Refuses what is neither a set's folder nor one of its files, but has the name of one.
fn in_the_way(folder: &Path, missing: &[&str]) -> Result<()> {
    let error = |path: &Path, what: &str| {
        let problem = format!("a {what} of the data set is to be here, and this is none");
        Err(Error::data(path.display(), problem, "rename or remove it"))
    };
    let is_taken = |path: &Path| path.symlink_metadata().is_ok();
    if is_taken(folder) && !folder.is_dir() {
        return error(folder, "folder");
    }
    for name in missing {
        let plain = folder.join(name);
        for path in [beside(&plain, "gz"), plain] {
            if is_taken(&path) {
                return error(&path, "file");
            }
        }
    }
    Ok(())
}

/// Removes what the downloads have left in their folder, and the folder if nothing else is in it.
/// What cannot be removed is in nobody's way.
fn tidy(work: &Path, files: &[RemoteFile]) {
    for file in files {
        let file = work.join(file.name);
        _ = fs::remove_file(beside(&file, "lock"));
        _ = fs::remove_file(file);
    }
    _ = fs::remove_dir(work);
}

/// Writes an archive's files that the python layout consists of into a folder; those that are there
/// already stay as they are.
fn write_unpacked(cifar: Cifar, archive: &Path, folder: &Path) -> Result<()> {
    let (train, test) = cifar.files(CifarLayout::Python);
    let names_file = cifar.names_file(CifarLayout::Python);
    let needed = [train, &[test]].concat();
    let entries = files::unpack(archive, &[&needed[..], &[names_file]].concat())?;
    if let Some(missing) = needed.iter().find(|&&name| !entries.contains_key(name)) {
        let problem = format!("there is no {missing} in this archive");
        return Err(Error::data(
            archive.display(),
            problem,
            "name another mirror",
        ));
    }
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    for (name, bytes) in entries {
        let path = folder.join(name);
        if path.symlink_metadata().is_err() {
            atomic::replace(&path, &bytes).map_err(cannot_write(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::Checksum;
    use super::super::cifar;
    use super::super::download::tests::{Server, respond, serve};
    use super::super::search::locate_in;
    use super::*;
    use sha2::{Digest, Sha256};

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pickle");

    fn archive() -> Vec<u8> {
        let folder = Path::new(FIXTURES).join("cifar-100-python");
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        files::tests::archive(&[
            ("cifar-100-python/file.txt~", b"not wanted"),
            ("cifar-100-python/train", &read("train")),
            ("../cifar-100-python/test", &read("test")),
            ("cifar-100-python/meta", &read("meta")),
        ])
    }

    /// The catalogue's files of a set, but with these bytes.
    fn remote(set: Set, contents: &[Vec<u8>]) -> Vec<RemoteFile> {
        let files = set.entry().files.iter().zip(contents);
        let remote = |(file, bytes): (&RemoteFile, &Vec<u8>)| RemoteFile {
            name: file.name,
            bytes: bytes.len() as u64,
            checksum: Checksum::Sha256(super::super::hex(&Sha256::digest(bytes)).leak()),
        };
        files.map(remote).collect()
    }

    /// A server of these files that breaks off after 1,000 bytes of one, once.
    fn unsteady(files: &[RemoteFile], contents: &[Vec<u8>]) -> Server {
        let names = files.iter().map(|file| format!("/mirror/{}", file.name));
        let served: Vec<_> = names.zip(contents.to_vec()).collect();
        Server::new(move |_, path, start, stream| {
            match served.iter().find(|(name, _)| name == path) {
                Some((_, bytes)) => serve(stream, bytes, start, start.map_or(1000, |_| usize::MAX)),
                None => respond(stream, "404 Not Found", "", b"", 0),
            }
        })
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries.map(|e| name(e).into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_of_another_length_are_not_taken_for_the_set() {
        let folder = tempfile::tempdir().unwrap();
        let files = Set::Mnist.entry().files;
        let check = || check_lengths(Set::Mnist, folder.path(), files);
        assert!(check().is_ok(), "what is not there is no matter here");
        let (packed, plain) = (
            folder.path().join(files[1].name),
            folder.path().join("train-labels-idx1-ubyte"),
        );
        fs::write(&packed, vec![0; files[1].bytes as usize]).unwrap();
        fs::write(&plain, vec![0; 60_008]).unwrap();
        assert!(check().is_ok());
        fs::write(&packed, "cut").unwrap();
        let error = check().unwrap_err();
        assert!(error.to_string().contains("it has 3 bytes"), "{error}");
        assert!(error.remedy().starts_with("delete it"));
        fs::remove_file(&packed).unwrap();
        fs::write(&plain, vec![0; 60_009]).unwrap();
        assert!(check().unwrap_err().to_string().contains("60008 are right"));
    }

    #[test]
    fn sets_are_fetched_once_even_by_two_at_once() {
        for (set, contents, in_cache, in_folder) in [
            (
                Set::Cifar100,
                vec![archive()],
                ["cifar-100-python", "cifar100.lock"],
                vec!["meta", "test", "train"],
            ),
            (
                Set::Mnist,
                vec![vec![0; 7000], vec![1], vec![2], vec![3]],
                ["mnist", "mnist.lock"],
                vec![
                    "t10k-images-idx3-ubyte.gz",
                    "t10k-labels-idx1-ubyte.gz",
                    "train-images-idx3-ubyte.gz",
                    "train-labels-idx1-ubyte.gz",
                ],
            ),
        ] {
            let cache = tempfile::tempdir().unwrap();
            let files = remote(set, &contents);
            let server = unsteady(&files, &contents);
            let url = format!("{}/mirror/", server.url);
            let fetch = || {
                let mut last = (0, None);
                let mut report = |done, total| last = (done, total);
                let folder = fetch_into(cache.path(), set, &url, &files, &mut report).unwrap();
                assert_eq!(folder, cache.path().join(in_cache[0]));
                last
            };
            let (one, two) = std::thread::scope(|scope| {
                let other = scope.spawn(fetch);
                (fetch(), other.join().unwrap())
            });
            let total = contents.iter().map(|bytes| bytes.len() as u64).sum();
            assert!(
                [one, two].contains(&(total, Some(total))),
                "{one:?} {two:?}"
            );
            assert_eq!(names_in(cache.path()), in_cache);
            assert_eq!(names_in(&cache.path().join(in_cache[0])), in_folder);
            let requests = server.requests.lock().unwrap().len();
            assert_eq!(requests, files.len() + 1);
            assert!(locate_in(set, cache.path()).is_some());
        }
    }

    #[test]
    fn what_lies_in_the_cache_already_stays() {
        // A user's own folder of that name, with one of the set's files; and something of theirs
        // where downloads wait.
        for (set, contents, folder, mine) in [
            (Set::Cifar100, vec![archive()], "cifar-100-python", "train"),
            (
                Set::Mnist,
                vec![vec![0], vec![1], vec![2], vec![3]],
                "mnist",
                "train-labels-idx1-ubyte",
            ),
        ] {
            let cache = tempfile::tempdir().unwrap();
            let folder = cache.path().join(folder);
            let work = cache.path().join(format!("{}.partial", set.name()));
            for file in [
                folder.join(mine),
                folder.join("thesis.txt"),
                work.join("ready/notes.txt"),
            ] {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, b"mine").unwrap();
            }
            let files = remote(set, &contents);
            let server = unsteady(&files, &contents);
            let url = format!("{}/mirror/", server.url);
            let fetch = || fetch_into(cache.path(), set, &url, &files, &mut |_, _| ());
            assert_eq!(fetch().unwrap(), folder);
            for name in [mine, "thesis.txt"] {
                assert_eq!(fs::read(folder.join(name)).unwrap(), b"mine");
            }
            assert_eq!(names_in(&work), ["ready"]);
            assert_eq!(names_in(&work.join("ready")), ["notes.txt"]);
            assert!(locate_in(set, cache.path()).is_some());
            let asked = server.requests.lock().unwrap().len();
            assert!(set == Set::Cifar100 || asked == 3, "labels were there");

            // A folder where a file is to be, and a file where the folder is to be.
            let test = missing_file(set);
            fs::remove_file(folder.join(test)).unwrap();
            fs::create_dir(folder.join(test)).unwrap();
            let error = fetch().unwrap_err();
            assert!(error.to_string().contains("this is none"), "{error}");
            fs::rename(&folder, cache.path().join("elsewhere")).unwrap();
            fs::write(&folder, b"mine").unwrap();
            assert!(fetch().unwrap_err().remedy().contains("rename"));
            assert_eq!(fs::read(&folder).unwrap(), b"mine");
            assert_eq!(server.requests.lock().unwrap().len(), asked);
        }
    }

    fn missing_file(set: Set) -> &'static str {
        match set {
            Set::Mnist => "t10k-images-idx3-ubyte.gz",
            _ => "test",
        }
    }

    #[test]
    fn without_room_nothing_is_asked_for() {
        let cache = tempfile::tempdir().unwrap();
        let contents = [archive()];
        let mut files = remote(Set::Cifar100, &contents);
        let server = unsteady(&files, &contents);
        files[0].bytes = 1 << 60;
        let fetched = fetch_into(
            cache.path(),
            Set::Cifar100,
            &server.url,
            &files,
            &mut |_, _| (),
        );
        let error = fetched.unwrap_err();
        assert!(error.to_string().contains("there is room for"), "{error}");
        assert!(error.remedy().contains("SMALLVIT_CACHE"));
        assert_eq!(server.requests.lock().unwrap().len(), 0);
    }

    #[test]
    fn a_set_inside_the_program_is_not_fetched() {
        let error = fetch(Set::SignDigits, None, &mut |_, _| ()).unwrap_err();
        assert!(error.to_string().contains("nothing to fetch"), "{error}");
    }

    #[test]
    fn an_archive_of_other_bytes_is_refused() {
        let cache = tempfile::tempdir().unwrap();
        let contents = [archive()];
        let files = Set::Cifar100.entry().files;
        let server = unsteady(files, &contents);
        let url = format!("{}/mirror", server.url);
        let error = fetch_into(cache.path(), Set::Cifar100, &url, files, &mut |_, _| ());
        let error = error.unwrap_err();
        assert!(error.to_string().contains("SHA-256 85cd44d0"), "{error}");
        assert!(!cache.path().join("cifar-100-python").exists());
    }

    #[test]
    fn what_was_unpacked_can_be_read() {
        let cache = tempfile::tempdir().unwrap();
        let path = cache.path().join("a.tar.gz");
        fs::write(&path, archive()).unwrap();
        let folder = cache.path().join("unpacked");
        write_unpacked(Cifar::Hundred, &path, &folder).unwrap();
        assert_eq!(names_in(&folder), ["meta", "test", "train"]);
        let data = cifar::read(Cifar::Hundred, CifarLayout::Python, &folder).unwrap();
        assert_eq!(data.train.len(), 3);

        let bare = files::tests::archive(&[("cifar-100-python/train", b"x")]);
        fs::write(&path, bare).unwrap();
        let error = write_unpacked(Cifar::Hundred, &path, &folder).unwrap_err();
        assert!(
            error.to_string().contains("no test in this archive"),
            "{error}"
        );
    }
}
