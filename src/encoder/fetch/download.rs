//! Resumable downloads.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use ureq::{
    Agent, Body,
    http::{Response, StatusCode, Uri, header},
};

use super::{FILE_BYTES_MAX, FetchError, FileHash, InstallProgress, failed};

/// Attempts per download; each resumes where the last one broke.
const ATTEMPTS_MAX: usize = 3;
/// Maximum number of https redirects.
const REDIRECTS_MAX: u32 = 5;
const CHUNK_BYTES: usize = 64 << 10;

/// A file with its expected sha256.
#[derive(Debug, Clone)]
pub(super) struct ExpectedFile {
    pub(super) url: String,
    pub(super) sha256: FileHash,
    /// Its length in bytes, if known.
    pub(super) bytes: Option<u64>,
}

/// An allowed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    Https,
    /// Plain http to this machine: nobody in between can read or change it.
    Loopback,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, FetchError> {
        let bad = || FetchError::BadUrl { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let host = uri.host().ok_or_else(bad)?;
        match uri.scheme_str() {
            Some("https") => Ok(Self::Https),
            Some("http") if is_loopback(host) => Ok(Self::Loopback),
            _ => Err(bad()),
        }
    }

    fn agent(self, silence_max: Duration) -> Agent {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Length, sha256 and ranges refer to the uncompressed file.
            .accept_encoding("identity")
            .timeout_connect(Some(silence_max))
            .timeout_recv_response(Some(silence_max))
            .timeout_per_read(Some(silence_max));
        match self {
            Self::Https => config.https_only(true).max_redirects(REDIRECTS_MAX).build().new_agent(),
            Self::Loopback => config.proxy(None).max_redirects(0).build().new_agent(),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Completes `partial`. Bytes of an earlier attempt are kept; a file with the wrong length or sha256 is deleted.
pub(super) fn download(
    expected: &ExpectedFile,
    partial: &Path,
    silence_max: Duration,
    progress: &dyn InstallProgress,
) -> Result<(), FetchError> {
    let agent = Address::parse(&expected.url)?.agent(silence_max);
    let mut open = fs::OpenOptions::new();
    let opened = open.create(true).truncate(false).read(true).write(true).open(partial);
    let file = opened.map_err(failed("cannot open", partial))?;
    let mut download = Download { expected, partial, file, agent, progress };
    let outcome = download.all();
    progress.end();
    if let Err(FetchError::WrongHash { .. } | FetchError::TooLong { .. }) = outcome {
        fs::remove_file(partial).map_err(failed("cannot remove", partial))?;
    }
    outcome
}

struct Download<'a> {
    expected: &'a ExpectedFile,
    partial: &'a Path,
    file: fs::File,
    agent: Agent,
    progress: &'a dyn InstallProgress,
}

impl Download<'_> {
    fn all(&mut self) -> Result<(), FetchError> {
        let mut attempt = 1;
        loop {
            match self.rest() {
                Err(FetchError::Cut { .. }) if attempt < ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
                Ok(()) => return self.check(),
            }
        }
    }

    /// Downloads the missing bytes.
    fn rest(&mut self) -> Result<(), FetchError> {
        let mut have = self.length()?;
        if have > self.bytes_max() {
            have = self.start_over()?;
        }
        if self.expected.bytes == Some(have) {
            return Ok(());
        }
        let response = self.ask(have)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&response, have) => {}
            StatusCode::OK => have = self.start_over()?,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                // The local part is not a prefix of the remote file.
                self.start_over()?;
                return Err(self.cut(0));
            }
            status => return Err(FetchError::Status { url: self.expected.url.clone(), status: status.as_u16() }),
        }
        self.receive(response, have)
    }

    fn ask(&self, have: u64) -> Result<Response<Body>, FetchError> {
        let mut request = self.agent.get(&self.expected.url);
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let unreachable = |source| FetchError::Unreachable { url: self.expected.url.clone(), source: Box::new(source) };
        request.call().map_err(unreachable)
    }

    fn receive(&mut self, response: Response<Body>, have: u64) -> Result<(), FetchError> {
        let bytes_max = self.bytes_max();
        let stated = response.body().content_length().map(|rest| have.saturating_add(rest));
        if stated.is_some_and(|total| total > bytes_max) {
            return Err(self.too_long());
        }
        self.progress.begin(have, self.expected.bytes.or(stated));
        self.file.seek(SeekFrom::Start(have)).map_err(failed("cannot write", self.partial))?;
        // One byte more than allowed detects a body that is too long.
        let mut body = response.into_body().into_reader().take(bytes_max + 1 - have);
        let mut received = have;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(self.cut(received)),
            };
            self.file.write_all(&chunk[..count]).map_err(failed("cannot write", self.partial))?;
            received += count as u64;
            self.progress.advance(count as u64);
        }
        if received > bytes_max {
            return Err(self.too_long());
        }
        if self.expected.bytes.is_some_and(|bytes| received < bytes) {
            return Err(self.cut(received));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), FetchError> {
        self.file.rewind().map_err(failed("cannot read", self.partial))?;
        let found = FileHash::of_reader(&self.file).map_err(failed("cannot read", self.partial))?;
        if found == self.expected.sha256 {
            return Ok(());
        }
        Err(FetchError::WrongHash { origin: self.expected.url.clone(), expected: self.expected.sha256, found })
    }

    fn length(&self) -> Result<u64, FetchError> {
        Ok(self.file.metadata().map_err(failed("cannot read the metadata of", self.partial))?.len())
    }

    fn start_over(&self) -> Result<u64, FetchError> {
        self.file.set_len(0).map_err(failed("cannot empty", self.partial))?;
        Ok(0)
    }

    fn bytes_max(&self) -> u64 {
        self.expected.bytes.unwrap_or(FILE_BYTES_MAX)
    }

    fn cut(&self, received: u64) -> FetchError {
        FetchError::Cut { url: self.expected.url.clone(), received }
    }

    fn too_long(&self) -> FetchError {
        FetchError::TooLong { url: self.expected.url.clone(), bytes_max: self.bytes_max() }
    }
}

/// Whether the server resumes at the requested offset.
fn begins_at(response: &Response<Body>, have: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
    begin == Some(have)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_allowed_to_this_machine_only() {
        for (url, address) in [
            ("https://example.org/a", Some(Address::Https)),
            ("http://localhost:8000/a", Some(Address::Loopback)),
            ("http://127.0.0.9/a", Some(Address::Loopback)),
            ("http://[::1]:80/a", Some(Address::Loopback)),
            ("http://example.org/a", None),
            ("http://localhost@example.org/a", None),
            ("http://localhost.example.org/a", None),
            ("http://10.0.0.1/a", None),
            ("ftp://localhost/a", None),
            ("file:///etc/passwd", None),
            ("localhost/a", None),
            ("", None),
        ] {
            assert_eq!(Address::parse(url).ok(), address, "{url}");
        }
    }
}
