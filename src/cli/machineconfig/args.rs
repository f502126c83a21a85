//! The arguments of `machineconfig`, named as talosctl names them.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand, ValueEnum};

use talos_schema::Mode;

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct MachineconfigArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: MachineconfigCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum MachineconfigCommand {
    /// Generate the configs of a control plane and a worker, and a talosconfig.
    Gen(Box<GenArgs>),
    /// Patch a config with merge patches and JSON patches.
    Patch(PatchArgs),
    /// Check a config as Talos would, without a node.
    Validate(ValidateArgs),
}

#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "talosctl's flags are what they are")]
pub(in crate::cli) struct GenArgs {
    /// The cluster's name.
    pub(super) cluster: String,
    /// The URL of the Kubernetes API: `https://HOST:PORT`.
    pub(super) endpoint: String,
    /// The secrets bundle to use, `-` for standard input; a fresh one when absent.
    #[arg(long, value_name = "FILE")]
    pub(super) with_secrets: Option<PathBuf>,
    /// The Talos version to write for.
    #[arg(long, value_name = "VERSION")]
    pub(super) talos_version: Option<String>,
    /// The Kubernetes version to run.
    #[arg(long, value_name = "VERSION")]
    pub(super) kubernetes_version: Option<String>,
    /// The disk to install to.
    #[arg(long, value_name = "DEVICE", default_value = "/dev/sda")]
    pub(super) install_disk: String,
    /// The image to install.
    #[arg(long, value_name = "IMAGE")]
    pub(super) install_image: Option<String>,
    /// More names and addresses for the certificates.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(super) additional_sans: Vec<String>,
    /// The DNS domain of the cluster.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(super) dns_domain: String,
    /// A registry and where to pull from instead.
    #[arg(long, value_name = "REGISTRY=URL,…", value_delimiter = ',')]
    pub(super) registry_mirror: Vec<String>,
    /// Let the nodes find each other.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true")]
    pub(super) with_cluster_discovery: bool,
    /// Connect the nodes through an encrypted mesh.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true")]
    pub(super) with_kubespan: bool,
    /// Keep the config over reboots.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true")]
    pub(super) persist: bool,
    /// A patch for every node: `@FILE`, a file, or the patch itself.
    #[arg(long, value_name = "PATCH")]
    pub(super) config_patch: Vec<String>,
    /// A patch for control planes, after those for every node.
    #[arg(long, value_name = "PATCH")]
    pub(super) config_patch_control_plane: Vec<String>,
    /// A patch for workers, after those for every node.
    #[arg(long, value_name = "PATCH")]
    pub(super) config_patch_worker: Vec<String>,
    /// What to write.
    #[arg(
        short = 't',
        long,
        value_name = "TYPE,…",
        value_delimiter = ',',
        default_value = "controlplane,worker,talosconfig"
    )]
    pub(super) output_types: Vec<OutputType>,
    /// Where to write: a folder, for a single type a file, `-` for standard output.
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub(super) out: PathBuf,
    /// Taken for talosctl's sake: configs are written without comments.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(super) with_docs: Option<bool>,
    /// As `--with-docs`.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(super) with_examples: Option<bool>,
    /// Overwrite what is there.
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum OutputType {
    #[value(name = "controlplane")]
    ControlPlane,
    Worker,
    Talosconfig,
}

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct PatchArgs {
    /// The config to patch.
    pub(super) config: PathBuf,
    /// A patch: `@FILE`, a file, or the patch itself. Several apply in order.
    #[arg(short, long, value_name = "PATCH")]
    pub(super) patch: Vec<String>,
    /// Where to write; standard output when absent.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ValidateArgs {
    /// The config to check.
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// What the node runs on: metal, cloud, container or metal-agent.
    #[arg(short, long, value_name = "MODE")]
    pub(super) mode: Mode,
    /// Refuse a config that has warnings.
    #[arg(long)]
    pub(super) strict: bool,
}
