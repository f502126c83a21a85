//! The limits of a rollout: how many workers at once, a drain that is blocked.

use super::*;

/// Machines that take long enough to boot for two outages to overlap.
const SLOW: &str = "base: fast\nboot: 3000\n";

/// The largest number of nodes that were down at once.
fn most_at_once(outages: &[Outage]) -> usize {
    let down_at = |moment: f64| outages.iter().filter(|outage| outage.began <= moment && moment < outage.ended).count();
    outages.iter().map(|outage| down_at(outage.began)).max().unwrap_or_default()
}

fn is_control_plane(outage: &Outage) -> bool {
    outage.node.starts_with("infra-cp")
}

/// No other node was down while a control plane was.
pub(crate) fn assert_control_planes_alone(outages: &[Outage]) {
    for control_plane in outages.iter().filter(|outage| is_control_plane(outage)) {
        for other in outages.iter().filter(|other| other.node != control_plane.node) {
            let is_apart = other.ended <= control_plane.began || control_plane.ended <= other.began;
            assert!(is_apart, "{other:?} was down with the control plane {control_plane:?}");
        }
    }
}

#[test]
fn as_many_workers_reboot_at_once_as_the_operator_allows() {
    let (environment, _lab) = finished_with(SLOW);
    add(&environment, NEEDS_REBOOT);
    let since = now(&environment);
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab", "--max-unavailable", "2"]);
    assert_eq!(code, 0, "{err}");
    let outages = outages(&environment, since);
    assert_eq!(outages.len(), NODES.len(), "{outages:#?}");
    assert_control_planes_alone(&outages);
    assert_eq!(outages.iter().filter(|outage| !is_control_plane(outage)).count(), 3);
    assert_eq!(most_at_once(&outages), 2, "{outages:#?}");
    assert_none_cordoned(&environment);
}

#[test]
fn a_drain_that_is_blocked_stops_the_rollout_and_changes_nothing() {
    let (environment, _lab) = finished();
    let labels = json!({"app": "guarded"});
    create(
        &environment,
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "guarded", "namespace": "default"},
            "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{"name": "app", "image": "example.org/app:1"}],
                    // One on each worker.
                    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                        {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"},
                    ]}},
                },
            }},
        }),
    );
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "guard", "namespace": "default"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": labels}},
    });
    create(&environment, &budget);
    environment.kubectl_wait("infra", &["deployment/guarded", "--for=condition=Available"]);
    add(&environment, NEEDS_REBOOT);
    let since = now(&environment);
    let CommandOutput { code, stdout: out, stderr: err, .. } =
        environment.run(&["infra", "--lab", "--drain-timeout", "2s"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("error[T24]: the node cannot be drained"), "{err}");
    assert!(err.contains("is left after 2s without progress: PodDisruptionBudget guard allows no disruption"), "{err}");
    assert!(err.contains("error[T21]: the node was not rebooted, because the rollout ended"), "{err}");
    assert_none_cordoned(&environment);
    let stopped = outages(&environment, since);
    assert!(stopped.iter().all(|outage| outage.node.starts_with("infra-cp")), "{stopped:#?}");

    environment.kubectl_delete("infra", &["poddisruptionbudget", "guard"]);
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 0, "{err}");
    assert_one_at_a_time(&outages(&environment, since));
    assert_none_cordoned(&environment);
}
