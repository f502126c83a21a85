//! What templates may use: the environment, and what the operator's recipes would set.
//!
//! A recipe around these templates sets a few variables for each node: its role, the id of its schematic, versions that
//! are written elsewhere in the repository. What the environment does not say is therefore looked for where recipes
//! get it from; what was found elsewhere is told.

use crate::Role;

/// What a node gives to its templates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'n> {
    pub(super) role: Option<Role>,
    pub(super) schematic: Option<&'n str>,
}

impl Node<'_> {
    /// The role as Talos calls it.
    pub(super) fn role_word(&self) -> Option<&'static str> {
        self.role.map(|role| match role {
            Role::ControlPlane => "controlplane",
            Role::Worker => "worker",
        })
    }

    /// What recipes set for each node, by the names that they give it.
    pub(super) fn says(&self, name: &str) -> Option<String> {
        // Empty is false in a template.
        let whether = |role| self.role.map(|own| if own == role { "true".to_owned() } else { String::new() });
        match name.replace('_', "").to_ascii_uppercase().as_str() {
            "MACHINETYPE" | "NODETYPE" | "NODEROLE" => self.role_word().map(str::to_owned),
            "ISCONTROLPLANE" | "ISCONTROLLER" | "CONTROLPLANE" | "CONTROLLER" => whether(Role::ControlPlane),
            "ISWORKER" | "WORKER" => whether(Role::Worker),
            "SCHEMATIC" | "SCHEMATICID" | "TALOSSCHEMATIC" | "TALOSSCHEMATICID" => self.schematic.map(str::to_owned),
            _ => None,
        }
    }
}
