//! `k8s-bootstrap rehearse CLUSTER`: lab up, run, summary, lab down.

use ::lab::{KustomizeSummary, Lab, LabFile, LabRecord, PlayedReason};
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
    let options = lab::options(&args.lab, secrets);
    let cluster = read_cluster(&workspace, &args.cluster, secrets).await?;
    let needs = OutsideNeeds {
        keep: args.lab.keep,
        secrets,
        charts: options.charts,
        flux: options.flux,
        restarted: args.sealed,
    };
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
    if let Ok(file) = LabFile::read(&lab.spec().folder) {
        lines.extend(flux_lines(&file.kustomize, &record));
        if !file.stand_ins.is_empty() {
            lines.push(format!("charts replaced by stand-ins: {}", file.stand_ins.join(", ")));
        }
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

/// Which of Flux's controllers were real, what they were served, and what they could not judge.
fn flux_lines(kustomize: &KustomizeSummary, record: &LabRecord) -> Vec<String> {
    const PLAYED: &str = "source-controller, helm-controller and flux-operator were played";
    let mut lines = vec![match kustomize {
        KustomizeSummary::Real(version) => format!("Flux: kustomize-controller {version} was real; {PLAYED}"),
        KustomizeSummary::Played(PlayedReason::NotRequested) => {
            "Flux: every controller was played; --flux real builds the working tree".to_owned()
        }
        KustomizeSummary::Played(PlayedReason::Unavailable(reason)) => {
            format!("Flux: every controller was played: {reason}")
        }
    }];
    if let Some(tree) = &record.flux_tree {
        let replaced = match tree.replaced.len() {
            0 => String::new(),
            some => format!(", {some} of them with placeholders for encrypted values"),
        };
        lines.push(format!("the working tree as Flux's source: {} files{replaced}", tree.files));
    }
    if !record.not_judged.is_empty() {
        let objects: Vec<&str> = record.not_judged.iter().map(String::as_str).collect();
        lines.push(format!("of Flux not rehearsed: {}", objects.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::lab::ServedTree;

    #[test]
    fn the_summary_names_which_controllers_were_real_and_what_was_left_out() {
        let tree = ServedTree { files: 12, replaced: vec!["a.sops.yaml".to_owned()] };
        let not_judged = ["HelmRelease media/plex (its chart is not one of the run's)".to_owned()].into();
        let record = LabRecord { flux_tree: Some(tree), not_judged, ..LabRecord::default() };
        insta::assert_snapshot!(flux_lines(&KustomizeSummary::Real("1.7.3".to_owned()), &record).join("\n"), @"
        Flux: kustomize-controller 1.7.3 was real; source-controller, helm-controller and flux-operator were played
        the working tree as Flux's source: 12 files, 1 of them with placeholders for encrypted values
        of Flux not rehearsed: HelmRelease media/plex (its chart is not one of the run's)
        ");
        let played = |reason| flux_lines(&KustomizeSummary::Played(reason), &LabRecord::default()).join("\n");
        assert_eq!(
            played(PlayedReason::NotRequested),
            "Flux: every controller was played; --flux real builds the working tree"
        );
        assert_eq!(
            played(PlayedReason::Unavailable("cannot build kustomize-controller: no go".to_owned())),
            "Flux: every controller was played: cannot build kustomize-controller: no go"
        );
    }
}
