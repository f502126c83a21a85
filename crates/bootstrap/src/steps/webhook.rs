//! Whether an admission webhook really answers: a request that must pass it, tried and not kept.

use serde_json::{Value, json};

/// For each API group whose webhook a chart installs, a small valid object of that group.
///
/// A webhook's pod can be Ready while its certificate is not injected yet or its Service has no endpoint; only a
/// request through the API server proves the way.
pub(super) fn probes(objects: &[Value], namespace: &str) -> Vec<Value> {
    let groups: Vec<&str> = objects.iter().flat_map(groups).collect();
    let issuer = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Issuer",
        "metadata": {"name": "k8s-bootstrap-probe", "namespace": namespace},
        "spec": {"selfSigned": {}},
    });
    if groups.contains(&"cert-manager.io") { vec![issuer] } else { Vec::new() }
}

/// The API groups that an object, if it configures a webhook, lets it judge.
fn groups(object: &Value) -> Vec<&str> {
    let kind = object.get("kind").and_then(Value::as_str);
    if !matches!(kind, Some("ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration")) {
        return Vec::new();
    }
    let webhooks = object.get("webhooks").and_then(Value::as_array).into_iter().flatten();
    let rules = webhooks.filter_map(|webhook| webhook.get("rules")?.as_array()).flatten();
    rules.filter_map(|rule| rule.get("apiGroups")?.as_array()).flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_chart_with_a_webhook_of_a_known_group_is_probed() {
        let webhook = |group: &str| json!({"kind": "ValidatingWebhookConfiguration", "webhooks": [{"rules": [{"apiGroups": [group]}]}]});
        assert_eq!(probes(&[webhook("cert-manager.io")], "cert-manager").len(), 1);
        assert!(probes(&[webhook("example.org"), json!({"kind": "Deployment"})], "x").is_empty());
    }
}
