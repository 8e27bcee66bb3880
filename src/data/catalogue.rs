//! The named data sets: which there are, what their files are and sum up to, under which licences;
//! and how a user names one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::cifar::Cifar;
use super::tiny_imagenet;
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

/// What a whole file's bytes must sum up to, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum<'a> {
    /// SHA-256.
    Sha256(&'a str),
    /// MD5: no proof against malice, but all that some publishers give.
    Md5(&'a str),
}

/// A file that can be downloaded.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile {
    /// Its name, at the server and in the cache.
    pub name: &'static str,
    /// Its length in bytes: no more is taken from a server.
    pub bytes: u64,
    /// What its bytes sum up to.
    pub checksum: Checksum<'static>,
}

/// What is known about a named data set.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What a user asks for it by.
    pub name: &'static str,
    /// What its publisher calls it.
    pub title: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// Pixels a side of an image.
    pub side: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// How many classes there are.
    pub classes: usize,
    /// How many images there are to train and to test on.
    pub images: [usize; 2],
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

    /// Bytes of all its files.
    pub fn bytes(self) -> u64 {
        self.entry().files.iter().map(|file| file.bytes).sum()
    }

    /// Which of CIFAR's two it is.
    pub(super) fn cifar(self) -> Option<Cifar> {
        match self {
            Self::Cifar100 => Some(Cifar::Hundred),
            Self::Cifar10 => Some(Cifar::Ten),
            _ => None,
        }
    }

    /// The names of its classes, where no file of it has them.
    pub(super) fn classes(self) -> &'static [&'static str] {
        match self {
            Self::FashionMnist => &FASHION_CLASSES,
            Self::Mnist => &DIGITS,
            _ => &[],
        }
    }
}

const CIFAR_100: Entry = Entry {
    name: "cifar100",
    title: "CIFAR-100",
    shows: "photographs",
    side: 32,
    channels: 3,
    classes: 100,
    images: [50_000, 10_000],
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
    title: "CIFAR-10",
    shows: "photographs",
    side: 32,
    channels: 3,
    classes: 10,
    images: [50_000, 10_000],
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
    title: "Fashion-MNIST",
    shows: "clothes",
    side: 28,
    channels: 1,
    classes: 10,
    images: [60_000, 10_000],
    licence: "MIT (Zalando SE, 2017)",
    // The publisher's own copy; the bucket that its README names cannot be had by https.
    url: "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
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
    title: "MNIST",
    shows: "written digits",
    side: 28,
    channels: 1,
    classes: 10,
    images: [60_000, 10_000],
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
    title: "Sign Language Digits",
    shows: "hands",
    side: 32,
    channels: 3,
    classes: 10,
    images: [1_651, 411],
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

/// How data of a user's own is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder of class folders of pictures: [`folder`](super::folder).
    Folder,
    /// A CSV file of paths and labels: [`csv`](super::csv).
    Csv,
    /// NumPy's `.npz`: [`npz`](super::npz).
    Npz,
    /// Tiny-ImageNet's folders and lists: [`tiny_imagenet`].
    TinyImagenet,
    /// SVHN's MATLAB files: [`svhn`](super::svhn).
    Svhn,
}

impl Format {
    /// All formats, in the order they are listed in.
    pub const ALL: [Self; 5] = [
        Self::Folder,
        Self::Csv,
        Self::Npz,
        Self::TinyImagenet,
        Self::Svhn,
    ];

    /// What stands before a path, and how the path is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Csv => "csv",
            Self::Npz => "npz",
            Self::TinyImagenet => "tiny-imagenet",
            Self::Svhn => "svhn",
        }
    }

    /// What a user writes: `folder:PATH`.
    pub fn usage(self) -> &'static str {
        match self {
            Self::Folder => "folder:PATH",
            Self::Csv => "csv:FILE",
            Self::Npz => "npz:FILE",
            Self::TinyImagenet => "tiny-imagenet:PATH",
            Self::Svhn => "svhn:PATH",
        }
    }

    /// One line: what is read.
    pub fn description(self) -> &'static str {
        match self {
            Self::Folder => "a folder of class folders of pictures",
            Self::Csv => "a CSV file of pictures' paths, labels and perhaps splits",
            Self::Npz => "a NumPy .npz file of images and labels",
            Self::TinyImagenet => "Tiny-ImageNet's folder, with wnids.txt in it",
            Self::Svhn => "SVHN's folder of .mat files, or one of them",
        }
    }

    /// Which format a path looks like.
    fn of(path: &Path) -> Option<Self> {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        match ending.to_str() {
            Some("csv") => Some(Self::Csv),
            Some("npz") => Some(Self::Npz),
            Some("mat") => Some(Self::Svhn),
            _ if path.join("train_32x32.mat").is_file() => Some(Self::Svhn),
            _ if tiny_imagenet::is_it(path) => Some(Self::TinyImagenet),
            _ if path.is_dir() || path.to_string_lossy().contains(['/', '\\']) => {
                Some(Self::Folder)
            }
            _ => None,
        }
    }
}

/// What a user asks for: a named set, or files of their own.
///
/// ```
/// use smallvit::data::catalogue::{Format, Set, Spec};
/// assert_eq!("cifar100".parse::<Spec>().unwrap(), Spec::Named(Set::Cifar100));
/// let pets = Spec::Files(Format::Folder, "/my/pets".into());
/// assert_eq!("folder:/my/pets".parse::<Spec>().unwrap(), pets);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// One of the catalogue.
    Named(Set),
    /// `folder:PATH` and its like.
    Files(Format, PathBuf),
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(set) => f.write_str(set.name()),
            Self::Files(format, path) => write!(f, "{}:{}", format.name(), path.display()),
        }
    }
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((name, path)) = text.split_once(':')
            && let Some(format) = Format::ALL.into_iter().find(|format| format.name() == name)
            && !path.is_empty()
        {
            return Ok(Self::Files(format, PathBuf::from(path)));
        }
        if let Some(set) = Set::ALL.into_iter().find(|set| set.name() == text) {
            return Ok(Self::Named(set));
        }
        let names = Set::ALL.map(Set::name).join(", ");
        let own = Format::ALL.map(Format::usage).join(", ");
        let list = format!("The data sets are {names}, and for your own images {own}");
        let remedy = match did_you_mean(text) {
            Some(guess) => format!("did you mean {guess}? {list}"),
            None => list,
        };
        let problem = format!("there is none named {text:?}");
        Err(Error::recipe("data.set", problem, remedy))
    }
}

fn did_you_mean(text: &str) -> Option<String> {
    if let Some((name, path)) = text.split_once(':') {
        let asked = name.trim().to_lowercase();
        let distance = |format: &Format| strsim::levenshtein(&asked, format.name());
        let nearest = Format::ALL.into_iter().min_by_key(distance)?;
        let path = if path.is_empty() { "PATH" } else { path };
        if distance(&nearest) <= 1 {
            return Some(format!("{}:{path}", nearest.name()));
        }
    }
    if let Some(format) = Format::of(Path::new(text)) {
        return Some(format!("{}:{text}", format.name()));
    }
    // "CIFAR-100" and "fashion_mnist" are the same names to a human.
    let plain = |name: &str| {
        let letters = name.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    let asked = plain(text);
    let distance = |set: &Set| strsim::levenshtein(&asked, &plain(set.name()));
    let nearest = Set::ALL.into_iter().min_by_key(distance)?;
    (distance(&nearest) <= 2).then(|| nearest.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_and_written() {
        for text in [
            "cifar100",
            "cifar10",
            "fashion-mnist",
            "mnist",
            "sign-digits",
            "folder:a b/c",
            "csv:a.csv",
            "npz:a.npz",
            "tiny-imagenet:a",
            "svhn:C:\\svhn",
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
        assert!(remedy("Folder:a").starts_with("did you mean folder:a?"));
        assert!(remedy("cvs:a").starts_with("The data sets are"));
        assert!(remedy("npy:a").starts_with("did you mean npz:a?"));
        assert!(remedy("csv:").starts_with("did you mean csv:PATH?"));
        assert!(remedy("pets.csv").starts_with("did you mean csv:pets.csv?"));
        assert!(remedy("pets.npz").starts_with("did you mean npz:pets.npz?"));
        assert!(remedy("./train_32x32.MAT").starts_with("did you mean svhn:./train_32x32.MAT?"));
        assert!(remedy("folder:").starts_with("did you mean folder:PATH?"));
        assert!(!remedy("").contains("did you mean"));
    }

    #[test]
    fn the_catalogue_is_whole() {
        for set in Set::ALL {
            let entry = set.entry();
            assert!(!entry.licence.is_empty());
            let classes = match set.cifar() {
                Some(cifar) => cifar.classes(),
                None => set.classes(),
            };
            assert!(classes.is_empty() || classes.len() == entry.classes);
            assert_eq!(entry.files.is_empty(), entry.url.is_empty());
            assert!(entry.url.is_empty() || entry.url.starts_with("https://"));
            for file in entry.files {
                let length = match file.checksum {
                    Checksum::Sha256(sum) => sum.len() / 2,
                    Checksum::Md5(sum) => sum.len(),
                };
                assert_eq!(length, 32, "{}", file.name);
            }
        }
    }
}
