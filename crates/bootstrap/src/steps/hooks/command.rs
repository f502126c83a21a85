//! Hooks that run as processes: the outcome of each is journaled.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::super::fingerprints;
use crate::steps::context::RunContext;
use engine::plan::Fingerprint;
use engine::{Action, Code, Effect, Observation, StepContext, StepError};
use helmfile::Hook;
use process::{Command, Credentials, Stream};

/// A hook that waits for input must not hang a bootstrap.
const DEADLINE: Duration = Duration::from_mins(10);

/// The operator's answer about a hook that must not run twice and whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has done its work.
    Done,
    /// It has not, or may safely run again.
    Again,
}

/// A command that runs as it is written, with the kubeconfig of this cluster.
pub(super) struct Process {
    context: Arc<RunContext>,
    hook: Hook,
    fingerprint: Fingerprint,
    /// Whether `k8s-bootstrap.yaml` declares it with `idempotent: false`.
    once: bool,
}

impl Process {
    pub(super) fn new(context: Arc<RunContext>, hook: &Hook) -> Self {
        let once = context.cluster.hook_rules().iter().any(|rule| !rule.idempotent && rule.matches(hook));
        Self { context, hook: hook.clone(), fingerprint: fingerprints::hook(hook), once }
    }

    /// The operator's programs, then the kubectl that was found or provided.
    fn path(&self) -> std::ffi::OsString {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let ours = self.context.kubectl.as_deref().and_then(Path::parent).map(Path::to_owned);
        std::env::join_paths(std::env::split_paths(&own).chain(ours)).unwrap_or(own)
    }

    /// The journal's record of this command.
    fn record(&self, cx: &StepContext) -> Record {
        let intent = json!({"hook": self.fingerprint});
        let mut own = cx.recorded_intents.iter().filter(|prior| prior.intent == intent).map(|prior| &prior.outcome);
        match own.next_back() {
            None => Record::NotRun,
            Some(None) => Record::Begun,
            Some(Some(outcome)) if *outcome == json!(DONE) => Record::Done,
            Some(Some(_)) => Record::Failed,
        }
    }

    fn verdict(&self, cx: &StepContext) -> Option<Verdict> {
        self.context.verdicts.get(&cx.step).copied()
    }

    /// The hook may have done its work in part or in full, and must not do it twice.
    fn unknown(&self, cx: &StepContext, why: &str) -> StepError {
        let cluster = &self.context.cluster.name;
        StepError::failed_precondition(format!("the outcome of the hook `{}` is unknown", self.hook.command))
            .with_place(self.hook.at.to_string())
            .because(format!("{why}, and it is declared with `idempotent: false`"))
            .next(format!(
                "check what it has done, then run k8s-bootstrap {cluster} --resume --hook {step}=done, or --hook {step}=again",
                step = cx.step
            ))
            .code(Code::H12)
    }
}

const DONE: &str = "done";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    NotRun,
    /// The run ended before it did.
    Begun,
    Failed,
    Done,
}

#[async_trait]
impl Action for Process {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        match self.record(cx) {
            Record::Done => Ok(Observation::UpToDate("has run".to_owned())),
            Record::Begun if self.once && self.verdict(cx).is_none() => {
                Err(self.unknown(cx, "it was started, and the run ended before it did"))
            }
            Record::Failed if self.once && self.verdict(cx).is_none() => Err(self.unknown(cx, "it failed")),
            Record::NotRun | Record::Begun | Record::Failed => {
                Ok(Observation::Missing("has not run to completion".to_owned()))
            }
        }
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let kubeconfig = self.context.child_kubeconfig().await?;
        cx.intend(json!({"hook": self.fingerprint})).await?;
        if self.verdict(cx) == Some(Verdict::Done) && self.record(cx) != Record::NotRun {
            cx.progress("done, according to --hook");
            cx.conclude(json!(DONE)).await?;
            return Ok(Effect::Complete);
        }
        let progress = cx.clone();
        let recipe_environment = self.context.cluster.recipe_environment.iter();
        let command = Command::new(&self.hook.command).args(&self.hook.args).credentials(Credentials::Operator);
        let ran = recipe_environment
            .fold(command, |command, (name, value)| command.env(name, value))
            .env("KUBECONFIG", kubeconfig.path())
            .env("PATH", self.path())
            .current_dir(&self.hook.folder)
            .deadline(DEADLINE)
            .on_line(move |stream, line| {
                if stream == Stream::Err || !line.is_empty() {
                    progress.progress(line);
                }
            })
            .run()
            .await;
        match ran {
            Ok(_) => {
                cx.conclude(json!(DONE)).await?;
                Ok(Effect::Complete)
            }
            Err(error) => {
                cx.conclude(json!("failed")).await?;
                Err(hook_error(&self.hook, &error))
            }
        }
    }
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
