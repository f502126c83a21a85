//! etcd calls of a control plane: bootstrap, members, status, alarms, snapshot, recovery.

use std::fmt;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::error::{ClientError, ClientErrorKind};
use super::link::{Flow, Link, Wait};
use talos_proto::common::Data;
use talos_proto::machine::etcd_member_alarm::AlarmType;
use talos_proto::machine::{BootstrapRequest, EtcdMemberAlarm, EtcdMemberListRequest, EtcdSnapshotRequest};

/// Chunk size of talosctl 1.12 for snapshot uploads.
const CHUNK: usize = 4096;
/// A database consists of pages of at least 512 bytes; a snapshot has a SHA-256 digest after it.
const PAGE: u64 = 512;
const DIGEST: usize = 32;

/// A member of the etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdMember {
    pub id: u64,
    pub hostname: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

/// Status of a control plane's own member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdStatus {
    pub member: u64,
    /// 0 without a leader.
    pub leader: u64,
    pub is_learner: bool,
    /// etcd's version.
    pub version: String,
    /// In bytes.
    pub database: i64,
    pub database_in_use: i64,
    pub raft_index: u64,
    pub raft_applied_index: u64,
    pub errors: Vec<String>,
}

/// An alarm that makes etcd reject writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdAlarm {
    /// The database has reached its quota.
    NoSpace,
    Corrupt,
}

impl fmt::Display for EtcdAlarm {
    /// As etcd and etcdctl name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
        })
    }
}

/// What etcd starts with when a node is bootstrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdBootstrap {
    New,
    /// The uploaded snapshot.
    FromSnapshot {
        /// For a database file that was copied, which has no digest.
        skip_hash_check: bool,
    },
}

pub(super) async fn bootstrap(link: &Link, beginning: EtcdBootstrap) -> Result<(), ClientError> {
    let request = match beginning {
        EtcdBootstrap::New => BootstrapRequest { recover_etcd: false, recover_skip_hash_check: false },
        EtcdBootstrap::FromSnapshot { skip_hash_check } => {
            BootstrapRequest { recover_etcd: true, recover_skip_hash_check: skip_hash_check }
        }
    };
    let mut machine = link.machine();
    let sent = link.one("bootstrap", Wait::Short, machine.bootstrap(link.request(request)));
    kill_points::around("bootstrap of etcd", sent).await.map(|_| ())
}

pub(super) async fn members(link: &Link) -> Result<Vec<EtcdMember>, ClientError> {
    let (mut machine, request) = (link.machine(), link.request(EtcdMemberListRequest { query_local: true }));
    let answer = link.one("etcd member list", Wait::Etcd, machine.etcd_member_list(request)).await?;
    let members = answer.members.into_iter().map(|member| EtcdMember {
        id: member.id,
        hostname: member.hostname,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    });
    Ok(members.collect())
}

pub(super) async fn status(link: &Link) -> Result<EtcdStatus, ClientError> {
    let (call, mut machine) = ("etcd status", link.machine());
    let answer = link.one(call, Wait::Etcd, machine.etcd_status(link.request(()))).await?;
    let status =
        answer.member_status.ok_or_else(|| link.error(call, ClientErrorKind::Other, "the response is empty"))?;
    Ok(EtcdStatus {
        member: status.member_id,
        leader: status.leader,
        is_learner: status.is_learner,
        version: status.protocol_version,
        database: status.db_size,
        database_in_use: status.db_size_in_use,
        raft_index: status.raft_index,
        raft_applied_index: status.raft_applied_index,
        errors: status.errors,
    })
}

/// The alarms of all members, by member id.
pub(super) async fn alarms(link: &Link) -> Result<Vec<(u64, EtcdAlarm)>, ClientError> {
    let mut machine = link.machine();
    let answer = link.one("etcd alarm list", Wait::Short, machine.etcd_alarm_list(link.request(()))).await?;
    Ok(answer.member_alarms.iter().filter_map(alarm).collect())
}

/// Disarms all alarms and returns them.
pub(super) async fn disarm(link: &Link) -> Result<Vec<(u64, EtcdAlarm)>, ClientError> {
    let mut machine = link.machine();
    let answer = link.one("etcd alarm disarm", Wait::Short, machine.etcd_alarm_disarm(link.request(()))).await?;
    Ok(answer.member_alarms.iter().filter_map(alarm).collect())
}

fn alarm(alarm: &EtcdMemberAlarm) -> Option<(u64, EtcdAlarm)> {
    let kind = match alarm.alarm() {
        AlarmType::None => return None,
        AlarmType::Nospace => EtcdAlarm::NoSpace,
        AlarmType::Corrupt => EtcdAlarm::Corrupt,
    };
    Some((alarm.member_id, kind))
}

/// Writes a snapshot to `out`, verifies its digest and returns its size in bytes.
pub(super) async fn snapshot(link: &Link, out: &mut (impl AsyncWrite + Unpin)) -> Result<u64, ClientError> {
    let (call, mut machine) = ("etcd snapshot", link.machine());
    let request = link.request(EtcdSnapshotRequest {});
    let mut stream = link.stream(call, Flow::Ends, machine.etcd_snapshot(request)).await?;
    let (mut check, mut length) = (Check::default(), 0);
    while let Some(Data { bytes, .. }) = stream.next().await? {
        check.update(&bytes);
        length += bytes.len() as u64;
        let written = out.write_all(&bytes).await;
        written
            .map_err(|error| link.error(call, ClientErrorKind::Other, format!("cannot write the snapshot: {error}")))?;
    }
    if length % PAGE != DIGEST as u64 {
        let text = format!("the snapshot is incomplete: the stream ended after {length} bytes");
        return Err(link.error(call, ClientErrorKind::Unavailable, text));
    }
    if !check.matches() {
        return Err(link.error(call, ClientErrorKind::Other, "the digest of the snapshot does not match its content"));
    }
    let flushed = out.flush().await;
    flushed.map_err(|error| link.error(call, ClientErrorKind::Other, format!("cannot write the snapshot: {error}")))?;
    Ok(length)
}

/// Compares the digest of the content with the last 32 bytes, which are the expected digest.
#[derive(Default)]
struct Check {
    digest: Sha256,
    tail: Vec<u8>,
}

impl Check {
    fn update(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let before = self.tail.len().saturating_sub(DIGEST);
        self.digest.update(&self.tail[..before]);
        self.tail.drain(..before);
    }

    fn matches(self) -> bool {
        self.digest.finalize().as_slice() == self.tail.as_slice()
    }
}

/// Uploads a snapshot for [`EtcdBootstrap::FromSnapshot`].
pub(super) async fn recover(link: &Link, snapshot: impl AsyncRead + Send + Unpin) -> Result<(), ClientError> {
    let call = "etcd recover";
    let (chunks, receiver) = mpsc::channel(16);
    let (mut machine, request) = (link.machine(), link.request(ReceiverStream::new(receiver)));
    let mut answer = Box::pin(link.one(call, Wait::Long, machine.etcd_recover(request)));
    let mut reading = Box::pin(read(snapshot, chunks));
    let answered = tokio::select! {
        answered = &mut answer => answered,
        unreadable = &mut reading => match unreadable {
            None => answer.await,
            // The call is cancelled before its stream ends: a partial snapshot must not look complete.
            Some((error, chunks)) => {
                drop(answer);
                drop(chunks);
                return Err(link.error(call, ClientErrorKind::Other, format!("cannot read the snapshot: {error}")));
            }
        },
    };
    answered.map(|_| ())
}

/// Sends a snapshot in chunks. On a read error the sender is returned with it, so that the stream stays open.
async fn read(
    mut snapshot: impl AsyncRead + Unpin,
    chunks: mpsc::Sender<Data>,
) -> Option<(std::io::Error, mpsc::Sender<Data>)> {
    loop {
        let mut bytes = vec![0; CHUNK];
        match snapshot.read(&mut bytes).await {
            Ok(0) => return None,
            Ok(length) => bytes.truncate(length),
            Err(error) => return Some((error, chunks)),
        }
        // The receiver is gone when the node rejected the call; the call returns the reason.
        if chunks.send(Data { metadata: None, bytes }).await.is_err() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_digest_is_checked_for_any_chunk_size() {
        let content: Vec<u8> = (0..1024_u32).map(|number| number.to_le_bytes()[0]).collect();
        let whole = [content.clone(), Sha256::digest(&content).to_vec()].concat();
        for size in [1, 7, 32, 33, 1024, 4096] {
            let mut check = Check::default();
            whole.chunks(size).for_each(|chunk| check.update(chunk));
            assert!(check.matches(), "chunks of {size}");
            let mut check = Check::default();
            let mut corrupt = whole.clone();
            corrupt[500] ^= 1;
            corrupt.chunks(size).for_each(|chunk| check.update(chunk));
            assert!(!check.matches(), "chunks of {size}");
        }
    }
}
