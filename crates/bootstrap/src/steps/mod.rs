//! What each step does: the one room where engine and adapters meet.
//!
//! [`plan`] turns a cluster into drafts and the code behind them, phase by phase; each other file is one kind of step.

mod base;
mod chain;
mod conversion;
mod crds;
mod decryption;
pub mod drift;
pub mod etcd;
mod handoff;
mod hooks;
mod images;
mod kinds;
mod kubernetes_api;
mod kustomize;
mod machine_config;
mod object_owners;
mod objects;
mod order;
mod preflight;
mod pull_secret;
mod release;
mod secret_manifests;
mod site;
mod webhook;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::plan::{Draft, Fingerprint, PhaseName, Plan, PlanError, Policy, StepId};
use engine::{Step, StepSet};
use talos_config::InventoryNode;
use talos_config::Role;

use chain::Ground;
use decryption::Keys;
use secret_manifests::SecretManifests;

pub use chain::Flux;
pub use hooks::{Verdict, urls};
pub use site::{Parts, SecretsFrom, Site, SiteError};

/// A machine may install, and boot, and boot again; the step itself notices when nothing goes on (failure T11).
const BOOTS: Duration = Duration::from_hours(4);

/// Somebody may have gone home.
const PERSON: Duration = Duration::from_hours(24);

/// The plan of a cluster and the code of its steps.
///
/// # Errors
///
/// A graph that is no plan.
pub fn plan(site: &Arc<Site>) -> Result<(Plan, StepSet), PlanError> {
    let mut steps = Steps { drafts: Vec::new(), code: StepSet::new(), installed: Vec::new() };
    let nodes = &site.cluster.inventory.nodes;
    let secrets = Arc::new(SecretManifests::new(site.clone()));
    let mut checked: Vec<StepId> = nodes.iter().map(|node| steps.preflight(site, node)).collect();
    if !site.cluster.bootstrap.secrets.is_empty() {
        checked.push(steps.add(
            "preflight",
            "preflight/secrets",
            "every secret can be opened",
            [],
            Fingerprint::builder().part("secrets").finish(),
            Arc::new(base::SecretsOpen::new(secrets.clone())),
        ));
        steps.wait_for_a_person();
        let opened: Vec<StepId> = checked.last().cloned().into_iter().collect();
        checked.extend(steps.decryption(site, &secrets, Keys::Manifests, opened));
    }
    let releases = &site.cluster.bootstrap;
    let wanted = Arc::new(preflight::Prepared::new(site.clone()));
    if !(releases.crds.releases.is_empty() && releases.releases.releases.is_empty()) {
        checked.push(steps.add(
            "preflight",
            "preflight/charts",
            "every chart is there and renders, of kinds that are served; every hook's manifests can be read",
            [],
            Fingerprint::builder().part("charts").finish(),
            wanted.clone(),
        ));
    }
    let configured: Vec<(Role, StepId)> =
        nodes.iter().map(|node| (node.role, steps.machine_config(site, node, &checked))).collect();
    let control_planes: Vec<StepId> =
        configured.iter().filter(|(role, _)| *role == Role::ControlPlane).map(|(_, id)| id.clone()).collect();
    let bootstrap = steps.add(
        "etcd",
        "etcd/bootstrap",
        "start etcd on the first control plane, exactly once",
        control_planes,
        Fingerprint::builder().part("bootstrap").finish(),
        Arc::new(etcd::Bootstrap::new(site.clone())),
    );
    let members = steps.add(
        "etcd",
        "etcd/members",
        "every control plane a voting member",
        [bootstrap.clone()],
        Fingerprint::builder().part("members").finish(),
        Arc::new(etcd::Members::new(site.clone())),
    );
    let api = steps.add(
        "kubernetes-api",
        "kubernetes-api/ready",
        "the API server answers; kubeconfig and talosconfig are written",
        [bootstrap],
        Fingerprint::builder().part("ready").finish(),
        Arc::new(kubernetes_api::Ready::new(site.clone())),
    );
    let everywhere = configured.iter().cloned().map(|(_, id)| id).chain([api.clone()]);
    let nodes = steps.add(
        "kubernetes-api",
        "kubernetes-api/nodes",
        "every node registered",
        everywhere,
        Fingerprint::builder().part("nodes").finish(),
        Arc::new(kubernetes_api::Nodes::new(site.clone())),
    );
    let first = steps.drafts.len();
    steps.chain(site, &secrets, &Ground { api, rest: vec![members, nodes] });
    let chain = steps.drafts[first..].iter().filter_map(|draft| steps.code.get(&draft.id).cloned());
    wanted.steps(chain.collect());
    steps.images(site, configured.into_iter().map(|(_, id)| id));
    Ok((Plan::new(&site.cluster.phases, steps.drafts)?, steps.code))
}

struct Steps {
    drafts: Vec<Draft>,
    code: StepSet,
    /// The releases of the chain, in its order.
    installed: Vec<Arc<release::Installed>>,
}

impl Steps {
    fn preflight(&mut self, site: &Arc<Site>, node: &InventoryNode) -> StepId {
        self.add(
            "preflight",
            &format!("preflight/{}", node.hostname),
            "the node answers and belongs to no other cluster",
            [],
            Fingerprint::builder().part(node.address.to_string()).finish(),
            Arc::new(preflight::Reachable::new(site.clone(), node.clone())),
        )
    }

    fn machine_config(&mut self, site: &Arc<Site>, node: &InventoryNode, needs: &[StepId]) -> StepId {
        let id = self.add(
            "machine-config",
            &format!("machine-config/{}", node.hostname),
            "the node runs its config",
            needs.to_vec(),
            site.config_fingerprint(node),
            Arc::new(machine_config::Configured::new(site.clone(), node.clone())),
        );
        if let Some(draft) = self.drafts.last_mut() {
            draft.policy.deadline = BOOTS;
        }
        id
    }

    /// Beside everything else, each node's images as soon as it runs its config: `configured`, in the nodes' order.
    fn images(&mut self, site: &Arc<Site>, configured: impl Iterator<Item = StepId>) {
        if self.installed.is_empty() {
            return;
        }
        let ahead = Arc::new(images::Ahead::new(site.clone(), self.installed.clone()));
        for (node, configured) in site.cluster.inventory.nodes.iter().zip(configured) {
            let code = images::Pulled::new(ahead.clone(), node.clone());
            self.add(
                "kubernetes-api",
                &format!("images/{}", node.hostname),
                "images of the releases are pulled ahead; nothing waits for it",
                [configured],
                Fingerprint::builder().part("images").finish(),
                Arc::new(code),
            );
            if let Some(draft) = self.drafts.last_mut() {
                draft.policy = Policy { background: true, deadline: PERSON, ..draft.policy };
            }
        }
    }

    /// The proof that Flux can decrypt the repository, where there is something to decrypt.
    fn decryption(
        &mut self,
        site: &Arc<Site>,
        secrets: &Arc<SecretManifests>,
        keys: Keys,
        needs: Vec<StepId>,
    ) -> Option<StepId> {
        let files: usize = site.cluster.flux.decryptions().iter().map(|decryption| decryption.count).sum();
        let (phase, title) = match keys {
            Keys::Manifests => ("preflight", "the keys meant for Flux open the repository's files"),
            Keys::Cluster => ("base", "the keys that Flux gets open the repository's files"),
        };
        let add = || {
            self.add(
                phase,
                &format!("{phase}/decryption"),
                title,
                needs,
                Fingerprint::builder().part("decryption").finish(),
                Arc::new(decryption::Opens::new(site.clone(), secrets.clone(), keys)),
            )
        };
        (files > 0).then(add)
    }

    /// Lets the step that was added last take as long as somebody needs to unlock a password manager.
    fn wait_for_a_person(&mut self) {
        if let Some(draft) = self.drafts.last_mut() {
            draft.policy.deadline = PERSON;
        }
    }

    fn add(
        &mut self,
        phase: &str,
        id: &str,
        title: &str,
        needs: impl IntoIterator<Item = StepId>,
        fingerprint: Fingerprint,
        code: Arc<dyn Step>,
    ) -> StepId {
        let id = StepId::new(id);
        self.drafts.push(Draft {
            id: id.clone(),
            phase: PhaseName::new(phase),
            title: title.to_owned(),
            needs: needs.into_iter().collect::<BTreeSet<_>>(),
            fingerprint,
            policy: Policy::default(),
        });
        self.code.insert(id.clone(), code);
        id
    }
}
