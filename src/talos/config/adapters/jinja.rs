//! Layers of Jinja templates: `machineconfig.yaml.j2` ← role ← node.
//!
//! The base is `machineconfig.yaml.j2`, or the role's file where there is none. The role's layer is
//! `controlplane.yaml.j2` or `worker.yaml.j2`. A node is a file `<node>.yaml.j2`, in `nodes/`, or in `controlplane/` or
//! `worker/`, which then says its role; it is named by host or by address. Where there is a `nodes/`, what lies in
//! `controlplane/` and `worker/` belongs to every node of the role. Every file may do without `.j2`.
//! Templates are strict: a variable that nobody defines is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::context;

use super::layers::{self, Layer};
use super::{Declared, Inputs, Place, complete};
use crate::talos::config::lines::Lines;
use crate::talos::config::{Role, Wanted};
use crate::template::Jinja;
use crate::yaml::{Diagnostic, Diagnostics, Origin, Position};

const BASE: &str = "machineconfig";
const ENDINGS: [&str; 4] = [".yaml.j2", ".yml.j2", ".yaml", ".yml"];
const ROLES: [(&str, Role); 2] = [("controlplane", Role::ControlPlane), ("worker", Role::Worker)];

pub(super) fn is(place: &Place<'_>) -> bool {
    find(place.folder, BASE).is_some() || ROLES.iter().any(|(name, _)| find(place.folder, name).is_some())
}

/// The file `stem` with any of the endings.
fn find(folder: &Path, stem: &str) -> Option<PathBuf> {
    ENDINGS.iter().map(|ending| folder.join(format!("{stem}{ending}"))).find(|path| path.is_file())
}

/// A file's name without its endings.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name).to_owned()
}

/// A node before its layers are rendered.
struct Machine {
    name: String,
    role: Option<Role>,
    file: Option<PathBuf>,
}

pub(super) fn read(place: &Place<'_>) -> Result<Arc<dyn Inputs>, Diagnostics> {
    let mut found = Diagnostics::default();
    let machines = machines(place, &mut found);
    let templates = templates(place);
    let mut configs = Vec::new();
    for machine in &machines {
        match config(place, &templates, machine) {
            Ok(config) => configs.push(config),
            Err(more) => found.extend(more),
        }
    }
    if machines.is_empty() && found.is_empty() {
        let folder = place.shown();
        found.push(
            Diagnostic::general(format!("{folder} has templates and no node"))
                .with_hint("add nodes/<node>.yaml.j2, or list them in k8s-bootstrap.yaml: clusters.<name>.nodes"),
        );
    }
    found.into_result(())?;
    Ok(Arc::from(complete::inputs(place, configs)?))
}

fn machines(place: &Place<'_>, found: &mut Diagnostics) -> Vec<Machine> {
    let nodes = layers::files(&place.folder.join("nodes"), &ENDINGS);
    let in_nodes = !nodes.is_empty();
    let mut machines: Vec<Machine> =
        nodes.into_iter().map(|path| Machine { name: stem(&path), role: None, file: Some(path) }).collect();
    if !in_nodes {
        for (name, role) in ROLES {
            let files = layers::files(&place.folder.join(name), &ENDINGS);
            machines.extend(files.into_iter().map(|path| Machine {
                name: stem(&path),
                role: Some(role),
                file: Some(path),
            }));
        }
    }
    for name in place.settings.nodes.keys() {
        if !machines.iter().any(|machine| machine.name == *name) {
            machines.push(Machine { name: name.clone(), role: None, file: None });
        }
    }
    let mut seen: BTreeMap<String, Origin> = BTreeMap::new();
    machines.retain_mut(|machine| {
        let declared = place.settings.nodes.get(&machine.name);
        machine.role = machine.role.or(declared.and_then(|declared| declared.role));
        let origin = machine
            .file
            .as_ref()
            .map_or_else(|| Origin::new("k8s-bootstrap.yaml"), |path| layers::origin(place.root, path));
        let Some(first) = seen.insert(machine.name.clone(), origin.clone()) else { return true };
        found.push(
            Diagnostic::at(
                origin.at(START),
                format!("node `{}` is in two roles, or twice in one: it is described by {first} too", machine.name),
            )
            .with_hint("keep one of the two files"),
        );
        false
    });
    machines
}

const START: Position = Position { line: 1, column: 1 };

/// Every template of the folder by its path in it, so that they can include each other.
fn templates(place: &Place<'_>) -> BTreeMap<String, String> {
    let files = layers::files(place.folder, &[".j2"]);
    let text = |path: &PathBuf| {
        let name = path.strip_prefix(place.folder).ok()?.display().to_string();
        Some((name, place.sources.read(path).ok()?))
    };
    files.iter().filter_map(text).collect()
}

fn config(
    place: &Place<'_>,
    templates: &BTreeMap<String, String>,
    machine: &Machine,
) -> Result<complete::Config, Diagnostics> {
    let nothing = Declared::default();
    let declared = place.settings.nodes.get(&machine.name).unwrap_or(&nothing);
    let address = declared.address.or_else(|| machine.name.parse().ok());
    let renderer = Renderer { place, templates, machine, address: address.map(|address| address.to_string()) };
    let layer = |path: PathBuf| renderer.layer(&path);
    // A node may say its role itself; its layer is needed first then.
    let own = machine.file.clone().map(layer).transpose()?;
    let role = machine.role.or_else(|| own.as_ref().and_then(role_of));
    let base = find(place.folder, BASE);
    let mut paths: Vec<PathBuf> = base.clone().into_iter().collect();
    if let Some((name, _)) = ROLES.iter().find(|(_, known)| Some(*known) == role) {
        paths.extend(find(place.folder, name));
        if place.folder.join("nodes").is_dir() {
            paths.extend(layers::files(&place.folder.join(name), &ENDINGS));
        }
    }
    let mut layers = paths.into_iter().map(layer).collect::<Result<Vec<Layer>, Diagnostics>>()?.into_iter().chain(own);
    let Some(first) = layers.next() else {
        let message =
            format!("nothing describes node `{}`: there is no {BASE}.yaml.j2 and no layer of its role", machine.name);
        return Err(Diagnostic::general(message).into());
    };
    let mut rendered = first.first()?;
    let mut found = Diagnostics::default();
    for layer in layers {
        if let Err(more) = layer.over(&mut rendered) {
            found.extend(more);
        }
    }
    let origin = machine.file.as_ref().or(base.as_ref()).map(|path| layers::origin(place.root, path));
    let at = origin.unwrap_or_else(|| first.origin.clone()).at(START);
    found.into_result(complete::Config { name: machine.name.clone(), address, role: machine.role, at, rendered })
}

/// The role that a node's own layer says.
fn role_of(layer: &Layer) -> Option<Role> {
    let documents = crate::talos::config::parse_documents(&layer.origin, &layer.text).ok()?;
    super::facts::of(&documents).role
}

struct Renderer<'r> {
    place: &'r Place<'r>,
    templates: &'r BTreeMap<String, String>,
    machine: &'r Machine,
    address: Option<String>,
}

impl Renderer<'_> {
    fn layer(&self, path: &Path) -> Result<Layer, Diagnostics> {
        let origin = layers::origin(self.place.root, path);
        let text = self.place.sources.read(path);
        let text = text.map_err(|error| Diagnostic::general(format!("cannot read {origin}: {error}")))?;
        let mut layer = Layer::plain(origin, text);
        if path.extension().is_some_and(|ending| ending == "j2") {
            let rendered = self.render(path, &layer.text)?;
            layer = Layer { lines: Lines::new(&layer.text, &rendered), text: rendered, ..layer };
        }
        if layer.text.to_ascii_lowercase().contains("op://") {
            let wanted = Wanted::References { origin: layer.origin.to_string(), text: layer.text.clone() };
            layer.text = self.place.sources.get(wanted).unwrap_or(layer.text);
        }
        Ok(layer)
    }

    fn render(&self, path: &Path, text: &str) -> Result<String, Diagnostic> {
        let name = path.strip_prefix(self.place.folder).unwrap_or(path).display().to_string();
        let role = self.machine.role.map(|role| match role {
            Role::ControlPlane => "controlplane",
            Role::Worker => "worker",
        });
        let node = context! { name => self.machine.name.as_str(), address => self.address.as_deref(), role };
        let known = context! { ENV => minijinja::Value::from_pairs(self.place.environment.clone()), node, role, machinetype => role };
        let values =
            context! { ..known, ..minijinja::Value::from(minijinja::value::Serde(&self.place.settings.variables)) };
        let origin = |name: &str| layers::origin(self.place.root, &self.place.folder.join(name));
        Jinja { name: &name, text, others: self.templates, origin: &origin }.render(values)
    }
}
