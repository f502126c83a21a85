//! `exec:` in `k8s-bootstrap.yaml`: a command that prints the config of a node.
//!
//! `{node}`, `{address}` and `{role}` in its arguments are replaced; it runs in the repository root, with a timeout.

use std::sync::Arc;

use super::layers::Layer;
use super::{DeclaredNode, InputContext, Inputs, complete};
use crate::{InputRequest, InputsError, Role};
use yaml::{Diagnostic, Diagnostics, Origin, Position};

pub(super) fn detects(place: &InputContext<'_>) -> bool {
    !place.settings.exec.is_empty()
}

pub(super) fn read(place: &InputContext<'_>) -> Result<Arc<dyn Inputs>, InputsError> {
    if place.settings.nodes.is_empty() {
        return Err(Diagnostic::general("k8s-bootstrap.yaml has `exec` but no `nodes`")
            .with_hint("add the nodes: clusters.<name>.nodes.<node>: {address: 10.0.0.11, role: controlplane}")
            .into());
    }
    let mut found = InputsError::default();
    let mut configs = Vec::new();
    for (name, declared) in &place.settings.nodes {
        let command = command(&place.settings.exec, name, declared);
        let origin = Origin::new(format!("<{}>", command.join(" ")));
        let Some(text) = found.keep(place.sources.get(InputRequest::CommandOutput(command))) else { continue };
        let Some(rendered) = found.keep(Layer::plain(origin.clone(), text).parse_config()) else { continue };
        configs.push(complete::Config {
            name: name.clone(),
            address: declared.address,
            role: declared.role,
            at: origin.location(Position { line: 1, column: 1 }),
            rendered,
        });
    }
    found.into_result(())?;
    Ok(Arc::from(complete::inputs(place, configs, Diagnostics::default())?))
}

fn command(template: &[String], name: &str, declared: &DeclaredNode) -> Vec<String> {
    let address = declared.address.map(|address| address.to_string()).unwrap_or_default();
    let role = match declared.role {
        Some(Role::ControlPlane) => "controlplane",
        Some(Role::Worker) => "worker",
        None => "",
    };
    let fill = |word: &String| word.replace("{node}", name).replace("{address}", &address).replace("{role}", role);
    template.iter().map(fill).collect()
}
