//! Layers of Jinja templates: base ← all nodes ← role ← node.
//!
//! `files` classifies the files. The base is `machineconfig.yaml.j2` or `cluster.yaml.j2`, or the role's file where
//! there is none; other parts of a config beside it apply to all nodes. The role's layer is `controlplane.yaml.j2` or
//! `worker.yaml.j2`. A node is a file `<node>.yaml.j2`, in `nodes/`, or in `controlplane/` or `worker/` there or beside
//! it, which determines its role; its name is a host or an address. If there is a `nodes/`, files in `controlplane/` and
//! `worker/` beside it apply to all nodes of the role. The extension `.j2` is optional; a file is also a template when it
//! uses an environment variable.
//! Templates are strict: an undefined variable is an error. `variables` describes the sources of values.

mod data;
mod files;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lazy_regex::regex_is_match;
use minijinja::context;

use self::files::Files;
use super::layers;
use super::layers::Layer;
use super::repository_variables;
use super::{InputContext, Inputs, complete};
use crate::line_map::LineMap;
use crate::talconfig::schematic_id;
use crate::{InputRequest, InputsError, Role};
use discover::{FoundValue, Wrapper};
use template::jinja;
use template::jinja::Jinja;
use yaml::{Diagnostic, Diagnostics, Origin, Position};

pub(super) const NAME: &str = "templates";

pub(super) fn detects(place: &InputContext<'_>) -> bool {
    files::detects(place.folder)
}

/// Whether the directory has templates.
///
/// # Errors
///
/// Files that have to be decrypted first.
pub(super) fn has_templates(place: &InputContext<'_>) -> Result<bool, InputsError> {
    Ok(!templates(place)?.is_empty())
}

/// All templates by relative path; a file that cannot be read is none.
fn templates(place: &InputContext<'_>) -> Result<BTreeMap<String, String>, InputsError> {
    let mut found = InputsError::default();
    let mut templates = BTreeMap::new();
    for path in layers::files(place.folder, &ENDINGS) {
        let Ok(name) = path.strip_prefix(place.folder) else { continue };
        match place.sources.read(&path) {
            Ok(text) if is_template(&name.display().to_string(), &text) => {
                templates.insert(name.display().to_string(), text);
            }
            Ok(_) => {}
            Err(error) => found.needs.extend(error.need()),
        }
    }
    found.into_result(templates)
}

/// A node before its layers are rendered.
struct Machine {
    name: String,
    role: Option<Role>,
    /// The address from the settings or the data.
    address: Option<IpAddr>,
    file: Option<PathBuf>,
}

/// Shared data for rendering all nodes.
struct TemplateFolder<'f> {
    place: &'f InputContext<'f>,
    files: Files,
    /// All templates by relative path, since they can include each other.
    templates: BTreeMap<String, String>,
    /// Template variables from data files.
    data: serde_json::Map<String, serde_json::Value>,
    /// Variables that the environment lacks, found in the repository.
    written: BTreeMap<String, FoundValue>,
    /// The program that wraps recipes, and the variables that only it can provide.
    behind: Option<(Wrapper, BTreeSet<String>)>,
}

pub(super) fn read(place: &InputContext<'_>) -> Result<Arc<dyn Inputs>, InputsError> {
    let mut found = InputsError::default();
    let folder = TemplateFolder::load(place)?;
    let machines = folder.machines(&mut found.mistakes);
    let configs: Vec<complete::Config> =
        machines.iter().filter_map(|machine| found.keep(folder.config(machine))).collect();
    if machines.is_empty() && found.mistakes.is_empty() {
        let folder = place.display_folder();
        found.push(
            Diagnostic::general(format!("{folder} has templates but no nodes"))
                .with_hint("add nodes/<node>.yaml.j2, or set clusters.<name>.nodes in k8s-bootstrap.yaml"),
        );
    }
    found.into_result(())?;
    Ok(Arc::from(complete::inputs(place, configs, folder.warnings())?))
}

/// Endings of the files that can be templates.
const ENDINGS: [&str; 3] = [".j2", ".yaml", ".yml"];

const START: Position = Position { line: 1, column: 1 };

impl<'f> TemplateFolder<'f> {
    fn load(place: &'f InputContext<'f>) -> Result<Self, InputsError> {
        let files = Files::classify(place.folder);
        let templates = templates(place)?;
        let of_environment: BTreeSet<String> =
            templates.values().flat_map(|text| jinja::environment_variables(text)).collect();
        let plain = templates.iter().flat_map(|(name, text)| jinja::undeclared(name, text));
        let used = of_environment.iter().cloned().chain(plain);
        let any_node = variables::NodeVariables { role: Some(Role::Worker), schematic: Some("") };
        let mut lacking: BTreeSet<String> = used
            .filter(|name| !place.environment.contains_key(name) && !place.settings.variables.contains_key(name))
            .filter(|name| any_node.variable(name).is_none() && !KNOWN.contains(&name.as_str()))
            .collect();
        let beside = |path: &PathBuf| path.parent() == Some(place.folder) && files.is_data(path);
        let paths: Vec<PathBuf> = layers::files(place.folder, &ENDINGS).into_iter().filter(beside).collect();
        let data = data::read(place, &paths, &lacking)?;
        lacking.retain(|name| !data.contains_key(name));
        let written = repository_variables::find(place, &lacking);
        // Variables that a recipe computes are reported with their places.
        let computed = |name: &str| repository_variables::computed(place, name).is_some();
        lacking.retain(|name| !written.contains_key(name) && of_environment.contains(name) && !computed(name));
        let wrapper = if lacking.is_empty() { None } else { Wrapper::find(place.root) };
        Ok(Self { place, files, templates, data, written, behind: wrapper.map(|wrapper| (wrapper, lacking)) })
    }

    /// An environment variable that only the program around recipes can provide.
    fn behind(&self, name: &str) -> Option<Result<String, InputRequest>> {
        let (wrapper, names) = self.behind.as_ref()?;
        names.contains(name).then(|| repository_variables::from_wrapper(self.place, wrapper, name))
    }

    /// Warnings about variables from the repository.
    fn warnings(&self) -> Diagnostics {
        let mut warnings = Diagnostics::default();
        for (name, found) in &self.written {
            warnings.push(found.warning(name));
        }
        warnings
    }

    fn machines(&self, found: &mut Diagnostics) -> Vec<Machine> {
        let (place, nodes) = (self.place, &self.files.nodes);
        let mut machines: Vec<Machine> = nodes
            .iter()
            .map(|node| Machine {
                name: node.name.clone(),
                role: node.role,
                address: None,
                file: Some(node.path.clone()),
            })
            .collect();
        let listed = data::nodes(&self.data);
        for name in listed.iter().map(|(name, _)| name).chain(place.settings.nodes.keys()) {
            if !machines.iter().any(|machine| machine.name == *name) {
                machines.push(Machine { name: name.clone(), role: None, address: None, file: None });
            }
        }
        let mut seen: BTreeMap<String, Origin> = BTreeMap::new();
        machines.retain_mut(|machine| {
            let listed = listed.iter().find(|(name, _)| *name == machine.name).map(|(_, declared)| declared);
            let declared = [place.settings.nodes.get(&machine.name), listed];
            machine.role = machine.role.or_else(|| declared.iter().flatten().find_map(|declared| declared.role));
            machine.address = declared.iter().flatten().find_map(|declared| declared.address);
            let origin = machine
                .file
                .as_ref()
                .map_or_else(|| Origin::new("k8s-bootstrap.yaml"), |path| layers::origin(place.root, path));
            let Some(first) = seen.insert(machine.name.clone(), origin.clone()) else { return true };
            found.push(
                Diagnostic::at_location(
                    origin.location(START),
                    format!("duplicate node `{}`, also described by {first}", machine.name),
                )
                .with_hint("keep one of the two files"),
            );
            false
        });
        machines
    }

    fn config(&self, machine: &Machine) -> Result<complete::Config, InputsError> {
        // The schematic may depend on the role, which may be set only in the node's own layer.
        let layer_role = |path: &PathBuf| role_of(&self.renderer(machine, machine.role, Some("")).layer(path).ok()?);
        let role = machine.role.or_else(|| layer_role(machine.file.as_ref()?)).or_else(|| self.files.only_role());
        let schematic = self.schematic(machine, role).transpose();
        let rendered = self.merged(machine, role, schematic.as_ref().ok().and_then(Option::as_deref));
        rendered.map_err(|mut found| {
            // Errors of the schematic may be the cause: layers need its id.
            found.keep(schematic);
            found
        })
    }

    fn merged(
        &self,
        machine: &Machine,
        role: Option<Role>,
        schematic: Option<&str>,
    ) -> Result<complete::Config, InputsError> {
        let address = machine.address.or_else(|| machine.name.parse().ok());
        let renderer = |role| self.renderer(machine, role, schematic);
        // The node's own layer may set the role, so it is rendered first.
        let own = machine.file.as_ref().map(|path| renderer(role).layer(path)).transpose()?;
        let role = role.or_else(|| own.as_ref().and_then(role_of));
        let renderer = renderer(role);
        let mut layers = Vec::new();
        for path in self.files.below(role) {
            layers.push(renderer.layer(path)?);
        }
        let mut layers = layers.into_iter().chain(own);
        let Some(first) = layers.next() else {
            let name = &machine.name;
            let message = format!("node `{name}` has no config: neither a base nor a layer for its role exists");
            return Err(Diagnostic::general(message).into());
        };
        let mut rendered = first.parse_config()?;
        let mut found = InputsError::default();
        for layer in layers {
            found.keep(layer.apply_to(&mut rendered));
        }
        let origin = machine.file.as_ref().or(self.files.base.as_ref());
        let origin = origin.map(|path| layers::origin(self.place.root, path));
        let at = origin.unwrap_or_else(|| first.origin.clone()).location(START);
        found.into_result(complete::Config { name: machine.name.clone(), address, role: machine.role, at, rendered })
    }

    fn renderer<'m>(&'m self, machine: &'m Machine, role: Option<Role>, schematic: Option<&'m str>) -> Renderer<'m> {
        let address = machine.address.or_else(|| machine.name.parse().ok());
        Renderer { folder: self, name: &machine.name, address, node: variables::NodeVariables { role, schematic } }
    }

    /// The image factory's id of the node's schematic, if it has one.
    fn schematic(&self, machine: &Machine, role: Option<Role>) -> Option<Result<String, InputsError>> {
        let declared = self.place.settings.nodes.get(&machine.name).and_then(|node| node.schematic.as_ref());
        let declared = declared.map(|path| self.place.root.join(path));
        let path = declared.as_ref().or_else(|| self.files.schematic_of(&machine.name))?;
        let renderer = self.renderer(machine, role, None);
        let document = |layer: Layer| Ok::<_, InputsError>(yaml::parse_one(&layer.origin, &layer.text)?.to_json());
        Some(renderer.layer(path).and_then(document).map(|document| schematic_id(&document)))
    }
}

/// Whether a template uses `node` as an object instead of a name.
fn uses_node_fields(text: &str) -> bool {
    regex_is_match!(r"\{[{%][^}]*\bnode\.(?:name|address|role)\b", text)
}

/// Template variables with facts of the node.
const KNOWN: [&str; 4] = ["ENV", "node", "role", "machinetype"];

/// Whether a file is a template: by its extension, or because it uses an environment variable.
fn is_template(name: &str, text: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending == "j2") || !jinja::environment_variables(text).is_empty()
}

/// The role in a node's own layer.
fn role_of(layer: &Layer) -> Option<Role> {
    let documents = talos_schema::parse_documents(&layer.origin, &layer.text).ok()?;
    super::facts::from_documents(&documents).role
}

struct Renderer<'r> {
    folder: &'r TemplateFolder<'r>,
    name: &'r str,
    address: Option<IpAddr>,
    node: variables::NodeVariables<'r>,
}

impl Renderer<'_> {
    fn layer(&self, path: &Path) -> Result<Layer, InputsError> {
        let place = self.folder.place;
        let origin = layers::origin(place.root, path);
        let mut layer = Layer::plain(origin, place.read(path)?);
        if is_template(layer.origin.as_str(), &layer.text) {
            let rendered = self.render(path, &layer.text)?;
            layer = Layer { lines: LineMap::new(&layer.text, &rendered), text: rendered, ..layer };
        }
        if layer.text.to_ascii_lowercase().contains("op://") {
            let wanted = InputRequest::References { origin: layer.origin.to_string(), text: layer.text.clone() };
            layer.text = place.sources.get(wanted)?;
        }
        Ok(layer)
    }

    fn render(&self, path: &Path, text: &str) -> Result<String, InputsError> {
        let name = path.strip_prefix(self.folder.place.folder).unwrap_or(path).display().to_string();
        let place = self.folder.place;
        let origin = |name: &str| layers::origin(place.root, &place.folder.join(name));
        let style = jinja::Style::read_config(place.root, place.environment);
        let template = Jinja { name: &name, text, others: &self.folder.templates, origin: &origin, style };
        template.render(self.values(&template)?).map_err(|error| repository_variables::hinted(place, error).into())
    }

    fn values(&self, template: &Jinja<'_>) -> Result<minijinja::Value, InputsError> {
        let (place, role) = (self.folder.place, self.node.role_word());
        let declared = place.settings.nodes.get(self.name).map(|node| &node.variables);
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut found = InputsError::default();
        let mut lookup = |name: &str| {
            let setting = place.settings.variables.get(name).map(text);
            let known = setting.or_else(|| self.node.variable(name)).map(Ok);
            let value = known
                .or_else(|| self.folder.written.get(name).map(|found| repository_variables::value(place, found)))
                .or_else(|| self.folder.behind(name))?;
            found.keep(value)
        };
        let mut variables = place.environment.clone();
        variables.extend(declared.into_iter().flatten().map(|(name, value)| (name.clone(), text(value))));
        let templates = self.folder.templates.values().map(String::as_str).chain([template.text]);
        for name in templates.flat_map(jinja::environment_variables) {
            if !variables.contains_key(&name)
                && let Some(value) = lookup(&name)
            {
                variables.insert(name, value);
            }
        }
        let plain = jinja::undeclared(template.name, template.text)
            .into_iter()
            .filter_map(|name| Some((name.clone(), lookup(&name)?)));
        let plain = minijinja::Value::from_pairs(plain.collect::<Vec<_>>());
        found.into_result(())?;
        let node = if self.folder.templates.values().any(|text| uses_node_fields(text)) {
            context! { name => self.name, address => self.address.map(|address| address.to_string()), role }
        } else {
            minijinja::Value::from(self.name)
        };
        let known = context! { ENV => minijinja::Value::from_pairs(variables), node, role, machinetype => role };
        let data = minijinja::Value::from(minijinja::value::Serde(&self.folder.data));
        let settings = |variables| minijinja::Value::from(minijinja::value::Serde(variables));
        let declared = declared.map(settings).unwrap_or_default();
        Ok(context! { ..declared, ..known, ..data, ..settings(&place.settings.variables), ..plain })
    }
}
