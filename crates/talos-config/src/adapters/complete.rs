//! Inputs that consist of complete configs with secrets: rendered templates, finished files, command output.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{InputContext, Inputs, SecretsLocation, embedded_secrets, facts};
use crate::{InputRequest, InputsError, Inventory, InventoryNode, RenderedConfig, Role, SecretsBundle};
use yaml::{Diagnostic, Diagnostics, Location};

/// The config of a node, with facts from outside of it.
#[derive(Debug)]
pub(super) struct Config {
    /// The name, for configs without a hostname.
    pub(super) name: String,
    /// The address from the file name or the settings.
    pub(super) address: Option<IpAddr>,
    pub(super) role: Option<Role>,
    pub(super) at: Location,
    pub(super) rendered: RenderedConfig,
}

#[derive(Debug)]
struct Complete {
    inventory: Inventory,
    warnings: Diagnostics,
    configs: Vec<RenderedConfig>,
    bundle: Result<SecretsBundle, Diagnostics>,
    beside: Option<PathBuf>,
}

/// Creates inputs from finished configs; `warnings` are those of their reader.
///
/// # Errors
///
/// A missing role, address, endpoint or version.
pub(super) fn inputs(
    place: &InputContext<'_>,
    configs: Vec<Config>,
    mut warnings: Diagnostics,
) -> Result<Box<dyn Inputs>, InputsError> {
    let mut found = InputsError::default();
    let known = found.keep(talosconfig_nodes(place)).unwrap_or_default();
    let mut nodes = Vec::new();
    let mut all = facts::ConfigFacts::default();
    for config in &configs {
        let facts = facts::from_documents(&config.rendered.documents);
        if let Some(node) = node(place, config, &facts, &known, &mut found) {
            nodes.push(node);
        }
        merge_facts(&mut all, &facts, config, &mut found.mistakes, &mut warnings);
    }
    super::check_nodes(&nodes, &mut found.mistakes);
    let first = configs.iter().find(|config| is_control_plane(config)).or(configs.first());
    let Some(first) = first else {
        return Err(Diagnostic::general("no nodes found").into());
    };
    if all.endpoint.is_none() {
        found.mistakes.error(
            first.at.clone(),
            "no config has a valid `cluster.controlPlane.endpoint`: expected https://HOST:PORT",
        );
    }
    for (what, value) in
        [("machine.install.image", &all.talos_version), ("machine.kubelet.image", &all.kubernetes_version)]
    {
        if value.is_none() {
            found.mistakes.error(first.at.clone(), format!("unknown version: no config has `{what}` with a tag"));
        }
    }
    let bundle = embedded_secrets::bundle(&first.at.origin, &first.rendered.documents);
    let inventory = Inventory {
        cluster_name: all.cluster_name.unwrap_or_default(),
        endpoint: all.endpoint.unwrap_or(crate::Endpoint { host: String::new(), port: 0 }),
        talos_version: all.talos_version.unwrap_or_default(),
        kubernetes_version: all.kubernetes_version.unwrap_or_default(),
        nodes,
    };
    let configs = configs.into_iter().map(|config| config.rendered).collect();
    let beside = super::bundles(place.folder);
    found.into_result(Box::new(Complete { inventory, warnings, configs, bundle, beside }) as Box<dyn Inputs>)
}

fn is_control_plane(config: &Config) -> bool {
    let role = config.role.or_else(|| facts::from_documents(&config.rendered.documents).role);
    role == Some(Role::ControlPlane)
}

fn node(
    place: &InputContext<'_>,
    config: &Config,
    facts: &facts::ConfigFacts,
    known: &[IpAddr],
    found: &mut InputsError,
) -> Option<InventoryNode> {
    if let (Some(expected), Some(actual)) = (config.role, facts.role)
        && expected != actual
    {
        let name = &config.name;
        found.mistakes.error(
            config.at.clone(),
            format!("node `{name}` has two roles: {} by its file, {} by `machine.type`", word(expected), word(actual)),
        );
    }
    let Some(role) = facts.role.or(config.role) else {
        found.mistakes.error(config.at.clone(), format!("the config of node `{}` has no `machine.type`", config.name));
        return None;
    };
    let of_config = || {
        let listed = facts.addresses.iter().find(|address| known.contains(address));
        listed.or(facts.addresses.first()).copied()
    };
    let address = match config.address.or_else(of_config) {
        None => found.keep(address_by_name(place, config, facts))?,
        listed => listed,
    };
    let Some(address) = address else {
        let name = &config.name;
        let message = format!("node `{name}` has no address, and its host name does not resolve");
        found.push(Diagnostic::at_location(config.at.clone(), message).with_hint(
            "name the file after the address, or set clusters.<name>.nodes.<node>.address in k8s-bootstrap.yaml",
        ));
        return None;
    };
    let hostname = facts.hostname.clone().unwrap_or_else(|| config.name.clone());
    Some(InventoryNode { hostname, address, role, at: config.at.clone() })
}

/// The address of a node that gets it from DHCP: by the config's name, or else by its hostname.
fn address_by_name(
    place: &InputContext<'_>,
    config: &Config,
    facts: &facts::ConfigFacts,
) -> Result<Option<IpAddr>, InputRequest> {
    for host in [Some(&config.name), facts.hostname.as_ref()].into_iter().flatten() {
        let wanted = InputRequest::Address { host: host.to_owned(), subnet: facts.subnets.first().copied() };
        if let Ok(address) = place.sources.get(wanted)?.parse() {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

fn word(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "control plane",
        Role::Worker => "worker",
    }
}

/// Merges the facts of a config into those of the cluster; different endpoints mean different clusters.
fn merge_facts(
    all: &mut facts::ConfigFacts,
    facts: &facts::ConfigFacts,
    config: &Config,
    found: &mut Diagnostics,
    warnings: &mut Diagnostics,
) {
    if let (Some(known), Some(this)) = (&all.endpoint, &facts.endpoint)
        && known != this
    {
        let (known, this) = (known.url(), this.url());
        found.error(config.at.clone(), format!("this config has the endpoint {this}, another config has {known}"));
    }
    if let (Some(known), Some(this)) = (&all.talos_version, &facts.talos_version)
        && known != this
    {
        let message = format!("node `{}` installs Talos {this}, another node {known}", config.name);
        warnings.push(Diagnostic::at_location(config.at.clone(), message));
    }
    all.endpoint = all.endpoint.take().or_else(|| facts.endpoint.clone());
    all.cluster_name = all.cluster_name.take().or_else(|| facts.cluster_name.clone());
    all.talos_version = all.talos_version.take().or_else(|| facts.talos_version.clone());
    all.kubernetes_version = all.kubernetes_version.take().or_else(|| facts.kubernetes_version.clone());
}

/// The addresses in a talosconfig beside the inputs, which select among several addresses of a node.
fn talosconfig_nodes(place: &InputContext<'_>) -> Result<Vec<IpAddr>, InputRequest> {
    let candidates = ["talosconfig", "clusterconfig/talosconfig"].map(|name| place.folder.join(name));
    let Some(path) = candidates.iter().find(|path| path.is_file()) else { return Ok(vec![]) };
    let text = match place.sources.read(path) {
        Ok(text) => text,
        Err(error) => return error.need().map_or(Ok(vec![]), Err),
    };
    let origin = yaml::Origin::new("talosconfig");
    let Ok(config) = yaml::parse_one(&origin, &text) else { return Ok(vec![]) };
    let contexts = config.to_json().get("contexts").cloned().unwrap_or_default();
    let contexts = contexts.as_object().cloned().unwrap_or_default();
    let lists = contexts.values().flat_map(|context| ["nodes", "endpoints"].map(|key| context.get(key).cloned()));
    let entries = lists.flatten().filter_map(|list| list.as_array().cloned()).flatten();
    Ok(entries.filter_map(|entry| entry.as_str()?.parse().ok()).collect())
}

impl Inputs for Complete {
    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    fn warnings(&self) -> &Diagnostics {
        &self.warnings
    }

    fn secrets(&self) -> SecretsLocation<'_> {
        match (&self.beside, &self.bundle) {
            (Some(path), _) => SecretsLocation::File(path.clone()),
            (None, Ok(bundle)) => SecretsLocation::InConfigs(bundle),
            (None, Err(found)) => SecretsLocation::Incomplete(found.clone()),
        }
    }

    fn render(&self, bundle: &SecretsBundle, node: &InventoryNode) -> Result<RenderedConfig, Diagnostics> {
        let index = self.inventory.nodes.iter().position(|known| known.hostname == node.hostname);
        let found = index.and_then(|index| self.configs.get(index));
        let mut rendered = found.cloned().ok_or_else(|| super::no_node(&node.hostname))?;
        if !matches!(&self.bundle, Ok(own) if own.cluster_id == bundle.cluster_id) {
            rendered
                .set("the cluster's secrets bundle", None, |documents| embedded_secrets::replace(documents, bundle));
        }
        Ok(rendered)
    }
}
