//! The logs of a machine's services and kernel since it booted.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use talos_proto::common::Data;
use talos_proto::machine as api;
use tonic::Status;

use super::SimulatedNode;
use super::bounded_log::{BoundedLog, KeptEntries};

/// In lines per log. Small enough for a hundred machines in one process.
const KEPT: usize = 256;
/// Talos sends logs in chunks of this size (1.12 `pkg/chunker/stream`).
const CHUNK_SIZE: usize = 1024;

pub(super) type DataStream = Pin<Box<dyn Stream<Item = Result<Data, Status>> + Send>>;

/// The services' logs and the kernel's log.
#[derive(Debug)]
pub(super) struct NodeLogs {
    services: Mutex<BTreeMap<&'static str, Arc<BoundedLog<String>>>>,
    kernel: Arc<BoundedLog<String>>,
}

impl Default for NodeLogs {
    fn default() -> Self {
        Self { services: Mutex::default(), kernel: Arc::new(BoundedLog::new(KEPT)) }
    }
}

impl NodeLogs {
    fn get_or_create(&self, id: &'static str) -> Arc<BoundedLog<String>> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.entry(id).or_insert_with(|| Arc::new(BoundedLog::new(KEPT))).clone()
    }

    fn find(&self, id: &str) -> Option<Arc<BoundedLog<String>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The names of all logs.
    pub(super) fn ids(&self) -> Vec<String> {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.keys().map(|&id| id.to_owned()).collect()
    }

    pub(super) fn clear(&self) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.kernel.clear();
    }

    /// The log for a request. Only services have logs, since there are no containers.
    pub(super) fn stream(&self, request: &api::LogsRequest) -> Result<DataStream, Status> {
        if request.namespace != "system" && request.id != "kubelet" {
            return Err(Status::unknown(format!("container {:?} not found", request.id)));
        }
        let Some(log) = self.find(&request.id) else {
            return Err(Status::unknown(format!("log {:?} was not registered", request.id)));
        };
        let tail = usize::try_from(request.tail_lines).ok();
        Ok(lines(&log, tail, LogFollow::from(request.follow))
            .flat_map(|line| futures::stream::iter(line_chunks(&line)))
            .boxed())
    }

    /// The kernel's log, one message per line.
    pub(super) fn kernel(&self, request: api::DmesgRequest) -> DataStream {
        let tail = request.tail.then_some(0);
        lines(&self.kernel, tail, LogFollow::from(request.follow)).map(|line| Ok(data(line.into_bytes()))).boxed()
    }
}

/// Whether a log stream continues with later lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogFollow {
    Yes,
    No,
}

impl From<bool> for LogFollow {
    fn from(follow: bool) -> Self {
        if follow { Self::Yes } else { Self::No }
    }
}

/// The last lines, and later ones if the log is followed.
fn lines(
    log: &Arc<BoundedLog<String>>,
    tail: Option<usize>,
    follow: LogFollow,
) -> Pin<Box<dyn Stream<Item = String> + Send>> {
    let KeptEntries { first, entries: kept } = log.kept();
    let skip = tail.map_or(0, |tail| kept.len().saturating_sub(tail));
    if follow == LogFollow::Yes {
        return log.clone().follow(first + skip as u64).boxed();
    }
    futures::stream::iter(kept.into_iter().skip(skip)).boxed()
}

fn line_chunks(line: &str) -> Vec<Result<Data, Status>> {
    format!("{line}\n").as_bytes().chunks(CHUNK_SIZE).map(|chunk| Ok(data(chunk.to_vec()))).collect()
}

fn data(bytes: Vec<u8>) -> Data {
    Data { metadata: None, bytes }
}

/// A file's bytes in the chunks that Talos sends.
pub(super) fn to_chunks(bytes: &[u8]) -> DataStream {
    let chunks: Vec<_> = bytes.chunks(CHUNK_SIZE).map(|chunk| Ok(data(chunk.to_vec()))).collect();
    futures::stream::iter(chunks).boxed()
}

impl SimulatedNode {
    /// Writes a line to the service's log, machined's log and the kernel's log.
    pub(super) fn log(&self, service: &'static str, line: &str) {
        let now = Timestamp::now();
        let written = format!("{} {line}", now.strftime("%Y/%m/%d %H:%M:%S%.6f"));
        if service != "machined" {
            self.logs.get_or_create(service).push(written.clone());
        }
        self.logs.get_or_create("machined").push(format!("[talos] {written}"));
        let kernel = format!("user: warning: [{}]: [talos] {line}", now.strftime("%Y-%m-%dT%H:%M:%S%.9fZ"));
        self.logs.kernel.push(kernel);
    }
}
