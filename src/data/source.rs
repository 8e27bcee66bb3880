//! The named data sets: what they are, where a copy may already lie, and where they can be had.
//!
//! A copy is looked for in this order: the folder the user names, and nowhere else if one is named;
//! the program's own cache; Keras's folder, `~/.keras/datasets`, which `KERAS_HOME` moves. What is
//! downloaded goes to the cache: `SMALLVIT_CACHE`, else `smallvit` in the system's cache folder.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::cifar::{self, Cifar, Layout as CifarLayout};
use super::download::{Checksum, Progress, beside, cannot_write, download, lock};
use super::{Dataset, embedded, files, folder, idx};
use crate::error::{Error, Result};

/// A named data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// CIFAR-100.
    Cifar100,
    /// CIFAR-10.
    Cifar10,
    /// Fashion-MNIST.
    FashionMnist,
    /// MNIST.
    Mnist,
    /// Sign Language Digits, inside the program.
    SignDigits,
}

/// A file that can be downloaded.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile {
    /// Its name, at the server and in the cache.
    pub name: &'static str,
    /// Its length in bytes.
    pub bytes: u64,
    /// What its bytes sum up to.
    pub checksum: Checksum<'static>,
}

/// What is known about a named data set.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What a user asks for it by.
    pub name: &'static str,
    /// One line: what it shows, how many images of what size and how many classes.
    pub description: &'static str,
    /// What is known of its licence.
    pub licence: &'static str,
    /// Where its files are; ends in a slash.
    pub url: &'static str,
    /// What is downloaded; nothing for a set inside the program.
    pub files: &'static [RemoteFile],
}

impl Set {
    /// All sets, in the order they are listed in.
    pub const ALL: [Self; 5] = [
        Self::Cifar100,
        Self::Cifar10,
        Self::FashionMnist,
        Self::Mnist,
        Self::SignDigits,
    ];

    /// The set's entry in the catalogue.
    pub fn entry(self) -> &'static Entry {
        match self {
            Self::Cifar100 => &CIFAR_100,
            Self::Cifar10 => &CIFAR_10,
            Self::FashionMnist => &FASHION_MNIST,
            Self::Mnist => &MNIST,
            Self::SignDigits => &SIGN_DIGITS,
        }
    }

    /// What a user asks for it by.
    pub fn name(self) -> &'static str {
        self.entry().name
    }
}

const CIFAR_100: Entry = Entry {
    name: "cifar100",
    description: "CIFAR-100: photographs, 32×32 RGB, 100 classes, 50,000 + 10,000 images",
    licence: "none stated; for research (Krizhevsky, 2009)",
    url: "https://www.cs.toronto.edu/~kriz/",
    files: &[RemoteFile {
        name: "cifar-100-python.tar.gz",
        bytes: 169_001_437,
        checksum: Checksum::Sha256(
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        ),
    }],
};

const CIFAR_10: Entry = Entry {
    name: "cifar10",
    description: "CIFAR-10: photographs, 32×32 RGB, 10 classes, 50,000 + 10,000 images",
    licence: "none stated; for research (Krizhevsky, 2009)",
    url: "https://www.cs.toronto.edu/~kriz/",
    files: &[RemoteFile {
        name: "cifar-10-python.tar.gz",
        bytes: 170_498_071,
        checksum: Checksum::Sha256(
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        ),
    }],
};

const FASHION_MNIST: Entry = Entry {
    name: "fashion-mnist",
    description: "Fashion-MNIST: articles of clothing, 28×28 grey, 10 classes, 60,000 + 10,000 \
                  images",
    licence: "MIT (Zalando SE, 2017)",
    url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    files: &[
        RemoteFile {
            name: "train-images-idx3-ubyte.gz",
            bytes: 26_421_880,
            checksum: Checksum::Md5("8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        },
        RemoteFile {
            name: "train-labels-idx1-ubyte.gz",
            bytes: 29_515,
            checksum: Checksum::Md5("25c81989df183df01b3e8a0aad5dffbe"),
        },
        RemoteFile {
            name: "t10k-images-idx3-ubyte.gz",
            bytes: 4_422_102,
            checksum: Checksum::Md5("bef4ecab320f06d8554ea6380940ec79"),
        },
        RemoteFile {
            name: "t10k-labels-idx1-ubyte.gz",
            bytes: 5_148,
            checksum: Checksum::Md5("bb300cfdad3c16e7a12a480ee83cd310"),
        },
    ],
};

const MNIST: Entry = Entry {
    name: "mnist",
    description: "MNIST: handwritten digits, 28×28 grey, 10 classes, 60,000 + 10,000 images",
    licence: "CC BY-SA 3.0 (LeCun, Cortes, Burges)",
    url: "https://ossci-datasets.s3.amazonaws.com/mnist/",
    files: &[
        RemoteFile {
            name: "train-images-idx3-ubyte.gz",
            bytes: 9_912_422,
            checksum: Checksum::Md5("f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        },
        RemoteFile {
            name: "train-labels-idx1-ubyte.gz",
            bytes: 28_881,
            checksum: Checksum::Md5("d53e105ee54ea40749a09fcbcd1e9432"),
        },
        RemoteFile {
            name: "t10k-images-idx3-ubyte.gz",
            bytes: 1_648_877,
            checksum: Checksum::Md5("9fb629c4189551a2d022fa330f9573f3"),
        },
        RemoteFile {
            name: "t10k-labels-idx1-ubyte.gz",
            bytes: 4_542,
            checksum: Checksum::Md5("ec29112dd5afa0611ce80d1b7f02629c"),
        },
    ],
};

const SIGN_DIGITS: Entry = Entry {
    name: "sign-digits",
    description: "Sign Language Digits: hands, 32×32 RGB, 10 classes, 1,651 + 411 images (built in)",
    licence: "Apache-2.0 (Arda Mavi, arXiv 2011.08927)",
    url: "",
    files: &[],
};

const FASHION_CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// What a user asks for: a named set, or a folder of class folders.
///
/// ```
/// use smallvit::data::source::{Set, Spec};
/// assert_eq!("cifar100".parse::<Spec>().unwrap(), Spec::Named(Set::Cifar100));
/// assert_eq!("folder:/my/pets".parse::<Spec>().unwrap(), Spec::Folder("/my/pets".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// One of the catalogue.
    Named(Set),
    /// `folder:PATH`.
    Folder(PathBuf),
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(set) => f.write_str(set.name()),
            Self::Folder(path) => write!(f, "folder:{}", path.display()),
        }
    }
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("folder:")
            && !path.is_empty()
        {
            return Ok(Self::Folder(PathBuf::from(path)));
        }
        if let Some(set) = Set::ALL.into_iter().find(|set| set.name() == text) {
            return Ok(Self::Named(set));
        }
        let names = Set::ALL.map(Set::name).join(", ");
        let list = format!("the data sets are {names}, and folder:PATH for your own images");
        let remedy = match did_you_mean(text) {
            Some(guess) => format!("did you mean {guess}? {list}"),
            None => list,
        };
        Err(Error::recipe(
            "data",
            format!("{text:?} is no data set"),
            remedy,
        ))
    }
}

fn did_you_mean(text: &str) -> Option<String> {
    if text.contains(['/', '\\']) || Path::new(text).is_dir() {
        return Some(format!("folder:{text}"));
    }
    // "CIFAR-100" and "fashion_mnist" are the same names to a human.
    let plain = |name: &str| {
        let letters = name.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<Vec<_>>()
    };
    let asked = plain(text);
    let distance = |set: &Set| distance(&asked, &plain(set.name()));
    let nearest = Set::ALL.into_iter().min_by_key(distance)?;
    (distance(&nearest) <= 2).then(|| nearest.name().to_owned())
}

/// Levenshtein's: the fewest letters to insert, remove or change.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

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

/// How to load a data set.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where the user says that a copy lies; looked in instead of the usual places.
    pub data_dir: Option<PathBuf>,
    /// What images of a folder are brought to, in pixels a side.
    pub folder_size: usize,
    /// Refuse a folder with an image that cannot be decoded, instead of passing the image over.
    pub strict: bool,
    /// Download what is not found.
    pub may_fetch: bool,
    /// Where to download from instead of the publisher; see [`fetch`].
    pub mirror: Option<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            data_dir: None,
            folder_size: 64,
            strict: false,
            may_fetch: false,
            mirror: None,
        }
    }
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

fn cifar(set: Set) -> Option<Cifar> {
    match set {
        Set::Cifar100 => Some(Cifar::Hundred),
        Set::Cifar10 => Some(Cifar::Ten),
        _ => None,
    }
}

/// The files of a layout that must be there, and whether each is in this folder.
fn needed(set: Set, layout: Layout, folder: &Path) -> Vec<(&'static str, bool)> {
    let names = match (layout, cifar(set)) {
        (Layout::Cifar(layout), Some(cifar)) => {
            let (train, test) = cifar.files(layout);
            [train, &[test]].concat()
        }
        _ => idx::FILES.to_vec(),
    };
    let is_there = |name: &str| {
        let plain = folder.join(name);
        plain.is_file() || (layout == Layout::Idx && beside(&plain, "gz").is_file())
    };
    names
        .into_iter()
        .map(|name| (name, is_there(name)))
        .collect()
}

fn is_whole(set: Set, layout: Layout, folder: &Path) -> bool {
    let files = needed(set, layout, folder);
    files.iter().all(|(_, is_there)| *is_there)
}

fn locate_in(set: Set, root: &Path) -> Option<Found> {
    if set == Set::SignDigits {
        let (path, layout) = (PathBuf::new(), Layout::Embedded);
        return Some(Found { path, layout });
    }
    let is_whole = |found: &Found| is_whole(set, found.layout, &found.path);
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

/// Why nothing was found in the folder that the user named.
fn not_in(set: Set, root: &Path) -> Error {
    let name = set.name();
    if !root.is_dir() {
        let problem = "there is no such folder";
        return Error::data(root.display(), problem, "check --data-dir");
    }
    for found in candidates(set, root) {
        let files = needed(set, found.layout, &found.path);
        if files.iter().any(|(_, is_there)| *is_there) {
            let missing = files.iter().filter(|(_, is_there)| !is_there);
            let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
            return Error::data(
                found.path.display(),
                format!(
                    "this copy of {name} is incomplete: {} missing",
                    missing.join(", ")
                ),
                "complete it, or leave --data-dir out",
            );
        }
    }
    let folders = places(set).iter().flat_map(|(_, folders)| folders.iter());
    let archives = archives(set).iter().map(|(_, name)| name);
    let known: Vec<_> = folders.chain(archives).copied().collect();
    Error::data(
        root.display(),
        format!("there is no copy of {name} in it"),
        format!(
            "put its files there, or one of {}; or leave --data-dir out, to have the cache and \
             Keras's folder looked in",
            known.join(", ")
        ),
    )
}

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
        match cifar(set) {
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
        fs::write(&path, bytes).map_err(cannot_write(&path))?;
    }
    Ok(())
}

/// Loads what was asked for and [checks](Dataset::check) it.
///
/// # Errors
/// [`Error::Data`] when no copy is found and none may be fetched, or when `data_dir` is given and
/// holds none; and as the readers, [`fetch`] and [`Dataset::check`].
pub fn load(spec: &Spec, options: &LoadOptions, progress: &mut Progress) -> Result<Dataset> {
    let data = match spec {
        Spec::Folder(path) => folder::read(path, options.folder_size, options.strict)?,
        Spec::Named(set) => {
            let found = match (locate(*set, options.data_dir.as_deref()), &options.data_dir) {
                (Some(found), _) => found,
                (None, Some(folder)) => return Err(not_in(*set, folder)),
                (None, None) if options.may_fetch => {
                    let folder = fetch(*set, options.mirror.as_deref(), progress)?;
                    locate_in(*set, &folder).ok_or_else(|| not_in(*set, &folder))?
                }
                (None, None) => return Err(not_found(*set)),
            };
            read(*set, &found)?
        }
    };
    data.check()?;
    Ok(data)
}

fn read(set: Set, found: &Found) -> Result<Dataset> {
    match (found.layout, set) {
        (Layout::Cifar(layout), Set::Cifar10) => cifar::read(Cifar::Ten, layout, &found.path),
        (Layout::Cifar(layout), _) => cifar::read(Cifar::Hundred, layout, &found.path),
        (Layout::Idx, Set::FashionMnist) => idx::read(set.name(), &FASHION_CLASSES, &found.path),
        (Layout::Idx, _) => idx::read(set.name(), &DIGITS, &found.path),
        (Layout::Embedded, _) => embedded::sign_digits(),
    }
}

fn not_found(set: Set) -> Error {
    let roots = usual_roots();
    let roots: Vec<_> = roots
        .iter()
        .map(|root| root.display().to_string())
        .collect();
    let entry = set.entry();
    let bytes: u64 = entry.files.iter().map(|file| file.bytes).sum();
    let megabytes = bytes.div_ceil(1_000_000);
    Error::data(
        entry.name,
        format!("no copy was found in {}", roots.join(" or ")),
        format!(
            "allow it to be downloaded ({megabytes} MB from {}), or name the folder of a copy with \
             --data-dir",
            entry.url
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::download::tests::{Server, respond, serve};
    use super::*;
    use sha2::{Digest, Sha256};

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pickle");

    fn quiet() -> impl FnMut(u64, Option<u64>) {
        |_, _| ()
    }

    fn touch(root: &Path, folder: &str, files: &[&str]) {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for file in files {
            fs::write(folder.join(file), "x").unwrap();
        }
    }

    #[test]
    fn specs_are_read_and_written() {
        for text in [
            "cifar100",
            "cifar10",
            "fashion-mnist",
            "mnist",
            "sign-digits",
            "folder:a b/c",
        ] {
            assert_eq!(text.parse::<Spec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_unknown_set_is_answered_with_a_list() {
        let remedy = |text: &str| {
            let error = text.parse::<Spec>().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.remedy().to_owned()
        };
        let all = remedy("imagenet");
        for set in Set::ALL {
            assert!(all.contains(set.name()), "{all}");
        }
        assert!(all.contains("folder:PATH") && !all.contains("did you mean"));
        assert!(remedy("CIFAR-100").starts_with("did you mean cifar100?"));
        assert!(remedy("fashion_mnist").starts_with("did you mean fashion-mnist?"));
        assert!(remedy("minst").starts_with("did you mean mnist?"));
        assert!(remedy("./pets").starts_with("did you mean folder:./pets?"));
        assert!(!remedy("folder:").contains("did you mean"));
        assert!(!remedy("").contains("did you mean"));
    }

    #[test]
    fn the_catalogue_is_whole() {
        for set in Set::ALL {
            let entry = set.entry();
            assert!(entry.description.contains('×') && !entry.licence.is_empty());
            assert_eq!(entry.files.is_empty(), entry.url.is_empty());
            for file in entry.files {
                let length = match file.checksum {
                    Checksum::Sha256(sum) => sum.len() / 2,
                    Checksum::Md5(sum) => sum.len(),
                };
                assert_eq!(length, 32, "{}", file.name);
            }
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
    fn a_named_folder_without_a_copy_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let options = LoadOptions {
            data_dir: Some(root.path().to_path_buf()),
            may_fetch: true,
            ..LoadOptions::default()
        };
        let spec = Spec::Named(Set::Cifar100);
        let error = load(&spec, &options, &mut quiet()).unwrap_err();
        assert!(
            error.to_string().contains("no copy of cifar100 in it"),
            "{error}"
        );
        assert!(
            error.remedy().contains("cifar-100-python.tar.gz"),
            "{}",
            error.remedy()
        );
        let nowhere = LoadOptions {
            data_dir: Some(root.path().join("nowhere")),
            ..options
        };
        let error = load(&spec, &nowhere, &mut quiet()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("nowhere: there is no such folder"),
            "{error}"
        );
    }

    #[test]
    fn named_sets_and_folders_are_loaded() {
        let options = LoadOptions {
            data_dir: Some(PathBuf::from(FIXTURES)),
            ..LoadOptions::default()
        };
        for (name, images, tests) in [
            ("cifar100", 3, 2),
            ("cifar10", 5, 1),
            ("sign-digits", 1651, 411),
        ] {
            let spec = name.parse().unwrap();
            let data = load(&spec, &options, &mut quiet()).unwrap();
            assert_eq!(data.name, name);
            assert_eq!(
                (data.train.len(), data.test.unwrap().len()),
                (images, tests)
            );
        }
    }

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
        let error = fetch_into(cache.path(), Set::Cifar100, &url, files, &mut quiet());
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
