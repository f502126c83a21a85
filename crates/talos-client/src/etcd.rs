//! etcd through a control plane: first member, members, status, alarms, snapshot, recovery.

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::error::{ClientError, Kind};
use super::link::{Flow, Link, Wait};
use talos_proto::common::Data;
use talos_proto::machine::etcd_member_alarm::AlarmType;
use talos_proto::machine::{BootstrapRequest, EtcdMemberAlarm, EtcdMemberListRequest, EtcdSnapshotRequest};

/// Talosctl 1.12 sends snapshots in pieces of this size.
const PIECE: usize = 4096;
/// A database is written in pages of 512 bytes at least, and the digest follows.
const PAGE: u64 = 512;
const DIGEST: usize = 32;

/// A member of etcd as a control plane sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdMember {
    pub id: u64,
    pub hostname: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

/// What a control plane's own member says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdStatus {
    pub member: u64,
    /// 0 while there is none.
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

/// What keeps etcd from writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdAlarm {
    /// The database has reached its quota.
    NoSpace,
    Corrupt,
}

/// How etcd begins on a node that is bootstrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    Empty,
    /// With the snapshot that was uploaded.
    Recovered {
        /// For a database that was copied and not saved: it has no digest.
        skip_hash_check: bool,
    },
}

pub(super) async fn bootstrap(link: &Link, beginning: Beginning) -> Result<(), ClientError> {
    let request = match beginning {
        Beginning::Empty => BootstrapRequest { recover_etcd: false, recover_skip_hash_check: false },
        Beginning::Recovered { skip_hash_check } => {
            BootstrapRequest { recover_etcd: true, recover_skip_hash_check: skip_hash_check }
        }
    };
    let mut machine = link.machine();
    link.one("bootstrap", Wait::Short, machine.bootstrap(link.request(request))).await.map(|_| ())
}

pub(super) async fn members(link: &Link) -> Result<Vec<EtcdMember>, ClientError> {
    let (mut machine, request) = (link.machine(), link.request(EtcdMemberListRequest { query_local: true }));
    let answer = link.one("etcd member list", Wait::Short, machine.etcd_member_list(request)).await?;
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
    let answer = link.one(call, Wait::Short, machine.etcd_status(link.request(()))).await?;
    let status = answer.member_status.ok_or_else(|| link.error(call, Kind::Other, "the answer is empty"))?;
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

/// Takes the alarms back; those that were there.
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

/// Writes a snapshot to `out` and says how long it is, once its digest has been found right.
pub(super) async fn snapshot(link: &Link, out: &mut (impl AsyncWrite + Unpin)) -> Result<u64, ClientError> {
    let (call, mut machine) = ("etcd snapshot", link.machine());
    let request = link.request(EtcdSnapshotRequest {});
    let mut stream = link.stream(call, Flow::Ends, machine.etcd_snapshot(request)).await?;
    let (mut check, mut length) = (Check::default(), 0);
    while let Some(Data { bytes, .. }) = stream.next().await? {
        check.update(&bytes);
        length += bytes.len() as u64;
        let written = out.write_all(&bytes).await;
        written.map_err(|error| link.error(call, Kind::Other, format!("it cannot be written: {error}")))?;
    }
    if length % PAGE != DIGEST as u64 {
        let text = format!("{length} bytes are no whole snapshot: the node stopped half-way");
        return Err(link.error(call, Kind::Unreachable, text));
    }
    if !check.holds() {
        return Err(link.error(call, Kind::Other, "the snapshot's digest is not that of its content"));
    }
    let flushed = out.flush().await;
    flushed.map_err(|error| link.error(call, Kind::Other, format!("it cannot be written: {error}")))?;
    Ok(length)
}

/// The digest of all but the last bytes, which are the digest to compare with.
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

    fn holds(self) -> bool {
        self.digest.finalize().as_slice() == self.tail.as_slice()
    }
}

/// Uploads a snapshot; [`Beginning::Recovered`] then begins with it.
pub(super) async fn recover(link: &Link, snapshot: impl AsyncRead + Send + Unpin) -> Result<(), ClientError> {
    let call = "etcd recover";
    let (pieces, arriving) = mpsc::channel(16);
    let (mut machine, request) = (link.machine(), link.request(ReceiverStream::new(arriving)));
    let mut answer = Box::pin(link.one(call, Wait::Long, machine.etcd_recover(request)));
    let mut reading = Box::pin(read(snapshot, pieces));
    let answered = tokio::select! {
        answered = &mut answer => answered,
        unreadable = &mut reading => match unreadable {
            None => answer.await,
            // The call is given up before its stream ends: half a snapshot must not look like a whole one.
            Some((error, pieces)) => {
                drop(answer);
                drop(pieces);
                return Err(link.error(call, Kind::Other, format!("the snapshot cannot be read: {error}")));
            }
        },
    };
    answered.map(|_| ())
}

/// Cuts a snapshot into pieces. When it cannot be read to its end, the stream's own end comes back with the error.
async fn read(
    mut snapshot: impl AsyncRead + Unpin,
    pieces: mpsc::Sender<Data>,
) -> Option<(std::io::Error, mpsc::Sender<Data>)> {
    loop {
        let mut bytes = vec![0; PIECE];
        match snapshot.read(&mut bytes).await {
            Ok(0) => return None,
            Ok(length) => bytes.truncate(length),
            Err(error) => return Some((error, pieces)),
        }
        // Nobody takes pieces any more when the node has refused; it says why itself.
        if pieces.send(Data { metadata: None, bytes }).await.is_err() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_checked_however_it_is_cut() {
        let content: Vec<u8> = (0..1024_u32).map(|number| number.to_le_bytes()[0]).collect();
        let whole = [content.clone(), Sha256::digest(&content).to_vec()].concat();
        for size in [1, 7, 32, 33, 1024, 4096] {
            let mut check = Check::default();
            whole.chunks(size).for_each(|piece| check.update(piece));
            assert!(check.holds(), "pieces of {size}");
            let mut check = Check::default();
            let mut spoilt = whole.clone();
            spoilt[500] ^= 1;
            spoilt.chunks(size).for_each(|piece| check.update(piece));
            assert!(!check.holds(), "pieces of {size}");
        }
    }
}
