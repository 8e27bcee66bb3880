//! Fetching one file over HTTP, so that what is there afterwards is whole and right.
//!
//! The bytes go to `DEST.part`. A download that was broken off, even by ending the program, goes on
//! where it stopped. When all bytes are there their checksum is taken, and only then does the file
//! get its name, in one step. Processes that want the same file at once wait for each other: the
//! one that holds the lock on `DEST.lock` downloads.
//!
//! A server is trusted with nothing: more bytes than the file has are cut off, and an address of
//! `https` is never led on to one without.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::Progress;
use super::catalogue::Checksum;
use super::files::beside;
use crate::error::{Error, Result};
use crate::lock::Lock;

/// How long to wait for a server.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For a connection, and for the next bytes of one.
    silence: Duration,
    /// Attempts in a row that get no further than one before them.
    attempts: u32,
    /// Before the second attempt; doubled before each one after that.
    pause: Duration,
}

impl Patience {
    const USUAL: Self = Self {
        silence: Duration::from_secs(30),
        attempts: 5,
        pause: Duration::from_secs(1),
    };
}

/// Brings the file at `url` to `dest`. If `dest` is there already, nothing is done.
///
/// `bytes` is the file's length, where it is known: a server that has or sends more is refused.
/// Where it is not, the length that the server tells counts. `progress` is called after each chunk,
/// and while another process downloads the same file.
///
/// # Errors
/// [`Error::Download`] when the server refuses, sends too much or leads from `https` to `http`, the
/// connection breaks again and again, or the checksum is wrong (what came is removed where it
/// cannot be gone on from); [`Error::Data`] when the disk is full; [`Error::Io`] when `dest` cannot
/// be written for another reason.
pub fn download(
    url: &str,
    dest: &Path,
    checksum: Option<Checksum>,
    bytes: Option<u64>,
    progress: &mut Progress,
) -> Result<()> {
    let download = Download {
        url,
        part: beside(dest, "part"),
        bytes,
        patience: Patience::USUAL,
    };
    download.run(dest, checksum, progress)
}

/// What asks for an address. One of `https` is asked for by nothing else, wherever a server sends
/// it on to.
fn agent(url: &str, silence: Duration) -> ureq::Agent {
    let silence = Some(silence);
    ureq::Agent::config_builder()
        .https_only(url.starts_with("https://"))
        .http_status_as_error(false)
        .timeout_resolve(silence)
        .timeout_connect(silence)
        .timeout_recv_response(silence)
        .timeout_per_read(silence)
        .user_agent(concat!("smallvit/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

struct Download<'a> {
    url: &'a str,
    part: PathBuf,
    bytes: Option<u64>,
    patience: Patience,
}

/// Why an attempt ended before the file did.
enum Trouble {
    /// Another attempt may fare better.
    Passing(String),
    /// No other attempt will.
    Lasting(Error),
}

impl Download<'_> {
    fn run(&self, dest: &Path, checksum: Option<Checksum>, progress: &mut Progress) -> Result<()> {
        if let Some(folder) = dest.parent() {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let _lock = Lock::take(&beside(dest, "lock"), |_| {
            progress(length(&self.part), self.bytes);
            Ok(())
        })?;
        if dest.is_file() {
            return Ok(());
        }
        if self.bytes.is_none_or(|bytes| length(&self.part) != bytes) {
            self.complete(progress)?;
        }
        if let Some(checksum) = checksum {
            self.verify(checksum)?;
        }
        fs::rename(&self.part, dest).map_err(Error::io("write", dest))?;
        // The new name must outlive a power cut, too, where the system lets a folder be synced.
        if let Some(folder) = dest.parent()
            && let Ok(folder) = File::open(folder)
        {
            _ = folder.sync_all();
        }
        Ok(())
    }

    /// Makes attempts until the part is whole.
    fn complete(&self, progress: &mut Progress) -> Result<()> {
        let agent = agent(self.url, self.patience.silence);
        let mut longest = length(&self.part);
        let mut failures = 0;
        loop {
            let problem = match self.attempt(&agent, progress) {
                Ok(()) => return Ok(()),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing(problem)) => problem,
            };
            // Only an attempt that got further than all before it is progress: a server that
            // starts over each time and breaks off each time would else be asked for ever.
            let length = length(&self.part);
            if length > longest {
                (longest, failures) = (length, 0);
            }
            failures += 1;
            if failures >= self.patience.attempts {
                let attempts = self.patience.attempts;
                return Err(self.error(
                    format!("{problem} (after {attempts} attempts)"),
                    "check the connection and try again: what has arrived is kept, and the \
                     download goes on from there",
                ));
            }
            thread::sleep(self.patience.pause * 2u32.pow(failures - 1));
        }
    }

    /// One request, for what is missing.
    fn attempt(&self, agent: &ureq::Agent, progress: &mut Progress) -> Result<(), Trouble> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.part)
            .map_err(|error| self.disk(error))?;
        let have = file
            .seek(SeekFrom::End(0))
            .map_err(|error| self.disk(error))?;
        let mut request = agent.get(self.url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let mut response = request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Trouble::Lasting(self.error(error.to_string(), "check the address"))
            }
            ureq::Error::RequireHttpsOnly(_) => Trouble::Lasting(self.error(
                "the server leads on to an address without https".to_owned(),
                "name a mirror",
            )),
            ureq::Error::TooManyRedirects => Trouble::Lasting(self.error(
                "the server leads on and on to other addresses".to_owned(),
                "name a mirror",
            )),
            error => Trouble::Passing(error.to_string()),
        })?;
        let header = |name| response.headers().get(name)?.to_str().ok();
        let range = header("content-range").and_then(ContentRange::parse);
        let (start, total) = match response.status().as_u16() {
            206 => match range {
                Some(range) if range.start == Some(have) => (have, range.total),
                // Not what was asked for: ask for everything.
                _ => {
                    self.start_over(&file)?;
                    return Err(Trouble::Passing("the server sent another part".to_owned()));
                }
            },
            // The server knows no ranges, or was asked for none: this is the whole file.
            200 => {
                self.start_over(&file)?;
                (0, response.body().content_length())
            }
            // There is nothing after what is here: either it is whole, or it is not this file.
            416 => {
                if range.is_some_and(|range| range.total == Some(have)) {
                    return Ok(());
                }
                self.start_over(&file)?;
                return Err(Trouble::Passing(
                    "the server refused to continue".to_owned(),
                ));
            }
            status @ (408 | 425 | 429 | 500..=599) => {
                return Err(Trouble::Passing(format!("the server answered {status}")));
            }
            status => {
                let reason = response.status().canonical_reason().unwrap_or_default();
                return Err(Trouble::Lasting(self.error(
                    format!("the server answered {status} {reason}"),
                    "the file may have moved: name a mirror, or bring the file by other means \
                     and point to its folder",
                )));
            }
        };
        let mut done = start;
        let total = match (total, self.bytes) {
            (Some(total), Some(bytes)) if total > bytes => return Err(self.too_much(&file, bytes)),
            (total, bytes) => total.or(bytes),
        };
        let most = self.bytes.or(total).unwrap_or(u64::MAX);
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            progress(done, total);
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    return Err(Trouble::Passing(format!("the connection broke: {error}")));
                }
            };
            done += count as u64;
            if done > most {
                return Err(self.too_much(&file, most));
            }
            file.write_all(&buffer[..count])
                .map_err(|error| self.disk(error))?;
        }
        if total.is_some_and(|total| done < total) {
            return Err(Trouble::Passing("the connection broke".to_owned()));
        }
        file.sync_all().map_err(|error| self.disk(error))
    }

    /// Not the file that was asked for: nothing of it is kept.
    fn too_much(&self, file: &File, most: u64) -> Trouble {
        self.start_over(file).err().unwrap_or_else(|| {
            Trouble::Lasting(self.error(
                format!("the server sends more than the {most} bytes that the file has"),
                "its copy was replaced, or is another file: name another mirror",
            ))
        })
    }

    fn start_over(&self, file: &File) -> Result<(), Trouble> {
        file.set_len(0).map_err(|error| self.disk(error))
    }

    fn verify(&self, checksum: Checksum) -> Result<()> {
        let file = File::open(&self.part).map_err(Error::io("read", &self.part))?;
        let (kind, got, expected) = match checksum {
            Checksum::Sha256(expected) => ("SHA-256", digest::<Sha256>(file), expected),
            Checksum::Md5(expected) => ("MD5", digest::<Md5>(file), expected),
        };
        let got = got.map_err(Error::io("read", &self.part))?;
        if got.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        // Kept, it would be "continued" for ever.
        fs::remove_file(&self.part).map_err(Error::io("remove", &self.part))?;
        Err(self.error(
            format!("{kind} {expected} was expected, but what came has {got}"),
            "it was removed; try again, and if that does not help, the server's copy is damaged or \
             was replaced: name a mirror",
        ))
    }

    fn disk(&self, error: io::Error) -> Trouble {
        Trouble::Lasting(cannot_write(&self.part)(error))
    }

    fn error(&self, problem: String, remedy: &str) -> Error {
        Error::download(self.url, problem, remedy)
    }
}

/// For `map_err`, of what goes to the cache: a full disk has a remedy of its own there.
pub(super) fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::data(
            path.display(),
            "there is no room left to write it",
            "free some space, or choose another folder with SMALLVIT_CACHE; a download goes on \
             from where it stopped",
        ),
        _ => Error::io("write", path)(error),
    }
}

/// A file's length; 0 if there is none.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn digest<D: Digest>(mut file: File) -> io::Result<String> {
    let mut hash = D::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(super::hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// `bytes 100-199/200`, or `bytes */200`.
struct ContentRange {
    start: Option<u64>,
    total: Option<u64>,
}

impl ContentRange {
    fn parse(header: &str) -> Option<Self> {
        let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
        let start = range
            .split_once('-')
            .and_then(|(start, _)| start.parse().ok());
        Some(Self {
            start,
            total: total.parse().ok(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    /// A request's path and `Range`.
    type Request = (String, Option<String>);

    /// An HTTP server on loopback, for as long as it is needed.
    pub struct Server {
        pub url: String,
        /// The requests so far.
        pub requests: Arc<Mutex<Vec<Request>>>,
    }

    impl Server {
        /// Answers the n-th request (path, start of the range asked for) with what `answer` writes.
        pub fn new(
            answer: impl Fn(usize, &str, Option<usize>, &mut TcpStream) + Send + Sync + 'static,
        ) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let requests = Arc::new(Mutex::new(Vec::new()));
            let seen = Arc::clone(&requests);
            // The thread ends with the test process.
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    let Some(Ok(first)) = lines.next() else {
                        continue;
                    };
                    let path = first.split(' ').nth(1).unwrap().to_owned();
                    let mut range = None;
                    for line in lines
                        .map_while(Result::ok)
                        .take_while(|line| !line.is_empty())
                    {
                        if let Some(value) = line.to_lowercase().strip_prefix("range: ") {
                            range = Some(value.to_owned());
                        }
                    }
                    let number = seen.lock().unwrap().len();
                    seen.lock().unwrap().push((path.clone(), range.clone()));
                    let start = range
                        .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
                    answer(number, &path, start, &mut stream);
                }
            });
            Self { url, requests }
        }

        fn ranges(&self) -> Vec<Option<String>> {
            let requests = self.requests.lock().unwrap();
            requests.iter().map(|(_, range)| range.clone()).collect()
        }
    }

    /// A whole answer, though only the first `sent` bytes of its body are sent.
    pub fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8], sent: usize) {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
        );
        _ = stream.write_all(head.as_bytes());
        _ = stream.write_all(&body[..sent.min(length)]);
    }

    /// An answer as of a good server: the range that was asked for.
    pub fn serve(stream: &mut TcpStream, body: &[u8], start: Option<usize>, sent: usize) {
        let total = body.len();
        match start {
            None => respond(stream, "200 OK", "", body, sent),
            Some(start) if start >= total => {
                let range = format!("Content-Range: bytes */{total}\r\n");
                respond(stream, "416 Range Not Satisfiable", &range, b"", 0);
            }
            Some(start) => {
                let range = format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1);
                respond(stream, "206 Partial Content", &range, &body[start..], sent);
            }
        }
    }

    fn body() -> Vec<u8> {
        (0..300_000u32)
            .map(|i| (i.wrapping_mul(i) >> 7) as u8)
            .collect()
    }

    fn sha256(bytes: &[u8]) -> String {
        super::super::hex(&Sha256::digest(bytes))
    }

    fn fetch(server: &Server, dest: &Path, checksum: Option<Checksum>) -> Result<()> {
        fetch_bytes(server, dest, checksum, None)
    }

    fn fetch_bytes(
        server: &Server,
        dest: &Path,
        checksum: Option<Checksum>,
        bytes: Option<u64>,
    ) -> Result<()> {
        let download = Download {
            url: &server.url,
            part: beside(dest, "part"),
            bytes,
            patience: Patience {
                silence: Duration::from_millis(500),
                attempts: 3,
                pause: Duration::from_millis(1),
            },
        };
        download.run(dest, checksum, &mut |_, _| ())
    }

    fn dest() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("new/file.bin");
        (folder, dest)
    }

    #[test]
    fn a_file_arrives_and_is_not_fetched_twice() {
        let (_folder, dest) = dest();
        let server = Server::new(|_, _, start, stream| serve(stream, &body(), start, usize::MAX));
        let sum = sha256(&body());
        let mut calls = Vec::new();
        download(
            &server.url,
            &dest,
            Some(Checksum::Sha256(&sum)),
            None,
            &mut |done, total| calls.push((done, total)),
        )
        .unwrap();
        assert_eq!(fs::read(&dest).unwrap(), body());
        assert!(!beside(&dest, "part").exists());
        assert_eq!(calls[0], (0, Some(300_000)));
        assert_eq!(calls.last(), Some(&(300_000, Some(300_000))));
        assert!(calls.is_sorted());
        fetch(&server, &dest, None).unwrap();
        assert_eq!(server.ranges().len(), 1);
    }

    #[test]
    fn a_broken_connection_is_continued() {
        let (_folder, dest) = dest();
        // Each connection breaks after 50,000 bytes: more often than attempts in a row are made.
        let server = Server::new(|_, _, start, stream| serve(stream, &body(), start, 50_000));
        fetch(&server, &dest, Some(Checksum::Sha256(&sha256(&body())))).unwrap();
        assert_eq!(fs::read(&dest).unwrap(), body());
        let ranges = server.ranges();
        assert_eq!(ranges.len(), 6);
        assert_eq!(ranges[0], None);
        assert_eq!(ranges[5].as_deref(), Some("bytes=250000-"));
    }

    #[test]
    fn what_an_earlier_run_left_is_continued() {
        let (_folder, dest) = dest();
        fs::create_dir_all(dest.parent().unwrap()).unwrap();
        fs::write(beside(&dest, "part"), &body()[..1234]).unwrap();
        let server = Server::new(|_, _, start, stream| serve(stream, &body(), start, usize::MAX));
        // MD5 of the body, from hashlib.
        fetch(
            &server,
            &dest,
            Some(Checksum::Md5("80681a347dd84e045afa0fe1f9efe49e")),
        )
        .unwrap();
        assert_eq!(server.ranges(), [Some("bytes=1234-".to_owned())]);
        assert_eq!(fs::read(&dest).unwrap(), body());
    }

    #[test]
    fn a_part_that_is_whole_or_too_long() {
        let server = Server::new(|_, _, start, stream| serve(stream, &body(), start, usize::MAX));
        for (length, requests) in [(300_000, 1), (300_001, 2)] {
            let (_folder, dest) = dest();
            fs::create_dir_all(dest.parent().unwrap()).unwrap();
            let mut part = body();
            part.resize(length, 0);
            fs::write(beside(&dest, "part"), part).unwrap();
            let before = server.ranges().len();
            fetch(&server, &dest, Some(Checksum::Sha256(&sha256(&body())))).unwrap();
            assert_eq!(server.ranges().len() - before, requests);
            assert_eq!(fs::read(&dest).unwrap(), body());
        }
    }

    #[test]
    fn a_server_without_ranges_starts_over() {
        let (_folder, dest) = dest();
        let server = Server::new(|number, _, _, stream| {
            let sent = if number == 0 { 50_000 } else { usize::MAX };
            respond(stream, "200 OK", "", &body(), sent);
        });
        fetch(&server, &dest, Some(Checksum::Sha256(&sha256(&body())))).unwrap();
        assert_eq!(fs::read(&dest).unwrap(), body());

        // One that breaks off at the same place each time is not asked for ever.
        let (_folder, dest) = self::dest();
        let server = Server::new(|_, _, _, stream| {
            respond(stream, "200 OK", "", &body(), 50_000);
        });
        let error = fetch(&server, &dest, None).unwrap_err();
        assert!(error.to_string().contains("after 3 attempts"), "{error}");
        assert_eq!(length(&beside(&dest, "part")), 50_000);
        assert_eq!(server.ranges().len(), 3);
    }

    #[test]
    fn a_wrong_range_is_not_appended() {
        let (_folder, dest) = dest();
        let server = Server::new(|number, _, start, stream| match number {
            0 => serve(stream, &body(), start, 50_000),
            1 => serve(stream, &body(), Some(7), usize::MAX),
            _ => serve(stream, &body(), start, usize::MAX),
        });
        fetch(&server, &dest, Some(Checksum::Sha256(&sha256(&body())))).unwrap();
        assert_eq!(fs::read(&dest).unwrap(), body());
    }

    #[test]
    fn more_than_the_file_has_is_cut_off() {
        let endless = |stream: &mut TcpStream, head: &str| {
            _ = stream
                .write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes());
            let sent = (0..1000).take_while(|_| stream.write_all(&[7; 10_000]).is_ok());
            sent.count()
        };
        for (have, head) in [
            // A length that is too long, none at all, and a part whose range is a lie.
            (0, "200 OK\r\nContent-Length: 10000000"),
            (0, "200 OK"),
            (
                1234,
                "206 Partial Content\r\nContent-Range: bytes 1234-299999/300000",
            ),
            (
                1234,
                "206 Partial Content\r\nContent-Range: bytes 1234-299999/*",
            ),
        ] {
            let (_folder, dest) = dest();
            fs::create_dir_all(dest.parent().unwrap()).unwrap();
            fs::write(beside(&dest, "part"), &body()[..have]).unwrap();
            let server = Server::new(move |_, _, _, stream| _ = endless(stream, head));
            let error = fetch_bytes(&server, &dest, None, Some(300_000)).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("more than the 300000 bytes"), "{message}");
            assert!(error.remedy().contains("another mirror"));
            assert!(!dest.exists());
            assert_eq!(length(&beside(&dest, "part")), 0);
            assert_eq!(server.ranges().len(), 1);
        }
    }

    #[test]
    fn a_known_length_spares_and_mends() {
        // All is here but its name: nobody is asked.
        let (_folder, dest) = dest();
        fs::create_dir_all(dest.parent().unwrap()).unwrap();
        fs::write(beside(&dest, "part"), body()).unwrap();
        let server = Server::new(|_, _, start, stream| serve(stream, &body(), start, usize::MAX));
        fetch_bytes(&server, &dest, None, Some(300_000)).unwrap();
        assert_eq!(fs::read(&dest).unwrap(), body());
        assert_eq!(server.ranges().len(), 0);

        // A server that tells no length and breaks off.
        let (_folder, dest) = self::dest();
        let server = Server::new(|number, _, start, stream| match number {
            0 => {
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                _ = stream.write_all(&body()[..1000]);
            }
            _ => serve(stream, &body(), start, usize::MAX),
        });
        fetch_bytes(&server, &dest, None, Some(300_000)).unwrap();
        assert_eq!(fs::read(&dest).unwrap(), body());
        assert_eq!(server.ranges()[1].as_deref(), Some("bytes=1000-"));
    }

    #[test]
    fn https_is_not_left() {
        let plain = Server::new(|_, _, start, stream| serve(stream, &body(), start, usize::MAX));
        let asked = agent("https://example.org/file", Duration::from_secs(5)).get(&plain.url);
        assert!(matches!(
            asked.call(),
            Err(ureq::Error::RequireHttpsOnly(_))
        ));
        assert_eq!(plain.ranges().len(), 0);
    }

    #[test]
    fn a_wrong_checksum_removes_what_came() {
        let (_folder, dest) = dest();
        let server = Server::new(|number, _, start, stream| {
            let mut bytes = body();
            bytes[777] ^= u8::from(number == 0);
            serve(stream, &bytes, start, usize::MAX);
        });
        let sum = sha256(&body());
        let error = fetch(&server, &dest, Some(Checksum::Sha256(&sum))).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(&format!("SHA-256 {sum} was expected")),
            "{message}"
        );
        assert!(error.remedy().contains("try again"));
        assert!(!dest.exists() && !beside(&dest, "part").exists());
        fetch(&server, &dest, Some(Checksum::Sha256(&sum))).unwrap();
    }

    #[test]
    fn refusals_are_told_at_once_and_passing_trouble_is_not() {
        let (_folder, dest) = dest();
        let gone = Server::new(|_, _, _, stream| respond(stream, "404 Not Found", "", b"no", 2));
        let error = fetch(&gone, &dest, None).unwrap_err();
        assert!(error.to_string().contains("404 Not Found"), "{error}");
        assert!(error.to_string().contains(&gone.url));
        assert_eq!(gone.ranges().len(), 1);
        assert!(!dest.exists());

        let busy = Server::new(|number, _, start, stream| match number {
            0 => respond(stream, "503 Service Unavailable", "", b"", 0),
            _ => serve(stream, &body(), start, usize::MAX),
        });
        fetch(&busy, &dest, None).unwrap();
        assert_eq!(fs::read(&dest).unwrap(), body());
    }

    #[test]
    fn silence_ends() {
        let (_folder, dest) = dest();
        let server = Server::new(|number, _, start, stream| match number {
            0 => {
                serve(stream, &body(), start, 1000);
                let silent = stream.try_clone().unwrap();
                thread::spawn(move || {
                    thread::sleep(Duration::from_secs(5));
                    drop(silent);
                });
            }
            _ => serve(stream, &body(), start, usize::MAX),
        });
        fetch(&server, &dest, None).unwrap();
        assert_eq!(fs::read(&dest).unwrap(), body());

        let nobody = Server {
            url: "http://127.0.0.1:1".into(),
            requests: Arc::default(),
        };
        let (_folder, dest) = self::dest();
        let error = fetch(&nobody, &dest, None).unwrap_err();
        assert!(error.remedy().contains("check the connection"), "{error}");
    }

    #[test]
    fn two_at_once_do_not_meet() {
        let (_folder, dest) = dest();
        let server = Server::new(|_, _, start, stream| {
            thread::sleep(Duration::from_millis(50));
            serve(stream, &body(), start, usize::MAX);
        });
        // Locks belong to open files, so that threads stand for processes here.
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    fetch(&server, &dest, Some(Checksum::Sha256(&sha256(&body())))).unwrap()
                });
            }
        });
        assert_eq!(server.ranges().len(), 1);
        assert_eq!(fs::read(&dest).unwrap(), body());
    }
}
