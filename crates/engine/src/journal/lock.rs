//! One run at a time: what every store's lock has in common.

use std::any::Any;
use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Code;

/// The run that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub host: String,
    pub since: Timestamp,
    /// What it is doing, such as `infra --resume`.
    pub command: String,
}

impl Holder {
    /// This process, from now on.
    pub fn this_process(command: impl Into<String>) -> Self {
        Self {
            pid: std::process::id(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            since: Timestamp::now(),
            command: command.into(),
        }
    }
}

/// Why a lock was not granted.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another run holds the lock: {}", describe(.holder.as_ref()))]
    Held { holder: Option<Holder> },
    #[error("cannot lock {location}: {source}")]
    Io { location: String, source: io::Error },
}

impl LockError {
    pub fn code(&self) -> Code {
        match self {
            Self::Held { .. } => Code::O04,
            Self::Io { .. } => Code::O05,
        }
    }
}

fn describe(holder: Option<&Holder>) -> String {
    let Some(holder) = holder else { return "its holder is not known".to_owned() };
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
}

/// A lock that is held until this is dropped, or its process dies.
pub struct Lock(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Any + Send + Sync>);

impl Lock {
    /// A lock that dropping `guard` gives back.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}
