//! The arguments of `releases`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ReleasesArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: ReleasesCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum ReleasesCommand {
    /// Print every release, including disabled ones (as `helmfile list`).
    List(HelmfileArgs),
    /// Print each state file as it was read: `.Values`, and the releases with their fields rendered (as `helmfile build`).
    Build(HelmfileArgs),
    /// Print the values of each release (as `helmfile write-values`, plus `set`).
    Values(HelmfileArgs),
    /// Print the manifests of each release, patches applied (as `helmfile template`).
    Template {
        #[command(flatten)]
        helmfile: HelmfileArgs,
        /// Include the CRDs of the charts' `crds` folders.
        #[arg(long)]
        include_crds: bool,
        /// Leave out the charts' hooks.
        #[arg(long)]
        no_hooks: bool,
        /// The Kubernetes version to render for (default: the release's, then helm's).
        #[arg(long, value_name = "VERSION")]
        kube_version: Option<String>,
    },
}

/// Which helmfile is read, and how.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct HelmfileArgs {
    /// A state file, or a folder of them, from the repository's root.
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// The environment of the helmfile.
    #[arg(short, long, value_name = "NAME", env = "HELMFILE_ENVIRONMENT")]
    pub(in crate::cli) environment: Option<String>,
    /// Only releases with these labels, such as `tier=net,name!=cilium`; may be repeated.
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(in crate::cli) selector: Vec<String>,
    /// Include the `needs` of selected releases.
    #[arg(long)]
    pub(in crate::cli) include_needs: bool,
    /// A value for `.Values`, such as `a.b=1,list[0]=x`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(in crate::cli) state_values_set: Vec<String>,
    /// The same, always text.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(in crate::cli) state_values_set_string: Vec<String>,
    /// A file of values for `.Values`; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) state_values_file: Vec<PathBuf>,
}
