//! The members of etcd, as a table and as JSON.

use bootstrap::ops::{MemberReport, MemberRole, MemberState};
use serde_json::{Value, json};

pub(crate) fn etcd_json(members: &[MemberReport]) -> String {
    let row = |member: &MemberReport| {
        let etcd = match &member.state {
            Ok(state) => state_json(state),
            Err(error) => json!({"error": error.to_string()}),
        };
        json!({"node": member.node, "etcd": etcd})
    };
    Value::from(members.iter().map(row).collect::<Vec<_>>()).to_string()
}

fn state_json(state: &MemberState) -> Value {
    json!({
        "member": format!("{:016x}", state.id),
        "leads": state.role == MemberRole::Leader,
        "learns": state.role == MemberRole::Learner,
        "version": state.version,
        "bytes": state.bytes,
        "bytesInUse": state.bytes_in_use,
        "behind": state.behind,
        "members": state.members,
        "alarms": alarms(state),
        "errors": state.errors,
    })
}

fn alarms(state: &MemberState) -> Vec<String> {
    state.alarms.iter().map(ToString::to_string).collect()
}

pub(crate) fn etcd_table(members: &[MemberReport]) -> String {
    members.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(member: &MemberReport) -> String {
    let node = &member.node;
    let state = match &member.state {
        Ok(state) => state,
        Err(error) => return format!("{node:<20} {error}"),
    };
    let role = match state.role {
        MemberRole::Leader => "leader",
        MemberRole::Learner => "learner",
        MemberRole::Follower => "follower",
    };
    let problems = [alarms(state), state.errors.clone()].concat().join("; ");
    let line = format!(
        "{node:<20} {:016x} {role:<8} etcd {} {} MB, {} members {problems}",
        state.id,
        state.version,
        state.bytes / 1_000_000,
        state.members,
    );
    line.trim_end().to_owned()
}
