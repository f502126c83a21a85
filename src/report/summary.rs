//! The last lines of a run that is complete.

use bootstrap::ops::FinishedRun;

/// One paragraph about a complete run. In a rehearsal `critical_path` is the lab's own share of the time, in seconds.
pub(crate) fn summary(run: &FinishedRun, critical_path: Option<f64>) -> String {
    let (context, report) = (&run.context, &run.report);
    let mut lines = Vec::new();
    if report.applied == 0 {
        lines.push(format!(
            "{}: nothing to do: all {} steps are up to date   {}",
            context.cluster.name,
            report.up_to_date + report.skipped.len() + report.degraded.len(),
            duration(report.seconds)
        ));
    } else {
        let flux = context.flux().and_then(|flux| flux.sync);
        let flux = flux.map(|sync| format!(", Flux follows {}", sync.reference)).unwrap_or_default();
        let pace = critical_path
            .filter(|seconds| *seconds > 0.0)
            .map(|seconds| format!(", critical path {} (R {:.2})", duration(seconds), report.seconds / seconds));
        lines.push(format!(
            "{} is bootstrapped: {} nodes Ready, {} releases{flux}.   {}{}",
            context.cluster.name,
            context.cluster.inventory.nodes.len(),
            context.cluster.bootstrap.releases.releases.len(),
            duration(report.seconds),
            pace.unwrap_or_default()
        ));
    }
    lines.push(format!("kubeconfig   {}", context.kubeconfig_path().display()));
    lines.push(format!("talosconfig  {}", context.talosconfig_path().display()));
    lines.join("\n")
}

/// `2m08s`, or `8.4s` below a minute.
fn duration(seconds: f64) -> String {
    let whole = std::time::Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    if whole < 60 { format!("{seconds:.1}s") } else { format!("{}m{:02}s", whole / 60, whole % 60) }
}
