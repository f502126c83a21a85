//! The arguments of `render`.

use clap::Args;

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RenderArgs {
    /// The cluster, by its name in the repository.
    pub(in crate::cli) cluster: String,
    /// One node, by its hostname or address; every node when absent.
    pub(in crate::cli) node: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) view: ViewArgs,
    /// Render for the lab that is up, with its placeholder secrets.
    #[arg(long)]
    pub(in crate::cli) lab: bool,
    /// Print secret values too, after a confirmation.
    #[arg(long)]
    pub(in crate::cli) show_secrets: bool,
}

/// What is shown of a config, when not the config itself.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(in crate::cli) struct ViewArgs {
    /// Print every field with the layer that set it: file, line and column.
    #[arg(long)]
    pub(in crate::cli) explain: bool,
    /// Print what would change on the running nodes; exit code 5 when anything would.
    #[arg(long)]
    pub(in crate::cli) diff: bool,
}
