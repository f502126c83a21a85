//! The arguments of `tools`.

use clap::{Args, Subcommand};

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ToolsArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: ToolsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum ToolsCommand {
    /// Print the path and version of each program.
    List,
    /// Install every program that a rehearsal needs, or the named ones: download it, or build it with go.
    Install {
        /// Such as `kustomize-controller`, which only `rehearse --flux real` uses.
        tools: Vec<String>,
    },
}
