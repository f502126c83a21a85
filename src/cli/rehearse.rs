//! `k8s-bootstrap rehearse CLUSTER`: lab up, run, summary, lab down.

use super::args::{ChartsArg, Common, RehearseArgs, SecretsArg};
use super::exit::{Exit, Refusal};
use super::run;
use super::run::Wish;
use super::setup::Place;
use super::{inputs, lab, output, setup};
use ::lab::{Lab, LabFile};
use engine::StopSignal;
use process::seal;
use secrets::Redactor;
use tools::Tool;

pub(super) async fn rehearse(common: &Common, args: RehearseArgs) -> Result<Exit, Refusal> {
    let cluster = inputs::cluster(common, &args.cluster, args.secrets, &Redactor::default()).await?;
    let seal = close(common, &args).await?;
    let lab = lab::start(common, &cluster, &args.world).await?;
    let wish = Wish {
        cluster: &args.cluster,
        place: Place::Lab,
        resume: false,
        secrets: Some(args.secrets),
        bundle: None,
        forced: None,
        verdicts: &[],
        pins: &[],
    };
    let result = run::bootstrap(common, wish, &StopSignal::default()).await;
    if let Ok(ended) = result.as_ref()
        && ended.exit == Exit::Done
    {
        output::say(&run::summary(ended, Some(lab.status().await.record.critical_path().seconds)));
        output::say(&honesty(&lab, args.secrets, &seal).await);
        if args.world.keep {
            lab::stay(&lab, "use it with kubectl and talosctl, by the files above").await?;
        }
    }
    lab::end(lab, args.world.keep).await?;
    result.map(|ended| ended.exit)
}

/// Whether the rehearsal's programs can reach anything but loopback.
enum Seal {
    Closed,
    /// They can, and why.
    Open(String),
}

/// Provides what has to come from outside, and goes on in a network namespace of its own where one is to be had: this
/// then does not return, and the same command begins again inside.
async fn close(common: &Common, args: &RehearseArgs) -> Result<Seal, Refusal> {
    if seal::is_sealed() {
        return Ok(Seal::Closed);
    }
    let outside = [
        (args.world.keep, "--keep leaves it for programs outside"),
        (args.secrets == SecretsArg::Real, "the real secrets come from outside"),
        (args.world.charts == ChartsArg::Real, "the original charts come from outside"),
        (args.sealed, "its network namespace has routes"),
    ];
    if let Some((_, reason)) = outside.into_iter().find(|(holds, _)| *holds) {
        return Ok(Seal::Open(reason.to_owned()));
    }
    if let Err(error) = seal::try_seal().await {
        return Ok(Seal::Open(format!("no network namespace is to be had here ({error})")));
    }
    let toolbox = setup::toolbox(common);
    for tool in Tool::LAB {
        toolbox.provide(tool, &|line| output::say(line)).await.map_err(|error| Refusal::world(error.to_string()))?;
    }
    let again = std::env::args_os().skip(1).chain(["--sealed".into()]);
    Ok(Seal::Open(format!("it could not begin again ({})", seal::become_sealed(again))))
}

/// What of the rehearsal was not the real thing.
async fn honesty(lab: &Lab, secrets: SecretsArg, seal: &Seal) -> String {
    let record = lab.status().await.record;
    let mut lines = vec![format!(
        "rehearsed: {} simulated Talos nodes over real etcd and Kubernetes; Bootstrap calls accepted: {}; seed {}",
        lab.spec().nodes.len(),
        record.bootstrap_accepted,
        lab.seed()
    )];
    let stand_ins = LabFile::read(&lab.spec().folder).map(|file| file.stand_ins).unwrap_or_default();
    if !stand_ins.is_empty() {
        lines.push(format!("charts that stood in for the originals: {}", stand_ins.join(", ")));
    }
    if secrets == SecretsArg::Placeholder {
        lines.push("every op:// and SOPS value was a placeholder".to_owned());
    }
    lines.push(match seal {
        Seal::Closed => "sealed: nothing in it could dial anything but loopback".to_owned(),
        Seal::Open(reason) => format!(
            "not sealed, since {reason}: outside programs (helm) could have dialled out; our own connections could not"
        ),
    });
    lines.join("\n")
}
