//! The arguments of `bundle`.

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
