//! Variables that recipes set for each node: its role and the id of its schematic.
//!
//! Templates expect them in the environment. Other variables that the environment lacks are searched in the repository,
//! with a warning.

use crate::Role;

/// The facts of a node that templates use.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeVariables<'n> {
    pub(super) role: Option<Role>,
    pub(super) schematic: Option<&'n str>,
}

impl NodeVariables<'_> {
    /// The role as Talos machine type.
    pub(super) fn role_word(&self) -> Option<&'static str> {
        self.role.map(|role| match role {
            Role::ControlPlane => "controlplane",
            Role::Worker => "worker",
        })
    }

    /// The value of a variable that recipes usually set under this name.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        // Empty is false in a template.
        let flag = |role| self.role.map(|own| if own == role { "true".to_owned() } else { String::new() });
        match name.replace('_', "").to_ascii_uppercase().as_str() {
            "MACHINETYPE" | "NODETYPE" | "NODEROLE" => self.role_word().map(str::to_owned),
            "ISCONTROLPLANE" | "ISCONTROLLER" | "CONTROLPLANE" | "CONTROLLER" => flag(Role::ControlPlane),
            "ISWORKER" | "WORKER" => flag(Role::Worker),
            "SCHEMATIC" | "SCHEMATICID" | "TALOSSCHEMATIC" | "TALOSSCHEMATICID" => self.schematic.map(str::to_owned),
            _ => None,
        }
    }
}
