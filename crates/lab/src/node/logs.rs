//! What services and the kernel of a machine have written since it booted.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use tonic::Status;

use super::Node;
use super::ring::Ring;
use talos_proto::common::Data;
use talos_proto::machine as api;

/// Enough to look at, and little enough for a hundred machines.
const KEPT: usize = 256;
/// Talos sends logs in pieces of this size (1.12 `pkg/chunker/stream`).
const PIECE: usize = 1024;

pub(super) type Datas = Pin<Box<dyn Stream<Item = Result<Data, Status>> + Send>>;

/// Logs by service; the kernel's is apart.
#[derive(Debug)]
pub(super) struct Logs {
    services: Mutex<BTreeMap<&'static str, Arc<Ring<String>>>>,
    kernel: Arc<Ring<String>>,
}

impl Default for Logs {
    fn default() -> Self {
        Self { services: Mutex::default(), kernel: Arc::new(Ring::new(KEPT)) }
    }
}

impl Logs {
    fn of(&self, id: &'static str) -> Arc<Ring<String>> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.entry(id).or_insert_with(|| Arc::new(Ring::new(KEPT))).clone()
    }

    fn find(&self, id: &str) -> Option<Arc<Ring<String>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The names of all logs.
    pub(super) fn ids(&self) -> Vec<String> {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.keys().map(|&id| id.to_owned()).collect()
    }

    pub(super) fn forget(&self) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.kernel.clear();
    }

    /// The log that a request asks for. A machine without containers has the logs of services only.
    pub(super) fn stream(&self, request: &api::LogsRequest) -> Result<Datas, Status> {
        if request.namespace != "system" && request.id != "kubelet" {
            return Err(Status::unknown(format!("container {:?} not found", request.id)));
        }
        let Some(ring) = self.find(&request.id) else {
            return Err(Status::unknown(format!("log {:?} was not registered", request.id)));
        };
        let tail = usize::try_from(request.tail_lines).ok();
        Ok(lines(&ring, tail, request.follow).flat_map(|line| futures::stream::iter(pieces(&line))).boxed())
    }

    /// The kernel's log, a message a line.
    pub(super) fn kernel(&self, request: api::DmesgRequest) -> Datas {
        let tail = request.tail.then_some(0);
        lines(&self.kernel, tail, request.follow).map(|line| Ok(data(line.into_bytes()))).boxed()
    }
}

/// The last lines, and those to come when they are followed.
fn lines(ring: &Arc<Ring<String>>, tail: Option<usize>, follow: bool) -> Pin<Box<dyn Stream<Item = String> + Send>> {
    let (first, kept) = ring.kept();
    let skip = tail.map_or(0, |tail| kept.len().saturating_sub(tail));
    if follow {
        return ring.clone().follow(first + skip as u64).boxed();
    }
    futures::stream::iter(kept.into_iter().skip(skip)).boxed()
}

fn pieces(line: &str) -> Vec<Result<Data, Status>> {
    format!("{line}\n").as_bytes().chunks(PIECE).map(|piece| Ok(data(piece.to_vec()))).collect()
}

fn data(bytes: Vec<u8>) -> Data {
    Data { metadata: None, bytes }
}

/// A file's bytes as Talos sends them.
pub(super) fn in_pieces(bytes: &[u8]) -> Datas {
    let pieces: Vec<_> = bytes.chunks(PIECE).map(|piece| Ok(data(piece.to_vec()))).collect();
    futures::stream::iter(pieces).boxed()
}

impl Node {
    /// A line in the service's log, in machined's, and on the console.
    pub(super) fn log(&self, service: &'static str, line: &str) {
        let now = Timestamp::now();
        let written = format!("{} {line}", now.strftime("%Y/%m/%d %H:%M:%S%.6f"));
        if service != "machined" {
            self.logs.of(service).push(written.clone());
        }
        self.logs.of("machined").push(format!("[talos] {written}"));
        let kernel = format!("user: warning: [{}]: [talos] {line}", now.strftime("%Y-%m-%dT%H:%M:%S%.9fZ"));
        self.logs.kernel.push(kernel);
    }
}
