//! Reads an operator's repository: its files become one validated [`Cluster`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bootstrap;
mod flux;
mod layout;
mod recipes;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::plan::{Phases, read_phases};
use helmfile::{Release, ReleaseId};
use talos_config::adapters;
use talos_config::adapters::Inputs;
use talos_config::{FetchedInputs, InputRequest, InputsError, Inventory};
use template::ProgramRunner;
use yaml::{Diagnostic, Diagnostics};

use flux::drift::{Drift, Extent};
use layout::Layout;

pub use bootstrap::{Bootstrap, SecretKind, SecretSource};
pub use flux::{
    ChartOrigin, Counterpart, Decryption, FluxObjects, HelmReleaseNames, OwnedRelease, PostRendererPatches,
    UnknownChart, drift,
};
pub use settings::{HookRule, Paths, Settings};

/// A cluster as its repository describes it. Reading it opens no secret and dials nothing.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub name: String,
    pub root: PathBuf,
    /// The nodes.
    pub inventory: Inventory,
    /// Renders the nodes' machine configs.
    pub inputs: Arc<dyn Inputs>,
    /// Warnings, among them about variables that were found in the repository instead of the environment.
    pub warnings: Diagnostics,
    /// What is installed before Flux.
    pub bootstrap: Bootstrap,
    /// What Flux will own.
    pub flux: FluxObjects,
    pub phases: Phases,
    pub settings: Settings,
    /// The variables that the repository's own tools set for its recipes and that the environment lacks.
    pub recipe_environment: BTreeMap<String, String>,
}

/// What a reading uses beside the files.
#[derive(Debug, Clone, Copy)]
pub struct ReadContext<'c> {
    pub environment: &'c BTreeMap<String, String>,
    /// Runs what templates call by `exec`; without it such a template is a mistake.
    pub programs: Option<&'c Arc<dyn ProgramRunner>>,
}

impl<'c> ReadContext<'c> {
    /// Without programs.
    pub fn new(environment: &'c BTreeMap<String, String>) -> Self {
        Self { environment, programs: None }
    }
}

/// How far a reading came.
#[derive(Debug)]
pub enum ClusterReading {
    Complete(Box<Cluster>),
    /// The files name inputs from outside (a decrypted file, a program's output): provide them, and read again.
    NeedsInput(Vec<InputRequest>),
}

/// An input that a reading without outside sources lacks.
fn needed(input: &InputRequest) -> Diagnostic {
    let what = match input {
        InputRequest::SopsFile(path) => format!("{} must be decrypted", path.display()),
        InputRequest::References { origin, .. } => format!("the secret references in {origin} must be resolved"),
        InputRequest::Variable { name, .. } => format!("the variable `{name}` is not set"),
        InputRequest::CommandOutput(command) => format!("`{}` must be run", command.join(" ")),
        InputRequest::Address { host, .. } => format!("the address of `{host}` must be resolved"),
    };
    Diagnostic::general(what)
}

impl Cluster {
    /// Reads the cluster `name` of the repository at `root`.
    ///
    /// # Errors
    ///
    /// All mistakes in the files at once, each with its location.
    pub fn read(root: &Path, name: &str, context: ReadContext<'_>) -> Result<Self, Diagnostics> {
        match Self::read_with(root, name, context, &FetchedInputs::default())? {
            ClusterReading::Complete(cluster) => Ok(*cluster),
            ClusterReading::NeedsInput(inputs) => {
                let mut found = Diagnostics::default();
                found.extend(inputs.iter().map(needed));
                Err(found)
            }
        }
    }

    /// As [`Cluster::read`], with the secrets and outputs that have been fetched so far.
    ///
    /// # Errors
    ///
    /// As [`Cluster::read`].
    pub fn read_with(
        root: &Path,
        name: &str,
        context: ReadContext<'_>,
        sources: &FetchedInputs,
    ) -> Result<ClusterReading, Diagnostics> {
        let mut found = Diagnostics::default();
        let settings = keep(Settings::read(root), &mut found).unwrap_or_default();
        let paths = settings.clusters.get(name).cloned().unwrap_or_default();
        let layout = Layout::find(root, name, &paths, &settings.sources)?;
        let phases = keep(read_phases(root), &mut found);
        let recipe_environment = discover::recipe_environment(root, context.environment);
        let mut environment = variables(root, name, context.environment);
        let place = adapters::InputContext {
            root,
            folder: &layout.talos,
            environment: &environment,
            sources,
            settings: &paths.inputs,
        };
        let inputs = match adapters::read(&place) {
            Ok(inputs) => Some(inputs),
            Err(InputsError { mistakes, needs }) if needs.is_empty() => {
                found.extend(mistakes);
                None
            }
            // Mistakes in a reading that lacks inputs may come from what is lacking.
            Err(InputsError { needs, .. }) => return Ok(ClusterReading::NeedsInput(needs.into_iter().collect())),
        };
        let (set, mut warnings) = recipes::missing_variables(root, &layout, &environment);
        environment.extend(set);
        let mut bootstrap =
            keep(Bootstrap::read(root, name, &layout, &environment, context.programs.cloned()), &mut found);
        if let Some(bootstrap) = &mut bootstrap {
            let (files, notices) = discover::crd_urls(root, &layout.others);
            bootstrap.crd_files = files;
            warnings.extend(notices);
        }
        match (phases, inputs, bootstrap) {
            (Some(phases), Some(inputs), Some(bootstrap)) => {
                found.into_result(ClusterReading::Complete(Box::new(Self {
                    name: name.to_owned(),
                    root: root.to_owned(),
                    inventory: inputs.inventory().clone(),
                    inputs,
                    warnings,
                    bootstrap,
                    flux: FluxObjects::read(root, name, &layout.others),
                    phases,
                    settings,
                    recipe_environment,
                })))
            }
            _ => Err(found),
        }
    }

    /// The releases that the helmfiles of the cluster `name` declare, without its machine configs and without input from
    /// elsewhere.
    ///
    /// # Errors
    ///
    /// All mistakes in the helmfiles and in `k8s-bootstrap.yaml`.
    pub fn declared_releases(root: &Path, name: &str, context: ReadContext<'_>) -> Result<Vec<ReleaseId>, Diagnostics> {
        let settings = Settings::read(root)?;
        let paths = settings.clusters.get(name).cloned().unwrap_or_default();
        let layout = Layout::find(root, name, &paths, &settings.sources)?;
        let mut variables = variables(root, name, context.environment);
        let (set, _) = recipes::missing_variables(root, &layout, &variables);
        variables.extend(set);
        let bootstrap = Bootstrap::read(root, name, &layout, &variables, context.programs.cloned())?;
        Ok(bootstrap.releases.releases.into_iter().map(|release| release.id).collect())
    }

    /// Cilium's `cluster.id`, when a release's values give one.
    pub fn cluster_id(&self) -> Option<u32> {
        let values = self.bootstrap.releases.releases.iter().map(|release| &release.values);
        values.filter_map(|values| values.pointer("/cluster/id")?.as_u64()).find_map(|id| u32::try_from(id).ok())
    }

    /// The rules for this cluster's hooks in `k8s-bootstrap.yaml`.
    pub fn hook_rules(&self) -> &[HookRule] {
        self.settings.clusters.get(&self.name).map(|paths| paths.hooks.as_slice()).unwrap_or_default()
    }

    /// Where Flux will install a release differently than the bootstrap.
    pub fn drift(&self) -> Vec<Drift> {
        let of = |releases: &[Release], extent: Extent| {
            let found = releases.iter().filter_map(|release| Some((release, self.flux.counterpart(release)?)));
            found.flat_map(|(release, flux)| drift::compare(release, &flux, extent)).collect::<Vec<_>>()
        };
        let Bootstrap { crds, releases, .. } = &self.bootstrap;
        [of(&releases.releases, Extent::Everything), of(&crds.releases, Extent::Crds)].concat()
    }

    /// A path relative to the repository.
    pub fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

/// The environment with the variables that recipes set, and those that most of them set.
fn variables(root: &Path, name: &str, environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut variables = environment.clone();
    variables.extend(discover::recipe_environment(root, environment));
    for (variable, value) in discover::common_variables(root, name) {
        variables.entry(variable.to_owned()).or_insert(value);
    }
    variables
}

fn keep<T>(result: Result<T, Diagnostics>, found: &mut Diagnostics) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(more) => {
            found.extend(more);
            None
        }
    }
}

#[cfg(test)]
mod tests;
