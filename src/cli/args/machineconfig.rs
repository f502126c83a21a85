//! The arguments of `machineconfig`, with the names of talosctl.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand, ValueEnum};

use talos_schema::RuntimeMode;

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
    /// Validate a config like Talos, without a node.
    Validate(ValidateArgs),
}

#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of talosctl")]
pub(in crate::cli) struct GenArgs {
    /// The cluster's name.
    pub(in crate::cli) cluster: String,
    /// The URL of the Kubernetes API: `https://HOST:PORT`.
    pub(in crate::cli) endpoint: String,
    /// Secrets bundle to use, `-` for standard input; generated when absent.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) with_secrets: Option<PathBuf>,
    /// Talos version to generate the configs for.
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) talos_version: Option<String>,
    /// Kubernetes version to run.
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) kubernetes_version: Option<String>,
    /// Disk to install to.
    #[arg(long, value_name = "DEVICE", default_value = "/dev/sda")]
    pub(in crate::cli) install_disk: String,
    /// Installer image.
    #[arg(long, value_name = "IMAGE")]
    pub(in crate::cli) install_image: Option<String>,
    /// Additional subject alternative names for the certificates.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(in crate::cli) additional_sans: Vec<String>,
    /// DNS domain of the cluster.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(in crate::cli) dns_domain: String,
    /// Mirrors of registries.
    #[arg(long, value_name = "REGISTRY=URL,…", value_delimiter = ',')]
    pub(in crate::cli) registry_mirror: Vec<RegistryMirror>,
    /// Enable cluster discovery.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true")]
    pub(in crate::cli) with_cluster_discovery: bool,
    /// Enable KubeSpan.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true")]
    pub(in crate::cli) with_kubespan: bool,
    /// Keep the config across reboots.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true")]
    pub(in crate::cli) persist: bool,
    /// Patch for all nodes: `@FILE`, a file, or an inline patch.
    #[arg(long, value_name = "PATCH")]
    pub(in crate::cli) config_patch: Vec<String>,
    /// Patch for control planes, applied after those for all nodes.
    #[arg(long, value_name = "PATCH")]
    pub(in crate::cli) config_patch_control_plane: Vec<String>,
    /// Patch for workers, applied after those for all nodes.
    #[arg(long, value_name = "PATCH")]
    pub(in crate::cli) config_patch_worker: Vec<String>,
    /// Types of files to write.
    #[arg(
        short = 't',
        long,
        value_name = "TYPE,…",
        value_delimiter = ',',
        default_value = "controlplane,worker,talosconfig"
    )]
    pub(in crate::cli) output_types: Vec<OutputType>,
    /// Output directory, or output file for a single type; `-` for standard output.
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub(in crate::cli) out: PathBuf,
    /// Accepted for compatibility with talosctl; configs are written without comments.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(in crate::cli) with_docs: Option<bool>,
    /// Like `--with-docs`.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(in crate::cli) with_examples: Option<bool>,
    /// Overwrite existing files.
    #[arg(long)]
    pub(in crate::cli) force: bool,
}

/// A mirror of a registry.
#[derive(Debug, Clone)]
pub(in crate::cli) struct RegistryMirror {
    pub(in crate::cli) registry: String,
    pub(in crate::cli) url: String,
}

impl std::str::FromStr for RegistryMirror {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (registry, url) = text.split_once('=').ok_or("expected REGISTRY=URL")?;
        Ok(Self { registry: registry.to_owned(), url: url.to_owned() })
    }
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
    /// Config to patch.
    pub(in crate::cli) config: PathBuf,
    /// Patch: `@FILE`, a file, or an inline patch. Several are applied in order.
    #[arg(short, long, value_name = "PATCH")]
    pub(in crate::cli) patch: Vec<String>,
    /// Output file; standard output when absent.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ValidateArgs {
    /// Config to validate.
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) config: PathBuf,
    /// Platform type: metal, cloud, container or metal-agent.
    #[arg(short, long, value_name = "MODE")]
    pub(in crate::cli) mode: RuntimeMode,
    /// Treat warnings as errors.
    #[arg(long)]
    pub(in crate::cli) strict: bool,
}
