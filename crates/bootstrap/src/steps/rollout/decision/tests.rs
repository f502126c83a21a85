use proptest::prelude::*;

use super::*;

fn down() -> Health {
    Health::Down("rebooting".to_owned())
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![3 => Just(Health::Up), 1 => Just(down())]
}

fn cordon() -> impl Strategy<Value = Cordon> {
    prop_oneof![6 => Just(Cordon::None), 1 => Just(Cordon::Left), 1 => Just(Cordon::Unknown)]
}

fn alarms() -> impl Strategy<Value = Alarms> {
    prop_oneof![
        6 => Just(Alarms::Read(vec![])),
        1 => Just(Alarms::Read(vec!["cp-1: NoSpace".to_owned()])),
        1 => Just(Alarms::Unread),
    ]
}

fn member(name: &str) -> EtcdMember {
    EtcdMember { id: 9, hostname: name.to_owned(), peer_urls: vec![], client_urls: vec![], is_learner: false }
}

prop_compose! {
    /// A cluster of 1 to 6 control planes, all of which vote in most cases, and up to 4 workers. The control plane to reboot
    /// is its first one, the worker is not a member.
    fn cluster()(
        voters in prop::collection::vec(health(), 1..=6),
        nodes in prop::collection::vec((health(), cordon()), 6),
        workers in prop::collection::vec((health(), cordon()), 0..=4),
        joining in prop::bool::weighted(0.1),
        learner in prop::bool::weighted(0.1),
        outsider in prop::bool::weighted(0.1),
        alarms in alarms(),
        own in health(),
    ) -> ClusterState {
        let name = |index: usize| format!("cp-{index}");
        let all = voters.len() + usize::from(joining);
        let control_planes = (1..all).zip(nodes).map(|(index, (health, cordon))| OtherNode {
            name: name(index), role: Role::ControlPlane, health, cordon,
        });
        let workers = workers.into_iter().enumerate().map(|(index, (health, cordon))| OtherNode {
            name: format!("worker-{index}"), role: Role::Worker, health, cordon,
        });
        ClusterState {
            others: control_planes.chain(workers).collect(),
            etcd: EtcdState {
                voters: voters.into_iter().enumerate().map(|(index, health)| Voter { name: name(index), health }).collect(),
                learners: learner.then(|| "cp-9".to_owned()).into_iter().collect(),
                outsiders: outsider.then(|| member("cp-8")).into_iter().collect(),
                alarms,
            },
            health: own,
        }
    }
}

fn is_up(health: &Health) -> bool {
    *health == Health::Up
}

fn no_limit() -> RebootLimit {
    limit(1, &[])
}

fn limit(max_unavailable: usize, allowed: &[&str]) -> RebootLimit {
    RebootLimit { max_unavailable, allowed: allowed.iter().map(|name| (*name).to_owned()).collect() }
}

/// Voters besides `cp-0` that are healthy, on control planes that are up.
fn healthy(cluster: &ClusterState) -> usize {
    let is_down = |name: &str| cluster.others.iter().any(|other| other.name == name && !is_up(&other.health));
    let voters = cluster.etcd.voters.iter().filter(|voter| voter.name != "cp-0");
    voters.filter(|voter| is_up(&voter.health) && !is_down(&voter.name)).count()
}

/// Whether the state allows no reboot of a control plane, however many voters are healthy.
fn is_unsettled(cluster: &ClusterState) -> bool {
    let EtcdState { voters, learners, outsiders, alarms } = &cluster.etcd;
    let mut control_planes = cluster.others.iter().filter(|other| other.role == Role::ControlPlane);
    *alarms != Alarms::Read(vec![])
        || !learners.is_empty()
        || !outsiders.is_empty()
        || control_planes.any(|other| {
            voters.iter().all(|voter| voter.name != other.name)
                || (!is_up(&other.health) && other.cordon != Cordon::None)
        })
}

proptest! {
    #[test]
    fn a_control_plane_reboots_exactly_when_the_others_keep_the_quorum(cluster in cluster()) {
        let all = cluster.etcd.voters.len();
        let keeps_quorum = all == 1 || healthy(&cluster) > all / 2;
        let decision = may_reboot("cp-0", Role::ControlPlane, &cluster, &no_limit());
        prop_assert_eq!(decision.is_ok(), keeps_quorum && !is_unsettled(&cluster), "{:?}: {:?}", decision, cluster);
    }

    #[test]
    fn a_healthy_cluster_lets_a_control_plane_reboot(mut cluster in cluster()) {
        let names: Vec<String> = cluster.etcd.voters.iter().map(|voter| voter.name.clone()).collect();
        cluster.others.retain(|other| other.role == Role::Worker || names.contains(&other.name));
        cluster.etcd.learners.clear();
        cluster.etcd.outsiders.clear();
        cluster.etcd.alarms = Alarms::Read(vec![]);
        cluster.etcd.voters.iter_mut().for_each(|voter| voter.health = Health::Up);
        cluster.others.iter_mut().for_each(|other| other.health = Health::Up);
        let decision = may_reboot("cp-0", Role::ControlPlane, &cluster, &no_limit());
        match cluster.etcd.voters.len() {
            2 => prop_assert_eq!(decision.unwrap_err().outlook, Outlook::Permanent),
            _ => prop_assert_eq!(decision, Ok(())),
        }
    }

    #[test]
    fn a_worker_reboots_exactly_when_fewer_nodes_than_allowed_are_down_or_about_to_be(
        cluster in cluster(),
        allowed in prop::collection::btree_set("worker-[0-3]", 0..=3),
        max in 1_usize..4,
    ) {
        let away = |other: &&OtherNode| !is_up(&other.health) || allowed.contains(&other.name);
        let away = cluster.others.iter().filter(away).count();
        let limit = RebootLimit { max_unavailable: max, allowed };
        let decision = may_reboot("worker-9", Role::Worker, &cluster, &limit);
        prop_assert_eq!(decision.is_ok(), !is_up(&cluster.health) || away < max, "{:?}", cluster);
    }

    #[test]
    fn workers_that_ask_one_after_the_other_never_exceed_the_limit(
        workers in prop::collection::vec(health(), 1..=6),
        order in prop::collection::vec(0_usize..6, 1..=12),
        max in 1_usize..4,
    ) {
        // Each sees the others as they were before any reboot began.
        let dead = workers.iter().filter(|health| !is_up(health)).count();
        let mut limit = limit(max, &[]);
        for index in order.into_iter().filter(|index| *index < workers.len()) {
            let node = |(other, health): (usize, &Health)| OtherNode {
                name: format!("worker-{other}"), role: Role::Worker, health: health.clone(), cordon: Cordon::None,
            };
            let others = workers.iter().enumerate().filter(|(other, _)| *other != index).map(node).collect();
            let cluster = ClusterState { etcd: EtcdState::default(), others, health: workers[index].clone() };
            let name = format!("worker-{index}");
            if may_reboot(&name, Role::Worker, &cluster, &limit).is_ok() {
                limit.allowed.insert(name);
            }
        }
        let is_healthy = |name: &&String| is_up(&workers[name.trim_start_matches("worker-").parse::<usize>().unwrap()]);
        let taken = limit.allowed.iter().filter(is_healthy).count();
        prop_assert!(taken == 0 || dead + taken <= max, "{dead} are dead, {taken} are taken away");
    }

    #[test]
    fn every_refusal_names_its_reason(cluster in cluster()) {
        for (name, role) in [("cp-0", Role::ControlPlane), ("worker-9", Role::Worker)] {
            if let Err(reason) = may_reboot(name, role, &cluster, &no_limit()) {
                prop_assert!(!reason.text.is_empty(), "{cluster:?}");
            }
        }
    }
}

fn other(name: &str, role: Role, health: Health) -> OtherNode {
    OtherNode { name: name.to_owned(), role, health, cordon: Cordon::None }
}

/// Control planes `a`, `b`, `c` …, of which some are dead; asked about `a`.
fn control_planes(health: &[Health]) -> ClusterState {
    let names = ('a'..='z').map(String::from);
    let nodes: Vec<(String, Health)> = names.zip(health.iter().cloned()).collect();
    ClusterState {
        etcd: EtcdState {
            voters: nodes.iter().cloned().map(|(name, health)| Voter { name, health }).collect(),
            alarms: Alarms::Read(vec![]),
            ..EtcdState::default()
        },
        others: nodes.into_iter().skip(1).map(|(name, health)| other(&name, Role::ControlPlane, health)).collect(),
        health: Health::Up,
    }
}

fn asked(cluster: &ClusterState) -> Result<(), RebootWait> {
    may_reboot("a", Role::ControlPlane, cluster, &no_limit())
}

#[test]
fn one_dead_control_plane_of_five_does_not_prevent_corrections() {
    let up = || Health::Up;
    assert_eq!(asked(&control_planes(&[up(), down(), up(), up(), up()])), Ok(()));
    let two = asked(&control_planes(&[up(), down(), up(), down(), up()]));
    assert_eq!(two.unwrap_err().text, "etcd member b is unhealthy: rebooting");
    assert!(asked(&control_planes(&[up(), down(), up(), up()])).is_err());
    assert!(asked(&control_planes(&[up(), down(), up()])).is_err());
    // The dead one itself takes no vote away.
    assert_eq!(asked(&control_planes(&[down(), up(), up()])), Ok(()));
}

#[test]
fn a_control_plane_that_a_run_took_away_has_to_come_back_first() {
    let mut cluster = control_planes(&[Health::Up, down(), Health::Up, Health::Up, Health::Up]);
    for cordon in [Cordon::Left, Cordon::Unknown] {
        cluster.others[0].cordon = cordon;
        assert_eq!(asked(&cluster).unwrap_err().text, "another control plane is down: b (rebooting)");
    }
}

#[test]
fn a_member_outside_the_inventory_ends_the_rollout_with_its_name() {
    let mut cluster = control_planes(&[Health::Up, Health::Up, Health::Up]);
    cluster.etcd.outsiders = vec![member("gone")];
    let refused = may_reboot("a", Role::ControlPlane, &cluster, &no_limit()).unwrap_err();
    assert_eq!((refused.code, refused.outlook), (Code::T22, Outlook::Permanent));
    assert_eq!(refused.text, "gone is an etcd member and not a control plane of the inventory");
}

#[test]
fn a_control_plane_that_has_not_joined_is_waited_for() {
    let mut cluster = control_planes(&[Health::Up, Health::Up]);
    cluster.others.push(other("c", Role::ControlPlane, down()));
    let waits = may_reboot("a", Role::ControlPlane, &cluster, &no_limit()).unwrap_err();
    assert_eq!(waits.outlook, Outlook::MayChange);
    assert_eq!(waits.text, "control plane c has no voting etcd member yet");
}

#[test]
fn reasons_are_for_the_operator() {
    let mut cluster = control_planes(&[Health::Up, down(), Health::Up]);
    cluster.others.push(other("d", Role::Worker, down()));
    cluster.others.push(other("e", Role::Worker, Health::Up));
    let reason =
        |cluster: &ClusterState, limit: &RebootLimit| may_reboot("w", Role::Worker, cluster, limit).unwrap_err().text;
    assert_eq!(asked(&cluster).unwrap_err().text, "etcd member b is unhealthy: rebooting");
    assert_eq!(reason(&cluster, &no_limit()), "2 of at most 1 nodes are down: b (rebooting); d (rebooting)");
    let expected = "3 of at most 3 nodes are down: b (rebooting); d (rebooting); e (about to reboot)";
    assert_eq!(reason(&cluster, &limit(3, &["e"])), expected);
    cluster.etcd.alarms = Alarms::Unread;
    assert_eq!(asked(&cluster).unwrap_err().text, "no control plane lists etcd's alarms");
    cluster.etcd.learners = vec!["d".to_owned()];
    let refused = may_reboot("a", Role::ControlPlane, &cluster, &no_limit()).unwrap_err();
    assert_eq!((refused.text.as_str(), refused.code), ("etcd member d is a learner and does not vote yet", Code::T12));
}

#[test]
fn a_worker_of_the_inventory_that_is_an_etcd_member_does_not_reboot() {
    let voter = |name: &str| Voter { name: name.to_owned(), health: Health::Up };
    let cluster = |etcd: EtcdState| ClusterState { others: vec![], etcd, health: Health::Up };
    let state = |voters: Vec<Voter>, outsiders: Vec<EtcdMember>| EtcdState {
        voters,
        learners: vec![],
        outsiders,
        alarms: Alarms::Read(vec![]),
    };
    let limit = RebootLimit { max_unavailable: 1, allowed: BTreeSet::new() };
    for etcd in [state(vec![voter("cp-1"), voter("cp-2")], vec![]), state(vec![voter("cp-1")], vec![member("cp-2")])] {
        let refused = may_reboot("cp-2", Role::Worker, &cluster(etcd), &limit).unwrap_err();
        assert_eq!((refused.code, refused.outlook), (Code::T22, Outlook::Permanent));
    }
    let worker = cluster(state(vec![voter("cp-1")], vec![]));
    assert_eq!(may_reboot("worker-1", Role::Worker, &worker, &limit), Ok(()));
}
