//! topf: `topf.yaml`, and patches in `all/`, `control-plane/` or `worker/`, and `node/<host>/` (topf, August 2026).
//!
//! Patches are merged in path order; `.tpl` files are Go templates. JSON patches are not supported.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::layers;
use super::layers::Layer;
use super::{InputContext, Inputs, SecretsLocation};
use crate::line_map::LineMap;
use crate::talconfig::schematic_id;
use crate::{
    Endpoint, GenerateInput, InputRequest, InputsError, Inventory, InventoryNode, RenderedConfig, Role, SecretsBundle,
    generate,
};
use talos_schema::Contract;
use template::{Functions, TemplateSource, clean};
use yaml::{Diagnostic, Diagnostics, Fields, Node as YamlNode, Origin, Position};

const FILE: &str = "topf.yaml";
const FILES: [&str; 2] = [FILE, "topf.yml"];
const ENDINGS: [&str; 4] = [".yaml", ".yml", ".yaml.tpl", ".yml.tpl"];
/// The default Talos version.
const TALOS_VERSION: &str = "1.13.9";

fn file(folder: &Path) -> Option<PathBuf> {
    FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

pub(super) fn detects(place: &InputContext<'_>) -> bool {
    file(place.folder).is_some()
}

/// Settings of the installer image; those of a node override those of the cluster.
#[derive(Debug, Clone, Default)]
struct Image {
    talos_version: Option<String>,
    schematic: Option<String>,
    factory: Option<String>,
    platform: Option<String>,
    secureboot: bool,
}

#[derive(Debug)]
struct Machine {
    node: InventoryNode,
    image: Image,
    data: Value,
}

#[derive(Debug)]
struct Topf {
    inventory: Inventory,
    warnings: Diagnostics,
    root: PathBuf,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
    endpoint: String,
    image: Image,
    data: Value,
    secrets: PathBuf,
    machines: Vec<Machine>,
    /// All patches by path.
    files: BTreeMap<PathBuf, String>,
    patches: PathBuf,
}

pub(super) fn read(place: &InputContext<'_>) -> Result<Arc<dyn Inputs>, InputsError> {
    let path = file(place.folder).unwrap_or_else(|| place.folder.join(FILE));
    let origin = layers::origin(place.root, &path);
    let text = place.read(&path)?;
    let node = yaml::parse_one(&origin, &text)?;
    let mut reader = Reader { place, origin, found: InputsError::default() };
    let topf = reader.topf(&node);
    reader.found.into_result(())?;
    Ok(Arc::new(topf))
}

struct Reader<'r> {
    place: &'r InputContext<'r>,
    origin: Origin,
    found: InputsError,
}

impl Reader<'_> {
    fn topf(&mut self, node: &YamlNode) -> Topf {
        let origin = self.origin.clone();
        let found = &mut self.found.mistakes;
        let mut fields = Fields::from_node(&origin, node, FILE, found);
        let cluster_name = fields.required_string("clusterName", found).unwrap_or_default();
        let endpoint = fields.required_string("clusterEndpoint", found).unwrap_or_default();
        let kubernetes_version = match fields.string_or_number("kubernetesVersion", found) {
            Some(version) => version.trim_start_matches('v').to_owned(),
            None => {
                found.error(fields.location(), "topf.yaml has no `kubernetesVersion`");
                String::new()
            }
        };
        let image = image(&mut fields, found);
        let data = fields.get("data").map_or_else(|| json!({}), YamlNode::to_json);
        let patches = fields
            .string("patchesDir", found)
            .map_or_else(|| self.place.folder.to_owned(), |path| clean(&self.place.folder.join(path)));
        let secrets = fields.string("secretsPath", found).unwrap_or_else(|| "secrets.yaml".to_owned());
        let provider = fields.string("nodesProvider", found);
        if let Some(at) = fields.get("secretsProvider").map(|node| origin.location(node.at)) {
            found.push(
                Diagnostic::at_location(at, "`secretsProvider` is not supported")
                    .with_hint("write the bundle to secrets.yaml beside topf.yaml"),
            );
        }
        let address = Endpoint::parse(&endpoint);
        if address.is_none() && !endpoint.is_empty() {
            let at = fields.key_location("clusterEndpoint").unwrap_or_else(|| fields.location());
            found.error(at, format!("invalid endpoint `{endpoint}`: expected https://HOST:PORT"));
        }
        let listed = fields.list("nodes", found).to_vec();
        fields.finish(found);
        let mut machines: Vec<Machine> = listed.iter().filter_map(|node| self.machine(&origin, node)).collect();
        machines.extend(self.provided(provider, &cluster_name));
        let key = |machine: &Machine| (machine.node.role, machine.node.hostname.clone());
        machines.sort_by_key(key);
        let nodes: Vec<InventoryNode> = machines.iter().map(|machine| machine.node.clone()).collect();
        super::check_nodes(&nodes, &mut self.found.mistakes);
        let version = image.talos_version.as_deref().unwrap_or(TALOS_VERSION).trim_start_matches('v').to_owned();
        let files = self.files(&patches);
        let mut topf = Topf {
            inventory: Inventory {
                cluster_name,
                endpoint: address.unwrap_or(Endpoint { host: String::new(), port: 0 }),
                talos_version: format!("v{version}"),
                kubernetes_version,
                nodes,
            },
            warnings: Diagnostics::default(),
            root: self.place.root.to_owned(),
            folder: self.place.folder.to_owned(),
            environment: self.place.environment.clone(),
            endpoint,
            data,
            secrets: clean(&self.place.folder.join(secrets)),
            machines,
            files,
            patches,
            image,
        };
        topf.check(&self.origin, &mut self.found.mistakes);
        topf
    }

    fn machine(&mut self, origin: &Origin, node: &YamlNode) -> Option<Machine> {
        let found = &mut self.found.mistakes;
        let mut fields = Fields::from_node(origin, node, "the node", found);
        let host = fields.required_string("host", found);
        let ip = fields.string("ip", found);
        let role = fields.required_string("role", found);
        let image = image(&mut fields, found);
        let data = fields.get("data").map_or_else(|| json!({}), YamlNode::to_json);
        let at = fields.location();
        let place = |fields: &Fields<'_>, key: &str| fields.key_location(key).unwrap_or_else(|| fields.location());
        let role = match role.as_deref() {
            Some("control-plane") => Some(Role::ControlPlane),
            Some("worker") => Some(Role::Worker),
            Some(other) => {
                found
                    .error(place(&fields, "role"), format!("unknown role `{other}`: expected control-plane or worker"));
                None
            }
            None => None,
        };
        let host = host?;
        let name = ip.as_deref().unwrap_or(&host);
        let resolved = || self.place.sources.get(InputRequest::Address { host: name.to_owned(), subnet: None });
        let text = name.parse::<IpAddr>().map_or_else(|_| resolved(), |address| Ok(address.to_string()));
        let address = text.as_deref().ok().and_then(|text| text.parse::<IpAddr>().ok());
        if address.is_none() && text.is_ok() {
            let message = format!("node `{host}` has no address, and the host name `{name}` does not resolve");
            found.push(
                Diagnostic::at_location(place(&fields, "ip"), message)
                    .with_hint("set its `ip`: certificates and the order of control planes depend on it"),
            );
        }
        fields.finish(found);
        self.found.needs.extend(text.err());
        Some(Machine { node: InventoryNode { hostname: host, address: address?, role: role?, at }, image, data })
    }

    /// The nodes from the output of `nodesProvider`.
    fn provided(&mut self, provider: Option<String>, cluster: &str) -> Vec<Machine> {
        let Some(program) = provider else { return vec![] };
        let command = vec![program.clone(), "nodes".to_owned(), cluster.to_owned()];
        let output = self.place.sources.get(InputRequest::CommandOutput(command));
        let Some(text) = self.found.keep(output) else { return vec![] };
        let origin = Origin::new(format!("<{program} nodes {cluster}>"));
        match yaml::parse_one(&origin, &text) {
            Ok(node) => {
                node.as_sequence().unwrap_or_default().iter().filter_map(|node| self.machine(&origin, node)).collect()
            }
            Err(diagnostic) => {
                self.found.push(diagnostic);
                vec![]
            }
        }
    }

    fn files(&mut self, patches: &Path) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        for folder in ["all", "control-plane", "worker", "node"] {
            for path in layers::files(&patches.join(folder), &ENDINGS) {
                if let Some(text) = self.found.keep(self.place.read(&path)) {
                    self.references(&path, &text);
                    files.insert(path, text);
                }
            }
        }
        files
    }

    fn references(&mut self, path: &Path, text: &str) {
        let is_template = path.extension().is_some_and(|ending| ending == "tpl");
        let line = text.lines().position(|line| line.contains("ref+") && !line.trim_start().starts_with('#'));
        if let Some(line) = line.filter(|_| !is_template) {
            let at = layers::origin(self.place.root, path).location(Position { line: line + 1, column: 1 });
            self.found.push(
                Diagnostic::at_location(at, "vals references are not supported")
                    .with_hint("encrypt the file with SOPS, or configure `exec` to print the config"),
            );
        }
    }
}

fn image(fields: &mut Fields<'_>, found: &mut Diagnostics) -> Image {
    Image {
        talos_version: fields.string_or_number("talosVersion", found),
        schematic: fields.string("schematicId", found),
        factory: fields.string("factory", found),
        platform: fields.string("platform", found),
        secureboot: fields.bool("secureboot", found).unwrap_or_default(),
    }
}

impl Topf {
    /// Checks versions and node directories.
    fn check(&mut self, origin: &Origin, found: &mut Diagnostics) {
        let top = origin.location(Position { line: 1, column: 1 });
        if self.image.talos_version.is_none() {
            self.warnings.push(
                Diagnostic::at_location(top.clone(), format!("topf.yaml has no `talosVersion`; using {TALOS_VERSION}"))
                    .with_hint("set `talosVersion`, since the default changes with releases"),
            );
        }
        let hosts: BTreeSet<&str> = self.machines.iter().map(|machine| machine.node.hostname.as_str()).collect();
        for path in self.files.keys() {
            let Ok(rest) = path.strip_prefix(self.patches.join("node")) else { continue };
            let host = rest.iter().next().unwrap_or_default().to_string_lossy().into_owned();
            if !hosts.contains(host.as_str()) {
                let origin = layers::origin(&self.root, path);
                found.push(
                    Diagnostic::general(format!("{origin}: this patch has no effect: unknown node `{host}`"))
                        .did_you_mean(yaml::near(&host, hosts.iter().copied())),
                );
            }
        }
        for machine in &self.machines {
            let version = self.version(machine);
            if let Err(error) = version.parse::<Contract>() {
                found.error(machine.node.at.clone(), error.to_string());
            }
        }
    }

    fn version(&self, machine: &Machine) -> String {
        let version = machine.image.talos_version.as_ref().or(self.image.talos_version.as_ref());
        format!("v{}", version.map_or(TALOS_VERSION, String::as_str).trim_start_matches('v'))
    }

    fn data(&self, machine: &Machine, schematic: &str) -> Value {
        json!({
            "ClusterName": self.inventory.cluster_name,
            "ClusterEndpoint": self.endpoint,
            "KubernetesVersion": self.inventory.kubernetes_version,
            "TalosVersion": self.image.talos_version.clone().unwrap_or_default(),
            "SchematicID": schematic,
            "Data": self.data,
            "Node": {
                "Host": machine.node.hostname,
                "Role": word(machine.node.role),
                "IP": machine.node.address.to_string(),
                "Data": machine.data,
                "TalosVersion": machine.image.talos_version.clone().unwrap_or_default(),
                "SchematicID": machine.image.schematic.clone().unwrap_or_default(),
            },
        })
    }

    fn expand(&self, path: &Path, text: &str, data: &Value) -> Result<String, Diagnostic> {
        let origin = layers::origin(&self.root, path);
        let folder = path.parent().unwrap_or(&self.folder);
        let functions = Functions::new(&self.root, folder, &self.environment);
        template::render(&TemplateSource::file(&origin, text), data, &functions)
    }

    /// The schematic id: literal, or computed from the file after `@`.
    fn schematic(&self, machine: &Machine) -> Result<String, Diagnostic> {
        let written = machine.image.schematic.as_ref().or(self.image.schematic.as_ref());
        let Some(path) = written.and_then(|written| written.strip_prefix('@')) else {
            return Ok(written.cloned().unwrap_or_else(|| schematic_id(&json!({}))));
        };
        let path = clean(&self.folder.join(path));
        let origin = layers::origin(&self.root, &path);
        let mut text = std::fs::read_to_string(&path).map_err(|error| {
            Diagnostic::at_location(machine.node.at.clone(), format!("cannot read {origin}: {error}"))
        })?;
        if path.extension().is_some_and(|ending| ending == "tpl") {
            text = self.expand(&path, &text, &self.data(machine, written.map_or("", String::as_str)))?;
        }
        Ok(schematic_id(&yaml::parse_one(&origin, &text)?.to_json()))
    }

    fn installer(&self, machine: &Machine, schematic: &str) -> String {
        let or = |own: &Option<String>, all: &Option<String>, default: &str| {
            own.clone().or_else(|| all.clone()).unwrap_or_else(|| default.to_owned())
        };
        let factory = or(&machine.image.factory, &self.image.factory, "factory.talos.dev");
        let platform = or(&machine.image.platform, &self.image.platform, "metal");
        let secure = if machine.image.secureboot || self.image.secureboot { "-secureboot" } else { "" };
        format!("{factory}/{platform}-installer{secure}/{schematic}:{}", self.version(machine))
    }

    /// The patches of a node, in order.
    fn layers(&self, machine: &Machine, data: &Value) -> Result<Vec<Layer>, Diagnostics> {
        let folders = ["all".into(), word(machine.node.role).into(), Path::new("node").join(&machine.node.hostname)];
        let mut found = Diagnostics::default();
        let mut layers = Vec::new();
        for folder in folders.map(|folder: PathBuf| self.patches.join(folder)) {
            for (path, text) in self.files.iter().filter(|(path, _)| path.starts_with(&folder)) {
                let origin = layers::origin(&self.root, path);
                let is_template = path.extension().is_some_and(|ending| ending == "tpl");
                let rendered = if is_template { self.expand(path, text, data) } else { Ok(text.clone()) };
                match rendered.and_then(|rendered| has_content(&origin, &rendered).map(|content| (rendered, content))) {
                    // topf ignores empty patches.
                    Ok((_, false)) => {}
                    Ok((rendered, true)) => {
                        layers.push(Layer { origin, lines: LineMap::new(text, &rendered), text: rendered });
                    }
                    Err(diagnostic) => found.push(diagnostic),
                }
            }
        }
        found.into_result(layers)
    }

    fn machine(&self, node: &InventoryNode) -> Result<&Machine, Diagnostic> {
        let same = |machine: &&Machine| machine.node.hostname == node.hostname;
        self.machines.iter().find(same).ok_or_else(|| super::no_node(&node.hostname))
    }
}

/// Whether a patch has any fields.
fn has_content(origin: &Origin, text: &str) -> Result<bool, Diagnostic> {
    let mut content = false;
    for node in yaml::parse(origin, text)? {
        if node.as_sequence().is_some_and(|items| !items.is_empty()) {
            return Err(Diagnostic::at_location(
                origin.location(node.at),
                "topf does not support JSON patches; write a merge patch",
            ));
        }
        content |= node.as_mapping().is_some_and(|mapping| mapping.iter().next().is_some());
    }
    Ok(content)
}

fn word(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "control-plane",
        Role::Worker => "worker",
    }
}

impl Inputs for Topf {
    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    fn warnings(&self) -> &Diagnostics {
        &self.warnings
    }

    fn secrets(&self) -> SecretsLocation<'_> {
        SecretsLocation::File(self.secrets.clone())
    }

    fn render(&self, bundle: &SecretsBundle, node: &InventoryNode) -> Result<RenderedConfig, Diagnostics> {
        let machine = self.machine(node)?;
        let schematic = self.schematic(machine)?;
        let image = self.installer(machine, &schematic);
        let contract = self.version(machine).parse::<Contract>();
        let contract = contract.map_err(|error| Diagnostic::at_location(node.at.clone(), error.to_string()))?;
        let (pods, services) = (vec!["10.244.0.0/16".to_owned()], vec!["10.96.0.0/12".to_owned()]);
        let facts = GenerateInput {
            contract,
            cluster_name: &self.inventory.cluster_name,
            endpoint: &self.endpoint,
            kubernetes_version: &self.inventory.kubernetes_version,
            install_image: &image,
            install_disk: "",
            dns_domain: "cluster.local",
            pod_subnets: &pods,
            service_subnets: &services,
            bundle,
        };
        let mut rendered =
            RenderedConfig::new(&format!("generated for Talos {contract}"), None, generate(&facts, node.role));
        rendered.set("topf.yaml", Some(&node.at), |documents| {
            if let Some(install) = documents.legacy_mut().pointer_mut("/machine/install").and_then(Value::as_object_mut)
            {
                // topf omits the field instead of writing an empty one.
                install.retain(|key, value| key != "disk" || *value != json!(""));
            }
        });
        let mut found = Diagnostics::default();
        for layer in self.layers(machine, &self.data(machine, &schematic))? {
            if let Err(more) = layer.apply_to(&mut rendered) {
                found.extend(more);
            }
        }
        found.into_result(rendered)
    }
}
