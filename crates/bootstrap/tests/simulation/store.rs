//! The journal of an operator: lines on a disk that can be full, appended by runs that can be killed while they write.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use engine::journal::{Epoch, Holder, Lock, LockError, Store, Stored};
use jiff::Timestamp;

use crate::link::Link;

/// The disk of an operator's machine.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Vec<Vec<u8>>>>);

/// The disk as a run uses it.
pub(crate) struct RunStore {
    pub(crate) disk: Disk,
    pub(crate) link: Link,
}

#[async_trait]
impl Store for RunStore {
    fn location(&self) -> String {
        format!("the disk of operator {}", self.link.operator)
    }

    async fn read(&self) -> io::Result<Stored> {
        let lines = self.disk.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Stored { lines, archived: None, notice: None })
    }

    async fn append(&self, line: &str) -> io::Result<()> {
        self.link.life.pass().await;
        {
            let mut state = self.link.cluster.lock();
            if state.disk_is_full(self.link.operator) {
                state.counts.unwritten_records += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        self.disk.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.as_bytes().to_vec());
        self.link.life.pass().await;
        Ok(())
    }

    /// Nodes are wiped before etcd exists only, so that no epoch ends.
    async fn archive(&self, epoch: Epoch, _now: Timestamp) -> io::Result<String> {
        panic!("epoch {epoch} ended")
    }

    async fn lock(&self, _holder: Holder) -> Result<Lock, LockError> {
        Ok(Lock::new(()))
    }

    async fn holder(&self) -> Option<Holder> {
        None
    }
}
