//! Which resource type a name means, as `talosctl get` understands it: a full name, or an alias that only one type has.

use super::{ClientError, ResourceDefinition, Resources};

/// Why a name does not mean one resource type.
#[derive(Debug, thiserror::Error)]
pub enum ResourceKindError {
    #[error("the node has no resource type `{asked}`")]
    Unknown { asked: String },
    #[error("`{asked}` may be {}", .kinds.join(", "))]
    Ambiguous { asked: String, kinds: Vec<String> },
    #[error(transparent)]
    Call(#[from] ClientError),
}

impl Resources {
    /// The type of a full name or an alias, in any case, with its own namespace.
    ///
    /// # Errors
    ///
    /// No type, or several types, of that name; a failed call.
    pub async fn find_kind(&self, asked: &str) -> Result<ResourceDefinition, ResourceKindError> {
        let definitions = self.list::<ResourceDefinition>().await?;
        resolve(definitions.into_iter().map(|(_, definition)| definition), asked)
    }
}

fn resolve(
    definitions: impl Iterator<Item = ResourceDefinition>,
    asked: &str,
) -> Result<ResourceDefinition, ResourceKindError> {
    let lower = asked.to_lowercase();
    let is_meant = |definition: &ResourceDefinition| {
        definition.name.to_lowercase() == lower || definition.all_aliases.contains(&lower)
    };
    let mut found: Vec<ResourceDefinition> = definitions.filter(is_meant).collect();
    // A full name means its own type.
    if let Some(exact) = found.iter().position(|definition| definition.name.to_lowercase() == lower) {
        return Ok(found.swap_remove(exact));
    }
    let asked = asked.to_owned();
    match found.len() {
        0 => Err(ResourceKindError::Unknown { asked }),
        1 => Ok(found.swap_remove(0)),
        _ => Err(ResourceKindError::Ambiguous { asked, kinds: found.into_iter().map(|kind| kind.name).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<String, ResourceKindError> {
        let definition = |name: &str, aliases: &[&str]| ResourceDefinition {
            name: name.to_owned(),
            default_namespace: "runtime".to_owned(),
            all_aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        };
        let all = [
            definition("MachineStatuses.runtime.talos.dev", &["machinestatuses", "machinestatus", "ms"]),
            definition("MountStatuses.runtime.talos.dev", &["mountstatuses", "mountstatus", "ms"]),
        ];
        resolve(all.into_iter(), text).map(|kind| kind.name)
    }

    #[test]
    fn a_name_means_one_type_or_is_an_error() {
        assert_eq!(asked("MachineStatus").unwrap(), "MachineStatuses.runtime.talos.dev");
        assert_eq!(asked("mountstatuses.runtime.talos.dev").unwrap(), "MountStatuses.runtime.talos.dev");
        let both = "`ms` may be MachineStatuses.runtime.talos.dev, MountStatuses.runtime.talos.dev";
        assert_eq!(asked("ms").unwrap_err().to_string(), both);
        assert_eq!(asked("nonsense").unwrap_err().to_string(), "the node has no resource type `nonsense`");
    }
}
