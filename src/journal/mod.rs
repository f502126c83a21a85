//! The checkpoint: records, replay, lock, store.
