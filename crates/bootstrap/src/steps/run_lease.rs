//! The cluster's lease during a run: taken with the first client of the API, renewed beside the steps, given back at the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use engine::{Code, StepError, StopSignal};
use kubernetes::{Access, ClusterLease, LeaseError, LeaseRecord, LeaseRequest, LeaseTerms, Renewal};
use net::Dialer;

/// An API that is up answers within this at the end of a run.
const RELEASE: Duration = Duration::from_secs(5);

/// The lease of a run. One that only looks has none.
#[derive(Debug, Default)]
pub(crate) struct RunLease {
    terms: Mutex<Option<LeaseNeed>>,
    state: Arc<Mutex<State>>,
    /// One step at a time takes the lease.
    taking: tokio::sync::Mutex<()>,
}

/// How a run takes the lease, and what stops when another one has it.
#[derive(Clone)]
pub(crate) struct LeaseNeed {
    pub(crate) cluster: String,
    pub(crate) request: LeaseRequest,
    pub(crate) stop: StopSignal,
    /// Receives a line for the operator.
    pub(crate) notes: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for LeaseNeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseNeed")
            .field("cluster", &self.cluster)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl LeaseNeed {
    /// The run starts nothing more.
    fn stop(&self, refusal: &LeaseRefusal) {
        (self.notes)(&format!("{refusal}; this run starts nothing more ({})", Code::O04));
        self.stop.request();
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    NotTaken,
    Held {
        lease: ClusterLease,
        renewing: AbortHandle,
    },
    Refused(LeaseRefusal),
}

/// Why a run must start nothing on its cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    #[error(transparent)]
    Unavailable(#[from] LeaseError),
    #[error("another run took over the lease of the cluster: {0}")]
    Lost(LeaseRecord),
}

impl RunLease {
    /// From now on the run needs the lease.
    pub(crate) fn require(&self, terms: LeaseNeed) {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner).replace(terms);
    }

    /// Why the run had to stop, if it had to.
    pub(crate) fn refusal(&self) -> Option<LeaseRefusal> {
        match &*lock(&self.state) {
            State::Refused(refusal) => Some(refusal.clone()),
            State::NotTaken | State::Held { .. } => None,
        }
    }

    /// Whether this run has the lease.
    pub(crate) fn is_held(&self) -> bool {
        matches!(&*lock(&self.state), State::Held { .. })
    }

    /// Takes the lease, unless the run has it. A run that cannot have it starts nothing more.
    pub(crate) async fn ensure(
        &self,
        client: &kube::Client,
        access: impl Fn() -> Access,
        dialer: &Dialer,
    ) -> Result<(), StepError> {
        let Some(terms) = self.terms.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return Ok(()) };
        let _one = self.taking.lock().await;
        match &*lock(&self.state) {
            State::Held { .. } => return Ok(()),
            State::Refused(refusal) => return Err(refused(refusal)),
            State::NotTaken => {}
        }
        let lease = ClusterLease::new(client.clone(), &terms.cluster, LeaseTerms::RUN);
        match lease.acquire(&terms.request).await {
            Ok(()) => {
                let renewing = Renewing {
                    lease: lease.clone(),
                    terms,
                    state: self.state.clone(),
                    access: access(),
                    dialer: dialer.clone(),
                };
                let renewing = tokio::spawn(renewing.run()).abort_handle();
                *lock(&self.state) = State::Held { lease, renewing };
                Ok(())
            }
            Err(LeaseError::Api(error)) => Err(super::objects::api_error(&error)),
            Err(error) => {
                let refusal = LeaseRefusal::from(error);
                let refused = refused(&refusal);
                *lock(&self.state) = State::Refused(refusal);
                terms.stop.request();
                Err(refused)
            }
        }
    }

    /// Gives the lease back. Without an answer it expires.
    pub(crate) async fn release(&self) {
        let State::Held { lease, renewing } = std::mem::take(&mut *lock(&self.state)) else { return };
        renewing.abort();
        let holder = self.terms.lock().unwrap_or_else(PoisonError::into_inner).take().map(|terms| terms.request.holder);
        if let Some(holder) = holder {
            // An API that is away has no use for the lease.
            let _ = timeout(RELEASE, lease.release(&holder)).await;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of a step that must not start.
fn refused(refusal: &LeaseRefusal) -> StepError {
    StepError::failed_precondition("another run works on this cluster").caused_by(refusal).code(Code::O04)
}

/// Renews a lease until it is lost.
struct Renewing {
    lease: ClusterLease,
    terms: LeaseNeed,
    state: Arc<Mutex<State>>,
    access: Access,
    dialer: Dialer,
}

impl Renewing {
    async fn run(mut self) {
        loop {
            sleep(LeaseTerms::RUN.renewal).await;
            match self.lease.renew(&self.terms.request.holder).await {
                Ok(Renewal::Renewed) => {}
                Ok(Renewal::Lost(other)) => {
                    let refusal = LeaseRefusal::Lost(other);
                    *lock(&self.state) = State::Refused(refusal.clone());
                    self.terms.stop(&refusal);
                    return;
                }
                // The server that was dialled may be the one that is away. While all are, nothing can take the lease.
                Err(_) => {
                    if let Ok(client) = kubernetes::connect(&self.access, &self.dialer).await {
                        self.lease = ClusterLease::new(client, &self.terms.cluster, LeaseTerms::RUN);
                    }
                }
            }
        }
    }
}
