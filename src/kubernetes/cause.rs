//! Why a workload is not ready: the worst of its pods, in the kubelet's or the scheduler's own words.

use serde_json::Value;

use super::readiness::find_condition;

/// The reason behind a workload's numbers, out of the pods of its namespace; nothing when no pod complains.
pub(super) fn cause<'p>(workload: &Value, pods: impl Iterator<Item = &'p Value>) -> Option<String> {
    let selector = selector(workload)?;
    pods.filter(|pod| selected(pod, selector))
        .filter_map(complaint)
        .max_by_key(|(weight, _)| *weight)
        .map(|(_, text)| text)
}

fn selector(workload: &Value) -> Option<&serde_json::Map<String, Value>> {
    workload
        .pointer("/spec/selector/matchLabels")
        .or_else(|| workload.pointer("/spec/template/metadata/labels"))?
        .as_object()
}

fn selected(pod: &Value, selector: &serde_json::Map<String, Value>) -> bool {
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object);
    labels.is_some_and(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// What a pod suffers from; the heavier, the more it needs a person.
fn complaint(pod: &Value) -> Option<(u8, String)> {
    let name = pod.pointer("/metadata/name")?.as_str()?;
    let node = pod.pointer("/spec/nodeName").and_then(Value::as_str);
    let place = node.map(|node| format!(" on {node}")).unwrap_or_default();
    if let Some((weight, reason)) = containers(pod).filter_map(waiting).max_by_key(|(weight, _)| *weight) {
        return Some((weight, format!("pod {name}{place}: {reason}")));
    }
    match find_condition(pod, "PodScheduled") {
        Some(("False", reason, message)) => Some((2, format!("pod {name}: {reason}: {message}"))),
        _ => None,
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .filter_map(|pointer| pod.pointer(pointer)?.as_array())
        .flatten()
}

fn waiting(container: &Value) -> Option<(u8, String)> {
    let text = |pointer: &str| container.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let reason = text("/state/waiting/reason");
    let message = text("/state/waiting/message");
    let weight = match reason {
        "" => return None,
        "ContainerCreating" | "PodInitializing" => 1,
        _ => 3,
    };
    let last = text("/lastState/terminated/message");
    let detail = if message.is_empty() { last } else { message };
    Some((weight, if detail.is_empty() { reason.to_owned() } else { format!("{reason}: {detail}") }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, app: &str, status: &Value) -> Value {
        json!({"metadata": {"name": name, "labels": {"app": app}}, "spec": {"nodeName": "w-1"}, "status": status})
    }

    #[test]
    fn the_pod_that_needs_a_person_is_told_before_those_that_only_take_time() {
        let workload = json!({"spec": {"selector": {"matchLabels": {"app": "a"}}}});
        let state = |reason: &str, message: &str| json!({"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]});
        let pods = [
            pod("a-1", "a", &state("ContainerCreating", "")),
            pod("a-2", "a", &state("ImagePullBackOff", "429 Too Many Requests")),
            pod("b-1", "b", &state("CrashLoopBackOff", "")),
        ];
        let told = cause(&workload, pods.iter()).unwrap();
        assert_eq!(told, "pod a-2 on w-1: ImagePullBackOff: 429 Too Many Requests");
        assert_eq!(cause(&workload, pods[..1].iter()).unwrap(), "pod a-1 on w-1: ContainerCreating");
    }

    #[test]
    fn a_pod_that_fits_nowhere_is_told_in_the_schedulers_words() {
        let workload = json!({"spec": {"selector": {"matchLabels": {"app": "a"}}}});
        let status = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/6 nodes are available"}]});
        let told = cause(&workload, [pod("a-1", "a", &status)].iter()).unwrap();
        assert_eq!(told, "pod a-1: Unschedulable: 0/6 nodes are available");
    }
}
