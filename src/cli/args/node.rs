//! The command line of `node` as types.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use talos_client::LogMode;

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct NodeArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: NodeCommand,
}

/// Which machine.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Which {
    /// The cluster, by its name in the repository.
    pub(in crate::cli) cluster: String,
    /// The node, by its hostname or address.
    pub(in crate::cli) node: String,
    /// The node of the cluster's lab.
    #[arg(long)]
    pub(in crate::cli) lab: bool,
}

/// Options of commands that reboot the node.
#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct Afterwards {
    /// Return when the node has accepted the command, without waiting until it is back.
    #[arg(long)]
    pub(in crate::cli) no_wait: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct Follow {
    /// Print new lines as they are written.
    #[arg(short, long)]
    follow: bool,
}

impl Follow {
    pub(in crate::cli) fn mode(self) -> LogMode {
        if self.follow { LogMode::Follow } else { LogMode::Existing }
    }
}

/// Confirmation of a destructive command.
#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct Sure {
    /// Confirm the command; required.
    #[arg(long, required = true)]
    pub(in crate::cli) yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum How {
    Default,
    Powercycle,
    Force,
}

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum NodeCommand {
    /// Print the log of a Talos service.
    Logs {
        #[command(flatten)]
        which: Which,
        /// Such as `etcd`, `kubelet`, `machined`.
        service: String,
        #[command(flatten)]
        follow: Follow,
        /// Only the last lines.
        #[arg(long, value_name = "LINES")]
        tail: Option<u16>,
    },
    /// Print the kernel's messages.
    Dmesg {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        follow: Follow,
    },
    /// Print the events since boot and follow new ones until interrupted.
    Events {
        #[command(flatten)]
        which: Which,
    },
    /// Print the services with their state and health.
    Services {
        #[command(flatten)]
        which: Which,
    },
    /// Print resources of a kind as YAML; the full name of the kind, such as `MachineStatuses.runtime.talos.dev`.
    Get {
        #[command(flatten)]
        which: Which,
        /// A type by its full name or an alias, as in `talosctl get`.
        kind: String,
        /// One resource; all when absent.
        id: Option<String>,
        /// The namespace instead of the type's own.
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
    },
    /// Print the disks.
    Disks {
        #[command(flatten)]
        which: Which,
    },
    /// Print the offset of the node's clock.
    Time {
        #[command(flatten)]
        which: Which,
        /// Compare with this time server instead of the node's own.
        #[arg(long, value_name = "SERVER")]
        against: Option<String>,
    },
    /// Print the images, or pull one.
    Images {
        #[command(flatten)]
        which: Which,
        /// Pull this image first.
        #[arg(long, value_name = "REFERENCE")]
        pull: Option<String>,
        /// Images of Talos itself instead of those of pods.
        #[arg(long)]
        system: bool,
    },
    /// Write the administrator's kubeconfig that the node issues.
    Kubeconfig {
        #[command(flatten)]
        which: Which,
        /// The file to write, with mode 0600.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Reboot, and wait until the node is back.
    Reboot {
        #[command(flatten)]
        which: Which,
        #[arg(long, value_name = "HOW", default_value = "default")]
        how: How,
        #[command(flatten)]
        afterwards: Afterwards,
    },
    /// Install the Talos version of an installer image, reboot, and wait until the node is back.
    Upgrade {
        #[command(flatten)]
        which: Which,
        /// Such as `ghcr.io/siderolabs/installer:v1.12.4`.
        image: String,
        #[command(flatten)]
        afterwards: Afterwards,
    },
    /// Boot the Talos version before the last upgrade.
    Rollback {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        afterwards: Afterwards,
    },
    /// Shut the node down.
    Shutdown {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        sure: Sure,
    },
    /// Reset the node: remove it from the cluster and wipe it; it comes back in maintenance mode.
    Reset {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        sure: Sure,
        /// Leave etcd and drain first; not possible for the last node.
        #[arg(long)]
        graceful: bool,
        /// Wipe these partitions, by label.
        #[arg(long, value_name = "LABEL", default_values = ["STATE", "EPHEMERAL"])]
        wipe: Vec<String>,
    },
}

impl NodeCommand {
    pub(in crate::cli) fn which(&self) -> &Which {
        match self {
            Self::Logs { which, .. }
            | Self::Dmesg { which, .. }
            | Self::Events { which }
            | Self::Services { which }
            | Self::Get { which, .. }
            | Self::Disks { which }
            | Self::Time { which, .. }
            | Self::Images { which, .. }
            | Self::Kubeconfig { which, .. }
            | Self::Reboot { which, .. }
            | Self::Upgrade { which, .. }
            | Self::Rollback { which, .. }
            | Self::Shutdown { which, .. }
            | Self::Reset { which, .. } => which,
        }
    }
}
