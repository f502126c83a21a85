//! The arguments of `etcd`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct EtcdArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: EtcdCommand,
}

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct EtcdOf {
    /// The cluster, by its name in the repository.
    pub(in crate::cli) cluster: String,
    /// The cluster's lab.
    #[arg(long)]
    pub(in crate::cli) lab: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum EtcdCommand {
    /// Write a snapshot and check its digest. It contains every secret of the cluster.
    Snapshot {
        #[command(flatten)]
        of: EtcdOf,
        /// The file to write, with mode 0600.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print each control plane's member: its role, version, size and alarms.
    Status {
        #[command(flatten)]
        of: EtcdOf,
    },
    /// Disarm all alarms, such as after a defragmentation.
    Disarm {
        #[command(flatten)]
        of: EtcdOf,
    },
}
