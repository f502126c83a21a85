//! The arguments of `status`.

use clap::Args;

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct StatusArgs {
    /// The cluster, by its name in the repository.
    pub(in crate::cli) cluster: String,
    /// Query the lab of this cluster.
    #[arg(long)]
    pub(in crate::cli) lab: bool,
}
