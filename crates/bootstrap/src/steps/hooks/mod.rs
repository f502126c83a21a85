//! Hooks around a release: waits and applies done natively, anything else as a process whose outcome is journaled.

mod check;
mod command;
mod idiom;
mod questions;
mod record;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::api_errors::{api_error, gate_error, progress};
use super::context::RunContext;
use super::kustomize;
use super::objects::{apply_as, observe_as};
pub(crate) use check::check;
pub(super) use command::Process;
use engine::{Action, Check, CheckResult, Code, Effect, ErrorClass, Observation, StepContext, StepError};
use helmfile::{Helmfile, Hook};
use idiom::{Command, recognise};
use kubernetes::{ApplyOptions, ObjectRef, Readiness};
use net::FetchError;
pub use questions::HookSteps;
pub use record::{
    COMPLETE, Completeness, Doubt, HookDecision, HookIdentity, HookIntent, HookKey, HookRecord, HookRecords, HookState,
    Repetition, UnreadableRecord, decide, is_in_question,
};
pub(super) use record::{HookOwner, HookPlace};
use yaml::Origin;

/// The code of a hook's step.
pub(super) enum HookCode {
    Action(Arc<dyn Action>),
    Check(Arc<dyn Check>),
    Process(Arc<Process>),
}

impl HookCode {
    /// What the step fails with at its deadline.
    pub(super) fn overdue(&self) -> Code {
        match self {
            Self::Action(_) | Self::Process(_) => Code::H12,
            Self::Check(_) => Code::H07,
        }
    }
}

/// For what a hook does beside its program: records, the kubeconfig, the end of its processes.
const AROUND: Duration = Duration::from_mins(5);

/// How long the step of a hook may make no progress.
pub(super) fn deadline(context: &RunContext, place: &HookPlace<'_>) -> Duration {
    command::silence_limit(place.timeout(&context.cluster.bootstrap.releases)) + AROUND
}

/// The code of one hook's step.
pub(super) fn code(context: Arc<RunContext>, place: &HookPlace<'_>) -> HookCode {
    let hook = place.hook;
    HookCode::Action(match recognise(hook) {
        Command::WaitCrds(names) => return HookCode::Check(Arc::new(WaitCrds { context, names })),
        Command::Apply { files, urls, kustomizations, field_manager, force, namespace } => Arc::new(Manifests {
            context,
            hook: hook.clone(),
            files,
            urls,
            kustomizations,
            field_manager,
            force,
            namespace,
            built: OnceCell::new(),
        }),
        Command::Process => return HookCode::Process(Arc::new(Process::new(context, place))),
    })
}

/// Whether a hook that runs as a process may install custom resource definitions.
pub(super) fn may_install_kinds(releases: &Helmfile) -> bool {
    let applies = |argument: &String| ["apply", "create", "install"].iter().any(|word| argument.contains(word));
    releases.hooks().any(|hook| {
        recognise(hook) == Command::Process && (hook.args.iter().any(applies) || hook.command.contains('/'))
    })
}

/// What the hook does, in a few words.
pub(super) fn title(hook: &Hook) -> String {
    match recognise(hook) {
        Command::WaitCrds(names) => format!("{} registered", names.join(", ")),
        Command::Apply { files, urls, kustomizations, .. } => {
            let all = files.into_iter().chain(urls.into_iter().map(PathBuf::from)).chain(kustomizations);
            let names: Vec<_> = all.filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned())).collect();
            format!("{} applied", names.join(", "))
        }
        Command::Process => format!("`{}` has run", hook.command),
    }
}

/// Whether a hook runs as a process, which may do anything.
pub(super) fn runs_a_program(releases: &Helmfile) -> bool {
    releases.hooks().any(|hook| recognise(hook) == Command::Process)
}

/// What hooks apply from the web, by its addresses.
pub fn urls(releases: &Helmfile) -> Vec<String> {
    let of = |hook: &Hook| match recognise(hook) {
        Command::Apply { urls, .. } => urls,
        Command::WaitCrds(_) | Command::Process => Vec::new(),
    };
    releases.hooks().flat_map(of).collect()
}

/// CRDs that an operator registers at run time.
struct WaitCrds {
    context: Arc<RunContext>,
    names: Vec<String>,
}

#[async_trait]
impl Check for WaitCrds {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        let client = self.context.kubernetes().await?;
        let mut missing = Vec::new();
        for name in &self.names {
            let crd = ObjectRef::new("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, name);
            let live = kubernetes::get(&client, &crd).await.map_err(|error| api_error(&error))?;
            if live.as_ref().map(kubernetes::readiness) != Some(Readiness::Ready) {
                missing.push(name.as_str());
            }
        }
        Ok(if missing.is_empty() {
            CheckResult::Passed("served".to_owned())
        } else {
            CheckResult::Pending(format!("not served yet: {}", missing.join(", ")))
        })
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        let client = self.context.kubernetes().await?;
        kubernetes::wait_crds(&client, &self.names, &progress(cx))
            .await
            .map_err(|error| gate_error(&error).code(Code::H07))
    }
}

/// Files of manifests, applied with the hook's own field manager.
struct Manifests {
    context: Arc<RunContext>,
    hook: Hook,
    files: Vec<PathBuf>,
    urls: Vec<String>,
    kustomizations: Vec<PathBuf>,
    field_manager: String,
    force: bool,
    namespace: Option<String>,
    built: OnceCell<Vec<Value>>,
}

impl Manifests {
    fn options(&self) -> ApplyOptions<'_> {
        let own = ApplyOptions::new(&self.field_manager);
        let default_namespace = self.namespace.as_deref().unwrap_or(own.default_namespace);
        ApplyOptions { force: self.force, default_namespace, ..own }
    }

    async fn objects(&self) -> Result<&[Value], StepError> {
        self.built
            .get_or_try_init(|| async {
                let mut objects = self.plain()?;
                for url in &self.urls {
                    let text =
                        self.context.downloads.fetch_text(url).await.map_err(|error| self.unreachable(&error))?;
                    objects.extend(self.read(url, &text)?);
                }
                for folder in &self.kustomizations {
                    let name = self.context.cluster.relative(folder).display().to_string();
                    let text = kustomize::build(&self.context, folder).await?;
                    objects.extend(self.read(&name, &text)?);
                }
                self.context.kinds.define(&objects);
                self.context.kinds.provide(&objects);
                Ok(objects)
            })
            .await
            .map(Vec::as_slice)
    }

    fn unreadable(&self, why: impl std::fmt::Display) -> StepError {
        StepError::invalid_input("a hook's manifests cannot be read").with_place(self.hook.at.to_string()).because(why)
    }

    fn unreachable(&self, error: &FetchError) -> StepError {
        StepError::failed_precondition("a file that a hook applies cannot be downloaded")
            .with_place(self.hook.at.to_string())
            .caused_by(error)
            .code(Code::H10)
    }

    fn read(&self, name: &str, text: &str) -> Result<Vec<Value>, StepError> {
        let documents = yaml::parse(&Origin::new(name), text).map_err(|error| self.unreadable(error))?;
        Ok(documents.iter().filter(|document| !document.is_null()).map(yaml::Node::to_json).collect())
    }

    fn plain(&self) -> Result<Vec<Value>, StepError> {
        let mut objects = Vec::new();
        for file in self.files.iter().flat_map(|path| manifests(path)) {
            let name = self.context.cluster.relative(&file).display().to_string();
            let text = std::fs::read_to_string(&file).map_err(|error| self.unreadable(format!("{name}: {error}")))?;
            objects.extend(self.read(&name, &text)?);
        }
        Ok(objects)
    }
}

/// A kind that is not served yet may be registered by an operator that its release has just started (H07).
fn late(mut error: StepError) -> StepError {
    if error.code == Some(Code::H03) {
        error.class = ErrorClass::NotReady;
    }
    error
}

/// A folder stands for the manifests in it, as for kubectl.
fn manifests(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let is_manifest = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_manifest).collect();
    files.sort();
    files
}

#[async_trait]
impl Action for Manifests {
    async fn prepare(&self, _cx: &StepContext) -> Result<(), StepError> {
        self.objects().await.map(|_| ())
    }

    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        observe_as(&self.context, self.options(), self.objects().await?).await
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        apply_as(&self.context, self.options(), self.objects().await?, cx).await.map_err(late)
    }
}
