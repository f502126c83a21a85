//! `k8s-bootstrap rehearse CLUSTER`: lab up, run, summary, lab down.

use super::args::{Common, RehearseArgs, SecretsArg};
use super::exit::{Exit, Refusal};
use super::run::{self, Wish};
use super::setup::Place;
use super::{lab, output, setup};
use crate::engine::StopSignal;
use crate::lab::{Lab, LabFile};

pub(super) async fn rehearse(common: &Common, args: RehearseArgs) -> Result<Exit, Refusal> {
    let cluster = setup::cluster(common, &args.cluster)?;
    let lab = lab::start(common, &cluster, &args.world).await?;
    let wish = Wish { cluster: &args.cluster, place: Place::Lab, resume: false, secrets: Some(args.secrets) };
    let result = run::bootstrap(common, wish, &StopSignal::default()).await;
    if let Ok(ended) = result.as_ref()
        && ended.exit == Exit::Done
    {
        output::say(&run::summary(ended, Some(lab.status().await.record.critical_path().seconds)));
        output::say(&honesty(&lab, args.secrets).await);
        if args.world.keep {
            lab::stay(&lab, "use it with kubectl and talosctl, by the files above").await?;
        }
    }
    lab::end(lab, args.world.keep).await?;
    result.map(|ended| ended.exit)
}

/// What of the rehearsal was not the real thing.
async fn honesty(lab: &Lab, secrets: SecretsArg) -> String {
    let record = lab.status().await.record;
    let mut lines = vec![format!(
        "rehearsed: {} simulated Talos nodes over real etcd and Kubernetes; Bootstrap calls accepted: {}",
        lab.spec().nodes.len(),
        record.bootstrap_accepted
    )];
    let stand_ins = LabFile::read(&lab.spec().folder).map(|file| file.stand_ins).unwrap_or_default();
    if !stand_ins.is_empty() {
        lines.push(format!("charts that stood in for the originals: {}", stand_ins.join(", ")));
    }
    if secrets == SecretsArg::Placeholder {
        lines.push("every op:// and SOPS value was a placeholder".to_owned());
    }
    lines.push("not sealed: outside programs (helm) could have dialled out; our own connections could not".to_owned());
    lines.join("\n")
}
