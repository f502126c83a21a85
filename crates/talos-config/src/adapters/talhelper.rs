//! talhelper: `talconfig.yaml` with patch files.

use std::path::PathBuf;
use std::sync::Arc;

use super::repository_variables::RepositoryVariables;
use super::{InputContext, Inputs, SecretsLocation};
use crate::talconfig;
use crate::talconfig::{Machine, Talconfig};
use crate::{InputsError, Inventory, InventoryNode, RenderedConfig, SecretsBundle};
use yaml::{Diagnostic, Diagnostics};

#[derive(Debug)]
struct Talhelper {
    talconfig: Talconfig,
    inventory: Inventory,
    bundle: PathBuf,
}

pub(super) fn detects(place: &InputContext<'_>) -> bool {
    talconfig::file(place.folder).is_some()
}

pub(super) fn read(place: &InputContext<'_>) -> Result<Arc<dyn Inputs>, InputsError> {
    let environment = |name: &str| place.environment.get(name).cloned();
    let talconfig = match talconfig::read(place.root, place.folder, &environment, place.sources) {
        Ok(talconfig) if !talconfig.has_undefined_variables() => talconfig,
        Err(error) if !error.needs.is_empty() => return Err(error),
        // The repository is searched only for undefined variables.
        first => {
            let repository = RepositoryVariables::new(place);
            let lookup = |name: &str| environment(name).or_else(|| repository.get(name));
            let second = talconfig::read(place.root, place.folder, &lookup, place.sources);
            repository.needs().into_result(())?;
            match (first, second) {
                (_, Ok(mut talconfig)) => {
                    talconfig.warnings.extend(repository.warnings());
                    talconfig
                }
                (_, Err(error)) if !error.needs.is_empty() => return Err(error),
                (Ok(talconfig), Err(_)) => talconfig,
                (Err(errors), Err(_)) => return Err(errors),
            }
        }
    };
    let inventory = talconfig.inventory()?;
    // If it does not exist, the error names the file that talhelper prefers.
    let bundle = super::bundles(place.folder).unwrap_or_else(|| place.folder.join("talsecret.sops.yaml"));
    Ok(Arc::new(Talhelper { talconfig, inventory, bundle }))
}

impl Talhelper {
    fn machine(&self, node: &InventoryNode) -> Result<&Machine, Diagnostic> {
        let same = |machine: &&Machine| machine.hostname == node.hostname;
        let found = self.talconfig.machines.iter().find(same);
        found.ok_or_else(|| super::no_node(&node.hostname))
    }
}

impl Inputs for Talhelper {
    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    fn warnings(&self) -> &Diagnostics {
        &self.talconfig.warnings
    }

    fn secrets(&self) -> SecretsLocation<'_> {
        SecretsLocation::File(self.bundle.clone())
    }

    fn render(&self, bundle: &SecretsBundle, node: &InventoryNode) -> Result<RenderedConfig, Diagnostics> {
        self.talconfig.render(bundle, self.machine(node)?)
    }
}
