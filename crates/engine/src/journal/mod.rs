//! The checkpoint: records, replay, lock, store.
//!
//! What exists is the truth, the journal is a hint: a resume observes again whatever a record says. Only intents are
//! binding, of effects that must never happen twice. A journal never contains a secret.

mod epoch;
mod file;
mod history;
mod line;
mod lock;
mod record;
mod store;

pub use epoch::{
    ClusterFact, ClusterFacts, Epoch, EpochDecision, EpochEnd, Learned, ObservedCluster, ObservedNode, RecordedCluster,
    RecordedEtcd, decide_epoch,
};
pub use file::{FileStore, sync_folder};
pub use history::{History, LastRun, RecordedIntent, RecordedIntents, replay};
pub use line::LineError;
pub use lock::{Holder, Lock, LockError};
pub use record::{Entry, FORMAT, Identity, Record, RunEnd, RunId};
pub use store::{Journal, JournalError, Opened, Store, Stored};

#[cfg(test)]
mod tests;
