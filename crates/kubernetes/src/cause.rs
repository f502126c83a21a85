//! Why a workload is not ready: its worst pod, or the last warning about it.

use futures::TryFutureExt;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod};
use kube::Client;
use kube::api::ListParams;
use serde_json::Value;

use super::error::{ApiError, patiently};
use super::objects::{ObjectRef, get};
use super::readiness::condition;
use super::watch::namespaced;

/// Longer messages are cut: one line is told.
const LONGEST: usize = 400;

/// What every line about an image that cannot be pulled holds.
const UNPULLED: &str = " cannot be pulled (";

/// An image that a node does not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpulled {
    pub image: String,
    pub node: Option<String>,
}

impl Unpulled {
    /// Whether a line that a gate told is about such an image (H13).
    pub fn is_told_by(line: &str) -> bool {
        line.contains(UNPULLED)
    }
}

/// Why an object is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) text: String,
    pub(super) unpulled: Option<Unpulled>,
}

/// Looks for the reason why an object is not ready. Nothing when none shows, or the API does not tell.
pub(super) async fn dig(client: &Client, object: &ObjectRef) -> Option<Cause> {
    let found = look(client, object).await;
    found.inspect_err(|error| tracing::debug!(%object, %error, "no cause could be read")).ok().flatten()
}

async fn look(client: &Client, object: &ObjectRef) -> Result<Option<Cause>, ApiError> {
    let Some(namespace) = object.namespace.as_deref() else { return Ok(None) };
    let live = get(client, object);
    let events = namespaced::<Event>(client, namespace);
    let warnings = ListParams::default().fields("type=Warning").limit(500);
    let events = patiently(|| events.list(&warnings)).map_ok(|list| list.items);
    let (live, events) = futures::try_join!(live, events)?;
    let Some(live) = live else { return Ok(None) };
    let pods = match selector(object, &live) {
        Some(Select::This) => serde_json::from_value(live.clone()).map(|pod| vec![pod]).unwrap_or_default(),
        Some(Select::Labels(labels)) => {
            let api = namespaced::<Pod>(client, namespace);
            let params = ListParams::default().labels(&labels);
            patiently(|| api.list(&params)).await?.items
        }
        None => vec![],
    };
    Ok(cause(object, &live, &pods, &events))
}

enum Select {
    This,
    Labels(String),
}

/// How to find the pods of a workload.
fn selector(object: &ObjectRef, live: &Value) -> Option<Select> {
    if object.kind == "Pod" {
        return Some(Select::This);
    }
    let labels = live.pointer("/spec/selector/matchLabels")?.as_object()?;
    let terms: Vec<String> =
        labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
    (!terms.is_empty()).then(|| Select::Labels(terms.join(",")))
}

/// How much a finding about a pod explains; more explains more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// It is only on its way.
    Starting,
    /// It runs, but its probe fails.
    Unready,
    /// It is on its way, with trouble.
    Troubled,
    Unschedulable,
    /// A container ended with an error.
    Ended,
    /// A container cannot be started.
    Refused,
}

/// What was found out about a pod or a container of it.
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

/// The cause out of everything that was read.
fn cause(object: &ObjectRef, live: &Value, pods: &[Pod], events: &[Event]) -> Option<Cause> {
    let found = pods.iter().filter_map(|pod| trouble(pod, events).map(|trouble| (pod, trouble)));
    // The first of the worst, so that the line does not jump between equals.
    let worst = found.reduce(|worst, other| if other.1.weight > worst.1.weight { other } else { worst });
    let of_pods = worst.map(|(pod, Trouble { weight, text, image })| {
        let name = pod.metadata.name.as_deref().unwrap_or("?");
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let place = node.map(|node| format!(" on {node}")).unwrap_or_default();
        let text = if object.kind == "Pod" { text } else { format!("pod {name}{place}: {text}") };
        let unpulled = image.map(|image| Unpulled { image, node: node.map(str::to_owned) });
        (weight, Cause { text: one_line(&text), unpulled })
    });
    match of_pods {
        Some((weight, cause)) if weight > Weight::Starting => Some(cause),
        starting => failure_to_create(object, live, events)
            .map(|text| Cause { text: one_line(&text), unpulled: None })
            .or(starting.map(|(_, cause)| cause)),
    }
}

/// Why there are no pods: the workload's or its ReplicaSet's own words.
fn failure_to_create(object: &ObjectRef, live: &Value, events: &[Event]) -> Option<String> {
    if let Some(failure) = condition(live, "ReplicaFailure").filter(super::readiness::Condition::is_true) {
        return Some(failure.told());
    }
    let of_replica_set = format!("{}-", object.name);
    let about = |event: &&Event| {
        let (kind, name) = about(event);
        (kind == object.kind && name == object.name)
            || (object.kind == "Deployment" && kind == "ReplicaSet" && name.starts_with(&of_replica_set))
    };
    events.iter().filter(about).max_by_key(|event| time(event)).map(told)
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
    let mut found: Vec<Trouble> = containers.filter_map(|status| of_container(status, name, events)).collect();
    if let Some(scheduled) = condition("PodScheduled").filter(|scheduled| scheduled.status == "False") {
        let message = scheduled.message.clone().unwrap_or_else(|| "it is not scheduled".to_owned());
        found.push(Trouble::new(Weight::Unschedulable, format!("unschedulable: {message}")));
    }
    let warning = events.iter().filter(|event| about(event) == ("Pod", name)).max_by_key(|event| time(event));
    let worst = found.into_iter().reduce(|worst, other| if other.weight > worst.weight { other } else { worst })?;
    Some(match (worst.weight, warning) {
        (Weight::Starting, Some(warning)) => Trouble::new(Weight::Troubled, told(warning)),
        (Weight::Unready, Some(warning)) => Trouble::new(worst.weight, format!("{}: {}", worst.text, told(warning))),
        _ => worst,
    })
}

/// Why a kubelet waits before it pulls an image (Kubernetes 1.35 `pkg/kubelet/images`).
const OF_IMAGES: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "ImageInspectError",
    "InvalidImageName",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// The image of a container that waits for it, with the registry's own words: they follow the kubelet's in its status,
/// and older kubelets have them in an event alone.
fn unpulled(container: &ContainerStatus, reason: &str, message: &str, pod: &str, events: &[Event]) -> Trouble {
    let image = &container.image;
    let of_image = format!("\"{image}\"");
    let failed = events.iter().filter(|event| {
        let message = event.message.as_deref().unwrap_or_default();
        about(event) == ("Pod", pod) && event.reason.as_deref() == Some("Failed") && message.contains(&of_image)
    });
    let own = message.split_once("ErrImagePull: ").map(|(_, own)| own);
    let told = || failed.max_by_key(|event| time(event))?.message.as_deref()?.split_once(&format!("{of_image}: "));
    let words = own.or_else(|| told().map(|(_, own)| own)).unwrap_or(message);
    let text = format!("image {image}{UNPULLED}{reason}): {words}");
    Trouble { weight: Weight::Refused, text, image: Some(image.clone()) }
}

fn of_container(container: &ContainerStatus, pod: &str, events: &[Event]) -> Option<Trouble> {
    let state = container.state.as_ref()?;
    let text = |reason: Option<&String>, message: Option<&String>| match (reason, message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.clone(),
        (None, None) => "no reason is given".to_owned(),
    };
    if let Some(waiting) = &state.waiting {
        let starting = matches!(waiting.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing"));
        let weight = if starting { Weight::Starting } else { Weight::Refused };
        if waiting.reason.as_deref() == Some("CrashLoopBackOff")
            && let Some(last) = container.last_state.as_ref().and_then(ended)
        {
            return Some(Trouble::new(weight, format!("container {} ends again and again: {last}", container.name)));
        }
        if let Some(reason) = waiting.reason.as_deref().filter(|reason| OF_IMAGES.contains(reason)) {
            let message = waiting.message.as_deref().unwrap_or("no reason is given");
            return Some(unpulled(container, reason, message, pod, events));
        }
        return Some(Trouble::new(weight, text(waiting.reason.as_ref(), waiting.message.as_ref())));
    }
    if let Some(end) = ended(state) {
        return Some(Trouble::new(Weight::Ended, format!("container {} ended: {end}", container.name)));
    }
    let unready = state.running.is_some() && !container.ready && container.started != Some(false);
    if state.running.is_some() && !container.ready {
        let what = if unready { "is not ready" } else { "has not started up" };
        return Some(Trouble::new(Weight::Unready, format!("container {} {what}", container.name)));
    }
    None
}

/// How a container ended, when that was with an error.
fn ended(state: &ContainerState) -> Option<String> {
    let end = state.terminated.as_ref().filter(|end| end.exit_code != 0)?;
    let reason = end.reason.as_deref().unwrap_or("Error");
    let message = end.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    Some(format!("{reason} with exit code {}{message}", end.exit_code))
}

fn about(event: &Event) -> (&str, &str) {
    let object = &event.involved_object;
    (object.kind.as_deref().unwrap_or_default(), object.name.as_deref().unwrap_or_default())
}

/// When an event happened last, in whichever of its fields that is written.
fn time(event: &Event) -> Option<k8s_openapi::jiff::Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let once = event.event_time.as_ref().map(|time| time.0);
    let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    series.max(last).max(once).or(created)
}

fn told(event: &Event) -> String {
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

    fn told_of(kind: &str, pods: &[Pod], events: &[Event]) -> String {
        let object = ObjectRef::new("apps/v1", kind, Some("kube-system"), "cilium");
        cause(&object, &json!({}), pods, events).map(|cause| cause.text).unwrap_or_default()
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
        let told = told_of("DaemonSet", &pods, &events);
        insta::assert_snapshot!(told, @"pod cilium-b on infra-w-02: image a cannot be pulled (ImagePullBackOff): 429 Too Many Requests");
        assert!(Unpulled::is_told_by(&told));
        let object = ObjectRef::new("apps/v1", "DaemonSet", Some("kube-system"), "cilium");
        let unpulled = Unpulled { image: "a".to_owned(), node: Some("infra-w-02".to_owned()) };
        assert_eq!(cause(&object, &json!({}), &pods, &events).unwrap().unpulled, Some(unpulled));
    }

    #[test]
    fn a_crash_loop_is_told_by_how_the_container_ended() {
        let mut status = container(json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}));
        status["containerStatuses"][0]["lastState"] =
            json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "no route to host\n"}});
        let told = told_of("DaemonSet", &[pod("a", "n", status)], &[]);
        insta::assert_snapshot!(told, @"pod a on n: container app ends again and again: Error with exit code 1: no route to host");
    }

    #[test]
    fn a_pod_without_a_node_is_told_with_the_schedulers_words() {
        let status = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 had port conflicts"}]});
        let mut pending = pod("operator-b", "", status);
        pending.spec.as_mut().unwrap().node_name = None;
        let told = told_of("Deployment", &[pending], &[]);
        insta::assert_snapshot!(told, @"pod operator-b: unschedulable: 0/1 nodes are available: 1 had port conflicts");
    }

    #[test]
    fn a_pod_that_runs_unready_is_told_with_its_last_probe() {
        let running = container(json!({"running": {}}));
        let events = [
            event("Pod", "a", "Unhealthy", "Readiness probe failed: 503", LATE),
            event("Pod", "a", "FailedMount", "no such secret", EARLY),
        ];
        let told = told_of("Deployment", &[pod("a", "n", running)], &events);
        insta::assert_snapshot!(told, @"pod a on n: container app is not ready: Unhealthy: Readiness probe failed: 503");
    }

    #[test]
    fn without_pods_the_replica_set_says_why() {
        let events = [
            event("ReplicaSet", "cilium-7f9", "FailedCreate", "pods \"x\" is forbidden: violates PodSecurity", LATE),
            event("ReplicaSet", "other-7f9", "FailedCreate", "of another", LATE),
        ];
        insta::assert_snapshot!(told_of("Deployment", &[], &events), @r#"FailedCreate: pods "x" is forbidden: violates PodSecurity"#);
        assert_eq!(told_of("Deployment", &[], &events[1..]), "");
    }

    #[test]
    fn a_starting_pod_is_told_only_when_nothing_else_is_known() {
        let creating = container(json!({"waiting": {"reason": "ContainerCreating"}}));
        let pods = [pod("a", "n", creating)];
        assert_eq!(told_of("DaemonSet", &pods, &[]), "pod a on n: ContainerCreating");
        let events = [event("Pod", "a", "FailedMount", "secret \"x\" not found", LATE)];
        assert_eq!(told_of("DaemonSet", &pods, &events), "pod a on n: FailedMount: secret \"x\" not found");
    }
}
