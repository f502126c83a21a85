//! What the repository says: its files become one validated [`Cluster`] value.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bootstrap;
mod flux;
mod layout;
mod recipes;
mod settings;
mod surroundings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::plan::{Phases, read_phases};
use helmfile::Release;
use talos_config::adapters;
use talos_config::adapters::Inputs;
use talos_config::{Inventory, Sources};
use yaml::Diagnostics;

use flux::drift::{Drift, Extent};
use layout::Layout;

pub use bootstrap::{Bootstrap, SecretKind, SecretSource};
pub use flux::{Counterpart, Decryption, FluxObjects, drift};
pub use recipes::CrdFile;
pub use settings::{HookRule, Paths, Settings};
pub use surroundings::{key_file, secrets, surroundings};

/// A cluster as its repository describes it. Reading it opens no secret and dials nothing.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub name: String,
    pub root: PathBuf,
    /// The machines.
    pub inventory: Inventory,
    /// What renders the machines' configs.
    pub inputs: Arc<dyn Inputs>,
    /// What was taken for the helmfiles and manifests from elsewhere than the environment.
    pub warnings: Diagnostics,
    /// What goes onto the cluster before Flux.
    pub bootstrap: Bootstrap,
    /// What Flux will own later.
    pub flux: FluxObjects,
    pub phases: Phases,
    pub settings: Settings,
    /// What the repository's own tools would put into the environment of its recipes, and the environment lacks.
    pub surroundings: BTreeMap<String, String>,
}

impl Cluster {
    /// Reads the cluster `name` of the repository at `root`. `environment` answers the variables that inputs name.
    ///
    /// # Errors
    ///
    /// Everything that is wrong in the files, all at once, each finding with its place.
    pub fn read(root: &Path, name: &str, environment: &BTreeMap<String, String>) -> Result<Self, Diagnostics> {
        Self::read_with(root, name, environment, &Sources::default())
    }

    /// As [`Cluster::read`], with what has been fetched for inputs that need secrets or programs; what they still need
    /// is in `sources` afterwards.
    ///
    /// # Errors
    ///
    /// As [`Cluster::read`].
    pub fn read_with(
        root: &Path,
        name: &str,
        environment: &BTreeMap<String, String>,
        sources: &Sources,
    ) -> Result<Self, Diagnostics> {
        let mut found = Diagnostics::default();
        let settings = keep(Settings::read(root), &mut found).unwrap_or_default();
        let paths = settings.clusters.get(name).cloned().unwrap_or_default();
        let layout = Layout::find(root, name, &paths, &settings.sources)?;
        let phases = keep(read_phases(root), &mut found);
        let surroundings = surroundings::surroundings(root, environment);
        let mut environment = environment.clone();
        environment.extend(surroundings.clone());
        for (variable, value) in recipes::usual(root, name) {
            environment.entry(variable.to_owned()).or_insert(value);
        }
        let place = adapters::Place {
            root,
            folder: &layout.talos,
            environment: &environment,
            sources,
            settings: &paths.inputs,
        };
        let inputs = keep(adapters::read(&place), &mut found);
        let (set, mut warnings) = recipes::set(root, &layout, &environment);
        environment.extend(set);
        let mut bootstrap = keep(Bootstrap::read(root, name, &layout, &environment), &mut found);
        if let Some(bootstrap) = &mut bootstrap {
            let (files, notices) = recipes::crd_files(root, &layout.others);
            bootstrap.crd_files = files;
            warnings.extend(notices);
        }
        match (phases, inputs, bootstrap) {
            (Some(phases), Some(inputs), Some(bootstrap)) => found.into_result(Self {
                name: name.to_owned(),
                root: root.to_owned(),
                inventory: inputs.inventory().clone(),
                inputs,
                warnings,
                bootstrap,
                flux: FluxObjects::read(root, name, &layout.others),
                phases,
                settings,
                surroundings,
            }),
            _ => Err(found),
        }
    }

    /// Cilium's `cluster.id`, when a release's values give one.
    pub fn cluster_id(&self) -> Option<u32> {
        let values = self.bootstrap.releases.releases.iter().map(|release| &release.values);
        values.filter_map(|values| values.pointer("/cluster/id")?.as_u64()).find_map(|id| u32::try_from(id).ok())
    }

    /// What `k8s-bootstrap.yaml` says of this cluster's hooks.
    pub fn hook_rules(&self) -> &[HookRule] {
        self.settings.clusters.get(&self.name).map(|paths| paths.hooks.as_slice()).unwrap_or_default()
    }

    /// Where Flux will install something else than the bootstrap does.
    pub fn drift(&self) -> Vec<Drift> {
        let of = |releases: &[Release], extent: Extent| {
            let found = releases.iter().filter_map(|release| Some((release, self.flux.counterpart(release)?)));
            found.flat_map(|(release, flux)| drift::compare(release, &flux, extent)).collect::<Vec<_>>()
        };
        let Bootstrap { crds, releases, .. } = &self.bootstrap;
        [of(&releases.releases, Extent::Everything), of(&crds.releases, Extent::Crds)].concat()
    }

    /// A path as the operator knows it.
    pub fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
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
