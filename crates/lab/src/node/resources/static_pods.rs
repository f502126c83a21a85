//! The static pods of a control plane, as Talos reads them from the kubelet.

use prost_types::value::Kind;
use serde_json::{Value, json};

use super::{ResourceItem, messages as api};
use crate::node::NodeState;
use crate::node::kubelet_start::StaticPods;
use crate::node::static_pods::STATIC;

/// One resource a pod; none while the kubelet does not run or the pods are not rendered (Talos 1.12,
/// `kubelet_static_pod.go`).
pub(super) fn statuses(state: &NodeState, host: &str) -> Vec<ResourceItem> {
    if state.static_pods == StaticPods::NotRendered {
        return vec![];
    }
    let item = |name: &str| {
        let shown = match &state.static_pods {
            StaticPods::ApiServerFails(fault) if name == "kube-apiserver" => {
                let waiting = json!({"waiting": {"reason": fault.reason, "message": fault.message}});
                status(name, waiting, "False")
            }
            _ => status(name, json!({"running": {}}), "True"),
        };
        let message = api::StaticPodStatus { pod_status: Some(structure(&shown)) };
        ResourceItem::new(&format!("kube-system/{name}-{host}"), &message, shown)
    };
    STATIC.into_iter().map(item).collect()
}

/// A part of a pod's status, in the kubelet's spelling.
fn status(name: &str, state: Value, ready: &str) -> Value {
    json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": ready}],
        "containerStatuses": [{"name": name, "ready": ready == "True", "state": state}],
    })
}

fn structure(object: &Value) -> prost_types::Struct {
    let fields = object.as_object().into_iter().flatten();
    prost_types::Struct { fields: fields.map(|(key, value)| (key.clone(), to_value(value))).collect() }
}

fn to_value(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.iter().map(to_value).collect() })
        }
        Value::Object(_) => Kind::StructValue(structure(value)),
    };
    prost_types::Value { kind: Some(kind) }
}
