//! talhelper: `talconfig.yaml` with patches beside it.

use std::path::PathBuf;
use std::sync::Arc;

use super::elsewhere::Elsewhere;
use super::{Inputs, Place, Secrets};
use crate::talconfig;
use crate::talconfig::{Machine, Talconfig};
use crate::{Inventory, Node, Rendered, SecretsBundle};
use yaml::{Diagnostic, Diagnostics};

#[derive(Debug)]
struct Talhelper {
    talconfig: Talconfig,
    inventory: Inventory,
    bundle: PathBuf,
}

pub(super) fn is(place: &Place<'_>) -> bool {
    talconfig::file(place.folder).is_some()
}

pub(super) fn read(place: &Place<'_>) -> Result<Arc<dyn Inputs>, Diagnostics> {
    let said = |name: &str| place.environment.get(name).cloned();
    let talconfig = match talconfig::read(place.root, place.folder, &said, place.sources) {
        Ok(talconfig) if !talconfig.lacks_variables() => talconfig,
        // Only what may fail is looked for elsewhere.
        first => {
            let elsewhere = Elsewhere::new(place);
            let lookup = |name: &str| said(name).or_else(|| elsewhere.get(name));
            match (first, talconfig::read(place.root, place.folder, &lookup, place.sources)) {
                (_, Ok(mut talconfig)) => {
                    talconfig.warnings.extend(elsewhere.notices());
                    talconfig
                }
                (Ok(talconfig), Err(_)) => talconfig,
                (Err(mistakes), Err(_)) => return Err(mistakes),
            }
        }
    };
    let inventory = talconfig.inventory()?;
    // Without one, the name that talhelper asks for first is the one to be missed.
    let bundle = super::bundles(place.folder).unwrap_or_else(|| place.folder.join("talsecret.sops.yaml"));
    Ok(Arc::new(Talhelper { talconfig, inventory, bundle }))
}

impl Talhelper {
    fn machine(&self, node: &Node) -> Result<&Machine, Diagnostic> {
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

    fn secrets(&self) -> Secrets<'_> {
        Secrets::Beside(self.bundle.clone())
    }

    fn render(&self, bundle: &SecretsBundle, node: &Node) -> Result<Rendered, Diagnostics> {
        self.talconfig.render(bundle, self.machine(node)?)
    }
}
