//! Files that somebody names, to be read whole: regular ones, and no longer than such a file can
//! be. A device never ends, and a pipe may never begin.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::error::{Error, Result};

/// Opens a regular file, and says how long it is.
///
/// # Errors
/// [`Error::Io`] where it cannot be opened, or is a folder, a device, a pipe or a socket.
pub fn open(path: &Path) -> Result<(File, u64)> {
    let failed = |source| Error::io("read", path)(source);
    // Before it is opened, which would wait for a pipe's other end.
    let metadata = path.metadata().map_err(failed)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "it is a folder, and a file is needed"
        } else {
            "it is no regular file, but a device, a pipe or a socket"
        };
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, what)));
    }
    Ok((File::open(path).map_err(failed)?, metadata.len()))
}

/// A text of at most so many bytes; a byte order mark at its beginning is left out.
///
/// # Errors
/// [`Error::Io`], as [`open`]; [`Error::Data`] where it is longer, or no UTF-8.
pub fn text(path: &Path, most: u64) -> Result<String> {
    let failed = |source| Error::io("read", path)(source);
    let (file, length) = open(path)?;
    let mut bytes = Vec::new();
    // It may have grown since.
    let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(failed)?;
    if length > most || bytes.len() as u64 > most {
        let problem =
            format!("it is longer than {most} bytes, the most that is read of such a file");
        let remedy = "make it shorter, unless it is another kind of file";
        return Err(Error::data(path.display(), problem, remedy));
    }
    let unreadable = |problem, remedy| Err(Error::data(path.display(), problem, remedy));
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return unreadable("this is text in UTF-16", "save it as UTF-8");
    }
    let Ok(text) = String::from_utf8(bytes) else {
        let remedy = "save it as UTF-8, unless it is another kind of file";
        return unreadable("this is no text in UTF-8", remedy);
    };
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        let read = |bytes: &[u8], most| {
            std::fs::write(&path, bytes).unwrap();
            text(&path, most).map_err(|error| error.to_string())
        };
        assert_eq!(read(b"abc", 3).unwrap(), "abc");
        assert_eq!(read(b"", 3).unwrap(), "");
        assert_eq!(
            read("\u{feff}a = 1\r\n".as_bytes(), 10).unwrap(),
            "a = 1\r\n"
        );
        assert!(
            read(b"abcd", 3)
                .unwrap_err()
                .contains("longer than 3 bytes")
        );
        assert!(read(b"ab\xff", 3).unwrap_err().contains("no text in UTF-8"));
        assert!(read(b"\xff\xfea\0", 9).unwrap_err().contains("UTF-16"));
        let error = text(dir.path(), 3).unwrap_err();
        assert!(error.to_string().contains("it is a folder"), "{error}");
        let error = text(&dir.path().join("none"), 3).unwrap_err();
        assert_eq!(error.remedy(), "check the path");
    }

    #[cfg(unix)]
    #[test]
    fn what_never_ends_is_not_begun() {
        for path in ["/dev/zero", "/dev/null"] {
            let error = text(Path::new(path), 1 << 20).unwrap_err().to_string();
            assert!(error.contains("no regular file"), "{error}");
        }
    }
}
