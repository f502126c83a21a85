//! An accepted Bootstrap call, on its way from a machine's API to the task that starts etcd.

use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use tokio::sync::Notify;

/// How etcd verifies the uploaded snapshot that it starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotRecovery {
    VerifyHash,
    SkipHashCheck,
}

/// Set by an accepted Bootstrap call.
#[derive(Debug, Default)]
pub(crate) struct BootstrapSignal {
    accepted: Notify,
    recovery: Mutex<Option<SnapshotRecovery>>,
}

impl BootstrapSignal {
    /// Starts etcd, from the uploaded snapshot if `recovery` is given.
    pub(crate) fn accept(&self, recovery: Option<SnapshotRecovery>) {
        *self.recovery.lock().unwrap_or_else(PoisonError::into_inner) = recovery;
        self.accepted.notify_one();
    }

    /// Waits for an accepted call.
    pub(super) async fn accepted(&self) -> Option<SnapshotRecovery> {
        self.accepted.notified().await;
        self.recovery.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Drops a call that etcd has not started from, as a reboot does.
    pub(crate) fn reset(&self) {
        let _ = self.accepted.notified().now_or_never();
        *self.recovery.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
