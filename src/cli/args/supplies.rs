//! The arguments of `bundle`, `tools` and `secrets`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct BundleArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: BundleCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum BundleCommand {
    /// Pull every chart that a run needs, and list the images that the releases run.
    Create {
        /// The cluster, by its name in the repository.
        cluster: String,
        /// The file to write: a tar of an OCI image layout.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ToolsArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: ToolsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum ToolsCommand {
    /// Print the path and version of each program.
    List,
    /// Install every program that a rehearsal needs: download it, or build it with go.
    Install,
}

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
