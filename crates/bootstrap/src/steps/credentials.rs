//! The operator's kubeconfig and talosconfig: whether the files on disk lead to this cluster. Pure.
//!
//! Client certificates and keys differ at each run and stay as they are; so does what an operator sets in these files, such
//! as a context's namespace.

use serde_json::Value;
use yaml::Origin;

/// Where a kubeconfig leads: servers and certificate authorities, by name.
pub(super) fn same_cluster(existing: &str, ours: &str) -> bool {
    let target = |text: &str| parse(text).and_then(|config| config.get("clusters").cloned());
    matches!((target(existing), target(ours)), (Some(existing), Some(ours)) if covers(&existing, &ours))
}

/// Where a talosconfig leads: the CA, endpoints and nodes of the context that we write.
pub(super) fn same_nodes(existing: &str, ours: &str) -> bool {
    let (Some(existing), Some(ours)) = (parse(existing), parse(ours)) else { return false };
    let Some(contexts) = ours.get("contexts").and_then(Value::as_object) else { return false };
    contexts.iter().all(|(name, context)| {
        let theirs = existing.get("contexts").and_then(|contexts| contexts.get(name));
        ["ca", "endpoints", "nodes"].iter().all(|key| theirs.and_then(|theirs| theirs.get(key)) == context.get(key))
    })
}

fn covers(existing: &Value, ours: &Value) -> bool {
    let entries = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let existing = entries(existing);
    let ours = entries(ours);
    !ours.is_empty() && ours.iter().all(|entry| existing.contains(entry))
}

fn parse(text: &str) -> Option<Value> {
    Some(yaml::parse_one(&Origin::new("<file>"), text).ok()?.to_json())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(authority: &str, key: &str, namespace: &str) -> String {
        format!(
            "clusters: [{{name: blue, cluster: {{server: 'https://10.0.0.1:6443', certificate-authority-data: {authority}}}}}]\n\
             users: [{{name: admin@blue, user: {{client-key-data: {key}}}}}]\n\
             contexts: [{{name: admin@blue, context: {{cluster: blue, namespace: {namespace}}}}}]\n"
        )
    }

    #[test]
    fn a_kubeconfig_of_another_authority_leads_elsewhere() {
        let ours = kubeconfig("b3Vycw==", "bmV3", "default");
        assert!(same_cluster(&kubeconfig("b3Vycw==", "b2xk", "flux-system"), &ours));
        assert!(!same_cluster(&kubeconfig("dGhlaXJz", "bmV3", "default"), &ours));
        assert!(!same_cluster(&ours.replace("10.0.0.1", "10.0.0.2"), &ours));
        for broken in ["", "clusters: []", "clusters: [", "- x"] {
            assert!(!same_cluster(broken, &ours), "{broken}");
        }
    }

    #[test]
    fn a_talosconfig_of_another_authority_or_of_other_nodes_leads_elsewhere() {
        let ours =
            "context: blue\ncontexts: {blue: {ca: b3Vycw==, crt: bmV3, endpoints: [10.0.0.1], nodes: [10.0.0.1]}}\n";
        assert!(same_nodes(&ours.replace("bmV3", "b2xk").replace("context: blue", "context: other"), ours));
        assert!(!same_nodes(&ours.replace("b3Vycw==", "dGhlaXJz"), ours));
        assert!(!same_nodes(&ours.replace("nodes: [10.0.0.1]", "nodes: [10.0.0.2]"), ours));
        assert!(!same_nodes("", ours));
    }
}
