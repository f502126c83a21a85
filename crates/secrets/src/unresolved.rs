//! Why a reference has no value.

/// Why a reference has no value. No message contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum UnresolvedReason {
    /// The message of the program that resolves it.
    #[error("{program}: {message}")]
    Rejected { program: String, message: String },
    /// The message of `op`.
    #[error("{0}")]
    Op(String),
    /// `op` does not know the vault in the account that is signed in; its message.
    #[error("{0}")]
    UnknownVault(String),
    #[error("its scheme has no command")]
    NoCommand,
    #[error(transparent)]
    Program(process::Error),
    #[error("{program} did not print UTF-8")]
    NotText { program: String },
    #[error("{program} did not print valid JSON")]
    NotJson { program: String },
    #[error("the output of {program} has no value at `{pointer}`")]
    NoValue { program: String, pointer: String },
    #[error("the variable {0} is not set")]
    UnsetVariable(String),
    #[error("expected `op://vault/item/[section/]field`")]
    NotAPath,
    #[error("a part of the path is empty")]
    EmptyPart,
    #[error("`{0}` is supported by the program `op` only, not by 1Password Connect")]
    OpOnly(String),
    #[error("1Password Connect does not let this token read {object}: {message}")]
    NotReadable { object: ConnectObject, message: String },
    #[error("{object} not found, or this token may not read it")]
    NotFound { object: ConnectObject },
    #[error("more than one match for {object}; use an id: {}", .ids.join(", "))]
    Ambiguous { object: ConnectObject, ids: Vec<String> },
    #[error("the item has no section `{0}`")]
    NoSection(String),
    #[error("`{0}` is in several sections of the item; use one of: op://vault/item/section/field")]
    SeveralSections(String),
    #[error("the item has several fields `{0}`; use an id")]
    SeveralFields(String),
    #[error("the item has no field or file `{0}`")]
    NoField(String),
    #[error("the content of the file is not UTF-8")]
    BinaryFile,
    #[error("unknown attribute `{0}`")]
    UnknownAttribute(String),
    #[error("field `{field}` of type {kind} has no one-time password")]
    NoOneTimePassword { field: String, kind: String },
}

/// An object of a Connect server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectObject {
    Vault {
        name: String,
    },
    Item {
        name: String,
        vault: String,
    },
    /// The content of a file in an item.
    File,
}

impl std::fmt::Display for ConnectObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vault { name } => write!(f, "vault `{name}`"),
            Self::Item { name, vault } => write!(f, "item `{name}` of vault `{vault}`"),
            Self::File => f.write_str("the file"),
        }
    }
}
