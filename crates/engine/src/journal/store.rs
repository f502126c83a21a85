//! Where records are kept.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Entry, FORMAT, History, Record, RunId, replay};

/// A place for journal lines: a local file, later a bucket that several operators share.
pub trait Store: Send {
    /// Appends one line and returns when it is durable.
    ///
    /// # Errors
    ///
    /// Whatever kept the line from being durable; then nothing of it counts.
    fn append(&mut self, line: &str) -> io::Result<()>;
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot {action} the journal {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("line {line} of the journal {} is damaged: {reason}", .path.display())]
    Damaged { path: PathBuf, line: usize, reason: String },
    #[error("line {line} of the journal {} was written by a newer version ({tool}, format {format}); this is {}, format {FORMAT}", .path.display(), env!("CARGO_PKG_VERSION"))]
    Newer { path: PathBuf, line: usize, tool: String, format: u64 },
}

/// A journal file: one JSON record a line, append-only, synced.
#[derive(Debug)]
pub struct FileStore {
    file: File,
}

/// A file store with what it held.
#[derive(Debug)]
pub struct Opened {
    pub store: FileStore,
    pub history: History,
    /// Something the operator should read, such as a torn last line that was dropped.
    pub notice: Option<String>,
}

impl FileStore {
    /// Reads a journal without touching it. A missing file is an empty journal.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is damaged before its last line, or was written by a newer version.
    pub fn read(path: &Path) -> Result<History, JournalError> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(replay(&parse(path, &bytes)?.0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(History::default()),
            Err(source) => Err(JournalError::Io { action: "read", path: path.to_owned(), source }),
        }
    }

    /// Opens a journal for appending, creating it (0600) when there is none, and drops a torn last line.
    ///
    /// # Errors
    ///
    /// As [`FileStore::read`], and a folder or file that cannot be written.
    pub fn open(path: &Path) -> Result<Opened, JournalError> {
        let fail = |action| move |source| JournalError::Io { action, path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(fail("open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail("read"))?;
        let (records, whole) = parse(path, &bytes)?;
        let notice = (whole < bytes.len())
            .then(|| format!("the last line of {} was torn when an earlier run died; it is dropped", path.display()));
        if notice.is_some() {
            file.set_len(whole as u64).map_err(fail("repair"))?;
        }
        file.seek(SeekFrom::End(0)).map_err(fail("open"))?;
        Ok(Opened { store: Self { file }, history: replay(&records), notice })
    }
}

impl Store for FileStore {
    fn append(&mut self, line: &str) -> io::Result<()> {
        let end = self.file.seek(SeekFrom::End(0))?;
        let written = self.file.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // A half-written line must not stand before the next whole one; if this fails too, the next open drops it.
            let _ = self.file.set_len(end);
        }
        written
    }
}

/// The records and the number of bytes that whole lines take up.
fn parse(path: &Path, bytes: &[u8]) -> Result<(Vec<Record>, usize), JournalError> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let mut records = Vec::new();
    for (index, line) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        records.push(parse_line(path, index + 1, line)?);
    }
    Ok((records, whole))
}

fn parse_line(path: &Path, line: usize, bytes: &[u8]) -> Result<Record, JournalError> {
    let damaged = |reason: String| JournalError::Damaged { path: path.to_owned(), line, reason };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    let format =
        value.get("v").and_then(serde_json::Value::as_u64).ok_or_else(|| damaged("it has no version".into()))?;
    if format > u64::from(FORMAT) {
        let tool = value.get("tool").and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned();
        return Err(JournalError::Newer { path: path.to_owned(), line, tool, format });
    }
    serde_json::from_value(value).map_err(|error| damaged(error.to_string()))
}

/// The journal of a run: entries in, durable lines out.
pub struct Journal {
    store: Box<dyn Store>,
    run: RunId,
}

impl Journal {
    pub fn new(store: Box<dyn Store>, run: RunId) -> Self {
        Self { store, run }
    }

    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Appends an entry; when this returns `Ok`, it survives a crash.
    ///
    /// # Errors
    ///
    /// Whatever kept the entry from being durable.
    pub fn append(&mut self, entry: Entry) -> io::Result<()> {
        let record = Record { v: FORMAT, at: Timestamp::now(), run: self.run.clone(), entry };
        self.store.append(&serde_json::to_string(&record)?)
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("run", &self.run).finish_non_exhaustive()
    }
}
