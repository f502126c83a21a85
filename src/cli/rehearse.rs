//! `k8s-bootstrap rehearse CLUSTER`: lab up, run, summary, lab down.

use ::lab::{Lab, LabFile};
use bootstrap::ops::{RunOptions, SecretsMode, Target, read_cluster};

use super::args::{Common, RehearseArgs};
use super::error::CommandError;
use super::exit::Exit;
use super::workspace::workspace;
use super::{lab, output, run};
use crate::rehearsal::{self, Isolation, OutsideNeeds, RehearsalError};
use crate::report::summary;

pub(super) async fn rehearse(common: &Common, args: RehearseArgs) -> Result<Exit, CommandError> {
    let workspace = workspace(common);
    let secrets = args.secrets.into();
    let options = lab::options(&args.lab);
    let cluster = read_cluster(&workspace, &args.cluster, secrets).await?;
    let needs = OutsideNeeds { keep: args.lab.keep, secrets, charts: options.charts, restarted: args.sealed };
    let isolation = rehearsal::isolate(&workspace, needs).await?;
    let lab = rehearsal::start(&workspace, &cluster, &options).await?;
    let result = match rehearsal::access(&workspace, &cluster.name) {
        Ok(access) => {
            let defaults = RunOptions::new(&args.cluster, Target::Lab(access));
            run::bootstrap(common, &RunOptions { secrets, ..defaults }).await.map_err(RehearsalError::from)
        }
        Err(error) => Err(error),
    };
    if let Ok(run) = result.as_ref()
        && Exit::from(run) == Exit::Done
    {
        output::print_note(&summary(run, Some(lab.status().await.record.critical_path().seconds)));
        output::print_note(&limits(&lab, secrets, &isolation).await);
        if args.lab.keep {
            lab::stay(&lab, "the lab keeps running: use kubectl and talosctl with the files above").await?;
        }
    }
    rehearsal::end(lab, &workspace, lab::afterwards(&args.lab)).await?;
    Ok(Exit::from(&result?))
}

/// The simulated and replaced parts of the rehearsal.
async fn limits(lab: &Lab, secrets: SecretsMode, isolation: &Isolation) -> String {
    let record = lab.status().await.record;
    let mut lines = vec![format!(
        "rehearsed: {} simulated Talos nodes over real etcd and Kubernetes; Bootstrap calls accepted: {}; seed {}",
        lab.spec().nodes.len(),
        record.bootstrap_accepted,
        lab.seed()
    )];
    lines.push(match record.restarted_by_flux.as_slice() {
        [] => "workloads that Flux restarted at the hand-over: 0".to_owned(),
        some => format!("workloads that Flux restarted at the hand-over: {} ({})", some.len(), some.join(", ")),
    });
    let stand_ins = LabFile::read(&lab.spec().folder).map(|file| file.stand_ins).unwrap_or_default();
    if !stand_ins.is_empty() {
        lines.push(format!("charts replaced by stand-ins: {}", stand_ins.join(", ")));
    }
    if secrets == SecretsMode::Placeholder {
        lines.push("every op:// and SOPS value was a placeholder".to_owned());
    }
    lines.push(match isolation {
        Isolation::Namespace => "network isolated: only loopback was reachable".to_owned(),
        Isolation::None(reason) => {
            format!("network not isolated: {reason}; external programs (helm) could reach the network, this program could not")
        }
    });
    lines.join("\n")
}
