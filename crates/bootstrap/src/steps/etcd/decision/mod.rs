//! Whether etcd may be bootstrapped, and where: a pure function of what every control plane reports.
//!
//! Bootstrap on two nodes makes two clusters, and Talos refuses a second call on the same node only (failure T03). So
//! nothing is decided while any control plane is unknown, the choice is the lowest address whatever the order of the
//! inventory, and a repeat goes to the node of the recorded intent, with evidence that the first call was lost. The
//! operator can declare that an unreachable control plane does not matter; nothing outweighs etcd that is observed.
//!
//! No I/O here: `survey` asks the nodes, the step acts.

mod absence;
mod view;

use std::collections::BTreeSet;
use std::net::IpAddr;

use engine::Code;

pub use absence::{Absence, Unreachable};
pub(in crate::steps) use view::newest_call;
pub use view::{Blocker, BootstrapOutcome, Etcd, Facts, Intent, State, View};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing can be done yet.
    WaitFor(Reason),
    /// Send the call to this node, while it is still in this boot.
    Bootstrap { node: IpAddr, boot: String },
    /// This node accepted it; wait until etcd runs.
    Verify(IpAddr),
    /// etcd runs.
    Adopt,
    /// The operator has to decide.
    Refuse(Reason),
}

/// Why, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub text: String,
    /// The entry of the error catalogue.
    pub code: Option<Code>,
}

impl Reason {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: None }
    }

    fn code(self, code: Code) -> Self {
        Self { code: Some(code), ..self }
    }
}

/// What is known besides the control planes' reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'c> {
    /// The newest call that may have been accepted, from the journal.
    pub intent: Option<&'c Intent>,
    /// `--force-bootstrap-node`: this node, although others are unreachable.
    pub forced: Option<IpAddr>,
}

/// Decides. `views` holds every control plane of the inventory, in any order.
pub fn decide(views: &[View], context: Context<'_>) -> Decision {
    let mut views: Vec<&View> = views.iter().collect();
    views.sort_by_key(|view| view.node);
    foreign(&views)
        .or_else(|| running(&views))
        .or_else(|| accepted(&views))
        .or_else(|| data(&views))
        .or_else(|| not_ready(&views, context))
        .unwrap_or_else(|| first(&views, context))
}

/// The decision of two surveys, one after the other. A call that only one of them leads to is not sent: a survey may
/// combine an old report of one node with a newer one of the next.
pub fn agreed(first: &Decision, second: Decision) -> Decision {
    match &second {
        Decision::Bootstrap { .. } if *first != second => {
            Decision::WaitFor(Reason::new("the control planes changed while they were observed"))
        }
        _ => second,
    }
}

fn foreign(views: &[&View]) -> Option<Decision> {
    views.iter().find_map(|view| match &view.state {
        State::Foreign { evidence } => Some(Decision::Refuse(
            Reason::new(format!("{} belongs to another cluster: {evidence}", view.node)).code(Code::T04),
        )),
        _ => None,
    })
}

/// etcd runs somewhere: it is adopted, unless two clusters run or a second one is starting.
fn running(views: &[&View]) -> Option<Decision> {
    let running: Vec<(&View, &BTreeSet<u64>)> = views
        .iter()
        .filter_map(|view| match view.facts().map(|facts| &facts.etcd) {
            Some(Etcd::Running { members }) => Some((*view, members)),
            _ => None,
        })
        .collect();
    let apart = |(one, ids): &(&View, &BTreeSet<u64>)| {
        running
            .iter()
            .find(|(_, others)| !ids.is_empty() && !others.is_empty() && ids.is_disjoint(others))
            .map(|(other, others)| (one.node, (*ids).clone(), other.node, (*others).clone()))
    };
    if let Some((one, ids, other, others)) = running.iter().find_map(apart) {
        let text = format!(
            "{one} and {other} run two different etcd clusters: members {} on the one, {} on the other",
            hexadecimal(&ids),
            hexadecimal(&others)
        );
        return Some(Decision::Refuse(Reason::new(text).code(Code::T03)));
    }
    if running.is_empty() { None } else { accepted_by_two(views).or(Some(Decision::Adopt)) }
}

/// Two nodes that accepted a bootstrap in their present boots make two clusters, whatever they report of etcd now.
fn accepted_by_two(views: &[&View]) -> Option<Decision> {
    let mut accepted = views.iter().filter(|view| view.facts().is_some_and(|facts| facts.requested));
    let (first, second) = (accepted.next()?, accepted.next()?);
    let text = format!("{} and {} both accepted a bootstrap", first.node, second.node);
    Some(Decision::Refuse(Reason::new(text).code(Code::T03)))
}

fn accepted(views: &[&View]) -> Option<Decision> {
    accepted_by_two(views).or_else(|| {
        let one = views.iter().find(|view| view.facts().is_some_and(|facts| facts.requested))?;
        Some(Decision::Verify(one.node))
    })
}

/// A data directory that is not empty belongs to an earlier cluster, which may be starting.
fn data(views: &[&View]) -> Option<Decision> {
    let holder = views.iter().find(|view| view.facts().is_some_and(|facts| facts.data))?;
    let text = format!("{} has etcd data, and etcd does not run there yet: {}", holder.node, holder.state);
    Some(Decision::WaitFor(Reason::new(text).code(Code::T13)))
}

/// A control plane that may have etcd. A failed etcd without data counts as none: Talos gives up joining after half
/// an hour and reboots, and a bootstrap is what it waited for.
fn not_ready(views: &[&View], context: Context<'_>) -> Option<Decision> {
    let counts = |view: &&&View| context.forced.is_none_or(|forced| forced == view.node);
    let view = views.iter().filter(counts).find(|view| view.facts().is_none())?;
    let reason = Reason::new(format!("{}: {}", view.node, view.state));
    let unconfigured = matches!(view.state, State::Unconfigured { .. });
    Some(Decision::WaitFor(if unconfigured { reason.code(Code::T05) } else { reason }))
}

/// etcd is nowhere: every control plane that counts waits with an empty data directory.
fn first(views: &[&View], context: Context<'_>) -> Decision {
    if let Some(refusal) = context.forced.and_then(|forced| still_meant_for_another(views, context.intent?, forced)) {
        return refusal;
    }
    let recorded = context.intent.map(|intent| intent.node);
    let Some(target) = context.forced.or(recorded).or_else(|| views.first().map(|view| view.node)) else {
        return Decision::Refuse(Reason::new("the cluster has no control plane"));
    };
    let known = views.iter().find(|view| view.node == target).and_then(|view| view.facts());
    let Some(facts) = known else {
        let text = format!("the bootstrap is meant for {target}, which is not a control plane of this inventory");
        return Decision::Refuse(Reason::new(text).code(Code::T03));
    };
    let repeat = context.intent.filter(|intent| intent.node == target);
    if repeat.is_some_and(|intent| intent.accepted && intent.boot == facts.boot) {
        // Each accepted call restarts etcd, so an accepted one is watched and never repeated in the same boot.
        return Decision::Verify(target);
    }
    if let Some(blocker) = &facts.blocked {
        return Decision::WaitFor(
            Reason::new(format!("{target} does not accept a bootstrap yet: {blocker}")).code(blocker.code()),
        );
    }
    // No call yet; or one without effect: in this boot it never arrived, in an earlier one the reboot lost it (T02).
    Decision::Bootstrap { node: target, boot: facts.boot.clone() }
}

/// The operator names one node while a call to another, which answers, may still take effect in its present boot.
fn still_meant_for_another(views: &[&View], intent: &Intent, forced: IpAddr) -> Option<Decision> {
    let named = views.iter().find(|view| view.node == intent.node && view.node != forced)?;
    if named.facts()?.boot != intent.boot {
        return None;
    }
    let text =
        format!("{} already received a bootstrap since its last boot; bootstrapping {forced} is rejected", intent.node);
    Some(Decision::Refuse(Reason::new(text).code(Code::T03)))
}

fn hexadecimal(ids: &BTreeSet<u64>) -> String {
    let texts: Vec<String> = ids.iter().map(|id| format!("{id:016x}")).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests;
