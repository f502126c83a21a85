//! A journal in a local folder: one JSON record a line, append-only, synced, and a lock that dies with its holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use rustix::io::Errno;
use rustix::process::Pid;

use super::line::decode;
use super::lock::{is_held, this_host};
use super::{Epoch, Holder, Lock, LockError, Store, Stored};

const JOURNAL: &str = "journal.jsonl";
/// The beginning of the name of an archived journal; the number of its epoch and the time follow.
const ARCHIVE: &str = "journal.epoch-";
const LOCK: &str = "lock";

/// The journal and the lock of one cluster, in a folder of its own.
#[derive(Debug)]
pub struct FileStore {
    folder: PathBuf,
    /// Open for appending since the first append.
    file: Arc<Mutex<Option<File>>>,
}

impl FileStore {
    /// The store in `folder`, which must exist before anything is appended or locked. Touches no file.
    pub fn open(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), file: Arc::default() }
    }

    fn journal(&self) -> PathBuf {
        self.folder.join(JOURNAL)
    }

    fn lock_file(&self) -> PathBuf {
        self.folder.join(LOCK)
    }
}

#[async_trait]
impl Store for FileStore {
    fn location(&self) -> String {
        self.journal().display().to_string()
    }

    async fn read(&self) -> io::Result<Stored> {
        let bytes = match tokio::fs::read(self.journal()).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let whole = whole_lines(&bytes);
        let notice = (whole < bytes.len())
            .then(|| format!("the last line of {} is incomplete after a crash and is ignored", self.location()));
        let lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n');
        let lines = lines.map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec()).collect();
        Ok(Stored { lines, archived: last_archived(&self.folder)?, notice })
    }

    async fn append(&self, line: &str) -> io::Result<()> {
        let (path, file, line) = (self.journal(), self.file.clone(), format!("{line}\n"));
        blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if file.is_none() {
                *file = Some(open_for_append(&path)?);
            }
            file.as_mut().map_or(Ok(()), |file| append(file, &line))
        })
        .await
    }

    async fn archive(&self, epoch: Epoch, now: Timestamp) -> io::Result<String> {
        let (folder, file) = (self.folder.clone(), self.file.clone());
        let archive = folder.join(format!("{ARCHIVE}{epoch}.{}.jsonl", now.strftime("%Y%m%dT%H%M%SZ")));
        let location = archive.display().to_string();
        blocking(move || {
            // The next append opens the next journal.
            file.lock().unwrap_or_else(PoisonError::into_inner).take();
            if archive.exists() {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            std::fs::rename(folder.join(JOURNAL), &archive)?;
            sync_folder(&folder)
        })
        .await?;
        Ok(location)
    }

    async fn lock(&self, holder: Holder) -> Result<Lock, LockError> {
        let path = self.lock_file();
        let locked = tokio::task::spawn_blocking(move || lock(&path, &holder)).await;
        locked.unwrap_or_else(|error| Err(lock_failed(&self.lock_file(), io::Error::other(error))))
    }

    async fn holder(&self) -> Option<Holder> {
        let path = self.lock_file();
        tokio::task::spawn_blocking(move || holder(&path)).await.ok().flatten()
    }
}

/// The newest epoch with an archived journal in a folder, which need not exist.
fn last_archived(folder: &Path) -> io::Result<Option<Epoch>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut last = None;
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(ARCHIVE)?.split('.').next()?.parse().ok());
        last = last.max(number.map(Epoch::new));
    }
    Ok(last)
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The number of bytes that whole lines take up. A crash cuts a line off and puts nothing behind a record: another byte than
/// a line break there is damage, and its line counts, so that it is reported as damaged.
fn whole_lines(bytes: &[u8]) -> usize {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let is_damaged = bytes[end..].split_last().is_some_and(|(_, record)| decode(record).is_ok());
    if is_damaged { bytes.len() } else { end }
}

/// Makes created, renamed and removed names in a folder durable, which syncing the files does not (fsync(2)).
///
/// # Errors
///
/// A folder that cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Opens the journal for appending, creates it (0600) when it does not exist, and drops a last line that a crash cut off.
fn open_for_append(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // The file may be new, or an earlier run may have ended right after it created it.
    path.parent().map_or(Ok(()), sync_folder)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = whole_lines(&bytes);
    if whole < bytes.len() {
        file.set_len(whole as u64)?;
    }
    Ok(file)
}

fn append(file: &mut File, line: &str) -> io::Result<()> {
    let end = file.seek(SeekFrom::End(0))?;
    let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
    if written.is_err() {
        // A half-written line must not stand before the next whole one; if this fails too, the next open drops it.
        let _ = file.set_len(end);
    }
    written
}

fn lock_failed(path: &Path, source: io::Error) -> LockError {
    LockError::Io { location: path.display().to_string(), source }
}

fn lock(path: &Path, holder: &Holder) -> Result<Lock, LockError> {
    let fail = |source| lock_failed(path, source);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LockError::Held { holder: read_holder(&mut file) }),
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    let text = serde_json::to_string(holder).map_err(|error| fail(error.into()))?;
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes())).map_err(fail)?;
    Ok(Lock::new(LockedFile(file)))
}

/// The holder, read without a lock of its own: a run that starts at this moment must not find the lock taken.
fn holder(path: &Path) -> Option<Holder> {
    let holder = read_holder(&mut File::open(path).ok()?)?;
    // Only Linux has this table.
    let locks = std::fs::read_to_string("/proc/locks").ok();
    is_held(&holder, &this_host(), locks.as_deref(), process_exists).then_some(holder)
}

fn process_exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // A process of another user exists, and may not be signalled.
    pid.is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH)))
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// A locked file. Its content names the holder, so it is emptied before the lock is given back.
struct LockedFile(File);

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Closing the file gives the lock back in any case.
        let _ = self.0.set_len(0);
    }
}
