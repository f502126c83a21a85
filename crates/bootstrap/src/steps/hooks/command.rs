//! Hooks that are run as the commands they are: what came of each is remembered.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::fingerprint;
use crate::steps::site::Site;
use engine::plan::Fingerprint;
use engine::{Observation, Step, StepContext, StepError};
use helmfile::Hook;
use process::{Command, Credentials, Stream};

/// A hook that asks a question nobody answers must not hang a bootstrap.
const DEADLINE: Duration = Duration::from_mins(10);

/// What the operator says of a hook that must not run twice and of which nobody knows whether it did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It did; it counts as done.
    Done,
    /// It did not, or may well run again.
    Again,
}

/// A command that is run as it is written, with the kubeconfig of this cluster.
pub(super) struct Process {
    site: Arc<Site>,
    hook: Hook,
    fingerprint: Fingerprint,
    /// Whether `k8s-bootstrap.yaml` says that it must not run twice.
    once: bool,
}

impl Process {
    pub(super) fn new(site: Arc<Site>, hook: &Hook) -> Self {
        let once = site.cluster.hook_rules().iter().any(|rule| !rule.idempotent && rule.matches(hook));
        Self { site, hook: hook.clone(), fingerprint: fingerprint(hook), once }
    }

    /// The operator's own programs, and after them the kubectl that we found or provided.
    fn path(&self) -> std::ffi::OsString {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let ours = self.site.kubectl.as_deref().and_then(Path::parent).map(Path::to_owned);
        std::env::join_paths(std::env::split_paths(&own).chain(ours)).unwrap_or(own)
    }

    /// What the journal says of this very command.
    fn record(&self, cx: &StepContext) -> Record {
        let intent = json!({"hook": self.fingerprint});
        let mut own = cx.priors.iter().filter(|prior| prior.intent == intent).map(|prior| &prior.outcome);
        match own.next_back() {
            None => Record::NotRun,
            Some(None) => Record::Begun,
            Some(Some(outcome)) if *outcome == json!(DONE) => Record::Done,
            Some(Some(_)) => Record::Failed,
        }
    }

    fn verdict(&self, cx: &StepContext) -> Option<Verdict> {
        self.site.verdicts.get(&cx.step).copied()
    }

    /// The hook may have done its work in part or in whole, and must not do it twice.
    fn unknown(&self, cx: &StepContext, why: &str) -> StepError {
        let cluster = &self.site.cluster.name;
        StepError::wrong_world(format!("whether the hook `{}` has done its work is not known", self.hook.command))
            .at(self.hook.at.to_string())
            .because(format!("{why}, and `idempotent: false` says that it must not run twice"))
            .next(format!(
                "look at what it does, then say: k8s-bootstrap {cluster} --resume --hook {step}=done, or --hook {step}=again",
                step = cx.step
            ))
            .code("H12")
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
impl Step for Process {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        match self.record(cx) {
            Record::Done => Ok(Observation::Holds("has run".to_owned())),
            Record::Begun if self.once && self.verdict(cx).is_none() => {
                Err(self.unknown(cx, "it was begun, and the run ended before it did"))
            }
            Record::Failed if self.once && self.verdict(cx).is_none() => {
                Err(self.unknown(cx, "it ended with an error"))
            }
            Record::NotRun | Record::Begun | Record::Failed => {
                Ok(Observation::Missing("has not run to its end".to_owned()))
            }
        }
    }

    async fn apply(&self, cx: &StepContext) -> Result<(), StepError> {
        let kubeconfig = self.site.child_kubeconfig().await?;
        cx.intend(json!({"hook": self.fingerprint}))?;
        if self.verdict(cx) == Some(Verdict::Done) && self.record(cx) != Record::NotRun {
            cx.tell("has run, as the operator says");
            return cx.conclude(json!(DONE));
        }
        let teller = cx.clone();
        let recipe_environment = self.site.cluster.recipe_environment.iter();
        let command = Command::new(&self.hook.command).args(&self.hook.args).credentials(Credentials::Operator);
        let ran = recipe_environment
            .fold(command, |command, (name, value)| command.env(name, value))
            .env("KUBECONFIG", kubeconfig.path())
            .env("PATH", self.path())
            .current_dir(&self.hook.folder)
            .deadline(DEADLINE)
            .on_line(move |stream, line| {
                if stream == Stream::Err || !line.is_empty() {
                    teller.tell(line);
                }
            })
            .run()
            .await;
        match ran {
            Ok(_) => cx.conclude(json!(DONE)),
            Err(error) => {
                cx.conclude(json!("failed"))?;
                Err(hook_error(&self.hook, &error))
            }
        }
    }
}

fn hook_error(hook: &Hook, error: &process::Error) -> StepError {
    let base = match error {
        process::Error::Start { .. } => {
            StepError::wrong_world(format!("the hook's program `{}` cannot be started", hook.command))
        }
        _ => StepError::wrong_world("a hook failed"),
    };
    base.at(hook.at.to_string())
        .because(error)
        .next("mend what the hook complains of, then run again with --resume; it will be run again")
        .code("H12")
}
