//! Named files of a data set, from a folder or from inside a `.tar.gz` archive.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::error::{Error, Result};
use crate::input;

/// More than any file that belongs to a known data set (CIFAR-100's `train`: 155 MB), and a bound
/// on what a few bytes of malicious gzip can unfold to.
const LARGEST: u64 = 1 << 29;

/// What one array in a user's own file may unfold to: as much as a file of a known set, or ten times
/// the file's own length if that is more.
pub(super) fn may_unfold_to(length: u64) -> u64 {
    LARGEST.max(length.saturating_mul(10))
}

/// More bytes than any list of a known data set has (Tiny-ImageNet's `words.txt`: 3 MB).
pub(super) const LONGEST_LIST: u64 = 1 << 26;

/// Where a data set's files lie.
pub(super) enum Files {
    /// Side by side in a folder.
    Folder(PathBuf),
    /// In memory, taken from this archive.
    Archive(PathBuf, BTreeMap<String, Vec<u8>>),
}

impl Files {
    /// Opens a folder, or unpacks the files with these names from an archive into memory.
    pub fn open(path: &Path, wanted: &[&str]) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Folder(path.to_path_buf()));
        }
        let entries = unpack(path, wanted)?;
        Ok(Self::Archive(path.to_path_buf(), entries))
    }

    /// The whole file; `None` where there is no such file.
    pub fn get(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                let (file, length) = match input::open(&path) {
                    Ok(file) => file,
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                };
                if length > LARGEST {
                    let problem = format!("it is {length} bytes long");
                    let remedy = "a known data set's files are smaller: this is another file";
                    return Err(Error::data(path.display(), problem, remedy));
                }
                let mut bytes = Vec::with_capacity(length as usize);
                let read = file.take(LARGEST).read_to_end(&mut bytes);
                read.map_err(Error::io("read", path))?;
                Ok(Some(bytes))
            }
            Self::Archive(_, entries) => Ok(entries.remove(name)),
        }
    }

    /// The whole file, which must be there.
    pub fn need(&mut self, name: &str) -> Result<Vec<u8>> {
        let bytes = self.get(name)?;
        bytes.ok_or_else(|| {
            let remedy =
                "the copy is incomplete: fetch the data set again, or point to a whole one";
            Error::data(self.place(name), "this file is missing", remedy)
        })
    }

    /// A file's name for its reader.
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::Archive(archive, _) => format!("{name} in {}", archive.display()),
        }
    }
}

/// The regular files among an archive's entries that have one of these names, whichever folder
/// of the archive they lie in. Nothing is written, so no entry's path can lead anywhere; links are
/// no regular files.
pub(super) fn unpack(archive: &Path, wanted: &[&str]) -> Result<BTreeMap<String, Vec<u8>>> {
    let (file, _) = input::open(archive)?;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    let mut found = BTreeMap::new();
    let broken = |error: io::Error| {
        Error::data(
            archive.display(),
            format!("the archive cannot be unpacked: {error}"),
            "it is damaged or incomplete: delete it and fetch it again",
        )
    };
    for entry in tar.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?;
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(&name) = wanted.iter().find(|&&wanted| Some(wanted) == name) else {
            continue;
        };
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let size = entry.size();
        if size > LARGEST {
            let error = format!("{name} claims to be {size} bytes long");
            return Err(broken(io::Error::other(error)));
        }
        let mut bytes = Vec::new();
        entry
            .take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(broken)?;
        if (bytes.len() as u64) < size {
            let error = format!("{name} ends after {} of {size} bytes", bytes.len());
            return Err(broken(io::Error::other(error)));
        }
        found.insert(name.to_owned(), bytes);
    }
    Ok(found)
}

/// `PATH.extension`, next to `PATH`.
pub(super) fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// The file's bytes, unfolded if they are gzipped; never more than `limit` of them.
pub(super) fn gunzip(bytes: Vec<u8>, limit: u64) -> io::Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut unfolded = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..])
        .take(limit)
        .read_to_end(&mut unfolded)?;
    Ok(unfolded)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;
    use flate2::{Compression, write::GzEncoder};

    /// A `.tar.gz` with these files.
    pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // Written by hand: the crate itself refuses to write a path that leads outside.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn only_wanted_regular_files_come_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.gz");
        let bytes = archive(&[
            ("set/train", b"one"),
            ("../../evil", b"two"),
            ("../../test", b"three"),
        ]);
        fs::write(&path, &bytes).unwrap();
        let found = unpack(&path, &["train", "test", "meta"]).unwrap();
        assert_eq!(found["train"], b"one");
        // The name is wanted; where it wished to lie is of no account.
        assert_eq!(found["test"], b"three");
        assert_eq!(found.len(), 2);

        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "set/train", "/etc/passwd")
            .unwrap();
        let linked = tar.into_inner().unwrap().finish().unwrap();
        fs::write(&path, linked).unwrap();
        assert!(unpack(&path, &["train"]).unwrap().is_empty());

        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = unpack(&path, &["train", "test"]).unwrap_err();
        assert!(error.to_string().contains("cannot be unpacked"), "{error}");
        fs::write(&path, b"<html>404</html>").unwrap();
        assert!(unpack(&path, &["train"]).is_err());
    }

    #[test]
    fn gunzip_stops_at_its_limit() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        io::Write::write_all(&mut encoder, &vec![0; 1 << 20]).unwrap();
        let bytes = encoder.finish().unwrap();
        assert_eq!(gunzip(bytes.clone(), 1000).unwrap().len(), 1000);
        assert_eq!(gunzip(bytes, u64::MAX).unwrap().len(), 1 << 20);
        assert_eq!(gunzip(vec![1, 2, 3], 10).unwrap(), [1, 2, 3]);
    }
}
