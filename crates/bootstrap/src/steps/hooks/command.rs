//! Hooks that run as processes: the outcome of each is journaled.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::super::api_errors::api_error;
use super::super::etcd;
use super::record::{
    COMPLETE, Completeness, Doubt, HookDecision, HookIdentity, HookIntent, HookKey, HookPlace, HookRecord, HookRecords,
    HookState, Repetition, decide, is_in_question,
};
use crate::steps::context::RunContext;
use engine::journal::RecordedIntents;
use engine::{Action, Code, Effect, Observation, StepContext, StepError};
use helmfile::Hook;
use process::{Command, Credentials, SecretFile, Stream};

/// How long a hook may print nothing, unless the timeout of its release is longer: one that waits for input must not hang a
/// bootstrap, and one that works may take its time.
const SILENCE: Duration = Duration::from_mins(10);

/// Where the cluster keeps what became of its hooks, beside the journal.
const RECORDS: &str = "k8s-bootstrap-hooks";
const RECORDS_NAMESPACE: &str = "kube-system";

/// What the cluster has on record about its hooks.
#[derive(Debug, Clone)]
pub(super) struct ClusterRecords {
    records: HookRecords,
    /// Complete where a run has marked them so.
    completeness: Completeness,
}

impl ClusterRecords {
    pub(super) async fn read(context: &RunContext) -> Result<Self, StepError> {
        let client = context.kubernetes().await?;
        let data = kubernetes::config_map(&client, RECORDS_NAMESPACE, RECORDS).await;
        let data = data.map_err(|error| api_error(&error))?.unwrap_or_default();
        let is_marked = data.contains_key(COMPLETE);
        let records = HookRecords::from_cluster(&data).map_err(|error| {
            StepError::needs_operator("the cluster's record of hooks cannot be read")
                .with_place(format!("ConfigMap {RECORDS_NAMESPACE}/{RECORDS}"))
                .caused_by(&error)
                .code(Code::H12)
        })?;
        Ok(Self { records, completeness: if is_marked { Completeness::Complete } else { Completeness::Unknown } })
    }
}

/// A command that runs as it is written, with the kubeconfig of this cluster.
pub(in crate::steps) struct Process {
    context: Arc<RunContext>,
    hook: Hook,
    identity: HookIdentity,
    /// Without output for so long, it is stopped.
    silence: Duration,
    /// Never, where `k8s-bootstrap.yaml` declares it with `idempotent: false`.
    repetition: Repetition,
}

impl Process {
    pub(super) fn new(context: Arc<RunContext>, place: &HookPlace<'_>) -> Self {
        let hook = place.hook;
        let once = context.cluster.hook_rules().iter().any(|rule| !rule.idempotent && rule.matches(hook));
        let repetition = if once { Repetition::Never } else { Repetition::Allowed };
        let identity = HookIdentity::new(place, &context.cluster.root, &context.fingerprint_key());
        let silence = silence_limit(place.timeout(&context.cluster.bootstrap.releases));
        Self { hook: hook.clone(), identity, silence, repetition, context }
    }

    /// The operator's programs, then the kubectl that was found or provided.
    fn path(&self) -> std::ffi::OsString {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let ours = self.context.kubectl.as_deref().and_then(Path::parent).map(Path::to_owned);
        std::env::join_paths(std::env::split_paths(&own).chain(ours)).unwrap_or(own)
    }

    async fn decide(&self, cx: &StepContext) -> Result<HookDecision, StepError> {
        let journal = cx.all_recorded_intents();
        let cluster = ClusterRecords::read(&self.context).await?;
        let completeness = self.completeness(&cluster, journal);
        let records = HookRecords::from_journal(journal).merged(cluster.records);
        let answer = self.context.choices.hook_answers.get(&cx.step).copied();
        Ok(decide(&self.identity, &records, self.repetition, answer, &self.plan(), completeness))
    }

    /// Whether an answer about this hook would decide something. Without the records of the cluster it may, unless the journal
    /// has the outcome.
    pub(super) fn is_in_question(&self, journal: &RecordedIntents, cluster: Option<&ClusterRecords>) -> bool {
        let own = HookRecords::from_journal(journal);
        let Some(cluster) = cluster else { return own.state(&self.identity.key) != Some(HookState::Done) };
        let completeness = self.completeness(cluster, journal);
        let records = own.merged(cluster.records.clone());
        is_in_question(&self.identity, &records, self.repetition, &self.plan(), completeness)
    }

    /// The keys of every hook of the plan.
    fn plan(&self) -> BTreeSet<HookKey> {
        HookKey::all(&self.context.cluster, &self.context.fingerprint_key())
    }

    fn completeness(&self, cluster: &ClusterRecords, journal: &RecordedIntents) -> Completeness {
        if cluster.completeness == Completeness::Complete || self.began_here(journal) {
            Completeness::Complete
        } else {
            Completeness::Unknown
        }
    }

    /// Whether this run or this journal began the cluster, so that nothing is missing in its records.
    fn began_here(&self, journal: &RecordedIntents) -> bool {
        self.context.has_bootstrapped_etcd() || etcd::began_in(journal)
    }

    /// Marks the cluster's records as complete where they are, before the first of them is written.
    async fn mark_complete(&self, cx: &StepContext) -> Result<(), StepError> {
        if !self.began_here(cx.all_recorded_intents()) {
            return Ok(());
        }
        let client = self.context.kubernetes().await?;
        let marked = kubernetes::set_config_map_key(&client, RECORDS_NAMESPACE, RECORDS, COMPLETE, "true").await;
        marked.map_err(|error| api_error(&error))
    }

    /// The hook may have done its work in part or in full, and must not do it twice.
    fn unknown(&self, cx: &StepContext, doubt: &Doubt) -> StepError {
        let cluster = &self.context.cluster.name;
        StepError::failed_precondition(format!("the outcome of the hook `{}` is unknown", self.hook.command))
            .with_place(self.hook.at.to_string())
            .because(format!("{doubt}, and it is declared with `idempotent: false`"))
            .next(format!(
                "check what it has done, then run k8s-bootstrap {cluster} --resume --hook {step}=done, or --hook {step}=again",
                step = cx.step
            ))
            .code(Code::H12)
    }

    /// Records in the cluster what is known of the hook.
    async fn record(&self, state: HookState) -> Result<(), StepError> {
        let once = self.repetition == Repetition::Never;
        let HookIdentity { key, command, owner_and_events } = self.identity.clone();
        let record = HookRecord { state, command, once, owner_and_events: Some(owner_and_events) };
        let client = self.context.kubernetes().await?;
        let text = json!(record).to_string();
        kubernetes::set_config_map_key(&client, RECORDS_NAMESPACE, RECORDS, key.as_str(), &text)
            .await
            .map_err(|error| api_error(&error))
    }

    /// Records that the hook has run. An API that is away now must not have it run again, so the journal comes first.
    async fn conclude(&self, cx: &StepContext) -> Result<Effect, StepError> {
        cx.conclude(json!(HookState::Done)).await?;
        Ok(match self.record(HookState::Done).await {
            Ok(()) => Effect::Complete,
            Err(error) => Effect::Degraded(format!("it has run, and the cluster has no record of that: {error}")),
        })
    }

    async fn run(&self, cx: &StepContext, kubeconfig: &SecretFile) -> Result<(), process::Error> {
        let progress = cx.clone();
        let recipe_environment = self.context.cluster.recipe_environment.iter();
        let command = Command::new(&self.hook.command).args(&self.hook.args).credentials(Credentials::Operator);
        let running = recipe_environment
            .fold(command, |command, (name, value)| command.env(name, value))
            .env("KUBECONFIG", kubeconfig.path())
            .env("PATH", self.path())
            .current_dir(&self.hook.folder)
            .silence_limit(self.silence)
            .on_line(move |stream, line| {
                if stream == Stream::Err || !line.is_empty() {
                    progress.progress(line);
                }
            })
            .run();
        kill_points::around("hook", running).await.map(drop)
    }
}

#[async_trait]
impl Action for Process {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        match self.decide(cx).await? {
            HookDecision::HasRun => {
                let is_answered = self.context.choices.hook_answers.contains_key(&cx.step);
                let unused = if is_answered { "; --hook is not used, since its outcome is on record" } else { "" };
                Ok(Observation::UpToDate(format!("has run{unused}")))
            }
            HookDecision::Ask(doubt) => Err(self.unknown(cx, &doubt)),
            HookDecision::Run | HookDecision::Conclude => {
                Ok(Observation::Missing("has not run to completion".to_owned()))
            }
        }
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let decision = self.decide(cx).await?;
        if let HookDecision::Ask(doubt) = &decision {
            return Err(self.unknown(cx, doubt));
        }
        let kubeconfig = self.context.child_kubeconfig().await?;
        let once = self.repetition == Repetition::Never;
        self.mark_complete(cx).await?;
        let HookIdentity { key, command, owner_and_events } = self.identity.clone();
        let intent = HookIntent { hook: key, command, once, owner_and_events: Some(owner_and_events) };
        cx.intend(json!(intent)).await?;
        match decision {
            HookDecision::HasRun | HookDecision::Ask(_) => self.conclude(cx).await,
            HookDecision::Conclude => {
                cx.progress("done, according to --hook");
                self.conclude(cx).await
            }
            HookDecision::Run => {
                self.record(HookState::Begun).await?;
                match self.run(cx, &kubeconfig).await {
                    Ok(()) => self.conclude(cx).await,
                    Err(error) => {
                        cx.conclude(json!(HookState::Failed)).await?;
                        // Without this record the hook counts as interrupted, which is asked about too.
                        let _ = self.record(HookState::Failed).await;
                        Err(hook_error(&self.hook, &error))
                    }
                }
            }
        }
    }
}

/// How long a hook may print nothing, by the timeout of its release.
pub(super) fn silence_limit(timeout: Option<Duration>) -> Duration {
    timeout.unwrap_or_default().max(SILENCE)
}

/// What an API server answers to a client-side apply of an object that does not fit into an annotation (H02).
const TOO_LARGE: &str = "metadata.annotations: Too long";

fn hook_error(hook: &Hook, error: &process::Error) -> StepError {
    let what = match error {
        process::Error::Start { .. } => format!("the hook's program `{}` cannot be started", hook.command),
        _ => format!("the hook `{}` failed", hook.command),
    };
    let code = match error {
        process::Error::Failed { stderr, .. } if stderr.contains(TOO_LARGE) => Code::H02,
        _ => Code::H12,
    };
    StepError::failed_precondition(what).with_place(hook.at.to_string()).caused_by(error).code(code)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use yaml::{Origin, Position};

    use super::*;

    #[test]
    fn the_timeout_of_a_release_extends_what_its_hooks_may_take_without_output() {
        assert_eq!(silence_limit(None), Duration::from_mins(10));
        assert_eq!(silence_limit(Some(Duration::from_mins(5))), Duration::from_mins(10));
        assert_eq!(silence_limit(Some(Duration::from_mins(25))), Duration::from_mins(25));
    }

    #[test]
    fn a_definition_that_is_too_large_for_a_client_side_apply_has_its_own_code() {
        let hook = Hook {
            events: vec![],
            command: "kubectl".to_owned(),
            args: vec![],
            show_logs: false,
            folder: "/".into(),
            at: Origin::new("01-apps.yaml").location(Position { line: 7, column: 9 }),
        };
        let failed = |stderr: &str| {
            let status = ExitStatus::from_raw(256);
            hook_error(&hook, &process::Error::Failed { program: "kubectl".into(), status, stderr: stderr.into() })
        };
        let error = failed(
            "The CustomResourceDefinition \"prometheuses.monitoring.coreos.com\" is invalid: metadata.annotations: Too \
             long: may not be more than 262144 bytes",
        );
        assert_eq!((error.code, error.place.as_deref()), (Some(Code::H02), Some("01-apps.yaml:7:9")));
        assert!(error.next.is_some_and(|next| next.contains("--server-side")));
        assert_eq!(failed("error: the server is down").code, Some(Code::H12));
    }
}
