use engine::Code;

use super::*;

const FIRST: u8 = 1;
const SECOND: u8 = 2;
const STRANGER: u8 = 9;

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn waiting() -> Facts {
    Facts {
        boot: "a".into(),
        etcd: Etcd::Waiting { message: "Running pre state".into() },
        requested: false,
        data: false,
        blocked: None,
    }
}

fn running(members: &[u64]) -> Facts {
    Facts { etcd: Etcd::Running { members: members.iter().copied().collect() }, data: true, ..waiting() }
}

/// Every state that makes a difference.
fn states() -> Vec<State> {
    let failed = || Etcd::Failed { reason: "disk".into() };
    vec![
        State::Unknown { reason: "no route".into() },
        State::Unconfigured { stage: "maintenance".into() },
        State::Foreign { evidence: "unknown issuer".into() },
        State::Known(waiting()),
        State::Known(Facts { boot: "b".into(), ..waiting() }),
        State::Known(Facts { blocked: Some(Blocker::Clock), ..waiting() }),
        State::Known(Facts { requested: true, ..waiting() }),
        State::Known(Facts { requested: true, data: true, ..waiting() }),
        State::Known(Facts { data: true, ..waiting() }),
        State::Known(Facts { etcd: failed(), ..waiting() }),
        State::Known(running(&[1])),
        State::Known(running(&[7])),
        State::Known(running(&[])),
        State::Known(Facts { requested: true, ..running(&[1]) }),
    ]
}

/// Every combination of states for so many control planes. Only the first two are named by intents and by the operator,
/// so the others are interchangeable and each set of their states is taken once.
fn combinations(nodes: u8) -> Vec<Vec<View>> {
    let states = states();
    let mut all: Vec<Vec<usize>> = vec![vec![]];
    for node in 0..nodes {
        all = all
            .into_iter()
            .flat_map(|chosen| {
                let from = if node > 2 { chosen.last().copied().unwrap_or_default() } else { 0 };
                (from..states.len()).map(move |state| [chosen.clone(), vec![state]].concat())
            })
            .collect();
    }
    all.into_iter()
        .map(|chosen| {
            (1..).zip(chosen).map(|(last, state)| View { node: address(last), state: states[state].clone() }).collect()
        })
        .collect()
}

fn intents() -> Vec<Option<Intent>> {
    let mut all = vec![None];
    for (node, accepted) in [(FIRST, false), (FIRST, true), (SECOND, false), (SECOND, true), (STRANGER, false)] {
        all.push(Some(Intent { node: address(node), boot: "a".into(), accepted }));
    }
    all
}

fn forced() -> [Option<IpAddr>; 3] {
    [None, Some(address(FIRST)), Some(address(SECOND))]
}

/// What must hold of a call, whatever led to it.
fn check_call(views: &[View], context: Context<'_>, node: IpAddr, boot: &str) {
    let inputs = || format!("{views:?} {context:?}");
    for view in views {
        match view.facts() {
            // Nothing is known of it, so only the operator's word lets it pass, and never for the node itself.
            None => assert!(context.forced.is_some_and(|forced| forced != view.node), "{}", inputs()),
            Some(facts) => {
                assert!(!facts.data && !facts.requested, "etcd is there already: {}", inputs());
                assert!(!matches!(facts.etcd, Etcd::Running { .. }), "{}", inputs());
            }
        }
        assert!(!matches!(view.state, State::Foreign { .. }), "{}", inputs());
    }
    let facts = views.iter().find(|view| view.node == node).and_then(View::facts).expect("the target is known");
    assert_eq!(facts.blocked, None, "{}", inputs());
    assert_eq!(facts.boot, boot, "{}", inputs());
    let repeat = context.intent.map(|intent| intent.node);
    assert_eq!(node, context.forced.or(repeat).unwrap_or(address(FIRST)), "{}", inputs());
    if let Some(intent) = context.intent.filter(|intent| intent.node == node) {
        assert!(!intent.accepted || intent.boot != boot, "an accepted call is repeated without evidence: {}", inputs());
    }
    assert!(
        !in_flight_elsewhere(views, context.intent, node),
        "a second call while the first may be on its way: {}",
        inputs()
    );
}

/// Whether the journal names another node than `node`, one that is still in the boot of its call.
fn in_flight_elsewhere(views: &[View], intent: Option<&Intent>, node: IpAddr) -> bool {
    intent.filter(|intent| intent.node != node).is_some_and(|intent| {
        let named = views.iter().find(|view| view.node == intent.node).and_then(View::facts);
        named.is_some_and(|facts| facts.boot == intent.boot)
    })
}

/// The invariants of a decision without a call.
fn check_progress(views: &[View], context: Context<'_>, decision: &Decision) {
    let inputs = || format!("{views:?} {context:?} {decision:?}");
    let facts: Vec<&Facts> = views.iter().filter_map(View::facts).collect();
    let known = facts.len() == views.len();
    let runs = facts.iter().any(|facts| matches!(facts.etcd, Etcd::Running { .. }));
    let evidence = runs || facts.iter().any(|facts| facts.data || facts.requested);
    let target = context.forced.or(context.intent.map(|intent| intent.node)).unwrap_or(address(FIRST));
    let target_facts = views.iter().find(|view| view.node == target).and_then(View::facts);
    match decision {
        Decision::Adopt => assert!(runs, "{}", inputs()),
        Decision::Verify(node) => {
            let facts = views.iter().find(|view| view.node == *node).and_then(View::facts).expect("it is known");
            let accepted = context.intent.is_some_and(|intent| intent.accepted && intent.boot == facts.boot);
            assert!(facts.requested || accepted, "{}", inputs());
        }
        Decision::WaitFor(_) => {
            assert!(!runs, "etcd runs, so nothing is waited for: {}", inputs());
            let blocked = target_facts.is_some_and(|facts| facts.blocked.is_some());
            assert!(!known || evidence || blocked, "nothing will change: {}", inputs());
        }
        Decision::Refuse(reason) => {
            let accepted = facts.iter().filter(|facts| facts.requested).count();
            let foreign = views.iter().any(|view| matches!(view.state, State::Foreign { .. }));
            let apart = reason.text.contains("two different etcd clusters");
            let elsewhere = !views.iter().any(|view| view.node == target);
            let flying = context.forced.is_some_and(|forced| in_flight_elsewhere(views, context.intent, forced));
            assert!(foreign || apart || accepted > 1 || elsewhere || flying, "{}", inputs());
        }
        Decision::Bootstrap { .. } => {}
    }
}

#[test]
fn every_combination_of_one_three_and_five_control_planes() {
    let mut seen = 0_u64;
    let mut calls = 0_u64;
    for nodes in [1, 3, 5] {
        for mut views in combinations(nodes) {
            for intent in intents() {
                for forced in forced() {
                    let context = Context { intent: intent.as_ref(), forced };
                    let decision = decide(&views, context);
                    if let Decision::Bootstrap { node, boot } = &decision {
                        check_call(&views, context, *node, boot);
                        calls += 1;
                    } else {
                        check_progress(&views, context, &decision);
                    }
                    seen += 1;
                }
            }
            let decision = decide(&views, Context::default());
            views.reverse();
            assert_eq!(decide(&views, Context::default()), decision, "it depends on the order: {views:?}");
        }
    }
    assert!(seen > 1_000_000 && calls > 1_000, "{seen} combinations, {calls} calls");
}

fn views(states: Vec<State>) -> Vec<View> {
    (1..).zip(states).map(|(last, state)| View { node: address(last), state }).collect()
}

fn call(last: u8, boot: &str) -> Decision {
    Decision::Bootstrap { node: address(last), boot: boot.into() }
}

fn text(decision: &Decision) -> (String, Option<Code>) {
    match decision {
        Decision::WaitFor(reason) | Decision::Refuse(reason) => (reason.text.clone(), reason.code),
        other => panic!("{other:?} has no reason"),
    }
}

/// Failures by their codes: what the nodes say, what the journal says, what follows.
#[test]
fn the_catalogue() {
    let known = |facts: Facts| State::Known(facts);
    let intent = |accepted| Intent { node: address(FIRST), boot: "a".into(), accepted };
    let none = Context::default();

    // T01: the answer was lost, the call was not.
    let requested = views(vec![known(Facts { requested: true, ..waiting() }), known(waiting())]);
    let lost = intent(false);
    assert_eq!(decide(&requested, Context { intent: Some(&lost), forced: None }), Decision::Verify(address(FIRST)));
    // ... or the call was lost as well: nothing of it in this boot.
    let both = views(vec![known(waiting()), known(waiting())]);
    assert_eq!(decide(&both, Context { intent: Some(&lost), forced: None }), call(FIRST, "a"));

    // T02: accepted, then a reboot; the same node gets it again, whatever is lower.
    let rebooted = views(vec![known(waiting()), known(Facts { boot: "b".into(), ..waiting() })]);
    let second = Intent { node: address(SECOND), boot: "a".into(), accepted: true };
    assert_eq!(decide(&rebooted, Context { intent: Some(&second), forced: None }), call(SECOND, "b"));

    // Accepted in this boot, etcd's image still on its way: watched, not repeated.
    let accepted = intent(true);
    assert_eq!(decide(&both, Context { intent: Some(&accepted), forced: None }), Decision::Verify(address(FIRST)));

    // T03: two clusters, by name.
    let split = views(vec![known(running(&[1])), known(waiting()), known(running(&[0x1f]))]);
    assert_eq!(
        text(&decide(&split, none)),
        (
            "10.0.0.1 and 10.0.0.3 run two different etcd clusters: members 0000000000000001 on the one, \
             000000000000001f on the other"
                .into(),
            Some(Code::T03)
        )
    );
    // ... and one that is only about to be two.
    let about = views(vec![known(Facts { requested: true, ..running(&[1]) }), requested[0].state.clone()]);
    assert_eq!(
        text(&decide(&about, none)),
        ("10.0.0.1 and 10.0.0.2 both accepted a bootstrap".into(), Some(Code::T03))
    );

    // T04, T05: a node of others, a config that never took, a partly applied cluster.
    let foreign = views(vec![known(waiting()), State::Foreign { evidence: "unknown issuer".into() }]);
    assert_eq!(
        text(&decide(&foreign, none)),
        ("10.0.0.2 belongs to another cluster: unknown issuer".into(), Some(Code::T04))
    );
    let partly = views(vec![known(waiting()), State::Unconfigured { stage: "maintenance".into() }]);
    assert_eq!(text(&decide(&partly, none)), ("10.0.0.2: without a config (maintenance)".into(), Some(Code::T05)));

    // T06, T07, T08: the node would refuse.
    for (blocker, reason, code) in [
        (Blocker::NotUp("its container runtime is preparing".into()), "its container runtime is preparing", Code::T06),
        (Blocker::Installation("its installation is installing".into()), "its installation is installing", Code::T07),
        (Blocker::Clock, "its clock is not in sync", Code::T08),
    ] {
        let blocked = views(vec![known(Facts { blocked: Some(blocker), ..waiting() })]);
        assert_eq!(
            text(&decide(&blocked, none)),
            (format!("10.0.0.1 does not accept a bootstrap yet: {reason}"), Some(code))
        );
    }

    // T13: a cluster that has lost its quorum is not started anew, although the lowest address waits.
    let holder = Facts { data: true, etcd: Etcd::Failed { reason: "no space left".into() }, ..waiting() };
    let wiped = views(vec![known(waiting()), known(holder)]);
    assert_eq!(
        text(&decide(&wiped, Context { intent: None, forced: Some(address(FIRST)) })),
        ("10.0.0.2 has etcd data, and etcd does not run there yet: failed (no space left)".into(), Some(Code::T13))
    );
}

#[test]
fn the_operator_may_force_a_bootstrap_without_an_unreachable_control_plane() {
    let unreachable = State::Unknown { reason: "no route".into() };
    let views = views(vec![unreachable, State::Known(waiting()), State::Known(waiting())]);
    let (reason, code) = text(&decide(&views, Context::default()));
    assert_eq!((reason.as_str(), code), ("10.0.0.1: unknown (no route)", None));
    let forced = Context { intent: None, forced: Some(address(3)) };
    assert_eq!(decide(&views, forced), call(3, "a"));
    // The node itself must answer.
    let forced = Context { intent: None, forced: Some(address(1)) };
    assert_eq!(text(&decide(&views, forced)).0, "10.0.0.1: unknown (no route)");
}

#[test]
fn a_running_member_is_adopted_although_another_node_is_unreachable() {
    let unreachable = State::Unknown { reason: "rebooting".into() };
    assert_eq!(decide(&views(vec![State::Known(running(&[1])), unreachable]), Context::default()), Decision::Adopt);
}

#[test]
fn a_call_needs_two_looks_that_agree() {
    assert_eq!(agreed(&call(1, "a"), call(1, "a")), call(1, "a"));
    assert!(matches!(agreed(&call(1, "a"), call(1, "b")), Decision::WaitFor(_)));
    assert!(matches!(agreed(&Decision::Adopt, call(1, "a")), Decision::WaitFor(_)));
    assert_eq!(agreed(&call(1, "a"), Decision::Adopt), Decision::Adopt);
}
