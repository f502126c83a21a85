//! `k8s-bootstrap.yaml`: paths that differ from the convention, registries' mirrors, secret sources, rules for hooks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use helmfile::Hook;
use secret_references::{Adapter, Adapters};
use talos_config::Role;
use talos_config::adapters;
use yaml::{Diagnostic, Diagnostics, Entry, Fields, Location, Mapping, Node, Origin};

/// The content of `k8s-bootstrap.yaml`; everything is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The mirror of each registry host.
    pub mirrors: BTreeMap<String, String>,
    pub clusters: BTreeMap<String, Paths>,
    /// Secret sources other than 1Password, by the scheme of their references.
    pub sources: Adapters,
    /// The 1Password account of each vault that is not in the default account.
    pub accounts: BTreeMap<String, String>,
}

/// The paths of one cluster, relative to the repository, and what its Talos inputs lack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    pub inputs: adapters::InputSettings,
    pub talos: Option<PathBuf>,
    pub crds: Option<PathBuf>,
    pub releases: Option<PathBuf>,
    /// The helmfile environment.
    pub environment: Option<String>,
    pub secrets: Vec<PathBuf>,
    pub hooks: Vec<HookRule>,
}

/// A rule for hooks that are commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRule {
    /// The beginning of the command line.
    pub command: String,
    /// Whether it may run again after a run whose outcome is unknown.
    pub idempotent: bool,
    pub at: Location,
}

impl HookRule {
    /// Whether the rule applies to the hook.
    pub fn matches(&self, hook: &Hook) -> bool {
        let mut words = std::iter::once(&hook.command).chain(&hook.args).flat_map(|word| word.split_whitespace());
        self.command.split_whitespace().all(|wanted| words.next() == Some(wanted))
    }
}

/// The file's name, in the repository's root.
pub(super) const FILE: &str = "k8s-bootstrap.yaml";

impl Settings {
    /// Reads the settings of a repository; without a file they are the default.
    ///
    /// # Errors
    ///
    /// All mistakes in the file, each with its location.
    pub fn read(root: &Path) -> Result<Self, Diagnostics> {
        match std::fs::read_to_string(root.join(FILE)) {
            Ok(text) => Self::parse(&Origin::new(FILE), &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Diagnostic::general(format!("cannot read {FILE}: {error}")).into()),
        }
    }

    fn parse(origin: &Origin, text: &str) -> Result<Self, Diagnostics> {
        let node = yaml::parse_one(origin, text)?;
        let mut found = Diagnostics::default();
        let mut fields = Fields::from_node(origin, &node, FILE, &mut found);
        let mirrors = fields.get("mirrors").map(|node| texts(origin, node, "mirrors", &mut found)).unwrap_or_default();
        let secrets = fields.get("secrets").map(|node| secrets(origin, node, &mut found));
        let (sources, accounts) = secrets.unwrap_or_default();
        let clusters = fields.get("clusters").map(|node| clusters(origin, node, &mut found)).unwrap_or_default();
        fields.finish(&mut found);
        found.into_result(Self { mirrors, clusters, sources, accounts })
    }
}

/// A mapping of names to strings.
fn texts(origin: &Origin, node: &Node, what: &str, found: &mut Diagnostics) -> BTreeMap<String, String> {
    let Some(mapping) = node.as_mapping() else {
        found.error(origin.location(node.at), format!("`{what}` must map names to strings"));
        return BTreeMap::new();
    };
    let mut texts = BTreeMap::new();
    for entry in mapping.iter() {
        match entry.value.as_str() {
            Some(text) => {
                texts.insert(entry.key.clone(), text.to_owned());
            }
            None => {
                found.error(origin.location(entry.value.at), format!("the value of `{}` must be a string", entry.key));
            }
        }
    }
    texts
}

/// Schemes that already have a meaning in templates or manifests.
const TAKEN: [&str; 8] = ["op", "ref", "http", "https", "oci", "ssh", "git", "file"];

fn secrets(origin: &Origin, node: &Node, found: &mut Diagnostics) -> (Adapters, BTreeMap<String, String>) {
    let mut fields = Fields::from_node(origin, node, "`secrets`", found);
    let accounts = fields.get("accounts").map(|node| texts(origin, node, "accounts", found)).unwrap_or_default();
    let mut sources = BTreeMap::new();
    for entry in entries(origin, &mut fields, "sources", found) {
        let scheme = entry.key.as_str();
        let letters = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !letters || TAKEN.contains(&scheme) {
            let message = format!("invalid scheme `{scheme}`: use lower-case letters, except {}", TAKEN.join(", "));
            found.error(origin.location(entry.key_at), message);
        }
        let mut fields = Fields::from_node(origin, &entry.value, format!("source `{scheme}`"), found);
        let adapter = Adapter { command: fields.strings("command", found), pointer: fields.string("pointer", found) };
        fields.finish(found);
        if adapter.command.is_empty() {
            let message =
                format!("source `{scheme}` has no `command`: set the program that prints a value, with its arguments");
            found.error(origin.location(entry.value.at), message);
        }
        sources.insert(scheme.to_owned(), adapter);
    }
    fields.finish(found);
    (Adapters(sources), accounts)
}

fn clusters(origin: &Origin, node: &Node, found: &mut Diagnostics) -> BTreeMap<String, Paths> {
    let Some(mapping) = node.as_mapping() else {
        found.error(origin.location(node.at), "`clusters` must map cluster names to their settings");
        return BTreeMap::new();
    };
    let mut clusters = BTreeMap::new();
    for entry in mapping.iter() {
        let mut fields = Fields::from_node(origin, &entry.value, format!("cluster `{}`", entry.key), found);
        let paths = Paths {
            inputs: inputs(origin, &mut fields, found),
            talos: fields.string("talos", found).map(PathBuf::from),
            crds: fields.string("crds", found).map(PathBuf::from),
            releases: fields.string("releases", found).map(PathBuf::from),
            environment: fields.string("environment", found),
            secrets: fields.strings("secrets", found).into_iter().map(PathBuf::from).collect(),
            hooks: hooks(origin, &mut fields, found),
        };
        fields.finish(found);
        clusters.insert(entry.key.clone(), paths);
    }
    clusters
}

fn inputs(origin: &Origin, fields: &mut Fields<'_>, found: &mut Diagnostics) -> adapters::InputSettings {
    let mut settings =
        adapters::InputSettings { exec: fields.strings("exec", found), ..adapters::InputSettings::default() };
    for entry in entries(origin, fields, "nodes", found) {
        let mut fields = Fields::from_node(origin, &entry.value, format!("node `{}`", entry.key), found);
        let declared = adapters::DeclaredNode {
            address: address(origin, &mut fields, found),
            role: role(origin, &mut fields, found),
            schematic: fields.string("schematic", found).map(PathBuf::from),
            variables: variables(origin, &mut fields, found),
        };
        fields.finish(found);
        settings.nodes.insert(entry.key.clone(), declared);
    }
    settings.variables = variables(origin, fields, found);
    settings
}

fn variables(
    origin: &Origin,
    fields: &mut Fields<'_>,
    found: &mut Diagnostics,
) -> serde_json::Map<String, serde_json::Value> {
    let entries = entries(origin, fields, "variables", found);
    entries.map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
}

fn hooks(origin: &Origin, fields: &mut Fields<'_>, found: &mut Diagnostics) -> Vec<HookRule> {
    let mut rules = Vec::new();
    for node in fields.list("hooks", found) {
        let mut fields = Fields::from_node(origin, node, "a hook", found);
        let command = fields.required_string("command", found);
        let idempotent = fields.bool("idempotent", found).unwrap_or(true);
        fields.finish(found);
        rules.extend(command.map(|command| HookRule { command, idempotent, at: origin.location(node.at) }));
    }
    rules
}

fn entries<'n>(
    origin: &Origin,
    fields: &mut Fields<'n>,
    key: &'static str,
    found: &mut Diagnostics,
) -> impl Iterator<Item = &'n Entry> + use<'n> {
    let node = fields.get(key);
    let mapping = node.and_then(Node::as_mapping);
    if let (Some(node), None) = (node, mapping) {
        found.error(origin.location(node.at), format!("`{key}` must be a mapping"));
    }
    mapping.into_iter().flat_map(Mapping::iter)
}

fn address(origin: &Origin, fields: &mut Fields<'_>, found: &mut Diagnostics) -> Option<IpAddr> {
    let text = fields.string("address", found)?;
    let at = fields.get("address").map(|node| origin.location(node.at))?;
    text.parse().map_err(|_| found.error(at, format!("`{text}` is not an IP address"))).ok()
}

fn role(origin: &Origin, fields: &mut Fields<'_>, found: &mut Diagnostics) -> Option<Role> {
    let text = fields.string("role", found)?;
    let at = fields.get("role").map(|node| origin.location(node.at))?;
    match text.as_str() {
        "controlplane" | "control-plane" => Some(Role::ControlPlane),
        "worker" => Some(Role::Worker),
        other => {
            found.error(at, format!("invalid role `{other}`: use controlplane or worker"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_secrets_are_commands_by_scheme() {
        let origin = Origin::new(FILE);
        let text = "secrets:\n  sources:\n    bws: {command: [bws, secret, get, '{path}'], pointer: /value}\n";
        let settings = Settings::parse(&origin, text).unwrap();
        assert_eq!(settings.sources.0["bws"].pointer.as_deref(), Some("/value"));
        let text = "secrets:\n  sources:\n    op: {command: [op]}\n    bao: {comand: [bao]}\n";
        insta::assert_snapshot!(Settings::parse(&origin, text).unwrap_err(), @r"
        k8s-bootstrap.yaml:3:5: invalid scheme `op`: use lower-case letters, except op, ref, http, https, oci, ssh, git, file
        k8s-bootstrap.yaml:4:11: source `bao` has an unknown key `comand`
          hint: did you mean `command`?
        k8s-bootstrap.yaml:4:10: source `bao` has no `command`: set the program that prints a value, with its arguments
        ");
    }

    #[test]
    fn mirrors_and_paths_are_read_and_unknown_keys_named() {
        let origin = Origin::new(FILE);
        let text = "mirrors: {ghcr.io: 'registry.lan:5000'}\nclusters:\n  blue: {talos: machines, crds: crds.yaml}\n";
        let settings = Settings::parse(&origin, text).unwrap();
        assert_eq!(settings.mirrors["ghcr.io"], "registry.lan:5000");
        assert_eq!(settings.clusters["blue"].talos.as_deref(), Some(Path::new("machines")));
        let found = Settings::parse(&origin, "mirors: {}\nclusters:\n  blue: {talso: x}\n").unwrap_err();
        insta::assert_snapshot!(found, @r"
        k8s-bootstrap.yaml:3:10: cluster `blue` has an unknown key `talso`
          hint: did you mean `talos`?
        k8s-bootstrap.yaml:1:1: k8s-bootstrap.yaml has an unknown key `mirors`
          hint: did you mean `mirrors`?
        ");
    }
}
