//! What each step does: the one place where engine and adapters meet.
//!
//! [`plan`] declares the steps of a cluster in their order; the code of each kind of step has a file of its own.

mod addresses;
mod adopted_release;
mod api_address;
mod api_errors;
mod base;
mod boots;
mod chain;
mod choices;
mod config_errors;
mod config_warnings;
mod context;
mod control_plane_health;
mod conversion;
mod conversion_step;
mod crds;
mod credentials;
mod decryption;
pub mod drift;
pub(crate) mod epoch;
mod errors;
pub mod etcd;
mod etcd_watch;
mod fingerprints;
mod flux;
mod handoff;
pub mod hooks;
mod images;
mod kinds;
mod kubernetes_api;
mod kustomize;
mod machine_config;
mod names;
mod namespaces;
mod network_causes;
mod node_config;
mod node_wait;
mod object_owners;
mod objects;
mod order;
mod pending;
mod preflight;
mod pull_secret;
mod release;
pub mod release_changes;
mod release_diff;
mod release_state;
mod removal;
pub mod rollout;
mod run_lease;
mod secret_manifests;
mod webhook;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use engine::plan::{PhaseName, Plan, PlanError, Step, StepId};
use engine::{Action, Check, Code, StepSet};
use talos_config::{InventoryNode, Role};

use decryption::Keys;
use secret_manifests::SecretManifests;

pub(crate) use choices::{Choices, WithoutLease};
pub use choices::{HookAnswer, Reboots, RolloutOptions};
pub(crate) use context::ContextParts;
pub use context::{ContextError, RunContext, SecretsFrom};
pub(crate) use errors::{client_code, helm_code, secrets_code};
pub use flux::Flux;
pub use release_diff::{ReleaseDiff, ReleaseEffect};
pub(crate) use removal::removal_command;
pub(crate) use run_lease::LeaseNeed;
pub use run_lease::LeaseRefusal;

/// A machine may install, and boot, and boot again; the step itself notices when nothing goes on (T11).
const BOOTS: Duration = Duration::from_hours(4);

/// An operator who has to unlock a password manager may be away.
const OPERATOR: Duration = Duration::from_hours(24);

/// The releases of a plan's chain, in its order.
pub struct ReleaseSteps(Vec<Arc<release::Installed>>);

impl std::fmt::Debug for ReleaseSteps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|installed| installed.id())).finish()
    }
}

/// The plan of a cluster, the code of its steps, and its releases.
#[derive(Debug)]
pub struct PlannedSteps {
    pub plan: Plan,
    pub steps: StepSet,
    pub releases: ReleaseSteps,
    pub hooks: hooks::HookSteps,
}

/// The plan of a cluster and the code of its steps.
///
/// # Errors
///
/// Steps that cannot be ordered.
pub fn plan(context: &Arc<RunContext>) -> Result<(Plan, StepSet), PlanError> {
    planned(context).map(|planned| (planned.plan, planned.steps))
}

/// The plan of a cluster with its releases, for a look at each of them.
///
/// # Errors
///
/// As [`plan`].
pub fn planned(context: &Arc<RunContext>) -> Result<PlannedSteps, PlanError> {
    let mut steps = Steps::new(context);
    let preflight = steps.preflight();
    let nodes = steps.machine_configs(&preflight.passed);
    let etcd = steps.etcd(&nodes);
    let api = steps.kubernetes_api(&preflight.passed, &nodes, &etcd);
    let first_of_chain = steps.declared.len();
    let base = [steps.base(&api.ready), steps.crds(&api.ready), vec![api.ready.clone()]].concat();
    let releases = steps.releases(&base);
    steps.handoff(&[base, releases, vec![etcd.members, api.nodes]].concat());
    preflight.charts.prepares(steps.code_since(first_of_chain));
    steps.images(&nodes);
    let plan = Plan::new(&context.cluster.phases, steps.declared)?;
    let releases = ReleaseSteps(steps.installed);
    Ok(PlannedSteps { plan, steps: steps.code, releases, hooks: steps.processes })
}

/// The steps declared so far.
struct Steps {
    context: Arc<RunContext>,
    secrets: Arc<SecretManifests>,
    declared: Vec<Step>,
    code: StepSet,
    /// The releases of the chain, in its order.
    installed: Vec<Arc<release::Installed>>,
    /// Its hooks that run as processes.
    processes: hooks::HookSteps,
}

/// What is checked before any machine is changed.
struct Preflight {
    passed: Vec<StepId>,
    charts: Arc<preflight::Prepared>,
}

/// A node whose config is a step.
struct Configured {
    node: InventoryNode,
    step: StepId,
}

struct EtcdSteps {
    bootstrap: StepId,
    members: StepId,
}

struct ApiSteps {
    ready: StepId,
    nodes: StepId,
}

impl Steps {
    fn new(context: &Arc<RunContext>) -> Self {
        let secrets = Arc::new(SecretManifests::new(context.clone()));
        Self {
            context: context.clone(),
            secrets,
            declared: vec![],
            code: StepSet::default(),
            installed: vec![],
            processes: hooks::HookSteps::default(),
        }
    }

    fn action(&mut self, step: Step, code: Arc<dyn Action>) -> StepId {
        let id = step.id.clone();
        self.declared.push(step);
        self.code.action(id.clone(), code);
        id
    }

    fn check(&mut self, step: Step, code: Arc<dyn Check>) -> StepId {
        let id = step.id.clone();
        self.declared.push(step);
        self.code.check(id.clone(), code);
        id
    }

    /// The code of the steps that were declared after the first `count`.
    fn code_since(&self, count: usize) -> Vec<Arc<dyn Action>> {
        self.declared[count..].iter().filter_map(|step| self.code.get(&step.id).cloned()).collect()
    }

    fn preflight(&mut self) -> Preflight {
        let context = self.context.clone();
        let mut passed = Vec::new();
        for node in &context.cluster.inventory.nodes {
            let step = Step::new("preflight", &node.hostname, Code::T11)
                .title("the node responds and belongs to no other cluster")
                .with_place(errors::place(node))
                .made_from(context.node_fingerprint(node));
            passed.push(self.check(step, Arc::new(preflight::Reachable::new(context.clone(), node.clone()))));
        }
        if !context.cluster.bootstrap.secrets.is_empty() {
            let step = Step::new("preflight", "secrets", Code::O01)
                .title("every secret can be decrypted or resolved")
                .made_from(context.secrets_fingerprint())
                .deadline(OPERATOR);
            let resolvable = self.check(step, Arc::new(base::ResolvableSecrets::new(self.secrets.clone())));
            passed.push(resolvable.clone());
            passed.extend(self.decryption(Keys::Manifests, &[resolvable]));
        }
        let charts = Arc::new(preflight::Prepared::new(context.clone()));
        if !(context.cluster.bootstrap.crds.releases.is_empty()
            && context.cluster.bootstrap.releases.releases.is_empty())
        {
            let step = Step::new("preflight", "charts", Code::H10)
                .title("every chart can be pulled and renders, of kinds that are served; every hook's manifests can be read")
                .made_from(context.charts_fingerprint());
            passed.push(self.check(step, charts.clone()));
        }
        Preflight { passed, charts }
    }

    /// The proof that Flux can decrypt the repository, where there is something to decrypt.
    fn decryption(&mut self, keys: Keys, needs: &[StepId]) -> Option<StepId> {
        let files: usize = self.context.cluster.flux.decryptions().iter().map(|decryption| decryption.count).sum();
        let (phase, title) = match keys {
            Keys::Manifests => ("preflight", "the Flux keys in the manifests decrypt the repository's SOPS files"),
            Keys::Cluster => ("base", "Flux's keys decrypt the repository's SOPS files"),
        };
        let step = Step::new(phase, "decryption", Code::F03)
            .title(title)
            .needs(needs)
            .made_from(self.context.decryption_fingerprint());
        let code = decryption::FluxKeys::new(self.context.clone(), self.secrets.clone(), keys);
        (files > 0).then(|| self.check(step, Arc::new(code)))
    }

    fn machine_configs(&mut self, preflight: &[StepId]) -> Vec<Configured> {
        let context = self.context.clone();
        let rollout = Arc::new(rollout::Rollout::new(context.clone()));
        // On a living cluster the last node waits for the reboots of all others.
        let turns = u32::try_from(context.cluster.inventory.nodes.len()).unwrap_or(u32::MAX);
        let configured = context.cluster.inventory.nodes.iter().map(|node| {
            let step = Step::new("machine-config", &node.hostname, Code::T11)
                .title("the node runs its config")
                .needs(preflight)
                .with_place(errors::place(node))
                .made_from(context.node_fingerprint(node))
                .deadline(BOOTS.saturating_mul(turns));
            let code = machine_config::Configured::new(context.clone(), rollout.clone(), node.clone());
            Configured { node: node.clone(), step: self.action(step, Arc::new(code)) }
        });
        configured.collect()
    }

    fn etcd(&mut self, nodes: &[Configured]) -> EtcdSteps {
        let control_planes = nodes.iter().filter(|configured| configured.node.role == Role::ControlPlane);
        let fingerprint = self.context.control_planes_fingerprint();
        let step = Step::new("etcd", "bootstrap", Code::T14)
            .title("start etcd on the first control plane, exactly once")
            .needs(control_planes.map(|configured| &configured.step))
            .made_from(fingerprint.clone());
        let bootstrap = self.action(step, Arc::new(etcd::Bootstrap::new(self.context.clone())));
        let step = Step::new("etcd", "members", Code::T13)
            .title("every control plane a voting member")
            .needs([&bootstrap])
            .made_from(fingerprint);
        let members = self.check(step, Arc::new(etcd::Members::new(self.context.clone())));
        EtcdSteps { bootstrap, members }
    }

    fn kubernetes_api(&mut self, preflight: &[StepId], nodes: &[Configured], etcd: &EtcdSteps) -> ApiSteps {
        let context = self.context.clone();
        let step = Step::new("kubernetes-api", "credentials", Code::P02)
            .title("kubeconfig and talosconfig are written")
            .needs(preflight)
            .made_from(context.api_fingerprint());
        let credentials = self.action(step, Arc::new(kubernetes_api::Credentials::new(context.clone())));
        let step = Step::new("kubernetes-api", "ready", Code::K01)
            .title("the API server responds, and kubeconfig and talosconfig lead to it")
            .needs([&credentials, &etcd.bootstrap])
            .with_place(context.cluster.inventory.endpoint.url())
            .made_from(context.api_fingerprint());
        let ready = self.action(step, Arc::new(kubernetes_api::Ready::new(context.clone())));
        let step = Step::new("kubernetes-api", "nodes", Code::K03)
            .title("every node registered")
            .needs(nodes.iter().map(|configured| &configured.step).chain([&ready]))
            .made_from(context.hostnames_fingerprint());
        let nodes = self.check(step, Arc::new(kubernetes_api::Nodes::new(context)));
        ApiSteps { ready, nodes }
    }

    /// Beside everything else, each node's images as soon as it runs its config.
    fn images(&mut self, nodes: &[Configured]) {
        if self.installed.is_empty() {
            return;
        }
        let prepull = Arc::new(images::ImagePrepull::new(self.context.clone(), self.installed.clone()));
        for Configured { node, step } in nodes {
            let code = images::NodeImages::new(prepull.clone(), node.clone());
            let step = Step::new("images", &node.hostname, Code::H13)
                .phase(PhaseName::new("kubernetes-api"))
                .title("images of the releases are pulled in advance; nothing waits for it")
                .needs([step])
                .with_place(errors::place(node))
                .made_from(self.context.charts_fingerprint())
                .deadline(OPERATOR)
                .background();
            self.action(step, Arc::new(code));
        }
    }
}
