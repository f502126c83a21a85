//! Hooks around a release: waits and applies done natively, anything else as a process whose outcome is remembered.

mod check;
mod command;
mod idiom;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::kustomize;
use super::objects::{api_error, apply_as, gate_error, observe_objects_in};
use super::site::Site;
pub(super) use check::check;
use command::Process;
pub use command::Verdict;
use engine::plan::{Fingerprint, FingerprintBuilder};
use engine::{ErrorClass, Observation, Step, StepContext, StepError};
use helmfile::{Helmfile, Hook};
use idiom::{Action, recognise};
use kubernetes::{ApplyOptions, ObjectRef, Readiness};
use net::WebError;
use yaml::Origin;

/// The step of one hook.
pub(super) fn step(site: Arc<Site>, hook: &Hook) -> Arc<dyn Step> {
    match recognise(hook) {
        Action::WaitCrds(names) => Arc::new(WaitCrds { site, names }),
        Action::Apply { files, urls, kustomizations, field_manager, force, namespace } => Arc::new(Manifests {
            site,
            hook: hook.clone(),
            files,
            urls,
            kustomizations,
            field_manager,
            force,
            namespace,
            built: OnceCell::new(),
        }),
        Action::Process => Arc::new(Process::new(site, hook)),
    }
}

/// Whether a hook that is run as it is written may bring custom resource definitions.
pub(super) fn may_bring_kinds(releases: &Helmfile) -> bool {
    let applies = |argument: &String| ["apply", "create", "install"].iter().any(|word| argument.contains(word));
    releases
        .hooks()
        .any(|hook| recognise(hook) == Action::Process && (hook.args.iter().any(applies) || hook.command.contains('/')))
}

/// What the step does, in a few words.
pub(super) fn title(hook: &Hook) -> String {
    match recognise(hook) {
        Action::WaitCrds(names) => format!("{} registered", names.join(", ")),
        Action::Apply { files, urls, kustomizations, .. } => {
            let all = files.into_iter().chain(urls.into_iter().map(PathBuf::from)).chain(kustomizations);
            let names: Vec<_> = all.filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned())).collect();
            format!("{} applied", names.join(", "))
        }
        Action::Process => format!("`{}` has run", hook.command),
    }
}

/// Whether a hook is run as it is written, and may do anything.
pub(super) fn runs_a_program(releases: &Helmfile) -> bool {
    releases.hooks().any(|hook| recognise(hook) == Action::Process)
}

/// What hooks apply from the web, by its addresses.
pub fn urls(releases: &Helmfile) -> Vec<String> {
    let of = |hook: &Hook| match recognise(hook) {
        Action::Apply { urls, .. } => urls,
        Action::WaitCrds(_) | Action::Process => Vec::new(),
    };
    releases.hooks().flat_map(of).collect()
}

/// Everything that the hook is made of; what a file of manifests says is compared with the world instead.
pub(super) fn fingerprint(hook: &Hook) -> Fingerprint {
    hook.args.iter().fold(Fingerprint::builder().part(&hook.command), FingerprintBuilder::part).finish()
}

/// CRDs that an operator registers at run time.
struct WaitCrds {
    site: Arc<Site>,
    names: Vec<String>,
}

#[async_trait]
impl Step for WaitCrds {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let client = self.site.kubernetes().await?;
        let mut missing = Vec::new();
        for name in &self.names {
            let crd = ObjectRef::new("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, name);
            let live = kubernetes::get(&client, &crd).await.map_err(|error| api_error(&error))?;
            if live.as_ref().map(kubernetes::readiness) != Some(Readiness::Ready) {
                missing.push(name.as_str());
            }
        }
        Ok(if missing.is_empty() {
            Observation::Holds("served".to_owned())
        } else {
            Observation::Underway(format!("not served yet: {}", missing.join(", ")))
        })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        let client = self.site.kubernetes().await?;
        kubernetes::wait_crds(&client, &self.names, cx.teller()).await.map_err(|error| {
            gate_error(&error)
                .next("a CRD that never comes belongs to a feature that the values switch off")
                .code("H07")
        })
    }
}

/// Files of manifests, applied in the name that the operator gave.
struct Manifests {
    site: Arc<Site>,
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
                    let text = self.site.web.text(url).await.map_err(|error| self.unreachable(&error))?;
                    objects.extend(self.read(url, &text)?);
                }
                for folder in &self.kustomizations {
                    let name = self.site.cluster.relative(folder).display().to_string();
                    let text = kustomize::build(&self.site, folder).await?;
                    objects.extend(self.read(&name, &text)?);
                }
                self.site.kinds.define(&objects);
                self.site.kinds.bring(&objects);
                Ok(objects)
            })
            .await
            .map(Vec::as_slice)
    }

    fn wrong(&self, why: String) -> StepError {
        StepError::wrong_input("a hook's manifests cannot be read").at(self.hook.at.to_string()).because(why)
    }

    fn unreachable(&self, error: &WebError) -> StepError {
        StepError::wrong_world("what a hook applies from the web cannot be had")
            .at(self.hook.at.to_string())
            .because(error)
            .next("look whether the address is right and reachable from here; then run again with --resume")
            .code("H10")
    }

    fn read(&self, name: &str, text: &str) -> Result<Vec<Value>, StepError> {
        let documents = yaml::parse(&Origin::new(name), text).map_err(|error| self.wrong(error.to_string()))?;
        Ok(documents.iter().filter(|document| !document.is_null()).map(yaml::Node::to_json).collect())
    }

    fn plain(&self) -> Result<Vec<Value>, StepError> {
        let mut objects = Vec::new();
        for file in self.files.iter().flat_map(|path| manifests(path)) {
            let name = self.site.cluster.relative(&file).display().to_string();
            let text = std::fs::read_to_string(&file).map_err(|error| self.wrong(format!("{name}: {error}")))?;
            objects.extend(self.read(&name, &text)?);
        }
        Ok(objects)
    }
}

/// A kind that is not served may come yet: an operator that its release has just started registers it (H07).
fn late(mut error: StepError) -> StepError {
    if error.code.as_deref() == Some("H03") {
        error.class = ErrorClass::Retryable;
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
impl Step for Manifests {
    async fn prepare(&self, _cx: &StepContext) -> Result<(), StepError> {
        self.objects().await.map(|_| ())
    }

    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        observe_objects_in(&self.site, self.options().default_namespace, self.objects().await?).await
    }

    async fn apply(&self, cx: &StepContext) -> Result<(), StepError> {
        apply_as(&self.site, self.options(), self.objects().await?, cx).await.map_err(late)
    }
}
