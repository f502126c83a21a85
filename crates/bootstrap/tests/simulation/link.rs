//! How a run reaches the simulated cluster: requests and replies take time and are lost, and the run may be killed at each
//! of its awaits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::{Code, StepError};
use tokio::sync::{Notify, oneshot};

use crate::cluster::{Shared, SimulatedCluster};

/// A client reports an answer that does not come after this.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Never reached by counting down.
const IMMORTAL: u64 = u64::MAX;
const DEAD: u64 = 0;

/// How many awaits a run has left.
pub(crate) struct Life {
    left: AtomicU64,
    died: Notify,
}

impl Life {
    /// A run that is killed at its `awaits`th await, if any.
    pub(crate) fn new(awaits: Option<u64>) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(awaits.unwrap_or(IMMORTAL)), died: Notify::new() })
    }

    /// An await of the run. It is the last thing that a run does that is killed there.
    pub(crate) async fn pass(&self) {
        match self.left.load(Ordering::SeqCst) {
            IMMORTAL => {}
            DEAD => std::future::pending().await,
            1 => {
                self.kill();
                std::future::pending::<()>().await;
            }
            left => self.left.store(left - 1, Ordering::SeqCst),
        }
    }

    pub(crate) fn kill(&self) {
        self.left.store(DEAD, Ordering::SeqCst);
        self.died.notify_one();
    }

    /// Lets the run live, unless it is dead.
    pub(crate) fn spare(&self) {
        if self.left.load(Ordering::SeqCst) != DEAD {
            self.left.store(IMMORTAL, Ordering::SeqCst);
        }
    }

    /// Returns when the run is killed.
    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Port 50000 of a node, by its index.
    Node(usize),
    /// The Kubernetes API, on any control plane.
    Api,
}

/// Whether a request may arrive after its sender has given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lateness {
    InTime,
    MayBeLate,
}

/// No answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost(Peer);

impl From<Lost> for StepError {
    fn from(lost: Lost) -> Self {
        match lost.0 {
            Peer::Node(index) => Self::unavailable(format!("node {index} does not respond")),
            Peer::Api => Self::unavailable("the Kubernetes API does not respond").code(Code::K07),
        }
    }
}

/// What becomes of a request.
struct Fate {
    arrives: bool,
    is_late: bool,
    is_answered: bool,
    there: Duration,
    back: Duration,
}

/// A run's way to the cluster.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) cluster: Shared,
    pub(crate) life: Arc<Life>,
    pub(crate) operator: usize,
}

impl Link {
    fn fate(&self, lateness: Lateness) -> Fate {
        let mut state = self.cluster.lock();
        let rates = state.rates;
        let arrives = !state.chance.happens(rates.lost_request);
        let is_late = lateness == Lateness::MayBeLate && state.chance.happens(rates.late_request);
        let is_answered = arrives && !is_late && !state.chance.happens(rates.lost_reply);
        state.counts.lost += u64::from(!is_answered);
        let there = if is_late { 3_000..=20_000 } else { 1..=300 };
        Fate { arrives, is_late, is_answered, there: state.chance.millis(there), back: state.chance.millis(1..=100) }
    }

    /// Whether the other side can be reached now, and is there.
    fn responds(&self, peer: Peer) -> bool {
        let state = self.cluster.lock();
        match peer {
            Peer::Node(index) => state.is_reachable(self.operator, index) && state.nodes[index].listens(),
            Peer::Api => state.api_responds(self.operator),
        }
    }

    /// Reads something over there.
    pub(crate) async fn read<T>(&self, peer: Peer, read: impl FnOnce(&SimulatedCluster) -> T) -> Result<T, Lost> {
        self.life.pass().await;
        let fate = self.fate(Lateness::InTime);
        tokio::time::sleep(fate.there).await;
        if !(fate.is_answered && self.responds(peer)) {
            tokio::time::sleep(TIMEOUT).await;
            return Err(Lost(peer));
        }
        let answer = read(&self.cluster.lock());
        self.life.pass().await;
        Ok(answer)
    }

    /// Sends something that takes effect over there, whatever becomes of the run.
    pub(crate) async fn send<T: Send + 'static>(
        &self,
        peer: Peer,
        lateness: Lateness,
        effect: impl FnOnce(&mut SimulatedCluster) -> T + Send + 'static,
    ) -> Result<T, Lost> {
        self.life.pass().await;
        let fate = self.fate(lateness);
        let (reply, answer) = oneshot::channel();
        if fate.arrives {
            let (there, boot) = (self.clone(), self.boot(peer));
            tokio::spawn(async move {
                tokio::time::sleep(fate.there).await;
                // A connection does not survive a boot of the node.
                if there.responds(peer) && there.boot(peer) == boot {
                    let mut state = there.cluster.lock();
                    let result = effect(&mut state);
                    state.check();
                    let _ = reply.send(result);
                }
            });
        } else {
            drop(reply);
        }
        let answer = if fate.is_late { None } else { answer.await.ok() };
        let Some(result) = answer.filter(|_| fate.is_answered) else {
            tokio::time::sleep(TIMEOUT).await;
            return Err(Lost(peer));
        };
        tokio::time::sleep(fate.back).await;
        self.life.pass().await;
        Ok(result)
    }

    fn boot(&self, peer: Peer) -> Option<u32> {
        match peer {
            Peer::Node(index) => Some(self.cluster.lock().nodes[index].boot),
            Peer::Api => None,
        }
    }
}
