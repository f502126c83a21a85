//! The few folders of a machine that anybody asks about.

use std::pin::Pin;

use futures::Stream;
use tonic::Status;

use talos_proto::machine::FileInfo;

pub(super) type Files = Pin<Box<dyn Stream<Item = Result<FileInfo, Status>> + Send>>;

/// Where etcd keeps its data (Talos 1.11 to 1.14).
const ETCD: &str = "/var/lib/etcd";

/// The mark of a directory in Go's file modes, which is what travels.
const DIRECTORY: u32 = 1 << 31;

/// A folder and what lies in it, as `List` tells it without recursion: the folder itself comes first.
pub(super) fn list(root: &str, etcd_has_data: bool) -> Result<Files, Status> {
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
    if etcd_has_data {
        entries.push(folder(&format!("{ETCD}/member"), "member"));
    }
    Ok(Box::pin(futures::stream::iter(entries.into_iter().map(Ok))))
}
