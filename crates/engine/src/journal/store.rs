//! What a journal needs of the place where it is kept, and the journal itself.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::line::{decode, encode};
use super::{Entry, Epoch, FORMAT, History, Holder, LineError, Lock, LockError, Record, RunId, replay};
use crate::Code;

/// Keeps the lines of one cluster's journal, and its lock: a local folder, later a bucket that several operators share.
#[async_trait]
pub trait Store: Send + Sync {
    /// The store as messages name it, such as the path of its file.
    fn location(&self) -> String;

    /// Reads every line, oldest first, and changes nothing. A store without a journal is empty.
    async fn read(&self) -> io::Result<Stored>;

    /// Appends one line and returns once it is durable. After an error nothing of the line counts.
    async fn append(&self, line: &str) -> io::Result<()>;

    /// Puts the journal of an epoch that has ended aside, durably and never deleted; returns where it is. The store has no
    /// lines after that.
    async fn archive(&self, epoch: Epoch, now: Timestamp) -> io::Result<String>;

    /// Locks the journal for one run, or reports the run that has it.
    async fn lock(&self, holder: Holder) -> Result<Lock, LockError>;

    /// The run that holds the lock now.
    async fn holder(&self) -> Option<Holder>;
}

/// The content of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Whole lines, without their line breaks.
    pub lines: Vec<Vec<u8>>,
    /// The newest epoch whose journal was put aside.
    pub archived: Option<Epoch>,
    /// What the operator should know of the store, such as a torn last line that is left out.
    pub notice: Option<String>,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot read the journal {location}")]
    Read { location: String, source: io::Error },
    #[error("cannot write the journal {location}")]
    Write { location: String, source: io::Error },
    #[error("line {line} of the journal {location} is damaged")]
    Damaged { location: String, line: usize, source: LineError },
    #[error("line {line} of the journal {location} was written by a newer version ({tool}, format {format}); this is {}, format {FORMAT}", env!("CARGO_PKG_VERSION"))]
    Newer { location: String, line: usize, tool: String, format: u64 },
}

impl JournalError {
    /// The entry of the error catalogue.
    pub fn code(&self) -> Code {
        match self {
            Self::Write { .. } => Code::O05,
            Self::Read { .. } | Self::Damaged { .. } | Self::Newer { .. } => Code::O10,
        }
    }
}

/// What a journal says, and what the operator should know of its store.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    pub history: History,
    pub notice: Option<String>,
}

/// The journal of a run: entries in, durable lines out.
pub struct Journal {
    store: Arc<dyn Store>,
    run: RunId,
    epoch: Epoch,
}

impl Journal {
    /// The journal of a run on the cluster of this epoch.
    pub fn new(store: Arc<dyn Store>, run: RunId, epoch: Epoch) -> Self {
        Self { store, run, epoch }
    }

    /// Reads the journal in a store, and changes nothing.
    ///
    /// # Errors
    ///
    /// A store that cannot be read, a damaged line, a line of a newer version.
    pub async fn read(store: &dyn Store) -> Result<Opened, JournalError> {
        let location = store.location();
        let stored = store.read().await.map_err(|source| JournalError::Read { location: location.clone(), source })?;
        let numbered = stored.lines.iter().enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
        let failed = |index: usize, error| {
            let (location, line) = (location.clone(), index + 1);
            match error {
                LineError::Newer { tool, format } => JournalError::Newer { location, line, tool, format },
                source => JournalError::Damaged { location, line, source },
            }
        };
        let records: Vec<Record> = numbered
            .map(|(index, line)| decode(line).map_err(|error| failed(index, error)))
            .collect::<Result<_, _>>()?;
        let history = if records.is_empty() {
            // Also after a run that was killed between archiving a journal and beginning the next.
            History::beginning(stored.archived.map_or(Epoch::FIRST, Epoch::next))
        } else {
            replay(&records)
        };
        Ok(Opened { history, notice: stored.notice })
    }

    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Appends an entry; when this returns `Ok`, it survives a crash.
    ///
    /// # Errors
    ///
    /// An entry that is not durable.
    pub async fn append(&self, entry: Entry) -> Result<(), JournalError> {
        let failed = |source| JournalError::Write { location: self.store.location(), source };
        let (run, epoch) = (self.run.clone(), Some(self.epoch));
        let record = Record { v: FORMAT, at: Timestamp::now(), run, epoch, entry };
        let line = encode(&record).map_err(|error| failed(error.into()))?;
        kill_points::around("journal record", self.store.append(&line)).await.map_err(failed)
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("run", &self.run).finish_non_exhaustive()
    }
}
