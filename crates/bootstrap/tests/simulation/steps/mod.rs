//! The steps of the plan against the simulated cluster. Each does what the real one does, in its order, and asks the real
//! decision; only the I/O is replaced.

mod etcd;
mod kubernetes;
mod nodes;
mod releases;
mod rollout;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bootstrap::steps::HookAnswer;
use engine::{Code, StepContext, StepError, StepSet, StepWait};
use talos_client::ProgressTimeout;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::SimulatedCluster;
use crate::inputs::{RELEASES, declared};
use crate::link::{Link, Lost, Peer};

/// Between two looks. Real ones are shorter; the simulated cluster goes on in seconds.
const LOOK: Duration = Duration::from_secs(1);
/// A node that shows no progress for so long; the shortest that a run allows is 15 minutes, which is scaled down here.
const BOOT_LIMIT: Duration = Duration::from_mins(5);

/// What the steps of a run share.
pub(crate) struct RunParts {
    link: Link,
    /// The config that the inputs gave when the run began.
    config: u32,
    resumed: bool,
    answer: Option<HookAnswer>,
    has_files: Arc<AtomicBool>,
    /// This run has sent a bootstrap that was accepted.
    bootstrapped: AtomicBool,
    rollout: rollout::Rollout,
}

impl RunParts {
    pub(crate) fn new(
        link: Link,
        config: u32,
        resumed: bool,
        answer: Option<HookAnswer>,
        has_files: Arc<AtomicBool>,
    ) -> Self {
        let max_unavailable = link.cluster.lock().max_unavailable;
        Self {
            link,
            config,
            resumed,
            answer,
            has_files,
            bootstrapped: AtomicBool::new(false),
            rollout: rollout::Rollout::new(max_unavailable),
        }
    }

    fn has_bootstrapped(&self) -> bool {
        self.bootstrapped.load(Ordering::SeqCst)
    }

    async fn api<T>(&self, read: impl FnOnce(&SimulatedCluster) -> T) -> Result<T, Lost> {
        self.link.read(Peer::Api, read).await
    }
}

/// The code of every step of the plan.
pub(crate) fn step_set(parts: &Arc<RunParts>) -> StepSet {
    let mut set = StepSet::default();
    for step in declared().plan.steps() {
        let id = step.id.clone();
        let parts = parts.clone();
        let (kind, object) = id.as_str().split_once('/').unwrap();
        let node = || declared().nodes.iter().position(|node| node.hostname == object).unwrap();
        match (kind, object) {
            ("preflight", "charts") => set.check(id, Arc::new(releases::Charts(parts))),
            ("preflight", _) => set.check(id.clone(), Arc::new(nodes::Reachable { parts, index: node() })),
            ("machine-config", _) => set.action(id.clone(), Arc::new(nodes::Configured { parts, index: node() })),
            ("images", _) => set.check(id, Arc::new(nodes::Images)),
            ("etcd", "bootstrap") => set.action(id, Arc::new(etcd::Bootstrap::new(parts))),
            ("etcd", "members") => set.check(id, Arc::new(etcd::Members(parts))),
            ("kubernetes-api", "credentials") => set.action(id, Arc::new(kubernetes::Credentials(parts))),
            ("kubernetes-api", "ready") => set.action(id, Arc::new(kubernetes::Ready(parts))),
            ("kubernetes-api", "nodes") => set.check(id, Arc::new(kubernetes::Registered(parts))),
            ("base", "namespaces") => set.action(id, Arc::new(kubernetes::Namespaces(parts))),
            ("release", name) => {
                let release = RELEASES.into_iter().find(|release| release.name == name).unwrap();
                set.action(id.clone(), Arc::new(releases::Installed { parts, release }));
            }
            ("hook", _) => set.action(id, Arc::new(releases::Hook::new(parts, &step.fingerprint))),
            ("handoff", "nodes") => set.action(id, Arc::new(kubernetes::NodesReady(parts))),
            _ => panic!("the simulation has no step {id}"),
        }
    }
    set
}

/// A process that ends with the step that started it.
struct Child<T>(JoinHandle<T>);

impl<T: Send + 'static> Child<T> {
    fn start(process: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(process))
    }

    async fn wait(mut self) -> T {
        (&mut self.0).await.unwrap()
    }
}

impl<T> Drop for Child<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A wait for a node that fails after its boot limit without a change.
struct Wait<'w> {
    cx: &'w StepContext,
    timeout: ProgressTimeout,
}

impl<'w> Wait<'w> {
    fn new(cx: &'w StepContext) -> Self {
        Self { cx, timeout: ProgressTimeout::new(BOOT_LIMIT, Instant::now()) }
    }

    /// For waits before anything was changed: they end when the run is to stop.
    async fn pause(&mut self, line: &str, code: Code) -> Result<(), StepError> {
        self.note(line, code)?;
        tokio::select! {
            biased;
            () = tokio::time::sleep(LOOK) => Ok(()),
            () = self.cx.stop_requested() => Err(stopped()),
        }
    }

    /// For waits that have to go on.
    async fn pause_to_the_end(&mut self, line: &str, code: Code) -> Result<(), StepError> {
        self.note(line, code)?;
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    fn note(&mut self, line: &str, code: Code) -> Result<(), StepError> {
        self.cx.waiting(StepWait::new(line).code(code));
        let overdue = |_| StepError::failed_precondition("no progress").because(line).code(code);
        self.timeout.note(line, Instant::now()).map_err(overdue)
    }
}

fn stopped() -> StepError {
    StepError::unavailable("the run was stopped before the node was changed")
}
