//! Why a workload is not ready: its worst pod, or the last warning about it.

use futures::TryFutureExt;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod};
use kube::Client;
use kube::api::ListParams;
use serde_json::Value;

use super::error::{ApiError, with_retry};
use super::object_ref::ObjectRef;
use super::objects::get;
use super::readiness::condition;
use super::wait::{UnpulledImage, WaitCause, WaitReason};
use super::watch::namespaced;

/// Longer messages are cut, since a reason is one line.
const LONGEST: usize = 400;

/// Searches the pods and events of an object for the reason why it is not ready. Nothing when none is found, or when
/// they cannot be read.
pub(super) async fn find_cause(client: &Client, object: &ObjectRef) -> Option<WaitReason> {
    let found = search(client, object).await;
    found.inspect_err(|error| tracing::debug!(%object, %error, "cannot read the cause")).ok().flatten()
}

async fn search(client: &Client, object: &ObjectRef) -> Result<Option<WaitReason>, ApiError> {
    let Some(namespace) = object.namespace.as_deref() else { return Ok(None) };
    let live = get(client, object);
    let events = namespaced::<Event>(client, namespace);
    let warnings = ListParams::default().fields("type=Warning").limit(500);
    let events = with_retry(|| events.list(&warnings)).map_ok(|list| list.items);
    let (live, events) = futures::try_join!(live, events)?;
    let Some(live) = live else { return Ok(None) };
    let pods = match selector(object, &live) {
        Some(Select::This) => serde_json::from_value(live.clone()).map(|pod| vec![pod]).unwrap_or_default(),
        Some(Select::Labels(labels)) => {
            let api = namespaced::<Pod>(client, namespace);
            let params = ListParams::default().labels(&labels);
            with_retry(|| api.list(&params)).await?.items
        }
        None => vec![],
    };
    Ok(worst_cause(object, &live, &pods, &events))
}

enum Select {
    This,
    Labels(String),
}

/// How the pods of a workload are found.
fn selector(object: &ObjectRef, live: &Value) -> Option<Select> {
    if object.kind == "Pod" {
        return Some(Select::This);
    }
    let labels = live.pointer("/spec/selector/matchLabels")?.as_object()?;
    let terms: Vec<String> =
        labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
    (!terms.is_empty()).then(|| Select::Labels(terms.join(",")))
}

/// How much a finding about a pod explains, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Still starting.
    Starting,
    /// Running, but its probe fails.
    Unready,
    /// Still starting, with warnings.
    Troubled,
    Unschedulable,
    /// A container exited with an error.
    Exited,
    /// A container cannot be started.
    Refused,
}

/// A finding about a pod or one of its containers.
struct Trouble {
    weight: Weight,
    text: String,
    /// The image, when it cannot be pulled.
    image: Option<String>,
}

impl Trouble {
    fn new(weight: Weight, text: String) -> Self {
        Self { weight, text, image: None }
    }
}

/// The most explaining of all findings.
fn worst_cause(object: &ObjectRef, live: &Value, pods: &[Pod], events: &[Event]) -> Option<WaitReason> {
    let found = pods.iter().filter_map(|pod| trouble(pod, events).map(|trouble| (pod, trouble)));
    // The first of the worst, so that the line does not jump between equals.
    let worst = found.reduce(|worst, other| if other.1.weight > worst.1.weight { other } else { worst });
    let in_pods = worst.map(|(pod, Trouble { weight, text, image })| {
        let name = pod.metadata.name.as_deref().unwrap_or("?");
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let place = node.map(|node| format!(" on {node}")).unwrap_or_default();
        let text = if object.kind == "Pod" { text } else { format!("pod {name}{place}: {text}") };
        let cause = match image {
            Some(image) => WaitCause::ImagePull(UnpulledImage { image, node: node.map(str::to_owned) }),
            None if weight == Weight::Unschedulable => WaitCause::Unschedulable,
            None if weight > Weight::Unschedulable => WaitCause::PodFailing,
            None => WaitCause::NotReady,
        };
        (weight, WaitReason::new(one_line(&text), cause))
    });
    match in_pods {
        Some((weight, cause)) if weight > Weight::Starting => Some(cause),
        starting => failure_to_create(object, live, events)
            .map(|text| WaitReason::new(one_line(&text), creation_cause(&text)))
            .or(starting.map(|(_, cause)| cause)),
    }
}

/// What Pod Security admission says of a pod that it rejects (Kubernetes 1.35, `pod-security-admission/admission`).
const POD_SECURITY: &str = "violates PodSecurity";

fn creation_cause(message: &str) -> WaitCause {
    if message.contains(POD_SECURITY) { WaitCause::PodSecurity } else { WaitCause::NotReady }
}

/// Why there are no pods, as the workload or its ReplicaSet reports it.
fn failure_to_create(object: &ObjectRef, live: &Value, events: &[Event]) -> Option<String> {
    if let Some(failure) = condition(live, "ReplicaFailure").filter(super::readiness::Condition::is_true) {
        return Some(failure.summary());
    }
    let replica_set_prefix = format!("{}-", object.name);
    let is_related = |event: &&Event| {
        let (kind, name) = involved(event);
        (kind == object.kind && name == object.name)
            || (object.kind == "Deployment" && kind == "ReplicaSet" && name.starts_with(&replica_set_prefix))
    };
    events.iter().filter(is_related).max_by_key(|event| time(event)).map(summary)
}

/// What is wrong with a pod; nothing when it is ready or done.
fn trouble(pod: &Pod, events: &[Event]) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
    let ready = condition("Ready").is_some_and(|ready| ready.status == "True");
    if ready || status.phase.as_deref() == Some("Succeeded") || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut found: Vec<Trouble> = containers.filter_map(|status| container_trouble(status, name, events)).collect();
    if let Some(scheduled) = condition("PodScheduled").filter(|scheduled| scheduled.status == "False") {
        let message = scheduled.message.clone().unwrap_or_else(|| "not scheduled".to_owned());
        found.push(Trouble::new(Weight::Unschedulable, format!("unschedulable: {message}")));
    }
    let warning = events.iter().filter(|event| involved(event) == ("Pod", name)).max_by_key(|event| time(event));
    let worst = found.into_iter().reduce(|worst, other| if other.weight > worst.weight { other } else { worst })?;
    Some(match (worst.weight, warning) {
        (Weight::Starting, Some(warning)) => Trouble::new(Weight::Troubled, summary(warning)),
        (Weight::Unready, Some(warning)) => Trouble::new(worst.weight, format!("{}: {}", worst.text, summary(warning))),
        _ => worst,
    })
}

/// Waiting reasons of a kubelet about an image (Kubernetes 1.35 `pkg/kubelet/images`).
const IMAGE_REASONS: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "ImageInspectError",
    "InvalidImageName",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// The image that a container waits for, with the registry's message: it follows the kubelet's own in the container's
/// status; older kubelets report it in an event only.
fn pull_trouble(container: &ContainerStatus, reason: &str, message: &str, pod: &str, events: &[Event]) -> Trouble {
    let image = &container.image;
    let quoted = format!("\"{image}\"");
    let failed = events.iter().filter(|event| {
        let message = event.message.as_deref().unwrap_or_default();
        involved(event) == ("Pod", pod) && event.reason.as_deref() == Some("Failed") && message.contains(&quoted)
    });
    let in_status = message.split_once("ErrImagePull: ").map(|(_, detail)| detail);
    let in_event = || failed.max_by_key(|event| time(event))?.message.as_deref()?.split_once(&format!("{quoted}: "));
    let detail = in_status.or_else(|| in_event().map(|(_, detail)| detail)).unwrap_or(message);
    let text = format!("image {image} cannot be pulled ({reason}): {detail}");
    Trouble { weight: Weight::Refused, text, image: Some(image.clone()) }
}

fn container_trouble(container: &ContainerStatus, pod: &str, events: &[Event]) -> Option<Trouble> {
    let state = container.state.as_ref()?;
    let text = |reason: Option<&String>, message: Option<&String>| match (reason, message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.clone(),
        (None, None) => "no reason reported".to_owned(),
    };
    if let Some(waiting) = &state.waiting {
        let starting = matches!(waiting.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing"));
        let weight = if starting { Weight::Starting } else { Weight::Refused };
        if waiting.reason.as_deref() == Some("CrashLoopBackOff")
            && let Some(last) = container.last_state.as_ref().and_then(exit)
        {
            return Some(Trouble::new(weight, format!("container {} is crash-looping: {last}", container.name)));
        }
        if let Some(reason) = waiting.reason.as_deref().filter(|reason| IMAGE_REASONS.contains(reason)) {
            let message = waiting.message.as_deref().unwrap_or("no reason reported");
            return Some(pull_trouble(container, reason, message, pod, events));
        }
        return Some(Trouble::new(weight, text(waiting.reason.as_ref(), waiting.message.as_ref())));
    }
    if let Some(exit) = exit(state) {
        return Some(Trouble::new(Weight::Exited, format!("container {} exited: {exit}", container.name)));
    }
    let unready = state.running.is_some() && !container.ready && container.started != Some(false);
    if state.running.is_some() && !container.ready {
        let what = if unready { "is not ready" } else { "has not started" };
        return Some(Trouble::new(Weight::Unready, format!("container {} {what}", container.name)));
    }
    None
}

/// How a container exited, if with an error.
fn exit(state: &ContainerState) -> Option<String> {
    let end = state.terminated.as_ref().filter(|end| end.exit_code != 0)?;
    let reason = end.reason.as_deref().unwrap_or("Error");
    let message = end.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    Some(format!("{reason} with exit code {}{message}", end.exit_code))
}

fn involved(event: &Event) -> (&str, &str) {
    let object = &event.involved_object;
    (object.kind.as_deref().unwrap_or_default(), object.name.as_deref().unwrap_or_default())
}

/// When an event happened last; event sources fill in different fields.
fn time(event: &Event) -> Option<k8s_openapi::jiff::Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let once = event.event_time.as_ref().map(|time| time.0);
    let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    series.max(last).max(once).or(created)
}

fn summary(event: &Event) -> String {
    let reason = event.reason.as_deref().unwrap_or("Warning");
    format!("{reason}: {}", event.message.as_deref().unwrap_or_default())
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name}, "spec": {"nodeName": node, "containers": []}, "status": status,
        }))
        .unwrap()
    }

    fn container(state: Value) -> Value {
        json!({"containerStatuses": [
            {"name": "app", "image": "a", "imageID": "", "ready": false, "restartCount": 0, "state": state},
        ]})
    }

    fn event(kind: &str, name: &str, reason: &str, message: &str, at: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {"kind": kind, "name": name}, "type": "Warning",
            "reason": reason, "message": message, "lastTimestamp": at,
        }))
        .unwrap()
    }

    fn cause_of(kind: &str, pods: &[Pod], events: &[Event]) -> String {
        let object = ObjectRef::new("apps/v1", kind, Some("kube-system"), "cilium");
        worst_cause(&object, &json!({}), pods, events).map(|reason| reason.text).unwrap_or_default()
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T00:01:00Z";

    #[test]
    fn the_worst_pod_is_named_with_its_node_and_the_pull_error() {
        let creating = container(json!({"waiting": {"reason": "ContainerCreating"}}));
        let back_off =
            container(json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"a\""}}));
        let pods = [pod("cilium-a", "infra-w-01", creating), pod("cilium-b", "infra-w-02", back_off)];
        let events = [
            event("Pod", "cilium-b", "Failed", "Failed to pull image \"a\": 429 Too Many Requests", EARLY),
            event("Pod", "cilium-b", "Failed", "Error: ImagePullBackOff", LATE),
        ];
        let line = cause_of("DaemonSet", &pods, &events);
        insta::assert_snapshot!(line, @"pod cilium-b on infra-w-02: image a cannot be pulled (ImagePullBackOff): 429 Too Many Requests");
        let object = ObjectRef::new("apps/v1", "DaemonSet", Some("kube-system"), "cilium");
        let image = UnpulledImage { image: "a".to_owned(), node: Some("infra-w-02".to_owned()) };
        let found = worst_cause(&object, &json!({}), &pods, &events).unwrap();
        assert_eq!(found.cause, WaitCause::ImagePull(image));
    }

    #[test]
    fn a_crash_loop_shows_how_the_container_exited() {
        let mut status = container(json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}));
        status["containerStatuses"][0]["lastState"] =
            json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "no route to host\n"}});
        let line = cause_of("DaemonSet", &[pod("a", "n", status)], &[]);
        insta::assert_snapshot!(line, @"pod a on n: container app is crash-looping: Error with exit code 1: no route to host");
    }

    #[test]
    fn an_unscheduled_pod_shows_the_schedulers_message() {
        let status = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 had port conflicts"}]});
        let mut pending = pod("operator-b", "", status);
        pending.spec.as_mut().unwrap().node_name = None;
        let object = ObjectRef::new("apps/v1", "Deployment", Some("kube-system"), "cilium");
        let reason = worst_cause(&object, &json!({}), &[pending], &[]).unwrap();
        assert_eq!(reason.cause, WaitCause::Unschedulable);
        insta::assert_snapshot!(reason.text, @"pod operator-b: unschedulable: 0/1 nodes are available: 1 had port conflicts");
    }

    #[test]
    fn a_running_pod_that_is_not_ready_shows_its_last_probe() {
        let running = container(json!({"running": {}}));
        let events = [
            event("Pod", "a", "Unhealthy", "Readiness probe failed: 503", LATE),
            event("Pod", "a", "FailedMount", "no such secret", EARLY),
        ];
        let line = cause_of("Deployment", &[pod("a", "n", running)], &events);
        insta::assert_snapshot!(line, @"pod a on n: container app is not ready: Unhealthy: Readiness probe failed: 503");
    }

    #[test]
    fn without_pods_the_replica_sets_event_is_the_cause() {
        let events = [
            event("ReplicaSet", "cilium-7f9", "FailedCreate", "pods \"x\" is forbidden: violates PodSecurity", LATE),
            event("ReplicaSet", "other-7f9", "FailedCreate", "of another", LATE),
        ];
        insta::assert_snapshot!(cause_of("Deployment", &[], &events), @r#"FailedCreate: pods "x" is forbidden: violates PodSecurity"#);
        let object = ObjectRef::new("apps/v1", "Deployment", Some("kube-system"), "cilium");
        let found = worst_cause(&object, &json!({}), &[], &events).unwrap();
        assert_eq!(found.cause, WaitCause::PodSecurity);
        assert_eq!(cause_of("Deployment", &[], &events[1..]), "");
    }

    #[test]
    fn a_starting_pod_is_the_cause_only_when_nothing_else_is_known() {
        let creating = container(json!({"waiting": {"reason": "ContainerCreating"}}));
        let pods = [pod("a", "n", creating)];
        assert_eq!(cause_of("DaemonSet", &pods, &[]), "pod a on n: ContainerCreating");
        let events = [event("Pod", "a", "FailedMount", "secret \"x\" not found", LATE)];
        assert_eq!(cause_of("DaemonSet", &pods, &events), "pod a on n: FailedMount: secret \"x\" not found");
    }
}
