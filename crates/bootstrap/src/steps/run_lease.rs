//! The cluster's lease during a run: taken with the first client of the API, renewed beside the steps, given back at the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use engine::{Code, StepError, StopSignal};
use kubernetes::{Access, ClusterLease, LeaseError, LeaseRecord, LeaseRequest, LeaseSighting, LeaseTerms, Renewal};
use net::Dialer;

/// An API that is up answers within this at the end of a run.
const RELEASE: Duration = Duration::from_secs(5);
/// For one renewal. Several fit into the duration of a lease, by several servers.
const RENEWAL_ATTEMPT: Duration = Duration::from_secs(5);
const RENEWAL_ATTEMPTS: usize = 3;

/// The lease of a run. One that only looks has none.
#[derive(Debug, Default)]
pub(crate) struct RunLease {
    terms: Mutex<Option<LeaseNeed>>,
    state: Arc<Mutex<State>>,
    /// One step at a time takes the lease; what it saw remains if its attempt is cut short.
    taking: tokio::sync::Mutex<LeaseSighting>,
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
    /// The lease, by a client of the API.
    fn lease(&self, client: kube::Client) -> ClusterLease {
        ClusterLease::new(client, &self.cluster, LeaseTerms::RUN, self.request.process.clone())
    }

    /// The run starts nothing more.
    fn stop(&self, refusal: &LeaseRefusal) {
        (self.notes)(&format!("{refusal}; this run starts nothing more ({})", Code::O04));
        self.stop.request_safe_point();
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    NotTaken,
    Held {
        lease: Box<ClusterLease>,
        renewing: AbortHandle,
        /// By the wall clock, which goes on while the machine sleeps.
        renewed: Timestamp,
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
        let mut sighting = self.taking.lock().await;
        match self.standing() {
            Standing::Held => return Ok(()),
            Standing::Stale => return self.confirm(client, &terms).await,
            Standing::Refused(refusal) => return Err(refused(&refusal)),
            Standing::NotTaken => {}
        }
        let lease = terms.lease(client.clone());
        match lease.acquire_seen(&terms.request, &mut sighting).await {
            Ok(()) => {
                let renewing = Renewing {
                    lease: lease.clone(),
                    terms,
                    state: self.state.clone(),
                    access: access(),
                    dialer: dialer.clone(),
                };
                let renewing = tokio::spawn(renewing.run()).abort_handle();
                *lock(&self.state) = State::Held { lease: Box::new(lease), renewing, renewed: Timestamp::now() };
                Ok(())
            }
            Err(LeaseError::Api(error)) => Err(super::api_errors::api_error(&error)),
            Err(error) => {
                let refusal = LeaseRefusal::from(error);
                let refused = refused(&refusal);
                *lock(&self.state) = State::Refused(refusal);
                terms.stop.request_safe_point();
                Err(refused)
            }
        }
    }

    fn standing(&self) -> Standing {
        match &*lock(&self.state) {
            State::Held { renewed, .. } if is_fresh(*renewed, Timestamp::now()) => Standing::Held,
            State::Held { .. } => Standing::Stale,
            State::Refused(refusal) => Standing::Refused(refusal.clone()),
            State::NotTaken => Standing::NotTaken,
        }
    }

    /// Renews a lease that may have expired, as it may while the machine slept.
    async fn confirm(&self, client: &kube::Client, terms: &LeaseNeed) -> Result<(), StepError> {
        let lease = terms.lease(client.clone());
        match timeout(RENEWAL_ATTEMPT, lease.renew(&terms.request.holder)).await {
            Ok(Ok(Renewal::Renewed)) => {
                note_renewed(&self.state);
                Ok(())
            }
            Ok(Ok(Renewal::Lost(other))) => {
                let refusal = LeaseRefusal::Lost(other);
                *lock(&self.state) = State::Refused(refusal.clone());
                terms.stop(&refusal);
                Err(refused(&refusal))
            }
            Ok(Err(error)) => Err(super::api_errors::api_error(&error)),
            Err(_) => Err(StepError::not_ready("the lease of the cluster cannot be renewed").code(Code::K07)),
        }
    }

    /// Gives the lease back. Without an answer it expires.
    pub(crate) async fn release(&self) {
        let State::Held { lease, renewing, .. } = std::mem::take(&mut *lock(&self.state)) else { return };
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

fn note_renewed(state: &Mutex<State>) {
    if let State::Held { renewed, .. } = &mut *lock(state) {
        *renewed = Timestamp::now();
    }
}

/// Whether a lease that was renewed then cannot have expired.
fn is_fresh(renewed: Timestamp, now: Timestamp) -> bool {
    now.duration_since(renewed).unsigned_abs() < LeaseTerms::RUN.duration / 2
}

/// How a run stands to the lease.
enum Standing {
    NotTaken,
    Held,
    /// It had the lease, and may have lost it unnoticed.
    Stale,
    Refused(LeaseRefusal),
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
            for _ in 0..RENEWAL_ATTEMPTS {
                match timeout(RENEWAL_ATTEMPT, self.lease.renew(&self.terms.request.holder)).await {
                    Ok(Ok(Renewal::Renewed)) => {
                        note_renewed(&self.state);
                        break;
                    }
                    Ok(Ok(Renewal::Lost(other))) => {
                        let refusal = LeaseRefusal::Lost(other);
                        *lock(&self.state) = State::Refused(refusal.clone());
                        self.terms.stop(&refusal);
                        return;
                    }
                    // The server that was dialled may be the one that is away. While all are, nothing can take the lease.
                    Ok(Err(_)) | Err(_) => self.reconnect().await,
                }
            }
        }
    }

    async fn reconnect(&mut self) {
        let connected = timeout(RENEWAL_ATTEMPT, kubernetes::connect(&self.access, &self.dialer)).await;
        if let Ok(Ok(client)) = connected {
            self.lease = self.terms.lease(client);
        }
    }
}
