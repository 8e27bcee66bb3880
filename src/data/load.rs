//! From what a user asks for to a data set in memory.

use std::path::{Path, PathBuf};

use super::catalogue::{Format, Set, Spec};
use super::cifar::{self, Cifar};
use super::pictures::{Decoded, Square};
use super::search::{self, Found, Layout};
use super::{Dataset, csv, embedded, folder, idx, npz, svhn, tiny_imagenet};
use crate::error::{Error, Result};

/// What is told about a download as it goes on: bytes done, and bytes in all where that is known.
pub type Progress<'a> = dyn FnMut(u64, Option<u64>) + 'a;

/// What is told as a data set is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loading {
    /// Bytes that were downloaded, and bytes in all where that is known.
    Download(u64, Option<u64>),
    /// Pictures that were decoded, and pictures in all (of one split).
    Pictures(usize, usize),
}

/// How to load a data set.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where the user says that a copy lies; looked in instead of the usual places.
    pub data_dir: Option<PathBuf>,
    /// What pictures in files of their own are brought to.
    pub square: Square,
    /// Refuse a data set with a picture that cannot be used, instead of passing the picture over.
    pub strict: bool,
    /// Download what is not found; a build without the feature `download` has to refuse.
    pub may_fetch: bool,
    /// Where to download from instead of the publisher: the address of a folder with files of the
    /// same names.
    pub mirror: Option<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            data_dir: None,
            square: Square::new(64),
            strict: false,
            may_fetch: false,
            mirror: None,
        }
    }
}

/// Loads what was asked for and [checks](Dataset::check) it.
///
/// # Errors
/// [`Error::Data`] when no copy is found and none may be fetched, or when
/// `data_dir` is given and holds none; [`Error::Download`]; and as the
/// readers and [`Dataset::check`].
pub fn load(spec: &Spec, options: &LoadOptions, tell: &mut dyn FnMut(Loading)) -> Result<Dataset> {
    let data = match spec {
        Spec::Files(format, path) => {
            let mut decoded = |done, of| tell(Loading::Pictures(done, of));
            read_own(*format, path, options.square, &mut decoded)?
        }
        Spec::Named(set) => {
            let mut progress = |done, of| tell(Loading::Download(done, of));
            let folder = options.data_dir.as_deref();
            let found = match (search::locate(*set, folder), folder) {
                (Some(found), _) => found,
                (None, Some(folder)) => return Err(search::not_in(*set, folder)),
                (None, None) if options.may_fetch => fetched(*set, options, &mut progress)?,
                (None, None) => return Err(search::not_found(*set)),
            };
            read(*set, &found)?
        }
    };
    data.check()?;
    if options.strict {
        data.refuse_skipped()?;
    }
    Ok(data)
}

/// A set's copy, downloaded.
#[cfg(feature = "download")]
fn fetched(set: Set, options: &LoadOptions, progress: &mut Progress) -> Result<Found> {
    let folder = super::fetch::fetch(set, options.mirror.as_deref(), progress)?;
    search::locate_in(set, &folder).ok_or_else(|| search::not_in(set, &folder))
}

#[cfg(not(feature = "download"))]
fn fetched(set: Set, _: &LoadOptions, _: &mut Progress) -> Result<Found> {
    Err(search::not_found(set))
}

fn read_own(format: Format, path: &Path, square: Square, decoded: &mut Decoded) -> Result<Dataset> {
    match format {
        Format::Folder if tiny_imagenet::is_it(path) => {
            let (problem, path) = ("this is laid out as Tiny-ImageNet is", path.display());
            let remedy = format!("use tiny-imagenet:{path}");
            Err(Error::data(path, problem, remedy))
        }
        Format::Folder => folder::read(path, square, decoded),
        Format::Csv => csv::read(path, square, decoded),
        Format::Npz => npz::read(path),
        Format::TinyImagenet => tiny_imagenet::read(path, square, decoded),
        Format::Svhn => svhn::read(path),
    }
}

fn read(set: Set, found: &Found) -> Result<Dataset> {
    match (found.layout, set) {
        (Layout::Cifar(layout), Set::Cifar10) => cifar::read(Cifar::Ten, layout, &found.path),
        (Layout::Cifar(layout), _) => cifar::read(Cifar::Hundred, layout, &found.path),
        (Layout::Idx, _) => idx::read(set.name(), set.classes(), &found.path),
        (Layout::Embedded, _) => embedded::sign_digits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pickle");

    fn quiet() -> impl FnMut(Loading) {
        |_| ()
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
    fn a_folder_of_another_layout_is_called_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("val")).unwrap();
        for name in ["wnids.txt", "val/val_annotations.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let spec = Spec::Files(Format::Folder, folder.path().to_path_buf());
        let error = load(&spec, &LoadOptions::default(), &mut quiet()).unwrap_err();
        assert!(error.remedy().starts_with("use tiny-imagenet:"), "{error}");
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
}
