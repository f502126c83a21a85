//! One run at a time: a lock that the kernel gives back when its holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub host: String,
    pub since: Timestamp,
    /// What it is doing, such as `infra --resume`.
    pub command: String,
}

/// Why the lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another run holds the lock: {}", describe(.holder.as_ref()))]
    Held { holder: Option<Holder> },
    #[error("cannot lock {}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn describe(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "it has not said who it is".to_owned(),
        |holder| {
            let age = Timestamp::now().duration_since(holder.since).as_secs();
            format!(
                "`{}`, process {} on {}, since {} ({} min {} s ago)",
                holder.command,
                holder.pid,
                holder.host,
                holder.since.strftime("%Y-%m-%d %H:%M:%SZ"),
                age / 60,
                age % 60
            )
        },
    )
}

/// A held lock; dropping it, or dying, gives it back.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path` or says who holds it.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] when another process has it; [`LockError::Io`] when the file cannot be written.
    pub fn take(path: &Path, command: &str) -> Result<Self, LockError> {
        let fail = |source| LockError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { holder: read_holder(&mut file) }),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let holder = Holder {
            pid: std::process::id(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            since: Timestamp::now(),
            command: command.to_owned(),
        };
        let text = serde_json::to_string(&holder).map_err(|error| fail(error.into()))?;
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes())).map_err(fail)?;
        Ok(Self { _file: file })
    }

    /// Who holds the lock at `path` now, if anybody does. The lock is not touched beyond a look.
    pub fn holder(path: &Path) -> Option<Holder> {
        let mut file = File::open(path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => read_holder(&mut file),
            _ => None,
        }
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}
