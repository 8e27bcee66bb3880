//! Brings a named data set into the cache: downloaded, verified, unpacked, moved into place.

use std::fs;
use std::path::{Path, PathBuf};

use super::catalogue::{RemoteFile, Set};
use super::cifar::{Cifar, Layout as CifarLayout};
use super::download::{cannot_write, download, lock};
use super::search::{Layout, cache_dir, is_whole};
use super::{Progress, files};
use crate::atomic;
use crate::error::{Error, Result};

/// Downloads a set into the cache, unless it is there already, and returns its folder. `mirror` is
/// the address of a folder with files of the same names, to use instead of the publisher's.
///
/// Processes that fetch the same set at once wait for each other. A set inside the program needs
/// no fetching: the cache's own folder is returned.
///
/// # Errors
/// As of [`download`]; [`Error::Data`] for an archive that cannot be unpacked or lacks a file.
pub fn fetch(set: Set, mirror: Option<&str>, progress: &mut Progress) -> Result<PathBuf> {
    let entry = set.entry();
    let url = mirror.unwrap_or(entry.url);
    fetch_into(&cache_dir()?, set, url, entry.files, progress)
}

fn fetch_into(
    cache: &Path,
    set: Set,
    url: &str,
    files: &[RemoteFile],
    progress: &mut Progress,
) -> Result<PathBuf> {
    let (layout, folder) = match set {
        Set::SignDigits => return Ok(cache.to_path_buf()),
        Set::Cifar100 => (Layout::Cifar(CifarLayout::Python), "cifar-100-python"),
        Set::Cifar10 => (Layout::Cifar(CifarLayout::Python), "cifar-10-batches-py"),
        Set::FashionMnist | Set::Mnist => (Layout::Idx, set.name()),
    };
    let folder = cache.join(folder);
    let total = files.iter().map(|file| file.bytes).sum();
    fs::create_dir_all(cache).map_err(Error::io("create", cache))?;
    let _lock = lock(&cache.join(format!("{}.lock", set.name())), || {
        progress(0, Some(total));
    })?;
    if is_whole(set, layout, &folder) {
        return Ok(folder);
    }
    // All is made ready in a folder of its own, part of which gets its final name in one step. It
    // is kept when a download fails, to go on from.
    let work = cache.join(format!("{}.partial", set.name()));
    let ready = work.join("ready");
    let mut before = 0;
    for file in files {
        let url = format!("{}/{}", url.trim_end_matches('/'), file.name);
        let mut report = |done, _| progress(before + done, Some(total));
        let (dest, size) = (work.join(file.name), Some(file.bytes));
        download(&url, &dest, Some(file.checksum), size, &mut report)?;
        before += file.bytes;
    }
    fs::create_dir_all(&ready).map_err(Error::io("create", &ready))?;
    for file in files {
        let downloaded = work.join(file.name);
        match set.cifar() {
            Some(cifar) => write_unpacked(cifar, &downloaded, &ready)?,
            None => fs::rename(&downloaded, ready.join(file.name))
                .map_err(Error::io("write", &downloaded))?,
        }
    }
    if folder.exists() {
        // An incomplete folder of that name: nothing that this program leaves.
        fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
    }
    fs::rename(&ready, &folder).map_err(Error::io("write", &folder))?;
    fs::remove_dir_all(&work).map_err(Error::io("remove", &work))?;
    Ok(folder)
}

/// Writes an archive's files that the python layout consists of into a folder.
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
        atomic::replace(&path, &bytes).map_err(cannot_write(&path))?;
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
