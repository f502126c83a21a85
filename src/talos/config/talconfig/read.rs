//! Reading `talconfig.yaml`: every mistake at once, each with its place.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::model::{Endpoint, Group, Node, Patch, Settings, Talconfig};
use super::substitute::substitute;
use crate::talos::config::{Contract, Role, parse_documents};
use crate::yaml::{self, Diagnostic, Diagnostics, Fields, Node as YamlNode, Origin};

/// The file that describes the cluster.
pub(super) const FILE: &str = "talconfig.yaml";

/// Reads the talconfig in `folder`. Files are named relative to `root` in messages; `environment` answers `${VAR}`
/// after `talenv.yaml` has been asked.
///
/// # Errors
///
/// Everything that is wrong, all at once.
pub fn read(
    root: &Path,
    folder: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Talconfig, Diagnostics> {
    let mut found = Diagnostics::default();
    let path = folder.join(FILE);
    let origin = Origin::of_path(path.strip_prefix(root).unwrap_or(&path));
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Diagnostic::general(format!("cannot read {origin}: {error}")))?;
    let variables = read_talenv(root, folder, &mut found);
    let lookup = |name: &str| variables.get(name).cloned().or_else(|| environment(name));
    let text = substitute(&origin, &text, &lookup, &mut found);
    let node = yaml::parse_one(&origin, &text)?;
    let mut reader = Reader { root, folder, origin: &origin, lookup: &lookup, found };
    let talconfig = reader.talconfig(&node);
    check(&origin, &talconfig, &mut reader.found);
    reader.found.into_result(talconfig)
}

fn read_talenv(root: &Path, folder: &Path, found: &mut Diagnostics) -> BTreeMap<String, String> {
    let path = folder.join("talenv.yaml");
    let Ok(text) = std::fs::read_to_string(&path) else { return BTreeMap::new() };
    let origin = Origin::of_path(path.strip_prefix(root).unwrap_or(&path));
    let node = match yaml::parse_one(&origin, &text) {
        Ok(node) => node,
        Err(diagnostic) => {
            found.push(diagnostic);
            return BTreeMap::new();
        }
    };
    let entries = node.as_mapping().map(|mapping| mapping.iter().collect::<Vec<_>>()).unwrap_or_default();
    entries
        .into_iter()
        .map(|entry| {
            let value = match entry.value.to_json() {
                Value::String(text) => text,
                other => other.to_string(),
            };
            (entry.key.clone(), value)
        })
        .collect()
}

struct Reader<'r> {
    root: &'r Path,
    folder: &'r Path,
    origin: &'r Origin,
    lookup: &'r dyn Fn(&str) -> Option<String>,
    found: Diagnostics,
}

impl Reader<'_> {
    fn talconfig(&mut self, node: &YamlNode) -> Talconfig {
        let origin = self.origin.clone();
        let mut fields = Fields::of(&origin, node, "the talconfig", &mut self.found);
        let cluster_name = fields.required_string("clusterName", &mut self.found);
        let endpoint = fields.required_string("endpoint", &mut self.found);
        let endpoint = endpoint.and_then(|text| self.endpoint(&mut fields, &text));
        let talos_version = fields.text("talosVersion", &mut self.found).unwrap_or_else(|| "v1.12.0".to_owned());
        let talos_version = format!("v{}", talos_version.trim_start_matches('v'));
        let contract = self.contract(&mut fields, &talos_version);
        let kubernetes_version =
            fields.text("kubernetesVersion", &mut self.found).unwrap_or_else(|| "1.35.0".to_owned());
        let domain = fields.string("domain", &mut self.found).unwrap_or_else(|| "cluster.local".to_owned());
        let pod_subnets = or_default(fields.strings("clusterPodNets", &mut self.found), "10.244.0.0/16");
        let service_subnets = or_default(fields.strings("clusterSvcNets", &mut self.found), "10.96.0.0/12");
        let talconfig = Talconfig {
            cluster_name: cluster_name.unwrap_or_default(),
            endpoint: endpoint.unwrap_or(Endpoint { host: String::new(), port: 0 }),
            contract: contract.unwrap_or(Contract::V1_12),
            talos_version,
            kubernetes_version: kubernetes_version.trim_start_matches('v').to_owned(),
            nodes: fields.list("nodes", &mut self.found).iter().filter_map(|node| self.node(&origin, node)).collect(),
            pod_subnets,
            service_subnets,
            dns_domain: domain,
            cni: fields.get("cniConfig").map(YamlNode::to_json),
            api_server_sans: fields.strings("additionalApiServerCertSans", &mut self.found),
            machine_sans: fields.strings("additionalMachineCertSans", &mut self.found),
            schedule_on_control_planes: self.schedulable(&mut fields),
            patches: self.patches(&mut fields, &origin),
            control_plane: fields.get("controlPlane").map(|node| self.group(&origin, node)).unwrap_or_default(),
            worker: fields.get("worker").map(|node| self.group(&origin, node)).unwrap_or_default(),
        };
        fields.finish(&mut self.found);
        talconfig
    }

    fn schedulable(&mut self, fields: &mut Fields<'_>) -> bool {
        let new = fields.bool("allowSchedulingOnControlPlanes", &mut self.found);
        let old = fields.bool("allowSchedulingOnMasters", &mut self.found);
        new.or(old).unwrap_or(false)
    }

    fn contract(&mut self, fields: &mut Fields<'_>, version: &str) -> Option<Contract> {
        match version.parse() {
            Ok(contract) => Some(contract),
            Err(error) => {
                let at = fields.get("talosVersion").map_or(fields.location(), |node| self.origin.at(node.at));
                self.found.error(at, format!("{error}"));
                None
            }
        }
    }

    fn endpoint(&mut self, fields: &mut Fields<'_>, text: &str) -> Option<Endpoint> {
        let at = fields.get("endpoint").map_or(fields.location(), |node| self.origin.at(node.at));
        let rest = text.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
        let parts = rest.and_then(|rest| rest.rsplit_once(':'));
        match parts.map(|(host, port)| (host.trim_matches(['[', ']']), port.parse::<u16>())) {
            Some((host, Ok(port))) if !host.is_empty() => Some(Endpoint { host: host.to_owned(), port }),
            _ => {
                self.found.push(
                    Diagnostic::at(at, format!("the endpoint `{text}` is not of the form https://HOST:PORT"))
                        .with_hint("the Kubernetes API usually listens on port 6443"),
                );
                None
            }
        }
    }

    fn group(&mut self, origin: &Origin, node: &YamlNode) -> Group {
        let mut fields = Fields::of(origin, node, "the role's settings", &mut self.found);
        let settings = self.settings(&mut fields);
        let patches = self.patches(&mut fields, origin);
        fields.finish(&mut self.found);
        Group { settings, patches }
    }

    fn settings(&mut self, fields: &mut Fields<'_>) -> Settings {
        let json = |nodes: &[YamlNode]| nodes.iter().map(YamlNode::to_json).collect();
        Settings {
            nameservers: fields.strings("nameservers", &mut self.found),
            node_labels: fields.get("nodeLabels").map(YamlNode::to_json),
            node_annotations: fields.get("nodeAnnotations").map(YamlNode::to_json),
            node_taints: fields.get("nodeTaints").map(YamlNode::to_json),
            schematic: fields.get("schematic").map(YamlNode::to_json),
            image_url: fields.string("talosImageURL", &mut self.found),
            interfaces: json(fields.list("networkInterfaces", &mut self.found)),
            files: json(fields.list("machineFiles", &mut self.found)),
            kernel_modules: json(fields.list("kernelModules", &mut self.found)),
        }
    }

    fn node(&mut self, origin: &Origin, node: &YamlNode) -> Option<Node> {
        let mut fields = Fields::of(origin, node, "the node", &mut self.found);
        let hostname = fields.required_string("hostname", &mut self.found);
        let addresses = fields.required_string("ipAddress", &mut self.found);
        let addresses = addresses.map(|text| self.addresses(&mut fields, &text));
        let control_plane = fields.bool("controlPlane", &mut self.found).unwrap_or(false);
        let result = Node {
            hostname: hostname.clone().unwrap_or_default(),
            address: addresses.as_ref().and_then(|list| list.first().copied()).unwrap_or(IpAddr::from([0, 0, 0, 0])),
            role: if control_plane { Role::ControlPlane } else { Role::Worker },
            at: fields.location(),
            addresses: addresses.clone().unwrap_or_default(),
            ignore_hostname: fields.bool("ignoreHostname", &mut self.found).unwrap_or(false),
            install_disk: fields.string("installDisk", &mut self.found),
            install_disk_selector: fields.get("installDiskSelector").map(YamlNode::to_json),
            settings: self.settings(&mut fields),
            patches: self.patches(&mut fields, origin),
        };
        if result.install_disk.is_none() && result.install_disk_selector.is_none() {
            self.found.error(fields.location(), "the node has neither `installDisk` nor `installDiskSelector`");
        }
        fields.finish(&mut self.found);
        (hostname.is_some() && !result.addresses.is_empty()).then_some(result)
    }

    fn addresses(&mut self, fields: &mut Fields<'_>, text: &str) -> Vec<IpAddr> {
        let at = fields.get("ipAddress").map_or(fields.location(), |node| self.origin.at(node.at));
        let mut addresses = Vec::new();
        for part in text.split(',').map(str::trim) {
            match part.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => self.found.error(at.clone(), format!("`{part}` is no IP address")),
            }
        }
        addresses
    }

    /// Patches inline or as `@file`; a file's variables are substituted as the talconfig's are.
    fn patches(&mut self, fields: &mut Fields<'_>, origin: &Origin) -> Vec<Patch> {
        let mut patches = Vec::new();
        for item in fields.list("patches", &mut self.found) {
            let at = origin.at(item.at);
            let Some(text) = item.as_str() else {
                self.found.error(at, "a patch is a text: YAML, or @ and a file's path");
                continue;
            };
            let (source, text) = match text.strip_prefix('@') {
                None => (Origin::new(format!("{at} (inline patch)")), text.to_owned()),
                Some(path) => {
                    let path = self.folder.join(path.trim());
                    match self.patch_file(&path) {
                        Ok(found) => found,
                        Err(reason) => {
                            self.found.error(at, reason);
                            continue;
                        }
                    }
                }
            };
            let text = if source.as_str().ends_with("(inline patch)") {
                text
            } else {
                substitute(&source, &text, self.lookup, &mut self.found)
            };
            match parse_documents(&source, &text) {
                Ok(documents) if documents.0.is_empty() => {
                    self.found.error(at, format!("the patch {source} is empty"));
                }
                Ok(documents) => patches.push(Patch { at, documents }),
                Err(diagnostic) => self.found.push(diagnostic),
            }
        }
        patches
    }

    fn patch_file(&self, path: &Path) -> Result<(Origin, String), String> {
        let normal: PathBuf = path.components().collect();
        let origin = Origin::of_path(normal.strip_prefix(self.root).unwrap_or(&normal));
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read the patch {origin}: {error}"))?;
        Ok((origin, text))
    }
}

fn or_default(list: Vec<String>, default: &str) -> Vec<String> {
    if list.is_empty() { vec![default.to_owned()] } else { list }
}

/// What is wrong although every field by itself is right.
fn check(origin: &Origin, talconfig: &Talconfig, found: &mut Diagnostics) {
    let mut addresses: HashMap<IpAddr, &Node> = HashMap::new();
    let mut names: HashMap<&str, &Node> = HashMap::new();
    for node in &talconfig.nodes {
        for address in &node.addresses {
            if let Some(first) = addresses.insert(*address, node) {
                found.error(
                    node.at.clone(),
                    format!(
                        "node `{}` has the address {address} of node `{}` ({})",
                        node.hostname, first.hostname, first.at
                    ),
                );
            }
        }
        if let Some(first) = names.insert(node.hostname.as_str(), node) {
            found.error(node.at.clone(), format!("a second node `{}`, the first is at {}", node.hostname, first.at));
        }
    }
    if talconfig.control_planes().is_empty() {
        found.push(
            Diagnostic::general(format!("{origin}: no node is a control plane"))
                .with_hint("set `controlPlane: true` on one, three or five nodes"),
        );
    }
}
