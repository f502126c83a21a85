//! Streamed data from a node: logs, kernel log, files, directories, kubeconfig.

use std::io::Read;

use secrecy::SecretString;

use super::error::{ClientError, ClientErrorKind};
use super::link::{Flow, Link, Stream};
use talos_proto::common::{ContainerDriver, Data};
use talos_proto::machine::{DmesgRequest, ListRequest, LogsRequest, ReadRequest};

/// How much of a log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The whole log that the node still has.
    Everything,
    Lines(u16),
}

/// A stream of lines. Talos sends chunks of bytes, not lines.
#[derive(Debug)]
pub struct Lines {
    stream: Stream<Data>,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line without its line break; `None` at the end.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            match self.stream.next().await? {
                Some(data) => self.rest.extend(data.bytes),
                None if self.rest.is_empty() => return Ok(None),
                None => return Ok(Some(String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned())),
            }
        }
    }

    /// All remaining lines.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn collect(mut self) -> Result<Vec<String>, ClientError> {
        let mut lines = Vec::new();
        while let Some(line) = self.next().await? {
            lines.push(line);
        }
        Ok(lines)
    }
}

/// Whether a log ends or continues with new lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogMode {
    /// The existing log.
    Existing,
    /// The existing log, followed by new lines as they are written.
    Follow,
}

impl LogMode {
    fn flow(self) -> Flow {
        match self {
            Self::Existing => Flow::Ends,
            Self::Follow => Flow::Follows,
        }
    }
}

pub(super) async fn log(link: &Link, service: &str, tail: Tail, mode: LogMode) -> Result<Lines, ClientError> {
    let request = LogsRequest {
        namespace: "system".into(),
        id: service.to_owned(),
        driver: ContainerDriver::Containerd.into(),
        follow: mode == LogMode::Follow,
        // The protocol default of 0 means no lines.
        tail_lines: match tail {
            Tail::Everything => -1,
            Tail::Lines(count) => i32::from(count),
        },
    };
    let mut machine = link.machine();
    let stream = link.stream("logs", mode.flow(), machine.logs(link.request(request))).await?;
    Ok(Lines { stream, rest: vec![] })
}

pub(super) async fn kernel_log(link: &Link, mode: LogMode) -> Result<KernelLog, ClientError> {
    let mut machine = link.machine();
    let request = link.request(DmesgRequest { follow: mode == LogMode::Follow, tail: false });
    Ok(KernelLog(link.stream("dmesg", mode.flow(), machine.dmesg(request)).await?))
}

/// The kernel log. Unlike in other logs, each chunk is one line without a line break.
#[derive(Debug)]
pub struct KernelLog(Stream<Data>);

impl KernelLog {
    /// The next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        let data = self.0.next().await?;
        Ok(data.map(|data| String::from_utf8_lossy(&data.bytes).trim_end().to_owned()))
    }
}

pub(super) async fn read(link: &Link, path: &str) -> Result<Vec<u8>, ClientError> {
    let (mut machine, request) = (link.machine(), link.request(ReadRequest { path: path.to_owned() }));
    whole(link.stream("read", Flow::Ends, machine.read(request)).await?).await
}

async fn whole(mut stream: Stream<Data>) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(data) = stream.next().await? {
        bytes.extend(data.bytes);
    }
    Ok(bytes)
}

/// The names in a directory; empty when it does not exist.
pub(super) async fn folder(link: &Link, path: &str) -> Result<Vec<String>, ClientError> {
    match names(link, path).await {
        Err(error) if error.reason.contains("no such file or directory") => Ok(vec![]),
        names => names,
    }
}

async fn names(link: &Link, path: &str) -> Result<Vec<String>, ClientError> {
    let call = "list files";
    let request = ListRequest { root: path.to_owned(), ..ListRequest::default() };
    let mut machine = link.machine();
    let mut stream = link.stream(call, Flow::Ends, machine.list(link.request(request))).await?;
    let mut names = Vec::new();
    while let Some(entry) = stream.next().await? {
        if !entry.error.is_empty() {
            return Err(link.error(call, ClientErrorKind::Other, entry.error));
        }
        names.push(entry.relative_name);
    }
    // The directory itself comes first, then its entries.
    Ok(names.into_iter().skip(1).collect())
}

/// The administrator's kubeconfig, which the node generates for every call. It is secret.
pub(super) async fn kubeconfig(link: &Link) -> Result<SecretString, ClientError> {
    let (call, mut machine) = ("kubeconfig", link.machine());
    let archive = whole(link.stream(call, Flow::Ends, machine.kubeconfig(link.request(()))).await?).await?;
    first_entry(&archive)
        .map(Into::into)
        .ok_or_else(|| link.error(call, ClientErrorKind::Other, "the response is not a kubeconfig"))
}

/// The first file of a gzipped tar. Talos does not finish the archive, so its end may be missing.
fn first_entry(archive: &[u8]) -> Option<String> {
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let mut entry = tar.entries().ok()?.next()?.ok()?;
    let size = usize::try_from(entry.size()).ok()?;
    let mut content = Vec::new();
    // A missing end of the archive is an error after the content has been read.
    let _ = entry.read_to_end(&mut content);
    String::from_utf8(content).ok().filter(|text| text.len() == size)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn archive(content: &str, whole: bool) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        builder.append_data(&mut header, "kubeconfig", content.as_bytes()).unwrap();
        let mut tar = builder.into_inner().unwrap();
        if !whole {
            tar.truncate(512 + content.len());
        }
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&tar).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn a_kubeconfig_is_read_from_an_archive_without_its_end() {
        for whole in [true, false] {
            assert_eq!(first_entry(&archive("kind: Config\n", whole)).unwrap(), "kind: Config\n");
        }
    }

    #[test]
    fn a_truncated_kubeconfig_is_rejected() {
        let content = "kind: Config\n".repeat(1000);
        let mut half = archive(&content, true);
        half.truncate(half.len() / 2);
        assert_eq!(first_entry(&half), None);
        assert_eq!(first_entry(b"not gzip"), None);
    }
}
