//! talhelper: `talconfig.yaml` with patches beside it.

use std::sync::Arc;

use super::{Inputs, Place};
use crate::talos::config::talconfig::{self, Machine, Talconfig};
use crate::talos::config::{Inventory, Node, Rendered, SecretsBundle};
use crate::yaml::{Diagnostic, Diagnostics};

#[derive(Debug)]
struct Talhelper {
    talconfig: Talconfig,
    inventory: Inventory,
}

pub(super) fn is(place: &Place<'_>) -> bool {
    place.folder.join(talconfig::FILE).is_file()
}

pub(super) fn read(place: &Place<'_>) -> Result<Arc<dyn Inputs>, Diagnostics> {
    let lookup = |name: &str| place.environment.get(name).cloned();
    let talconfig = talconfig::read(place.root, place.folder, &lookup, place.sources)?;
    let inventory = talconfig.inventory()?;
    Ok(Arc::new(Talhelper { talconfig, inventory }))
}

impl Talhelper {
    fn machine(&self, node: &Node) -> Result<&Machine, Diagnostic> {
        let same = |machine: &&Machine| machine.hostname == node.hostname;
        let found = self.talconfig.machines.iter().find(same);
        found.ok_or_else(|| Diagnostic::general(format!("there is no node `{}`", node.hostname)))
    }
}

impl Inputs for Talhelper {
    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    fn warnings(&self) -> &Diagnostics {
        &self.talconfig.warnings
    }

    fn bundle(&self) -> Option<&SecretsBundle> {
        None
    }

    fn render(&self, bundle: &SecretsBundle, node: &Node) -> Result<Rendered, Diagnostics> {
        self.talconfig.render(bundle, self.machine(node)?)
    }
}
