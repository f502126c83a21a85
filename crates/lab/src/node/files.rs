//! The folders of a machine that `List` serves.

use std::pin::Pin;

use futures::Stream;
use talos_proto::machine::FileInfo;
use tonic::Status;

pub(super) type FileStream = Pin<Box<dyn Stream<Item = Result<FileInfo, Status>> + Send>>;

/// Where etcd keeps its data (Talos 1.11 to 1.14).
const ETCD: &str = "/var/lib/etcd";

/// The directory bit of Go's file modes, which the API uses.
const DIRECTORY: u32 = 1 << 31;

/// Whether etcd has data on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EtcdData {
    Present,
    Absent,
}

/// A folder and its entries, as `List` reports them without recursion. The folder itself comes first.
pub(super) fn list(root: &str, etcd_data: EtcdData) -> Result<FileStream, Status> {
    if root.trim_end_matches('/') != ETCD {
        return Err(Status::unknown(format!("lstat {root}: no such file or directory")));
    }
    let folder = |name: &str, relative: &str| FileInfo {
        name: name.to_owned(),
        relative_name: relative.to_owned(),
        mode: DIRECTORY | 0o700,
        is_dir: true,
        ..FileInfo::default()
    };
    let mut entries = vec![folder(ETCD, ".")];
    if etcd_data == EtcdData::Present {
        entries.push(folder(&format!("{ETCD}/member"), "member"));
    }
    Ok(Box::pin(futures::stream::iter(entries.into_iter().map(Ok))))
}
