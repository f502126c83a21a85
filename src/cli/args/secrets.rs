//! The arguments of `secrets`.

use clap::{Args, Subcommand};

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct SecretsArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: SecretsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum SecretsCommand {
    /// Print a new secrets bundle; encrypt it with SOPS at once: `… secrets gen | sops encrypt …`.
    Gen {
        /// The Talos version that the cluster starts with.
        #[arg(long, value_name = "VERSION")]
        talos_version: Option<String>,
    },
}
