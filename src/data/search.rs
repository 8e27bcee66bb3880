//! Where a copy of a named data set may already lie.
//!
//! A copy is looked for in this order: the folder the user names, and nowhere else if one is named;
//! the program's own cache; Keras's folder, `~/.keras/datasets`, which `KERAS_HOME` moves. What is
//! downloaded goes to the cache: `SMALLVIT_CACHE`, else `smallvit` in the system's cache folder.

use std::env;
use std::path::{Path, PathBuf};

use super::catalogue::Set;
use super::cifar::Layout as CifarLayout;
use super::files::beside;
use super::idx;
use crate::error::{Error, Result};

/// How a copy is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One of CIFAR's two; in a folder, or in a `.tar.gz`.
    Cifar(CifarLayout),
    /// MNIST's four files, in a folder.
    Idx,
    /// Nothing on disk: the set is inside the program.
    Embedded,
}

/// A copy of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The folder with its files, or an archive.
    pub path: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
}
/// The folder that downloads are kept in: `SMALLVIT_CACHE`, else `smallvit` in the system's cache
/// folder (on Linux `~/.cache`).
///
/// # Errors
/// [`Error::Recipe`] when the system has no such folder.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SMALLVIT_CACHE").filter(|path| !path.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    dirs::cache_dir()
        .map(|path| path.join("smallvit"))
        .ok_or_else(|| {
            let problem = "this system names no folder for caches";
            Error::recipe(
                "SMALLVIT_CACHE",
                problem,
                "set it to a folder to keep data in",
            )
        })
}

/// The folder that Keras keeps data in, if there is a home for one.
fn keras_dir() -> Option<PathBuf> {
    let home = match env::var_os("KERAS_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => dirs::home_dir()?.join(".keras"),
    };
    Some(home.join("datasets"))
}

/// Looks for a whole copy: in `data_dir` (the folder itself, the usual folders in it, archives in
/// it), or if that is `None` in the cache and in Keras's folder.
pub fn locate(set: Set, data_dir: Option<&Path>) -> Option<Found> {
    match data_dir {
        Some(folder) => locate_in(set, folder),
        None => locate_in_roots(set, &usual_roots()),
    }
}

fn usual_roots() -> Vec<PathBuf> {
    cache_dir().ok().into_iter().chain(keras_dir()).collect()
}

fn locate_in_roots(set: Set, roots: &[PathBuf]) -> Option<Found> {
    let mut found = roots.iter().filter_map(|root| locate_in(set, root));
    found.next()
}

/// The layouts a set comes in, each with the folders that it usually lies in.
fn places(set: Set) -> &'static [(Layout, &'static [&'static str])] {
    const BINARY: Layout = Layout::Cifar(CifarLayout::Binary);
    const PYTHON: Layout = Layout::Cifar(CifarLayout::Python);
    match set {
        // Newer versions of Keras unpack into a folder named after the archive, "-target" added.
        Set::Cifar100 => &[
            (BINARY, &["cifar-100-binary"]),
            (
                PYTHON,
                &[
                    "cifar-100-python",
                    "cifar-100-python-target/cifar-100-python",
                ],
            ),
        ],
        Set::Cifar10 => &[
            (BINARY, &["cifar-10-batches-bin"]),
            (
                PYTHON,
                &[
                    "cifar-10-batches-py",
                    "cifar-10-batches-py-target/cifar-10-batches-py",
                ],
            ),
        ],
        // The second of each is torchvision's.
        Set::FashionMnist => &[(Layout::Idx, &["fashion-mnist", "FashionMNIST/raw"])],
        Set::Mnist => &[(Layout::Idx, &["mnist", "MNIST/raw"])],
        Set::SignDigits => &[],
    }
}

/// The archives that a set may lie in, as their publisher names them.
fn archives(set: Set) -> &'static [(CifarLayout, &'static str)] {
    match set {
        Set::Cifar100 => &[
            (CifarLayout::Binary, "cifar-100-binary.tar.gz"),
            (CifarLayout::Python, "cifar-100-python.tar.gz"),
        ],
        Set::Cifar10 => &[
            (CifarLayout::Binary, "cifar-10-binary.tar.gz"),
            (CifarLayout::Python, "cifar-10-python.tar.gz"),
        ],
        _ => &[],
    }
}

/// The files of a layout that must be there, and whether each is in this folder.
fn needed(set: Set, layout: Layout, folder: &Path) -> Vec<(&'static str, bool)> {
    let names = match (layout, set.cifar()) {
        (Layout::Cifar(layout), Some(cifar)) => {
            let (train, test) = cifar.files(layout);
            [train, &[test]].concat()
        }
        _ => idx::FILES.to_vec(),
    };
    names
        .into_iter()
        .map(|name| (name, is_there(layout, folder, name)))
        .collect()
}

/// Whether a file of a layout is in this folder; MNIST's may be gzipped.
pub(super) fn is_there(layout: Layout, folder: &Path, name: &str) -> bool {
    let plain = folder.join(name);
    plain.is_file() || (layout == Layout::Idx && beside(&plain, "gz").is_file())
}

/// The files of a layout that are not in this folder.
pub(super) fn missing(set: Set, layout: Layout, folder: &Path) -> Vec<&'static str> {
    let files = needed(set, layout, folder).into_iter();
    let missing = files.filter(|(_, is_there)| !is_there);
    missing.map(|(name, _)| name).collect()
}

/// Looks for a whole copy in one folder.
pub(super) fn locate_in(set: Set, root: &Path) -> Option<Found> {
    if set == Set::SignDigits {
        let (path, layout) = (PathBuf::new(), Layout::Embedded);
        return Some(Found { path, layout });
    }
    let is_whole = |found: &Found| missing(set, found.layout, &found.path).is_empty();
    candidates(set, root).find(is_whole).or_else(|| {
        let mut archives = archives(set).iter().map(|&(layout, name)| Found {
            path: root.join(name),
            layout: Layout::Cifar(layout),
        });
        archives.find(|found| found.path.is_file())
    })
}

/// The folders in which a set may lie, in each layout it has there.
fn candidates(set: Set, root: &Path) -> impl Iterator<Item = Found> {
    places(set).iter().flat_map(move |&(layout, folders)| {
        std::iter::once("")
            .chain(folders.iter().copied())
            .map(move |folder| Found {
                path: match folder {
                    "" => root.to_path_buf(),
                    folder => root.join(folder),
                },
                layout,
            })
    })
}

/// What is wrong with a copy in one folder that is none as a whole: where it is, and what it lacks.
fn half(set: Set, root: &Path) -> Option<(PathBuf, String)> {
    let incomplete = candidates(set, root).find_map(|found| {
        let missing = missing(set, found.layout, &found.path);
        let some = missing.len() < needed(set, found.layout, &found.path).len();
        let (name, missing) = (set.name(), missing.join(", "));
        some.then(|| {
            let problem = format!("this copy of {name} is incomplete: {missing} missing");
            (found.path, problem)
        })
    });
    incomplete.or_else(|| {
        let mut files = candidates(set, root).flat_map(|found| {
            let names = needed(set, found.layout, &found.path).into_iter();
            names.map(move |(name, _)| found.path.join(name))
        });
        let archives = archives(set).iter().map(|(_, name)| root.join(name));
        let folder = files.find(|path| path.is_dir());
        let folder = folder.or_else(|| archives.into_iter().find(|path| path.is_dir()))?;
        let problem = format!("a file of {} was expected; this is a folder", set.name());
        Some((folder, problem))
    })
}

/// Why nothing was found in the folder that the user named.
pub(super) fn not_in(set: Set, root: &Path) -> Error {
    let name = set.name();
    if !root.is_dir() {
        let (problem, remedy) = match root.exists() {
            true => ("this is a file", "name the folder that it is in"),
            false => ("there is no such folder", "check the path"),
        };
        return Error::data(root.display(), problem, remedy);
    }
    if let Some((place, problem)) = half(set, root) {
        let remedy =
            "complete it, or name no folder, to have the cache and Keras's folder looked in";
        return Error::data(place.display(), problem, remedy);
    }
    let folders = places(set).iter().flat_map(|(_, folders)| folders.iter());
    let archives = archives(set).iter().map(|(_, name)| name);
    let known: Vec<_> = folders.chain(archives).copied().collect();
    Error::data(
        root.display(),
        format!("there is no copy of {name} in it"),
        format!(
            "put its files there, or one of {}; or name no folder, to have the cache and Keras's \
             folder looked in",
            known.join(", ")
        ),
    )
}

/// Why nothing was found in the usual places.
pub(super) fn not_found(set: Set) -> Error {
    let roots = usual_roots();
    let remedy = remedy(set, cfg!(feature = "download"), roots.first());
    if let Some((place, problem)) = roots.iter().find_map(|root| half(set, root)) {
        return Error::data(place.display(), problem, remedy);
    }
    let names: Vec<_> = roots
        .iter()
        .map(|root| root.display().to_string())
        .collect();
    let problem = format!("no copy was found in {}", names.join(" or "));
    Error::data(set.name(), problem, remedy)
}

/// How a set can be had that lies nowhere; `root` is the first place to look for it.
fn remedy(set: Set, can_download: bool, root: Option<&PathBuf>) -> String {
    let entry = set.entry();
    let megabytes = set.bytes().div_ceil(1_000_000);
    if can_download {
        let url = entry.url;
        return format!(
            "allow it to be downloaded ({megabytes} MB from {url}), or name the folder of a copy"
        );
    }
    let files: Vec<_> = entry.files.iter().map(|file| file.name).collect();
    // An archive is found where it lies; files that several sets have the names of need a folder.
    let folder = match (root, set.cifar()) {
        (Some(root), Some(_)) => format!("into {}, or name their folder", root.display()),
        (Some(root), None) => {
            let folder = root.join(set.name());
            format!("into {}, or name their folder", folder.display())
        }
        (None, _) => "into a folder, and name it".to_owned(),
    };
    format!(
        "this build cannot download (it is without the feature `download`): bring {} \
         ({megabytes} MB) from {} {folder}",
        files.join(", "),
        entry.url
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn touch(root: &Path, folder: &str, files: &[&str]) {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for file in files {
            fs::write(folder.join(file), "x").unwrap();
        }
    }

    #[test]
    fn copies_are_found_where_they_usually_lie() {
        let hundred = CifarLayout::Python;
        for (set, folder, files, layout) in [
            (
                Set::Cifar100,
                "",
                &["train.bin", "test.bin"][..],
                Layout::Cifar(CifarLayout::Binary),
            ),
            (
                Set::Cifar100,
                "cifar-100-binary",
                &["train.bin", "test.bin"],
                Layout::Cifar(CifarLayout::Binary),
            ),
            (
                Set::Cifar100,
                "cifar-100-python",
                &["train", "test"],
                Layout::Cifar(hundred),
            ),
            (
                Set::Cifar100,
                "cifar-100-python-target/cifar-100-python",
                &["train", "test"],
                Layout::Cifar(hundred),
            ),
            (Set::FashionMnist, "fashion-mnist", &idx::FILES, Layout::Idx),
            (Set::Mnist, "MNIST/raw", &idx::FILES, Layout::Idx),
        ] {
            let root = tempfile::tempdir().unwrap();
            assert_eq!(locate_in(set, root.path()), None);
            touch(root.path(), folder, &files[1..]);
            assert_eq!(locate_in(set, root.path()), None, "incomplete");
            let error = not_in(set, root.path()).to_string();
            assert!(
                error.contains("incomplete") && error.contains(files[0]),
                "{error}"
            );
            touch(root.path(), folder, files);
            let found = locate_in(set, root.path()).unwrap();
            assert_eq!(found.layout, layout);
            assert_eq!(
                found.path.components().count(),
                root.path().join(folder).components().count()
            );
        }
        // A folder in the place of a file, and a file in that of a folder.
        let root = tempfile::tempdir().unwrap();
        for name in ["cifar-100-binary/train.bin", "cifar-10-python.tar.gz"] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        for set in [Set::Cifar100, Set::Cifar10] {
            assert_eq!(locate_in(set, root.path()), None);
            let error = not_in(set, root.path()).to_string();
            assert!(error.ends_with("was expected; this is a folder"), "{error}");
        }
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = not_in(Set::Mnist, &file).to_string();
        assert!(error.ends_with("this is a file"), "{error}");
        // Gzipped or not, and an archive as it was downloaded.
        let root = tempfile::tempdir().unwrap();
        let gzipped = idx::FILES.map(|name| format!("{name}.gz"));
        touch(
            root.path(),
            "fashion-mnist",
            &gzipped.each_ref().map(String::as_str),
        );
        touch(root.path(), "", &["cifar-10-python.tar.gz"]);
        assert!(locate_in(Set::FashionMnist, root.path()).is_some());
        let archive = locate_in(Set::Cifar10, root.path()).unwrap();
        assert_eq!(archive.path, root.path().join("cifar-10-python.tar.gz"));
        // The first root that has a copy counts.
        let other = tempfile::tempdir().unwrap();
        touch(other.path(), "cifar-100-python", &["train", "test"]);
        let roots = [root.path().to_path_buf(), other.path().to_path_buf()];
        let found = locate_in_roots(Set::Cifar100, &roots).unwrap();
        assert!(found.path.starts_with(other.path()));
    }

    #[test]
    fn what_lies_nowhere_can_be_had() {
        let root = PathBuf::from("/cache");
        let remedy = |set, can_download| remedy(set, can_download, Some(&root));
        let fetch = remedy(Set::Cifar100, true);
        assert!(
            fetch.contains("170 MB from https://www.cs.toronto.edu/~kriz/"),
            "{fetch}"
        );
        // Where each is then found: an archive as it is, files of MNIST's names in a folder.
        for (set, parts) in [
            (
                Set::Cifar100,
                ["bring cifar-100-python.tar.gz (170 MB)", "into /cache,"],
            ),
            (
                Set::Mnist,
                ["t10k-labels-idx1-ubyte.gz (12 MB)", "into /cache/mnist,"],
            ),
        ] {
            let bring = remedy(set, false);
            assert!(bring.contains("this build cannot download"), "{bring}");
            for part in parts {
                assert!(bring.contains(part), "{bring}");
            }
        }
    }
}
