//! What templates may use: the environment, and what the operator's recipes would set.
//!
//! A recipe around these templates sets a few variables for each node: its role, the id of its schematic, versions that
//! are written elsewhere in the repository. What the environment does not say is therefore looked for where recipes
//! get it from; what was found elsewhere is told.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use crate::talos::config::Role;

static NAMES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"ENV(?:\.([A-Za-z_][A-Za-z0-9_]*)|\[\s*["']([^"']+)["']\s*\])"#).ok());

/// The names of the environment's variables that a template uses.
pub(super) fn of_environment(text: &str) -> BTreeSet<String> {
    let captures = NAMES.iter().flat_map(|names| names.captures_iter(text));
    captures.filter_map(|found| found.get(1).or(found.get(2))).map(|name| name.as_str().to_owned()).collect()
}

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
        match name.to_ascii_uppercase().as_str() {
            "MACHINE_TYPE" | "MACHINETYPE" | "NODE_TYPE" => self.role_word().map(str::to_owned),
            // Empty is false in a template.
            "IS_CONTROLPLANE" | "IS_CONTROL_PLANE" | "IS_CONTROLLER" => self.role.map(|role| match role {
                Role::ControlPlane => "true".to_owned(),
                Role::Worker => String::new(),
            }),
            "SCHEMATIC" | "SCHEMATIC_ID" | "TALOS_SCHEMATIC" | "TALOS_SCHEMATIC_ID" => {
                self.schematic.map(str::to_owned)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_both_spellings_are_found() {
        let names = of_environment(r#"{{ ENV.A }} {% if ENV["b.c"] == ENV['D'] %} {{ OTHER.E }}"#);
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["A", "D", "b.c"]);
    }
}
