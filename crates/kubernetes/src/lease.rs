//! One writer at a time on a cluster: a Lease of `coordination.k8s.io/v1` in `kube-system`.
//!
//! A lease is not a fence: a run that loses it starts nothing new, and the next holder observes first. The decision is pure
//! ([`decide_lease`]). Every change is sent with the version that was read, so of two runs one loses.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

use super::error::{ApiError, ApiErrorKind, with_retry};

const NAMESPACE: &str = "kube-system";
/// The annotation with the holder's process.
const PROCESS: &str = "k8s-bootstrap.io/process";
/// For one change. It is not repeated as it is, since it may have been made.
const CHANGE: Duration = Duration::from_secs(10);
/// How often another writer may come in between.
const RACES: u32 = 5;

/// How long a lease lasts, and how often its holder renews it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// After the last renewal it has expired.
    pub duration: Duration,
    pub renewal: Duration,
}

impl LeaseTerms {
    /// Four renewals in the duration: an API server that restarts, as in a rollout, costs one or two.
    pub const RUN: Self = Self { duration: Duration::from_mins(1), renewal: Duration::from_secs(15) };
}

/// A lease that has a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Such as `ann@laptop/20260102T030405Z-0a1b`.
    pub holder: String,
    pub acquired: Option<Timestamp>,
    /// By the holder's clock.
    pub renewed: Option<Timestamp>,
    pub duration: Duration,
    /// Absent in leases of earlier versions and of systems that do not identify processes.
    pub process: Option<HolderProcess>,
}

/// The process of a holder, as the program identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderProcess(pub String);

impl LeaseRecord {
    /// Whether the holder is one of these runs of a journal.
    fn is_of_run(&self, runs: &[String]) -> bool {
        runs.iter().any(|run| split_holder(&self.holder).1 == Some(run.as_str()))
    }

    /// Whether it has expired, if both clocks are right.
    fn has_expired(&self, now: Timestamp) -> bool {
        self.renewed.is_none_or(|renewed| now.duration_since(renewed).unsigned_abs() > self.duration && now > renewed)
    }
}

impl fmt::Display for LeaseRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: Option<Timestamp>| {
            time.map_or_else(|| "an unknown time".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
        };
        write!(f, "{}, since {}, renewed last at {}", self.holder, time(self.acquired), time(self.renewed))
    }
}

/// `USER@HOST` and the run of a holder.
fn split_holder(holder: &str) -> (&str, Option<&str>) {
    holder.rsplit_once('/').map_or((holder, None), |(operator, run)| (operator, Some(run)))
}

/// What to do about a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseDecision {
    /// It is free, or of a run that has certainly ended.
    Take,
    /// It is ours already.
    Renew,
    /// Another run holds it.
    Held(LeaseRecord),
    /// Another run held it, and has not renewed it in time by our clock.
    Expired(LeaseRecord),
    /// The same, of an earlier run of our journal whose process cannot be seen to have ended: on this machine before it was
    /// restarted or renamed, or on another one that has the same state folder. It is taken once it was seen not to be renewed.
    OwnExpired(LeaseRecord),
}

/// Who asks for a lease.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// `USER@HOST/RUN`.
    pub holder: String,
    /// The process that asks, for a later run that has to know whether it has ended.
    pub process: Option<HolderProcess>,
    /// Earlier runs of the journal. That this run has the journal's lock proves nothing of them: the state folder may have been
    /// copied while its run went on.
    pub earlier: Vec<String>,
    /// Whether a process has certainly ended.
    pub has_ended: fn(&HolderProcess) -> bool,
    pub expired: ExpiredLease,
}

/// What becomes of an expired lease of another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiredLease {
    /// The operator decides first.
    Respect,
    /// The operator has decided that its holder is dead.
    TakeOver,
}

/// Decides about a lease; `None` is one without a holder.
pub fn decide_lease(found: Option<&LeaseRecord>, request: &LeaseRequest, now: Timestamp) -> LeaseDecision {
    let Some(record) = found else { return LeaseDecision::Take };
    if record.holder == request.holder {
        return LeaseDecision::Renew;
    }
    let is_own = record.is_of_run(&request.earlier);
    let has_ended = record.process.as_ref().is_some_and(request.has_ended);
    match (is_own, record.has_expired(now)) {
        (true, _) if has_ended => LeaseDecision::Take,
        (true, true) => LeaseDecision::OwnExpired(record.clone()),
        (false, true) => LeaseDecision::Expired(record.clone()),
        (_, false) => LeaseDecision::Held(record.clone()),
    }
}

/// Why a lease is not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// By another run, which renews it.
    #[error("another run holds the lease of the cluster: {0}")]
    Held(LeaseRecord),
    #[error("the lease of the cluster belongs to a run that no longer renews it: {0}")]
    Expired(LeaseRecord),
    #[error("the lease of the cluster cannot be taken")]
    Api(#[from] ApiError),
}

/// Whether a lease is still ours after a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    Renewed,
    /// Another run took it over.
    Lost(LeaseRecord),
}

/// An expired lease that was seen not to be renewed, and since when. It outlives an attempt to take the lease that is cut
/// short, so that attempts which are shorter than the observation come to an end.
#[derive(Debug, Clone, Default)]
pub struct LeaseSighting(Option<(Option<String>, Instant)>);

impl LeaseSighting {
    /// Since when this version of the lease is there.
    fn since(&mut self, version: Option<String>, now: Instant) -> Instant {
        match &self.0 {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.0 = Some((version, now));
                now
            }
        }
    }
}

/// The lease of one cluster.
#[derive(Clone)]
pub struct ClusterLease {
    api: Api<Lease>,
    name: String,
    terms: LeaseTerms,
    process: Option<HolderProcess>,
}

impl fmt::Debug for ClusterLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterLease").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ClusterLease {
    /// The lease of the cluster of this name, by a client of its API, for a run of `process`.
    pub fn new(client: Client, cluster: &str, terms: LeaseTerms, process: Option<HolderProcess>) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name = format!("k8s-bootstrap-{}", cluster.chars().map(plain).collect::<String>());
        Self { api: Api::namespaced(client, NAMESPACE), name: name.trim_end_matches('-').to_owned(), terms, process }
    }

    /// The holder now.
    ///
    /// # Errors
    ///
    /// When the API does not respond or rejects the request.
    pub async fn read(&self) -> Result<Option<LeaseRecord>, ApiError> {
        Ok(self.lease().await?.as_ref().and_then(record))
    }

    async fn lease(&self) -> Result<Option<Lease>, ApiError> {
        with_retry(|| self.api.get_opt(&self.name)).await
    }

    /// Takes the lease. An expired one of another journal's run is taken only on request. Any expired one is taken only after it
    /// was seen not to be renewed for two intervals: clocks differ, and a live one is never taken.
    ///
    /// # Errors
    ///
    /// A lease of another run; an API that does not respond or rejects the request.
    pub async fn acquire(&self, request: &LeaseRequest) -> Result<(), LeaseError> {
        self.acquire_seen(request, &mut LeaseSighting::default()).await
    }

    /// The same, going on with the observation of an earlier attempt.
    ///
    /// # Errors
    ///
    /// As [`ClusterLease::acquire`].
    pub async fn acquire_seen(&self, request: &LeaseRequest, sighting: &mut LeaseSighting) -> Result<(), LeaseError> {
        for _ in 0..RACES {
            let found = self.lease().await?;
            match decide_lease(found.as_ref().and_then(record).as_ref(), request, Timestamp::now()) {
                LeaseDecision::Held(record) => return Err(LeaseError::Held(record)),
                LeaseDecision::Expired(record) if request.expired == ExpiredLease::Respect => {
                    return Err(LeaseError::Expired(record));
                }
                LeaseDecision::Expired(record) | LeaseDecision::OwnExpired(record) => {
                    if self.is_renewed(found.as_ref(), sighting).await? {
                        return Err(LeaseError::Held(record));
                    }
                }
                LeaseDecision::Take | LeaseDecision::Renew => {}
            }
            if self.write(found, &request.holder).await? == Written::Whole {
                return Ok(());
            }
        }
        Err(raced().into())
    }

    /// Whether the holder renews the lease, seen for two intervals.
    async fn is_renewed(&self, found: Option<&Lease>, sighting: &mut LeaseSighting) -> Result<bool, ApiError> {
        let version = |lease: Option<&Lease>| lease.and_then(|lease| lease.metadata.resource_version.clone());
        let end = sighting.since(version(found), Instant::now()) + self.terms.renewal * 2;
        while Instant::now() < end {
            sleep(self.terms.renewal / 5).await;
            if version(self.lease().await?.as_ref()) != version(found) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Renews the lease of `holder`. One that is gone is created again: only an operator deletes it.
    ///
    /// # Errors
    ///
    /// When the API does not respond or rejects the request.
    pub async fn renew(&self, holder: &str) -> Result<Renewal, ApiError> {
        for _ in 0..RACES {
            let found = self.lease().await?;
            if let Some(other) = found.as_ref().and_then(record).filter(|record| record.holder != holder) {
                return Ok(Renewal::Lost(other));
            }
            if self.write(found, holder).await? == Written::Whole {
                return Ok(Renewal::Renewed);
            }
        }
        Err(raced())
    }

    /// Gives the lease of `holder` back.
    ///
    /// # Errors
    ///
    /// When the API does not respond or rejects the request.
    pub async fn release(&self, holder: &str) -> Result<(), ApiError> {
        for _ in 0..RACES {
            let Some(mut lease) = self.lease().await? else { return Ok(()) };
            let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(holder)) else {
                return Ok(());
            };
            spec.holder_identity = None;
            if self.replace(&lease).await? == Written::Whole {
                return Ok(());
            }
        }
        Err(raced())
    }

    async fn write(&self, found: Option<Lease>, holder: &str) -> Result<Written, ApiError> {
        let is_new = found.is_none();
        let found = found.unwrap_or_else(|| self.without_holder());
        let lease = held_by(found, holder, self.process.as_ref(), self.terms, Timestamp::now());
        if is_new { self.create(&lease).await } else { self.replace(&lease).await }
    }

    fn without_holder(&self) -> Lease {
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        };
        Lease { metadata, spec: None }
    }

    async fn create(&self, lease: &Lease) -> Result<Written, ApiError> {
        written(timeout(CHANGE, self.api.create(&PostParams::default(), lease)).await)
    }

    async fn replace(&self, lease: &Lease) -> Result<Written, ApiError> {
        written(timeout(CHANGE, self.api.replace(&self.name, &PostParams::default(), lease)).await)
    }
}

/// How a change of a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Whole,
    /// Another writer was first; nothing was changed.
    TooLate,
}

fn written(answer: Result<kube::Result<Lease>, tokio::time::error::Elapsed>) -> Result<Written, ApiError> {
    match answer {
        Ok(Ok(_)) => Ok(Written::Whole),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(Written::TooLate),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ApiError::new(ApiErrorKind::Unreachable("the lease was not written within 10s".to_owned()))),
    }
}

fn raced() -> ApiError {
    ApiError::new(ApiErrorKind::Busy { message: "other writers change the lease".to_owned(), retry_after: None })
}

/// The holder of a lease, if it has one.
fn record(lease: &Lease) -> Option<LeaseRecord> {
    let spec = lease.spec.as_ref()?;
    Some(LeaseRecord {
        holder: spec.holder_identity.clone().filter(|holder| !holder.is_empty())?,
        acquired: spec.acquire_time.as_ref().map(|time| time.0),
        renewed: spec.renew_time.as_ref().map(|time| time.0),
        duration: Duration::from_secs(spec.lease_duration_seconds.unwrap_or_default().max(0).unsigned_abs().into()),
        process: lease.metadata.annotations.as_ref().and_then(|all| all.get(PROCESS)).cloned().map(HolderProcess),
    })
}

/// A lease as `holder` writes it: a renewal keeps the time of its acquisition.
fn held_by(
    mut lease: Lease,
    holder: &str,
    process: Option<&HolderProcess>,
    terms: LeaseTerms,
    now: Timestamp,
) -> Lease {
    let before = record(&lease);
    let annotations = lease.metadata.annotations.get_or_insert_default();
    match process {
        Some(HolderProcess(process)) => drop(annotations.insert(PROCESS.to_owned(), process.clone())),
        None => drop(annotations.remove(PROCESS)),
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if before.as_ref().is_none_or(|before| before.holder != holder) {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |transitions| transitions.saturating_add(1)));
    }
    spec.holder_identity = Some(holder.to_owned());
    spec.renew_time = Some(MicroTime(now));
    spec.lease_duration_seconds = Some(i32::try_from(terms.duration.as_secs()).unwrap_or(i32::MAX));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

    fn record_of(holder: &str, age: i64) -> LeaseRecord {
        LeaseRecord {
            holder: holder.to_owned(),
            acquired: Some(NOW),
            renewed: Some(Timestamp::from_second(NOW.as_second() - age).unwrap()),
            duration: Duration::from_mins(1),
            process: None,
        }
    }

    /// The same, by a process that the asking one can see.
    fn record_by(process: &str, holder: &str, age: i64) -> LeaseRecord {
        LeaseRecord { process: Some(HolderProcess(process.to_owned())), ..record_of(holder, age) }
    }

    #[test]
    fn an_observation_that_is_cut_short_is_gone_on_with_unless_the_lease_was_written() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let mut sighting = LeaseSighting::default();
        assert_eq!(sighting.since(Some("7".to_owned()), began), began);
        assert_eq!(sighting.since(Some("7".to_owned()), began + second), began);
        assert_eq!(sighting.since(Some("8".to_owned()), began + second), began + second);
    }

    fn request() -> LeaseRequest {
        LeaseRequest {
            holder: "ann@laptop/2".into(),
            process: None,
            earlier: vec!["1".into()],
            has_ended: |process| process.0 == "ended",
            expired: ExpiredLease::Respect,
        }
    }

    #[test]
    fn a_lease_is_taken_from_a_run_that_is_certainly_dead_and_from_no_other() {
        let decide = |found: Option<&LeaseRecord>| decide_lease(found, &request(), NOW);
        assert_eq!(decide(None), LeaseDecision::Take);
        for age in [0, 59, 61, 1_000_000] {
            assert_eq!(decide(Some(&record_by("ended", "ann@laptop/1", age))), LeaseDecision::Take);
            assert_eq!(decide(Some(&record_of("ann@laptop/2", age))), LeaseDecision::Renew);
        }
        for (age, is_held) in [(0, true), (60, true), (61, false), (1_000_000, false), (-1, true), (-1_000_000, true)] {
            let other = record_of("bob@desktop/7", age);
            let expected =
                if is_held { LeaseDecision::Held(other.clone()) } else { LeaseDecision::Expired(other.clone()) };
            assert_eq!(decide(Some(&other)), expected, "{age}");
        }
        let never = LeaseRecord { renewed: None, ..record_of("bob@desktop/7", 0) };
        assert_eq!(decide(Some(&never)), LeaseDecision::Expired(never));
    }

    /// A state folder that was copied on the same machine by the same user has the run that goes on beside it.
    #[test]
    fn a_run_of_a_copied_state_folder_is_alive_while_its_process_may_be() {
        let decide = |found: &LeaseRecord| decide_lease(Some(found), &request(), NOW);
        for found in [record_by("runs", "ann@laptop/1", 0), record_of("ann@laptop/1", 60)] {
            assert_eq!(decide(&found), LeaseDecision::Held(found.clone()), "{found:?}");
        }
        for found in [record_by("runs", "ann@laptop/1", 61), record_of("ann@laptop/1", 61)] {
            assert_eq!(decide(&found), LeaseDecision::OwnExpired(found.clone()), "{found:?}");
        }
        // The process of another journal says nothing about what its operator wants.
        let other = record_by("ended", "ann@laptop/9", 0);
        assert_eq!(decide(&other), LeaseDecision::Held(other.clone()));
    }

    /// A state folder that was copied or is synced has the runs of another machine, which may be alive.
    #[test]
    fn a_live_lease_of_the_same_journal_is_not_taken_from_another_machine_or_user() {
        let decide = |holder: &str, age| {
            let record = record_of(holder, age);
            (decide_lease(Some(&record), &request(), NOW), record)
        };
        for holder in ["ann@desktop/1", "bob@laptop/1", "1", "/1"] {
            let (decision, record) = decide(holder, 0);
            assert_eq!(decision, LeaseDecision::Held(record), "{holder}");
        }
        for holder in ["ann@desktop/1", "bob@laptop/1"] {
            let (decision, record) = decide(holder, 61);
            assert_eq!(decision, LeaseDecision::OwnExpired(record), "{holder}");
        }
        let ended = record_by("ended", "ann@laptop/1", 0);
        assert_eq!(decide_lease(Some(&ended), &request(), NOW), LeaseDecision::Take);
    }

    #[test]
    fn a_renewal_keeps_since_when_the_lease_is_held() {
        let later = Timestamp::from_second(NOW.as_second() + 15).unwrap();
        let ours = HolderProcess("7".to_owned());
        let lease = held_by(Lease::default(), "ann", Some(&ours), LeaseTerms::RUN, NOW);
        let renewed = record(&held_by(lease.clone(), "ann", Some(&ours), LeaseTerms::RUN, later)).unwrap();
        assert_eq!((renewed.acquired, renewed.renewed), (Some(NOW), Some(later)));
        assert_eq!(renewed.process, Some(ours));
        let taken = held_by(lease, "bob", None, LeaseTerms::RUN, later);
        assert_eq!(record(&taken).unwrap().process, None);
        assert_eq!(taken.spec.as_ref().unwrap().lease_transitions, Some(1));
        let taken = record(&taken).unwrap();
        assert_eq!(
            (taken.holder.as_str(), taken.acquired, taken.duration),
            ("bob", Some(later), LeaseTerms::RUN.duration)
        );
    }
}
