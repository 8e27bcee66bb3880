//! TensorBoard's event files.
//!
//! An event file is a sequence of records, each framed as TensorFlow's record writer does it
//! (little-endian; `tensorflow/core/lib/io/record_writer.h`):
//!
//! ```text
//! u64 length   u32 masked CRC-32C of the length   length bytes   u32 masked CRC-32C of the bytes
//! ```
//!
//! A record's bytes are one `Event` message (`tensorflow/core/util/event.proto`), few enough of
//! whose fields are needed here to encode them by hand.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// An event file open for writing.
///
/// ```
/// use smallvit::report::tensorboard::EventWriter;
///
/// # let folder = std::env::temp_dir().join(format!("smallvit-doc-{}", std::process::id()));
/// let mut events = EventWriter::create(&folder, "smallvit")?;
/// events.scalar(1, "loss/train", 2.31)?;
/// events.flush()?;
/// # std::fs::remove_dir_all(&folder).ok();
/// # Ok::<(), smallvit::error::Error>(())
/// ```
#[derive(Debug)]
pub struct EventWriter {
    file: BufWriter<File>,
    path: PathBuf,
}

/// What an event says.
enum Content<'a> {
    FileVersion,
    Scalar { tag: &'a str, value: f32 },
    SessionStart,
}

impl EventWriter {
    /// Begins a new file in a folder, which is created if need be.
    ///
    /// It is called `events.out.tfevents.<unix seconds>.<suffix>`. TensorBoard reads a folder's
    /// files in the order of their names, so the number is made greater than that of every file
    /// there; none is ever overwritten.
    pub fn create(folder: &Path, suffix: &str) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let mut number = (unix_time() as u64).max(latest_number(folder)? + 1);
        let suffix = suffix.replace(['/', '\\'], "_");
        let (file, path) = loop {
            let path = folder.join(format!("{PREFIX}{number:010}.{suffix}"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (file, path),
                // Another process was quicker.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
        };
        let mut writer = Self {
            file: BufWriter::new(file),
            path,
        };
        writer.write(0, Content::FileVersion)?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A point of the curve called `tag`. Stored in 32 bits, as TensorBoard has it.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f64) -> Result<()> {
        let value = value as f32;
        self.write(step, Content::Scalar { tag, value })
    }

    /// Says that a run goes on with `step`: TensorBoard drops what earlier files of the folder
    /// hold for this step and later ones. (Its Python reader does so at once; its data server, curve
    /// by curve, when a point of this run replaces one.)
    pub fn restart_at(&mut self, step: u64) -> Result<()> {
        self.write(step, Content::SessionStart)
    }

    /// Hands everything written so far to the operating system, where TensorBoard sees it.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }

    fn write(&mut self, step: u64, content: Content) -> Result<()> {
        self.file
            .write_all(&record(&event(unix_time(), step, &content)))
            .map_err(Error::io("write", &self.path))
    }
}

const PREFIX: &str = "events.out.tfevents.";

/// The greatest number among the folder's event files, 0 without any.
fn latest_number(folder: &Path) -> Result<u64> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let number = |entry: fs::DirEntry| -> Option<u64> {
        let name = entry.file_name();
        let (number, _) = name.to_str()?.strip_prefix(PREFIX)?.split_once('.')?;
        number.parse().ok()
    };
    Ok(entries
        .flatten()
        .filter_map(number)
        // Not a time, and no room to count on: somebody else's file.
        .filter(|&number| number < 10_000_000_000)
        .max()
        .unwrap_or(0))
}

fn unix_time() -> f64 {
    // A clock before 1970 is as good as none.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// The frame round a message.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(message.len() + 16);
    bytes.extend(length);
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(message);
    bytes.extend(masked_crc(message).to_le_bytes());
    bytes
}

/// CRC-32C, rotated and shifted, because a CRC over bytes that contain their own CRC is weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

// Protobuf's wire types, the low three bits of a field's key.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED32: u8 = 5;

/// An `Event` message.
fn event(wall_time: f64, step: u64, content: &Content) -> Vec<u8> {
    let mut message = vec![1 << 3 | FIXED64];
    message.extend(wall_time.to_le_bytes());
    // Protobuf leaves out zeros.
    if step != 0 {
        message.push(2 << 3 | VARINT);
        varint(&mut message, step);
    }
    match content {
        Content::FileVersion => field(&mut message, 3, b"brain.Event:2"),
        Content::Scalar { tag, value } => {
            let mut point = Vec::new();
            field(&mut point, 1, tag.as_bytes());
            point.push(2 << 3 | FIXED32);
            point.extend(value.to_le_bytes());
            let mut summary = Vec::new();
            field(&mut summary, 1, &point);
            field(&mut message, 5, &summary);
        }
        Content::SessionStart => field(&mut message, 7, &[1 << 3 | VARINT, 1]),
    }
    message
}

/// A field that holds bytes: a string or another message.
fn field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | LENGTH_DELIMITED);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The expected bytes are those of tensorboard 2.x's `RecordWriter` and `event_pb2`.
    #[test]
    fn records_are_those_of_the_python_package() {
        let cases = [
            (
                event(1_700_000_000.25, 0, &Content::FileVersion),
                "1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe9",
            ),
            (
                event(
                    1_700_000_000.5,
                    300,
                    &Content::Scalar {
                        tag: "loss/train",
                        value: 2.5,
                    },
                ),
                "2100000000000000017becf60900002040fc54d94110ac022a130a110a0a6c6f73732f747261696e\
                 150000204055ed1795",
            ),
            (
                event(1_700_000_000.75, 200, &Content::SessionStart),
                "100000000000000095fbfe180900003040fc54d94110c8013a0208017aa94652",
            ),
            (
                event(
                    1_700_000_000.5,
                    0,
                    &Content::Scalar {
                        tag: "loss/train",
                        value: 0.0,
                    },
                ),
                "1e00000000000000d9dc12320900002040fc54d9412a130a110a0a6c6f73732f747261696e150000\
                 0000c392e87b",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(hex(&record(&message)), expected);
        }
    }

    #[test]
    fn the_checksum_is_castagnoli() {
        // RFC 3720, B.4: 32 bytes of zeros, and 32 of ones.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    /// A field of a message: its number, and its value as a number or as bytes.
    #[derive(Debug, PartialEq)]
    enum Field<'a> {
        Number(u64, u64),
        Bytes(u64, &'a [u8]),
    }

    /// A small protobuf reader, written from the format's description alone.
    fn parse(mut bytes: &[u8]) -> Vec<Field<'_>> {
        fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
            let (taken, rest) = bytes.split_at(count);
            *bytes = rest;
            taken
        }
        fn number(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for place in 0.. {
                let byte = take(bytes, 1)[0];
                value += u64::from(byte % 128) * 128u64.pow(place);
                if byte < 128 {
                    break;
                }
            }
            value
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = number(&mut bytes);
            fields.push(match key % 8 {
                0 => Field::Number(key / 8, number(&mut bytes)),
                1 => Field::Bytes(key / 8, take(&mut bytes, 8)),
                2 => {
                    let length = number(&mut bytes) as usize;
                    Field::Bytes(key / 8, take(&mut bytes, length))
                }
                5 => Field::Bytes(key / 8, take(&mut bytes, 4)),
                other => panic!("wire type {other}"),
            });
        }
        fields
    }

    /// The messages of a file, their checksums computed bit by bit.
    fn messages(bytes: &[u8]) -> Vec<&[u8]> {
        fn crc(bytes: &[u8]) -> u32 {
            let mut crc = u32::MAX;
            for &byte in bytes {
                crc ^= u32::from(byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 {
                        crc >> 1 ^ 0x82f6_3b78
                    } else {
                        crc >> 1
                    };
                }
            }
            let crc = !crc;
            crc.rotate_right(15).wrapping_add(0xa282_ead8)
        }
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let message = &bytes[at + 12..at + 12 + length];
            assert_eq!(word(at + 8), crc(&bytes[at..at + 8]));
            assert_eq!(word(at + 12 + length), crc(message));
            found.push(message);
            at += 16 + length;
        }
        found
    }

    #[test]
    fn what_was_written_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventWriter::create(&folder.path().join("new"), "a/b").unwrap();
        events.restart_at(7).unwrap();
        events.scalar(1 << 40, "top-1/τ", 83.25).unwrap();
        events.scalar(0, "nan", f64::NAN).unwrap();
        events.flush().unwrap();
        let bytes = fs::read(events.path()).unwrap();
        let messages = messages(&bytes);
        assert_eq!(messages.len(), 4);
        let now = unix_time();
        for message in &messages {
            let Field::Bytes(1, time) = parse(message)[0] else {
                panic!("no time");
            };
            let time = f64::from_le_bytes(time.try_into().unwrap());
            assert!((now - 60.0..=now).contains(&time));
        }
        assert_eq!(parse(messages[0])[1..], [Field::Bytes(3, b"brain.Event:2")]);
        assert_eq!(
            parse(messages[1])[1..],
            [Field::Number(2, 7), Field::Bytes(7, &[8, 1])]
        );
        let fields = parse(messages[2]);
        assert_eq!(fields[1], Field::Number(2, 1 << 40));
        let Field::Bytes(5, summary) = fields[2] else {
            panic!("no summary");
        };
        let Field::Bytes(1, point) = parse(summary)[0] else {
            panic!("no point");
        };
        assert_eq!(
            parse(point),
            [
                Field::Bytes(1, "top-1/τ".as_bytes()),
                Field::Bytes(2, &83.25f32.to_le_bytes())
            ]
        );
    }

    #[test]
    fn files_are_never_overwritten_and_sort_by_age() {
        let folder = tempfile::tempdir().unwrap();
        // From a machine whose clock was ahead.
        let ahead = folder.path().join(format!("{PREFIX}9000000000.old"));
        fs::write(&ahead, "kept").unwrap();
        let paths: Vec<PathBuf> = (0..3)
            .map(|_| {
                let writer = EventWriter::create(folder.path(), "same").unwrap();
                writer.path().to_owned()
            })
            .collect();
        assert!(ahead < paths[0] && paths[0] < paths[1] && paths[1] < paths[2]);
        assert_eq!(fs::read(ahead).unwrap(), b"kept");
    }

    #[test]
    fn a_file_in_the_folders_place_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(
            EventWriter::create(&file, "x"),
            Err(Error::Io {
                action: "create",
                ..
            })
        ));
    }
}
