//! A release that helm left `pending-…`: whether its helm is certainly dead, so that the record may be removed (H01). Pure,
//! but for the notes of what this program started.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use error_report::HumanDuration;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use engine::journal::Holder;
use engine::{Code, StepContext, StepError};
use helm::storage::{Status, StoredRelease};
use helmfile::ReleaseId;

use super::removal::removal_command;

/// A helm that this program started on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct HelmAttempt {
    /// The revision that it was going to write.
    helm_revision: u32,
    host: String,
    /// Just before it was started.
    since: Timestamp,
}

/// Whether the cluster's lease keeps other runs away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseView {
    Ours,
    NotOurs,
}

/// What is known beside the record.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingEvidence<'e> {
    pub(super) attempts: &'e [HelmAttempt],
    pub(super) host: &'e str,
    pub(super) lease: LeaseView,
    /// A helm of this release has ended by itself after that.
    pub(super) limit: Duration,
    pub(super) now: Timestamp,
}

/// What becomes of a pending record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PendingDecision {
    /// Its helm is dead; why.
    Remove(String),
    /// Its helm may live; why.
    Keep(String),
    /// A `helm uninstall` was interrupted, or is at work. No run of this program uninstalls, and the record's time is that of
    /// the installation: only the operator can know.
    Uninstalling,
}

/// Decides about a pending record. The helm of an attempt on record has ended: this run has the lock of the journal, and a
/// run's supervisor ends the whole tree of processes with the run. Helm's own clock is this machine's then, so a record
/// that is older than the attempt is of another helm.
pub(super) fn decide_pending(record: &StoredRelease, evidence: PendingEvidence<'_>) -> PendingDecision {
    let left = format!("revision {} was left {}", record.revision, record.status);
    let is_of = |attempt: &&HelmAttempt| {
        attempt.helm_revision == record.revision
            && attempt.host == evidence.host
            && record.last_deployed.is_some_and(|written| {
                written >= attempt.since
                    && Duration::try_from(written.duration_since(attempt.since)).unwrap_or_default() <= evidence.limit
            })
    };
    if record.status == Status::Uninstalling {
        return PendingDecision::Uninstalling;
    }
    if evidence.attempts.iter().any(|attempt| is_of(&attempt)) {
        return PendingDecision::Remove(format!("{left} by a run that has ended"));
    }
    let Some(written) = record.last_deployed else {
        return PendingDecision::Keep(format!("revision {} is {}, at an unknown time", record.revision, record.status));
    };
    let age = Duration::try_from(evidence.now.duration_since(written)).unwrap_or_default();
    let since = format!(
        "revision {} is {} since {}, {} ago",
        record.revision,
        record.status,
        written.strftime("%Y-%m-%d %H:%M:%SZ"),
        HumanDuration(Duration::from_secs(age.as_secs()))
    );
    match evidence.lease {
        LeaseView::Ours if age > evidence.limit => {
            PendingDecision::Remove(format!("{left} for longer than helm's timeout"))
        }
        LeaseView::Ours | LeaseView::NotOurs => PendingDecision::Keep(format!(
            "{since}; it was not written by an earlier run of this state folder, and helm may take {}",
            HumanDuration(evidence.limit)
        )),
    }
}

/// The error of a record whose helm may live.
pub(super) fn kept(record: &StoredRelease, reason: String) -> StepError {
    StepError::needs_operator("another helm may be at work on this release")
        .with_place(format!("Secret {}/{}", record.namespace, record.secret_name()))
        .because(reason)
        .next("wait until it ends or its timeout has passed, then run again with --resume")
        .code(Code::O04)
}

/// The error of a release that is partly uninstalled. Helm takes up an uninstallation that it finds so
/// (Helm 3 and 4, `pkg/action/uninstall.go`: only a finished one is refused).
pub(super) fn uninstalling(record: &StoredRelease, kubeconfig: &Path) -> StepError {
    let release = ReleaseId { namespace: record.namespace.clone(), name: record.name.clone() };
    let command = removal_command(&release, kubeconfig);
    StepError::needs_operator(format!("the release {release} is partly uninstalled"))
        .with_place(format!("Secret {}/{}", record.namespace, record.secret_name()))
        .because(format!("a `helm uninstall` of revision {} was interrupted, or is at work", record.revision))
        .next(format!(
            "let it end, or finish it with `{command}`, then run again with --resume: the release is installed anew"
        ))
        .code(Code::H01)
}

/// The helms that this run has started for one release.
#[derive(Debug, Default)]
pub(super) struct HelmAttempts(Mutex<Vec<HelmAttempt>>);

impl HelmAttempts {
    /// Notes that helm is about to write `revision`. Without the journal's record a later run waits for helm's timeout.
    pub(super) async fn begin(&self, cx: &StepContext, revision: u32) {
        let attempt = HelmAttempt { helm_revision: revision, host: this_host(), since: whole_second(Timestamp::now()) };
        let _ = cx.intend(json!(attempt)).await;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
    }

    /// Those of this run and of earlier ones.
    pub(super) fn all(&self, cx: &StepContext) -> Vec<HelmAttempt> {
        let earlier =
            cx.recorded_intents().iter().filter_map(|prior| serde_json::from_value(prior.intent.clone()).ok());
        earlier.chain(self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned()).collect()
    }
}

/// This machine, as the journal names it.
pub(super) fn this_host() -> String {
    Holder::this_process("").host
}

/// Helm may write times of a lower precision.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use helm::storage::Status;
    use serde_json::Value;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

    fn ago(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW.as_second() - seconds).unwrap()
    }

    fn record(revision: u32, written: Option<Timestamp>) -> StoredRelease {
        StoredRelease {
            namespace: "kube-system".into(),
            name: "cilium".into(),
            revision,
            status: Status::PendingInstall,
            description: String::new(),
            chart_name: "cilium".into(),
            chart_version: "1".into(),
            config: Value::Null,
            manifest: String::new(),
            hooks: vec![],
            labels: std::collections::BTreeMap::new(),
            apply_method: None,
            last_deployed: written,
        }
    }

    /// What is special, the record's age in seconds, attempts on record, the lease, and whether it is removed.
    type Case<'c> = (&'c str, Option<i64>, &'c [HelmAttempt], LeaseView, bool);

    #[test]
    fn a_pending_record_is_removed_only_on_proof_that_its_helm_is_dead() {
        use LeaseView::{NotOurs, Ours};
        let attempt =
            |helm_revision, host: &str, seconds| HelmAttempt { helm_revision, host: host.into(), since: ago(seconds) };
        let (ours, elsewhere) = (attempt(1, "laptop", 60), attempt(1, "desktop", 60));
        let table: &[Case<'_>] = &[
            ("nothing is known of it, and it is recent", Some(30), &[], Ours, false),
            ("an earlier run of this machine started it", Some(30), std::slice::from_ref(&ours), Ours, true),
            ("the lock says enough", Some(60), std::slice::from_ref(&ours), NotOurs, true),
            ("the journal was copied from another machine", Some(30), std::slice::from_ref(&elsewhere), Ours, false),
            (
                "it is older than the attempt: another helm was first",
                Some(90),
                std::slice::from_ref(&ours),
                Ours,
                false,
            ),
            ("the attempt was of another revision", Some(30), &[attempt(2, "laptop", 60)], Ours, false),
            ("its helm has timed out, and no other run is at work", Some(601), &[], Ours, true),
            ("its helm has nearly timed out", Some(600), &[], Ours, false),
            ("another run may be at work", Some(601), &[], NotOurs, false),
            ("a clock that is ahead", Some(-5), &[], Ours, false),
            ("an unknown time", None, &[], Ours, false),
            ("an unknown time, of our own", None, std::slice::from_ref(&ours), Ours, false),
        ];
        for (what, age, attempts, lease, is_removed) in table {
            let limit = Duration::from_mins(10);
            let evidence = PendingEvidence { attempts, host: "laptop", lease: *lease, limit, now: NOW };
            let decision = decide_pending(&record(1, age.map(ago)), evidence);
            assert_eq!(matches!(decision, PendingDecision::Remove(_)), *is_removed, "{what}: {decision:?}");
        }
    }

    /// No time proves anything here: the record has that of the installation.
    #[test]
    fn a_release_that_is_partly_uninstalled_is_finished_by_the_operator() {
        let attempt = HelmAttempt { helm_revision: 1, host: "laptop".into(), since: ago(60) };
        let record = StoredRelease { status: Status::Uninstalling, ..record(1, Some(ago(30))) };
        for (attempts, now) in [(&[][..], NOW), (std::slice::from_ref(&attempt), NOW), (&[], ago(-1_000_000))] {
            let limit = Duration::from_mins(10);
            let evidence = PendingEvidence { attempts, host: "laptop", lease: LeaseView::Ours, limit, now };
            assert_eq!(decide_pending(&record, evidence), PendingDecision::Uninstalling);
        }
        let error = uninstalling(&record, Path::new("/state/kubeconfig"));
        assert_eq!(error.code, Some(Code::H01), "no other run of this program is at work");
        let next = error.next.unwrap();
        let command = "helm uninstall cilium --namespace kube-system --kubeconfig /state/kubeconfig";
        assert!(next.contains(command) && !next.contains("timeout"), "{next}");
    }

    #[test]
    fn the_error_names_the_record_and_since_when_it_is_pending() {
        let record = record(3, Some(ago(90)));
        let limit = Duration::from_mins(15);
        let evidence = PendingEvidence { attempts: &[], host: "laptop", lease: LeaseView::Ours, limit, now: NOW };
        let PendingDecision::Keep(reason) = decide_pending(&record, evidence) else { panic!("removed") };
        let error = kept(&record, reason);
        assert_eq!(error.code, Some(Code::O04));
        let text = error.to_string();
        assert!(text.contains("Secret kube-system/sh.helm.release.v1.cilium.v3"), "{text}");
        assert!(text.contains("revision 3 is pending-install since 2023-11-14 22:11:50Z, 90s ago"), "{text}");
    }
}
