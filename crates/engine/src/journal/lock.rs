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
        Self { pid: std::process::id(), host: this_host(), since: Timestamp::now(), command: command.into() }
    }
}

/// The name of this machine.
pub(super) fn this_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether the run that a lock file names still holds the lock. `locks` is Linux's table of file locks (`proc_locks(5)`):
/// a process that is not in it holds none, though its id may have gone to another one. Without the table the process counts.
pub(super) fn is_held(holder: &Holder, host: &str, locks: Option<&str>, exists: impl Fn(u32) -> bool) -> bool {
    if holder.host != host {
        return false;
    }
    let pid = holder.pid.to_string();
    match locks {
        // 1: FLOCK  ADVISORY  WRITE 4711 fd:00:1234 0 EOF
        Some(locks) => locks.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            matches!(words[..], [_, "FLOCK", _, "WRITE", owner, ..] if owner == pid)
        }),
        None => exists(holder.pid),
    }
}

/// Why a lock was not granted.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another run holds the lock: {}", describe(.holder.as_ref()))]
    Held { holder: Option<Holder> },
    #[error("cannot lock {location}")]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_while_the_kernel_lists_its_process() {
        let holder = Holder { pid: 4711, host: "laptop".into(), since: Timestamp::UNIX_EPOCH, command: "blue".into() };
        let line = "1: FLOCK  ADVISORY  WRITE 4711 fd:00:1234 0 EOF\n";
        let held = |host: &str, locks: Option<&str>| is_held(&holder, host, locks, |pid| pid == 4711);
        assert!(held("laptop", Some(line)));
        assert!(held("laptop", None));
        assert!(!held("desktop", Some(line)), "a process of another machine");
        for other in ["", "1: FLOCK ADVISORY READ 4711 fd:00:1 0 EOF", "1: POSIX ADVISORY WRITE 4711 fd:00:1 0 EOF"] {
            assert!(!held("laptop", Some(other)), "{other}");
        }
        // Of a process in another namespace the kernel shows no id.
        assert!(!held(
            "laptop",
            Some("1: FLOCK ADVISORY WRITE 47110 fd:00:1 0 EOF\n2: -> FLOCK ADVISORY WRITE 4711 fd:00:1 0 EOF")
        ));
        assert!(!is_held(&holder, "laptop", None, |_| false));
    }
}
