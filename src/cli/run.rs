//! `k8s-bootstrap CLUSTER [--resume]`: the bootstrap itself.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Common, RunArgs, SecretsArg};
use super::exit::{Exit, Refusal};
use super::setup;
use super::setup::{Place, Wanted};
use super::{kubeconfig, output};
use bootstrap::steps;
use bootstrap::steps::{Site, Verdict};
use engine::journal::{Entry, FileStore, Holder, Identity, Journal, JournalError, LockError, RunId, Store};
use engine::plan::{PhaseName, Plan, StepId};
use engine::{Code, Engine, RunOutcome, RunReport, StopSignal};
use secrets::Redactor;
use talos_client::CertificateFingerprint;

/// What a run is asked for, by whichever command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'w> {
    pub(super) cluster: &'w str,
    pub(super) place: Place,
    pub(super) resume: bool,
    pub(super) secrets: Option<SecretsArg>,
    pub(super) bundle: Option<&'w Path>,
    /// The control plane that the operator forces, by hostname or address.
    pub(super) forced: Option<&'w str>,
    /// What the operator says of hooks.
    pub(super) verdicts: &'w [(StepId, Verdict)],
    /// The keys that nodes must show, by hostname or address.
    pub(super) pins: &'w [(String, CertificateFingerprint)],
}

pub(super) async fn run(common: &Common, cluster: &str, args: &RunArgs) -> Result<Exit, Refusal> {
    let place = if args.lab { Place::Lab } else { Place::Field };
    let wish = Wish {
        cluster,
        place,
        resume: args.resume,
        secrets: args.secrets,
        bundle: args.bundle.as_deref(),
        forced: args.force_bootstrap_node.as_deref(),
        verdicts: &args.hook,
        pins: &args.cert_fingerprint,
    };
    let ended = bootstrap(common, wish, &StopSignal::default()).await?;
    if ended.exit == Exit::Done {
        output::say(&summary(&ended, None));
        if args.merge_kubeconfig {
            kubeconfig::merge(&ended.site)?;
        }
    }
    Ok(ended.exit)
}

/// A run that was begun and is over.
pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) site: Arc<Site>,
    report: RunReport,
}

/// Carries a run out.
pub(super) async fn bootstrap(common: &Common, wish: Wish<'_>, stop: &StopSignal) -> Result<Ended, Refusal> {
    let redactor = Redactor::default();
    let subscriber = output::subscriber(common.output, &redactor);
    let person = output::person_of_run(common.output, &subscriber, stop);
    let wanted = Wanted {
        person: person.as_ref(),
        cluster: wish.cluster,
        place: wish.place,
        secrets: wish.secrets,
        resumed: wish.resume,
        bundle: wish.bundle,
        forced: wish.forced,
        verdicts: wish.verdicts,
        pins: wish.pins,
    };
    let site = setup::site(common, wanted, true, &redactor).await?;
    let (plan, steps) = steps::plan(&site).map_err(|error| Refusal::input(error.to_string()))?;
    if let Some((step, _)) = wish.verdicts.iter().find(|(step, _)| plan.step(step).is_none()) {
        return Err(Refusal::input(format!("`--hook {step}`: the plan has no such step"))
            .hint(format!("`k8s-bootstrap plan {}` lists the steps", wish.cluster)));
    }
    let command = format!("{}{}", wish.cluster, if wish.resume { " --resume" } else { "" });
    let store = Arc::new(FileStore::open(&site.folder));
    let _lock = store.lock(Holder::this_process(command)).await.map_err(lock_refusal)?;
    let opened = Journal::read(store.as_ref()).await.map_err(journal_refusal)?;
    let unfinished = opened.history.last.as_ref().filter(|last| last.is_unfinished());
    if let Some(last) = unfinished.filter(|_| !wish.resume) {
        return Err(Refusal::world(format!(
            "run {} of `{}` is unfinished: {} of {} steps are done; nothing was changed",
            last.run,
            wish.cluster,
            last.done.len(),
            last.plan.len()
        ))
        .hint(format!("continue it: k8s-bootstrap {}{} --resume", wish.cluster, lab_flag(wish.place))));
    }
    if let Some(notice) = &opened.notice {
        output::say(&format!("note: {notice}"));
    }
    let resumed = unfinished.is_some();
    let journal = Journal::new(store, RunId::new(Timestamp::now()));
    journal.append(started(&site, &plan, resumed)?).await.map_err(|error| {
        Refusal::world(format!("{error} ({}); nothing was changed", Code::O05))
            .hint("free space there, or set another folder with --state-dir")
    })?;
    let preflight: Vec<_> = plan.of_phase(&PhaseName::new("preflight")).map(|step| step.id.clone()).collect();
    let engine = Engine::new(plan, steps, journal, &opened.history, vec![subscriber], stop.clone());
    let listening = tokio::spawn(listen(stop.clone()));
    let report = engine.for_cluster(wish.cluster).run().await;
    listening.abort();
    let only_preflight = report.applied == 0 && report.failures.iter().all(|(step, _)| preflight.contains(step));
    let exit = match report.outcome {
        RunOutcome::Failed if only_preflight => Exit::PreconditionFailed,
        outcome => outcome.into(),
    };
    Ok(Ended { exit, site, report })
}

fn lab_flag(place: Place) -> &'static str {
    if place == Place::Lab { " --lab" } else { "" }
}

fn started(site: &Arc<Site>, plan: &Plan, resumed: bool) -> Result<Entry, Refusal> {
    let talos_ca = site.talos_ca().map_err(|error| Refusal::input(error.to_string()))?;
    Ok(Entry::RunStarted {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        identity: Identity {
            name: site.cluster.name.clone(),
            cluster_id: site.cluster.cluster_id(),
            talos_ca: Some(talos_ca),
        },
        resumed,
        plan: plan.steps().iter().map(|step| (step.id.clone(), step.fingerprint.clone())).collect(),
    })
}

/// One paragraph about a run that is complete. A rehearsal knows how long its world took at the least.
pub(super) fn summary(ended: &Ended, critical_path: Option<f64>) -> String {
    let (site, report) = (&ended.site, &ended.report);
    let mut lines = Vec::new();
    if report.applied == 0 {
        lines.push(format!(
            "{}: nothing to do: all {} steps are up to date   {}",
            site.cluster.name,
            report.up_to_date + report.skipped.len() + report.degraded.len(),
            duration(report.seconds)
        ));
    } else {
        let flux = site.flux().map(|flux| format!(", Flux follows {}", flux.reference)).unwrap_or_default();
        let pace = critical_path
            .filter(|seconds| *seconds > 0.0)
            .map(|seconds| format!(", critical path {} (R {:.2})", duration(seconds), report.seconds / seconds));
        lines.push(format!(
            "{} is bootstrapped: {} nodes Ready, {} releases{flux}.   {}{}",
            site.cluster.name,
            site.cluster.inventory.nodes.len(),
            site.cluster.bootstrap.releases.releases.len(),
            duration(report.seconds),
            pace.unwrap_or_default()
        ));
    }
    lines.push(format!("kubeconfig   {}", site.kubeconfig_path().display()));
    lines.push(format!("talosconfig  {}", site.talosconfig_path().display()));
    lines.join("\n")
}

/// `2m08s`, or `8.4s` below a minute.
fn duration(seconds: f64) -> String {
    let whole = std::time::Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    if whole < 60 { format!("{seconds:.1}s") } else { format!("{}m{:02}s", whole / 60, whole % 60) }
}

/// The first Ctrl-C, or a SIGTERM, asks; the second insists.
async fn listen(stop: StopSignal) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        output::say("stopping at a safe point; again to stop at once");
        stop.ask();
    }
}

fn lock_refusal(error: LockError) -> Refusal {
    match error {
        LockError::Held { .. } => Refusal {
            exit: Exit::Locked,
            message: format!("{error} ({}); nothing was changed", error.code()),
            hint: Some("wait for it to end, or end it".to_owned()),
        },
        LockError::Io { .. } => Refusal::world(format!("{error} ({}); nothing was changed", error.code()))
            .hint("set another folder with --state-dir"),
    }
}

fn journal_refusal(error: JournalError) -> Refusal {
    Refusal::world(format!("{error}; nothing was changed"))
        .hint("move the file away to start a new record; a run then adopts what it finds, with --resume")
}
