//! Reads `talconfig.yaml` and reports all errors at once, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lazy_regex::regex;
use serde_json::{Value, json};

use super::model::{First, JoinedList, Machine, Patch, Section, Talconfig};
use super::substitute::{substitute, substitute_content};
use super::types::{TalconfigFindings, conform};
use super::{check, image};
use crate::fetched::FileError;
use crate::{Endpoint, FetchedInputs, InputRequest, InputsError, Role};
use discover::dotenv;
use discover::dotenv::Lookup;
use talos_schema::Contract;
use template::clean;
use yaml::{Diagnostic, Diagnostics, Dialect, Location, Node as YamlNode, Origin, Position};

/// The file names of a talconfig.
const FILES: [&str; 2] = ["talconfig.yaml", "talconfig.yml"];

/// The talconfig of a directory, if there is one.
pub(crate) fn file(folder: &Path) -> Option<PathBuf> {
    FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}
/// The files with variables; later ones override earlier ones.
const ENVIRONMENTS: [&str; 4] = ["talenv.yaml", "talenv.sops.yaml", "talenv.yml", "talenv.sops.yml"];
/// talhelper's default version.
const TALOS_VERSION: &str = "v1.13.9";

/// Reads the talconfig in `folder`. Messages name files relative to `root`; `environment` resolves variables that
/// `talenv.yaml` does not define.
///
/// # Errors
///
/// All errors of the talconfig and the files that it names, and the encrypted files among them.
pub fn read(
    root: &Path,
    folder: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    sources: &FetchedInputs,
) -> Result<Talconfig, InputsError> {
    let mut found = TalconfigFindings::default();
    let path = file(folder).unwrap_or_else(|| folder.join(FILES[0]));
    let origin = Origin::of_path(path.strip_prefix(root).unwrap_or(&path));
    let unreadable = |error| Diagnostic::general(format!("cannot read {origin}: {error}"));
    let text = sources.read(&path).map_err(|error| error.describe(unreadable))?;
    let variables = talenv(root, folder, environment, sources, &mut found)?;
    let lookup = |name: &str| variables.get(name).cloned().or_else(|| environment(name));
    // The text must be YAML before its variables are replaced, and after.
    yaml::parse(&origin, &text)?;
    let text = substitute(&origin, &text, &lookup, &mut found.errors);
    if !found.errors.is_empty() {
        return Err(found.errors.into());
    }
    // talhelper first parses the file untyped, which changes dates and values such as `007`.
    let node = yaml::parse_as(&origin, &text, Dialect::Untyped)?;
    let node =
        node.into_iter().next().unwrap_or(YamlNode { at: Position { line: 1, column: 1 }, value: yaml::Value::Null });
    let mut reader = Reader {
        root,
        folder,
        origin: &origin,
        text: &text,
        lookup: &lookup,
        sources,
        variables: variables.clone(),
        unknown: BTreeSet::new(),
        needs: BTreeSet::new(),
        found,
    };
    let talconfig = reader.talconfig(&node);
    let mut errors = reader.found.errors;
    if !errors.is_empty() {
        // Ignored fields may be the cause of the errors.
        errors.extend(talconfig.warnings.iter().cloned());
    }
    InputsError { mistakes: errors, needs: reader.needs }.into_result(talconfig)
}

fn talenv(
    root: &Path,
    folder: &Path,
    environment: Lookup<'_>,
    sources: &FetchedInputs,
    found: &mut TalconfigFindings,
) -> Result<BTreeMap<String, String>, InputsError> {
    let mut variables = BTreeMap::new();
    let mut lacking = InputsError::default();
    for path in ENVIRONMENTS.map(|name| folder.join(name)) {
        let text = match sources.read(&path) {
            Ok(text) => text,
            Err(error) => {
                lacking.needs.extend(error.need());
                continue;
            }
        };
        let origin = Origin::of_path(path.strip_prefix(root).unwrap_or(&path));
        if let Err(diagnostic) = yaml::parse(&origin, &text) {
            found.errors.push(diagnostic);
        }
        match dotenv::parse(&text, environment) {
            Some(more) => variables.extend(more),
            None => found.warnings.push(
                Diagnostic::general(format!("{origin} is ignored"))
                    .with_hint("it may only have lines of the form `NAME: value`"),
            ),
        }
    }
    lacking.into_result(variables)
}

struct Reader<'r> {
    root: &'r Path,
    folder: &'r Path,
    origin: &'r Origin,
    /// The talconfig with its variables replaced.
    text: &'r str,
    lookup: Lookup<'r>,
    sources: &'r FetchedInputs,
    variables: BTreeMap<String, String>,
    /// Undefined variables that patches use.
    unknown: BTreeSet<String>,
    /// Encrypted files that were not decrypted yet.
    needs: BTreeSet<InputRequest>,
    found: TalconfigFindings,
}

impl Reader<'_> {
    fn talconfig(&mut self, node: &YamlNode) -> Talconfig {
        let section = self.section(node, "Talconfig", "");
        let sub = |key: &str| node.find(&[key]).cloned();
        let mut role = |key: &str| sub(key).map(|node| self.section(&node, "NodeConfigs", key)).unwrap_or_default();
        let (control_plane, worker) = (role("controlPlane"), role("worker"));
        let idle = |role: Role, machines: &[Machine]| machines.iter().all(|machine| machine.role != role);
        let factory = sub("imageFactory").map(|node| self.section(&node, "ImageFactory", "imageFactory"));
        let (talos_version, contract) = self.versions(&section);
        let kubernetes_version =
            section.text("kubernetesVersion").unwrap_or_default().trim_start_matches('v').to_owned();
        let nodes = sub("nodes");
        let nodes = nodes.as_ref().and_then(YamlNode::as_sequence).unwrap_or_default();
        let cluster_name = section.text("clusterName").unwrap_or_default().to_owned();
        let mut machines = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let own = self.section(node, "Node", &format!("nodes[{index}]"));
            let group = if own.flag("controlPlane") { &control_plane } else { &worker };
            machines.push(self.machine(&cluster_name, self.origin.location(node.at), own, group));
        }
        for (key, role) in [("controlPlane", Role::ControlPlane), ("worker", Role::Worker)] {
            if let Some(at) = section.at(key).filter(|_| idle(role, &machines)) {
                let message = format!("`{key}` has no effect: no node has that role");
                self.found.warnings.push(Diagnostic::at_location(at.clone(), message));
            }
        }
        let inline_manifests = self.contents(&section, "inlineManifests", "contents", "ClusterInlineManifest");
        let patches = self.patches(&section, "patches");
        let talconfig = Talconfig {
            endpoint: self.endpoint(&section),
            cluster_name,
            contract,
            talos_version,
            kubernetes_version,
            machines,
            inline_manifests,
            patches,
            factory: factory.unwrap_or_default(),
            variables: std::mem::take(&mut self.variables),
            unknown: std::mem::take(&mut self.unknown),
            warnings: Diagnostics::default(),
            section,
        };
        check::check(self.origin, &talconfig, &mut self.found);
        Talconfig { warnings: std::mem::take(&mut self.found.warnings), ..talconfig }
    }

    fn section(&mut self, node: &YamlNode, of: &str, path: &str) -> Section {
        let values = conform(self.origin, node, of, path, &mut self.found);
        let mut places = BTreeMap::new();
        let mut items = BTreeMap::new();
        for entry in node.as_mapping().into_iter().flat_map(yaml::Mapping::iter) {
            let is_scalar = entry.value.as_mapping().is_none() && entry.value.as_sequence().is_none();
            let at = if is_scalar { entry.value.at } else { entry.key_at };
            places.insert(entry.key.clone(), self.origin.location(at));
            if let Some(nodes) = entry.value.as_sequence() {
                items.insert(entry.key.clone(), nodes.iter().map(|node| self.origin.location(node.at)).collect());
            }
        }
        Section::new(values, places, items)
    }

    fn versions(&mut self, section: &Section) -> (String, Contract) {
        let version = section.text("talosVersion").unwrap_or(TALOS_VERSION);
        let version = format!("v{}", version.trim_start_matches('v'));
        let at = section.at("talosVersion").cloned().unwrap_or_else(|| self.origin.location(FIRST));
        match version.parse::<Contract>() {
            // Talos 1.14 accepts configs in the format of 1.13, and existing patches are written for that format.
            Ok(contract) => (version, contract.min(Contract::V1_13)),
            Err(_) if is_newer(&version) => {
                self.found.warnings.push(
                    Diagnostic::at_location(at, format!("Talos {version} is newer than the supported versions"))
                        .with_hint("the config is generated for 1.13, which newer versions have accepted so far"),
                );
                (version, Contract::V1_13)
            }
            Err(error) => {
                self.found.errors.error(at, format!("{error}"));
                (version, Contract::V1_12)
            }
        }
    }

    fn endpoint(&mut self, section: &Section) -> Endpoint {
        let text = section.text("endpoint").unwrap_or_default();
        if let Some(endpoint) = Endpoint::parse(text) {
            return endpoint;
        }
        if let Some(at) = section.at("endpoint").filter(|_| !text.is_empty()) {
            self.found.errors.push(
                Diagnostic::at_location(at.clone(), format!("invalid endpoint `{text}`: expected https://HOST:PORT"))
                    .with_hint("the Kubernetes API usually listens on port 6443"),
            );
        }
        Endpoint { host: String::new(), port: 0 }
    }

    fn machine(&mut self, cluster: &str, at: Location, own: Section, group: &Section) -> Machine {
        let joined: Vec<JoinedList<'_>> = [
            ("overridePatches", JoinedList { key: "patches", first: First::Role }),
            ("overrideExtraManifests", JoinedList { key: "extraManifests", first: First::Node }),
            ("overrideMachineCertSANs", JoinedList { key: "certSANs", first: First::Node }),
        ]
        .into_iter()
        .filter(|(unless, _)| !own.flag(unless))
        .map(|(_, list)| list)
        .collect();
        let section = own.over(group, &joined);
        let role = if section.flag("controlPlane") { Role::ControlPlane } else { Role::Worker };
        let addresses = section.text("ipAddress").unwrap_or_default();
        let file_name = self.file_name(cluster, &section, role);
        Machine {
            hostname: section.text("hostname").unwrap_or_default().to_owned(),
            addresses: addresses
                .split(',')
                .map(|part| part.trim().to_owned())
                .filter(|part| !part.is_empty())
                .collect(),
            role,
            at,
            file_name,
            patches: self.patches(&section, "patches"),
            extra_manifests: self.patches(&section, "extraManifests"),
            files: self.contents(&section, "machineFiles", "content", "MachineFile"),
            section,
        }
    }

    fn file_name(&mut self, cluster: &str, section: &Section, role: Role) -> String {
        let template = section.text("filenameTmpl").unwrap_or("{{ .ClusterName }}-{{ .Hostname }}.yaml");
        let data = json!({
            "ClusterName": cluster,
            "Hostname": section.text("hostname").unwrap_or_default(),
            "IPAddress": section.text("ipAddress").unwrap_or_default(),
            "Role": match role { Role::ControlPlane => "controlplane", Role::Worker => "worker" },
        });
        image::expand(self.origin, section.at("filenameTmpl"), template, &data).unwrap_or_else(|diagnostic| {
            self.found.errors.push(diagnostic);
            String::new()
        })
    }

    /// The elements of a list, encoded as the type `of`; their field `content` may be `@` and a file name.
    fn contents(&mut self, section: &Section, key: &str, content: &str, of: &str) -> Vec<Value> {
        let mut elements = Vec::new();
        for (index, element) in section.list(key).iter().enumerate() {
            let Some(mut element) = element.as_object().cloned() else { continue };
            let path = element.get(content).and_then(Value::as_str).and_then(|text| text.strip_prefix('@'));
            if let (Some(path), Some(at)) =
                (path.map(str::trim).filter(|path| !path.is_empty()), section.item_at(key, index))
            {
                let untouched = element.get("skipEnvsubst") == Some(&json!(true));
                if let Some((origin, text)) = self.file(at, path, "file") {
                    let text = if untouched {
                        text
                    } else {
                        substitute_content(&origin, &text, self.lookup, &mut self.found.errors)
                    };
                    element.insert(content.to_owned(), json!(text));
                }
            }
            elements.push(super::types::encode(of, &element));
        }
        elements
    }

    fn file(&mut self, at: &Location, path: &str, what: &str) -> Option<(Origin, String)> {
        let path = clean(&self.folder.join(path));
        let origin = Origin::of_path(path.strip_prefix(self.root).unwrap_or(&path));
        match self.sources.read(&path) {
            Ok(text) => Some((origin, text)),
            Err(FileError::Encrypted(need)) => {
                self.needs.insert(need);
                None
            }
            Err(FileError::Unreadable(error)) => {
                self.found.errors.error(at.clone(), format!("cannot read the {what} {origin}: {error}"));
                None
            }
        }
    }

    /// Inline patches and `@file` patches; extra manifests are always files.
    fn patches(&mut self, section: &Section, key: &str) -> Vec<Patch> {
        let always_files = key == "extraManifests";
        let mut patches = Vec::new();
        for (index, text) in section.strings(key).into_iter().enumerate() {
            let Some(at) = section.item_at(key, index).cloned() else { continue };
            let path = text.strip_prefix('@').or(always_files.then_some(text.as_str()));
            let Some(path) = path.map(|path| path.trim().to_owned()) else {
                if self.folder.join(text.trim()).is_file() {
                    let message = format!("`{text}` is a file name, not a patch");
                    self.found
                        .errors
                        .push(Diagnostic::at_location(at, message).with_hint(format!("write \"@{text}\"")));
                } else {
                    patches.push(self.inline(at, text));
                }
                continue;
            };
            let what = if always_files { "extra manifest" } else { "patch" };
            let Some((origin, text)) = self.file(&at, &path, what) else { continue };
            if text.trim().is_empty() {
                self.found.warnings.push(
                    Diagnostic::at_location(at, format!("the {what} {origin} is empty and has no effect"))
                        .with_hint("remove it from the list, or add content"),
                );
                continue;
            }
            self.collect_variables(&text);
            patches.push(Patch { at, origin, start: FIRST, indent: 0, text });
        }
        patches
    }

    /// Collects the variables of a patch, which are substituted when the patch is applied.
    fn collect_variables(&mut self, text: &str) {
        for captures in
            regex!(r#"(?:\$\{?|\benv +")(\w+)"#).captures_iter(text).filter(|captures| &captures[0] != DIRECTIVE)
        {
            match (self.lookup)(&captures[1]) {
                Some(value) => drop(self.variables.insert(captures[1].to_owned(), value)),
                None => drop(self.unknown.insert(captures[1].to_owned())),
            }
        }
    }

    fn inline(&mut self, at: Location, text: String) -> Patch {
        let lines: Vec<&str> = self.text.lines().collect();
        let line = lines.get(at.position.line - 1).copied().unwrap_or_default();
        let is_block =
            line.chars().skip(at.position.column - 1).collect::<String>().trim_start().starts_with(['|', '>'])
                || line.trim_end().trim_end_matches(['-', '+']).ends_with(['|', '>']);
        let (start, indent) = if is_block {
            let below = lines.iter().skip(at.position.line).find(|line| !line.trim().is_empty());
            let indent = below.map_or(0, |line| line.len() - line.trim_start().len());
            (Position { line: at.position.line + 1, column: indent + 1 }, indent)
        } else {
            (at.position, at.position.column)
        };
        self.collect_variables(&text);
        Patch { origin: at.origin.clone(), at, start, indent, text }
    }
}

/// Whether a version is newer than the supported ones.
fn is_newer(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(1)), Some(Ok(minor))) if minor > Contract::NEWEST.minor())
}

const FIRST: Position = Position { line: 1, column: 1 };

/// A patch directive that looks like a variable.
const DIRECTIVE: &str = "$patch";
