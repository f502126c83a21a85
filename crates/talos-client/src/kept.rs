//! One kept connection per node, and bounded attempts to a node that does not respond.
//!
//! Everything that asks a node shares its connection. While a node is away, attempts follow
//! [`node_connection`]: frequent for its usual boot time, then one a second, however many callers want it. A caller that
//! comes too early gets the error of the last attempt.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use net::Dialer;
use retry::Backoff;
use retry::policies::{NODE_CONNECTION, NODE_OVERDUE, node_connection};
use tokio::time::Instant;

use super::client::Client;
use super::connect::{CertificateFingerprint, ClientIdentity};
use super::error::{ClientError, ClientErrorKind};
use super::probe::{Probe, identify};

/// The connections of a run to its nodes.
#[derive(Debug)]
pub struct NodeConnections {
    dialer: Dialer,
    identity: ClientIdentity,
    nodes: Mutex<BTreeMap<IpAddr, Arc<KeptConnection<Client>>>>,
}

impl NodeConnections {
    pub fn new(dialer: Dialer, identity: ClientIdentity) -> Self {
        Self { dialer, identity, nodes: Mutex::default() }
    }

    fn node(&self, node: IpAddr) -> Arc<KeptConnection<Client>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).entry(node).or_default().clone()
    }

    /// The client of the kept connection, or of a new one if an attempt is due. `usual_boot` is how long the node takes
    /// to boot as far as it is known.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`]; the error of the last attempt while none is due.
    pub async fn client(&self, node: IpAddr, usual_boot: Duration) -> Result<Client, ClientError> {
        let dial = || Client::connect(&self.dialer, node, &self.identity);
        self.node(node).client(usual_boot, dial).await
    }

    /// Whether a connection to the node is kept, as far as its calls have shown.
    pub async fn is_connected(&self, node: IpAddr) -> bool {
        let kept = self.node(node);
        let kept = kept.0.lock().await;
        kept.connection.as_ref().is_some_and(|client| !client.is_lost())
    }

    /// Returns when the next attempt to a node that does not respond is due.
    pub async fn due(&self, node: IpAddr) {
        self.node(node).due().await;
    }

    /// Detects the state of a node, as [`probe`](super::probe()), over its kept connection if there is one.
    ///
    /// # Errors
    ///
    /// As [`probe`](super::probe()).
    pub async fn probe(
        &self,
        node: IpAddr,
        usual_boot: Duration,
        pin: Option<&CertificateFingerprint>,
    ) -> Result<Probe, ClientError> {
        let trusted = self.client(node, usual_boot).await;
        let used = trusted.as_ref().ok().cloned();
        let found = identify(trusted, &self.dialer, node, pin).await;
        let had_ended = matches!(found, Ok(Probe::Closed(_))) && used.is_some_and(|client| client.is_lost());
        if !had_ended {
            return found;
        }
        // The node itself may respond.
        identify(self.client(node, usual_boot).await, &self.dialer, node, pin).await
    }
}

/// A connection that may have ended.
trait Connection: Clone {
    fn is_lost(&self) -> bool;
}

impl Connection for Client {
    fn is_lost(&self) -> bool {
        self.is_lost()
    }
}

/// The connection to one node.
#[derive(Debug)]
struct KeptConnection<C>(tokio::sync::Mutex<Kept<C>>);

impl<C> Default for KeptConnection<C> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(Kept { connection: None, outage: None }))
    }
}

#[derive(Debug)]
struct Kept<C> {
    connection: Option<C>,
    outage: Option<Outage>,
}

/// Since when a node has not accepted a connection, for one kind of reason.
#[derive(Debug)]
struct Outage {
    since: Instant,
    backoff: Backoff,
    error: ClientError,
    next_attempt: Instant,
}

impl Outage {
    /// The outage after another failed attempt. Another kind of error is progress of the node: a port that closes after
    /// maintenance mode begins a boot.
    fn after(before: Option<Self>, error: ClientError, now: Instant, usual_boot: Duration) -> Self {
        let (since, mut backoff) = match before {
            Some(Self { since, backoff, error: last, .. }) if last.kind == error.kind => (since, backoff),
            _ => (now, NODE_CONNECTION.backoff()),
        };
        let delay = if node_connection(now.duration_since(since), usual_boot) == NODE_OVERDUE {
            NODE_OVERDUE.first
        } else {
            backoff.next_delay(None).unwrap_or(NODE_OVERDUE.first)
        };
        Self { since, backoff, error, next_attempt: now + delay }
    }
}

impl<C: Connection> KeptConnection<C> {
    async fn client<F>(&self, usual_boot: Duration, dial: impl FnOnce() -> F) -> Result<C, ClientError>
    where
        F: Future<Output = Result<C, ClientError>>,
    {
        let mut kept = self.0.lock().await;
        if let Some(connection) = kept.connection.as_ref().filter(|connection| !connection.is_lost()) {
            return Ok(connection.clone());
        }
        kept.connection = None;
        if let Some(outage) = kept.outage.as_ref().filter(|outage| Instant::now() < outage.next_attempt) {
            return Err(outage.error.clone());
        }
        match dial().await {
            Ok(connection) => {
                *kept = Kept { connection: Some(connection.clone()), outage: None };
                Ok(connection)
            }
            // The administrator's certificate itself is unusable: no attempt was made.
            Err(error) if error.kind == ClientErrorKind::Other => Err(error),
            Err(error) => {
                kept.outage = Some(Outage::after(kept.outage.take(), error.clone(), Instant::now(), usual_boot));
                Err(error)
            }
        }
    }

    async fn due(&self) {
        let next_attempt = self.0.lock().await.outage.as_ref().map(|outage| outage.next_attempt);
        if let Some(next_attempt) = next_attempt {
            tokio::time::sleep_until(next_attempt).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const BOOT: Duration = Duration::from_secs(50);

    /// A node that is reachable from some moment on, and the moments of the attempts to connect to it.
    struct Node {
        up_at: Instant,
        attempts: Mutex<Vec<Instant>>,
        down: Arc<AtomicBool>,
    }

    #[derive(Clone)]
    struct Wire(Arc<AtomicBool>);

    impl Connection for Wire {
        fn is_lost(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Node {
        fn up_after(delay: Duration) -> Self {
            Self { up_at: Instant::now() + delay, attempts: Mutex::default(), down: Arc::default() }
        }

        fn dial(&self) -> impl Future<Output = Result<Wire, ClientError>> {
            self.attempts.lock().unwrap().push(Instant::now());
            let refused = ClientError::new([10, 0, 0, 1].into(), "connect", ClientErrorKind::Unavailable, "refused");
            std::future::ready(if Instant::now() < self.up_at { Err(refused) } else { Ok(Wire(self.down.clone())) })
        }
    }

    /// Waits as a step does, beside others that only look.
    async fn wait(kept: &KeptConnection<Wire>, node: &Node) -> Instant {
        while kept.client(BOOT, || node.dial()).await.is_err() {
            kept.due().await;
        }
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_node_costs_one_attempt_a_second_however_many_ask_for_it() {
        let (kept, node, began) = (KeptConnection::default(), Node::up_after(Duration::from_mins(10)), Instant::now());
        let look = async {
            loop {
                let _ = kept.client(BOOT, || node.dial()).await;
                tokio::time::sleep(Duration::from_millis(125)).await;
            }
        };
        tokio::select! {
            () = look => unreachable!("it looks for ever"),
            (up, ..) = async { tokio::join!(wait(&kept, &node), wait(&kept, &node), wait(&kept, &node)) } => {
                assert!(up - node.up_at <= Duration::from_millis(1100));
            }
        }
        let attempts = node.attempts.lock().unwrap().clone();
        let gaps: Vec<Duration> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let overdue = attempts.iter().position(|at| *at - began >= BOOT).unwrap();
        assert!(
            gaps[..overdue - 1].iter().all(|gap| *gap <= Duration::from_millis(250)),
            "an open port is noticed late"
        );
        assert!(gaps[overdue..].iter().all(|gap| *gap >= Duration::from_secs(1)), "{:?}", &gaps[overdue..]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_until_it_is_lost() {
        let (kept, node) = (KeptConnection::default(), Node::up_after(Duration::ZERO));
        for _ in 0..100 {
            assert!(kept.client(BOOT, || node.dial()).await.is_ok());
        }
        assert_eq!(node.attempts.lock().unwrap().len(), 1);
        node.down.store(true, Ordering::SeqCst);
        // A lost connection is replaced at once: the node may be up.
        assert!(kept.client(BOOT, || node.dial()).await.is_ok());
        assert_eq!(node.attempts.lock().unwrap().len(), 2);
    }

    #[test]
    fn another_kind_of_error_begins_another_outage() {
        let now = Instant::now();
        let error = |kind| ClientError::new([10, 0, 0, 1].into(), "connect", kind, "x");
        let maintenance = Outage::after(None, error(ClientErrorKind::Untrusted), now, BOOT);
        let later = now + Duration::from_mins(5);
        let overdue = Outage::after(Some(maintenance), error(ClientErrorKind::Untrusted), later, BOOT);
        assert_eq!(overdue.next_attempt, later + Duration::from_secs(1));
        let rebooting = Outage::after(Some(overdue), error(ClientErrorKind::Unavailable), later, BOOT);
        assert!(rebooting.next_attempt <= later + Duration::from_millis(250));
        assert_eq!(rebooting.since, later);
    }
}
