//! The checkpoint: records, replay, lock, store.
//!
//! The world is the truth, the journal is a hint: a resume observes again whatever a record says. Only intents are
//! binding, of effects that must never happen twice. A journal never holds a secret.

mod history;
mod lock;
mod record;
mod store;

pub use history::{History, LastRun, Prior, replay};
pub use lock::{Holder, Lock, LockError};
pub use record::{Entry, FORMAT, Identity, Record, RunEnd, RunId};
pub use store::{FileStore, Journal, JournalError, Opened, Store};

#[cfg(test)]
mod tests;
