//! Where the journal of a cluster is kept.

use std::path::Path;

use engine::journal::FileStore;

/// The store of the journal in a cluster's folder. Another kind of store is selected here.
pub(super) fn journal_store(folder: &Path) -> FileStore {
    FileStore::open(folder)
}
