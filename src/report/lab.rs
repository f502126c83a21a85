//! The state of a lab as a table.

use std::collections::BTreeMap;

use ::lab::LabStatus;

/// Nodes, etcd members and calls of a lab.
pub(crate) fn lab_table(status: &LabStatus) -> String {
    let mut lines = vec![format!("{:<20} {:<16} {:<14} {:<12} PORT", "NODE", "ADDRESS", "ROLE", "STAGE")];
    for node in &status.nodes {
        let port = if node.port_open { "open" } else { "closed" };
        lines.push(format!("{:<20} {:<16} {:<14} {:<12} {port}", node.name, node.address, node.role, node.stage));
    }
    let role = |learner: bool| if learner { "learner" } else { "voter" };
    lines.extend(
        status
            .members
            .iter()
            .map(|member| format!("etcd member {:<16} {:<17} {}", member.name, member.id, role(member.learner))),
    );
    lines.push(format!("API ready: {}", status.api_ready));
    lines.push(format!("seed: {}", status.seed));
    let mut calls: BTreeMap<&str, u64> = BTreeMap::new();
    for (method, count) in status.record.calls.values().flatten() {
        *calls.entry(method).or_default() += count;
    }
    let calls: Vec<String> = calls.iter().map(|(method, count)| format!("{method} {count}")).collect();
    lines.push(format!("calls: {}", calls.join(", ")));
    lines.push(format!("Bootstrap calls accepted: {}", status.record.bootstrap_accepted));
    lines.join("\n")
}
