//! Which environment variables are credentials, and which children inherit them.

use std::ffi::OsString;

/// Which of the operator's credentials a child inherits; none by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Credentials {
    #[default]
    None,
    /// Those of 1Password: a service account's or Connect's token, a session.
    Op,
    /// The keys that SOPS opens files with.
    Sops,
    /// All: a command that the operator wrote runs as if he had typed it.
    Operator,
}

/// Source: 1Password CLI 2, "Environment variables"; `OP_SESSION_` is followed by the account.
const OP: [&str; 3] = ["OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_TOKEN", "OP_SESSION_"];
/// Source: SOPS 3.11, "Encrypting using age".
const SOPS: [&str; 4] = ["SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_FILE"];

/// Tokens of Vault and OpenBao, which keep keys of SOPS too. Source: SOPS 3.11, "Encrypting using Hashicorp Vault".
const VAULT: [&str; 2] = ["VAULT_TOKEN", "BAO_TOKEN"];
/// Other managers' own; what they are called is in their command lines' manuals.
const MANAGERS: [&str; 7] = [
    "BWS_ACCESS_TOKEN",
    "INFISICAL_TOKEN",
    "INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET",
    "AKEYLESS_ACCESS_KEY",
    "AKEYLESS_TOKEN",
    "DOPPLER_TOKEN",
    "AZURE_CLIENT_SECRET",
];

impl Credentials {
    fn include(self, name: &str) -> bool {
        let op = OP.iter().any(|known| name == *known || known.ends_with('_') && name.starts_with(known));
        let (sops, vault, manager) = (SOPS.contains(&name), VAULT.contains(&name), MANAGERS.contains(&name));
        match self {
            Self::None => !(op || sops || vault || manager),
            Self::Op => !(sops || vault || manager),
            Self::Sops => !(op || manager && name != "AZURE_CLIENT_SECRET"),
            Self::Operator => true,
        }
    }

    /// The variables among `names` that such a child must not see.
    pub(super) fn withheld(self, names: impl Iterator<Item = OsString>) -> Vec<OsString> {
        names.filter(|name| !self.include(&name.to_string_lossy())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_sees_only_the_credentials_that_are_its_own() {
        let all = [
            "HOME",
            "OP_SERVICE_ACCOUNT_TOKEN",
            "OP_SESSION_my",
            "OP_ACCOUNT",
            "SOPS_AGE_KEY",
            "SOPS_AGE_KEY_FILE",
            "VAULT_TOKEN",
            "BWS_ACCESS_TOKEN",
        ];
        let seen = |credentials: Credentials| {
            let withheld = credentials.withheld(all.iter().map(OsString::from));
            all.iter().copied().filter(|name| !withheld.contains(&OsString::from(name))).collect::<Vec<_>>()
        };
        assert_eq!(seen(Credentials::None), ["HOME", "OP_ACCOUNT"]);
        assert_eq!(seen(Credentials::Op), ["HOME", "OP_SERVICE_ACCOUNT_TOKEN", "OP_SESSION_my", "OP_ACCOUNT"]);
        assert_eq!(seen(Credentials::Sops), ["HOME", "OP_ACCOUNT", "SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "VAULT_TOKEN"]);
        assert_eq!(seen(Credentials::Operator), all);
    }
}
