//! Nodes, orchestrators, and what lies between them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bootstrap::steps::etcd::decision::{Blocker, Context, Decision, Etcd, Facts, Intent, State, View, agreed, decide};

/// What can happen next. Nodes and orchestrators by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// An orchestrator does its next step: one query to one node, or one call.
    Orchestrator(usize),
    /// One of the calls that are on their way arrives, and its answer with it.
    Arrive(usize),
    /// It arrives, and the answer is lost.
    ArriveUnanswered(usize),
    /// It is lost.
    Lose(usize),
    /// The orchestrator waits no longer for an answer; its call stays on its way.
    GiveUp(usize),
    /// etcd on a node does its next step.
    Etcd(usize),
    Boot(usize),
    Reboot(usize),
    /// The disk is emptied by a reset, while others have the data still.
    Wipe(usize),
    /// The orchestrator dies and starts again with its journal.
    Restart(usize),
    /// The network between an orchestrator and a node fails, or recovers.
    Way(usize, usize),
    /// The node becomes unready for a bootstrap, or ready again.
    Block(usize),
}

const ORCHESTRATORS: usize = 2;

impl Act {
    /// Everything that can happen, once.
    pub(crate) fn all(nodes: usize) -> Vec<Self> {
        let orchestrators = (0..ORCHESTRATORS).flat_map(|one| {
            let calls = (0..ORCHESTRATORS).flat_map(|call| [Self::ArriveUnanswered(call), Self::Lose(call)]);
            let ways = (0..nodes).map(move |node| Self::Way(one, node));
            [Self::GiveUp(one), Self::Restart(one)].into_iter().chain(calls).chain(ways)
        });
        let machines = (0..nodes).flat_map(|node| [Self::Reboot(node), Self::Wipe(node), Self::Block(node)]);
        Self::fair(nodes).into_iter().chain(orchestrators).chain(machines).collect()
    }

    /// Every node and orchestrator once, without faults.
    pub(crate) fn fair(nodes: usize) -> Vec<Self> {
        let orchestrators = (0..ORCHESTRATORS).flat_map(|one| [Self::Orchestrator(one), Self::Arrive(one)]);
        let machines = (0..nodes).flat_map(|node| [Self::Boot(node), Self::Etcd(node)]);
        orchestrators.chain(machines).collect()
    }
}

#[derive(Debug, Clone, Default)]
struct Node {
    up: bool,
    boot: u32,
    blocked: bool,
    /// An accepted bootstrap, kept in memory.
    requested: bool,
    etcd: Directory,
}

/// etcd's data directory, and whether etcd runs on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Directory {
    #[default]
    Empty,
    /// Of this cluster.
    Written(u64),
    Running(u64),
}

impl Node {
    fn data(&self) -> Option<u64> {
        match self.etcd {
            Directory::Empty => None,
            Directory::Written(cluster) | Directory::Running(cluster) => Some(cluster),
        }
    }
}

/// What an orchestrator is about to do.
#[derive(Debug, Clone)]
enum Next {
    /// Looks at one node after the other; in the second look the first one's decision is known.
    Look {
        views: Vec<View>,
        first: Option<Decision>,
    },
    /// Has journaled the intent and opens a connection, in whichever boot the node then is.
    Connect {
        node: usize,
        boot: String,
    },
    Answer,
}

/// A call on its way over a connection to a node in one boot.
#[derive(Debug, Clone, Copy)]
struct Flight {
    node: usize,
    boot: u32,
    /// Who waits for the answer.
    from: Option<usize>,
}

#[derive(Debug, Clone)]
struct Orchestrator {
    journal: Option<Intent>,
    next: Next,
    /// It has seen etcd run, since faults stopped.
    adopted: bool,
    /// Which nodes it reaches.
    ways: Vec<bool>,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    nodes: Vec<Node>,
    orchestrators: Vec<Orchestrator>,
    flights: Vec<Flight>,
    clusters: u64,
    pub(crate) calls: u64,
    /// Accepted calls that a reboot forgot.
    pub(crate) forgotten: u64,
}

fn address(node: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, u8::try_from(node).unwrap() + 1])
}

fn look() -> Next {
    Next::Look { views: vec![], first: None }
}

impl Model {
    pub(crate) fn new(nodes: usize) -> Self {
        let node = Node { up: true, ..Node::default() };
        let orchestrator = Orchestrator { journal: None, next: look(), adopted: false, ways: vec![true; nodes] };
        Self {
            nodes: vec![node; nodes],
            orchestrators: vec![orchestrator; ORCHESTRATORS],
            flights: vec![],
            clusters: 0,
            calls: 0,
            forgotten: 0,
        }
    }

    /// Ends every fault.
    pub(crate) fn calm_down(&mut self) {
        for node in &mut self.nodes {
            node.blocked = false;
        }
        for orchestrator in &mut self.orchestrators {
            orchestrator.ways.fill(true);
            orchestrator.adopted = false;
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node.etcd, Directory::Running(_)))
            && self.orchestrators.iter().all(|one| one.adopted)
    }

    /// Applies one act; the error says how it violated the rule.
    pub(crate) fn act(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Orchestrator(index) => {
                self.orchestrate(index);
                Ok(())
            }
            Act::Arrive(index) => {
                self.arrive(index, true);
                Ok(())
            }
            Act::ArriveUnanswered(index) => {
                self.arrive(index, false);
                Ok(())
            }
            Act::Lose(index) => {
                if let Some(from) = self.take(index).and_then(|flight| flight.from) {
                    self.orchestrators[from].next = look();
                }
                Ok(())
            }
            Act::GiveUp(index) => {
                if matches!(self.orchestrators[index].next, Next::Answer) {
                    self.start_again(index);
                }
                Ok(())
            }
            Act::Etcd(index) => self.etcd(index),
            Act::Boot(index) => {
                self.nodes[index].up = true;
                Ok(())
            }
            Act::Reboot(index) => {
                self.reboot(index);
                Ok(())
            }
            Act::Wipe(index) => {
                let others = self.nodes.iter().enumerate().any(|(other, node)| other != index && node.data().is_some());
                if others {
                    self.reboot(index);
                    self.nodes[index].etcd = Directory::Empty;
                }
                Ok(())
            }
            Act::Restart(index) => {
                self.start_again(index);
                Ok(())
            }
            Act::Way(index, node) => {
                let way = &mut self.orchestrators[index].ways[node];
                *way = !*way;
                Ok(())
            }
            Act::Block(index) => {
                self.nodes[index].blocked = !self.nodes[index].blocked;
                Ok(())
            }
        }
    }

    /// The orchestrator begins with a look; a call that it sent is on its way without it.
    fn start_again(&mut self, index: usize) {
        self.orchestrators[index].next = look();
        for flight in self.flights.iter_mut().filter(|flight| flight.from == Some(index)) {
            flight.from = None;
        }
    }

    fn take(&mut self, index: usize) -> Option<Flight> {
        (index < self.flights.len()).then(|| self.flights.remove(index))
    }

    fn reboot(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        self.forgotten += u64::from(node.requested && node.data().is_none());
        let etcd = node.data().map_or(Directory::Empty, Directory::Written);
        *node = Node { boot: node.boot + 1, etcd, blocked: node.blocked, ..Node::default() };
    }

    fn etcd(&mut self, index: usize) -> Result<(), String> {
        if !self.nodes[index].up {
            return Ok(());
        }
        let living = self.nodes.iter().find_map(|node| match node.etcd {
            Directory::Running(cluster) if node.up => Some(cluster),
            _ => None,
        });
        let node = &mut self.nodes[index];
        match (node.etcd, living) {
            (Directory::Written(cluster), _) => node.etcd = Directory::Running(cluster),
            (Directory::Empty, _) if node.requested => {
                self.clusters += 1;
                node.etcd = Directory::Written(self.clusters);
                let held: BTreeSet<u64> = self.nodes.iter().filter_map(Node::data).collect();
                if held.len() > 1 {
                    return Err(format!("two clusters: {:?}", self.nodes));
                }
            }
            (Directory::Empty, Some(cluster)) => node.etcd = Directory::Written(cluster),
            (Directory::Running(_), _) | (Directory::Empty, None) => {}
        }
        Ok(())
    }

    /// The node that an orchestrator asks next. The one begins with the first, the other with the last.
    fn asked(&self, orchestrator: usize, seen: usize) -> usize {
        if orchestrator == 0 { seen } else { self.nodes.len() - 1 - seen }
    }

    fn view(&self, orchestrator: usize, index: usize) -> View {
        let node = &self.nodes[index];
        let state = if node.up && self.orchestrators[orchestrator].ways[index] {
            let member = |cluster: u64| (0..self.nodes.len() as u64).map(|node| cluster * 10 + node).collect();
            let etcd = match node.etcd {
                Directory::Running(cluster) => Etcd::Running { members: member(cluster) },
                _ => Etcd::Waiting { message: String::new() },
            };
            State::Known(Facts {
                boot: node.boot.to_string(),
                etcd,
                requested: node.requested,
                data: node.data().is_some(),
                blocked: node.blocked.then_some(Blocker::Clock),
            })
        } else {
            State::Unknown { reason: String::new() }
        };
        View { node: address(index), state }
    }

    fn orchestrate(&mut self, index: usize) {
        let orchestrator = &self.orchestrators[index];
        let next = match orchestrator.next.clone() {
            Next::Look { mut views, first } => {
                views.push(self.view(index, self.asked(index, views.len())));
                if views.len() < self.nodes.len() {
                    Next::Look { views, first }
                } else {
                    self.conclude(index, &views, first)
                }
            }
            Next::Connect { node, boot } => {
                let there = &self.nodes[node];
                // The connection is opened once and identifies the boot; the call goes over that connection or not at all.
                if there.up && orchestrator.ways[node] && there.boot.to_string() == boot {
                    self.calls += 1;
                    self.flights.push(Flight { node, boot: there.boot, from: Some(index) });
                    Next::Answer
                } else {
                    look()
                }
            }
            Next::Answer => Next::Answer,
        };
        self.orchestrators[index].next = next;
    }

    /// What follows from a complete look, as the step does it.
    fn conclude(&mut self, index: usize, views: &[View], first: Option<Decision>) -> Next {
        let orchestrator = &mut self.orchestrators[index];
        let decision = decide(views, Context { intent: orchestrator.journal.as_ref(), forced: None });
        // A run that has adopted is followed by another: some run always observes etcd.
        orchestrator.adopted |= decision == Decision::Adopt;
        let Some(first) = first else {
            let call = matches!(decision, Decision::Bootstrap { .. });
            return Next::Look { views: vec![], first: call.then_some(decision) };
        };
        match agreed(&first, decision) {
            Decision::Bootstrap { node, boot } => {
                orchestrator.journal = Some(Intent { node, boot: boot.clone(), accepted: false });
                let node = (0..views.len()).find(|index| address(*index) == node).unwrap();
                Next::Connect { node, boot }
            }
            _ => look(),
        }
    }

    /// A call arrives where it was sent, unless the node has booted since: then its connection is gone.
    fn arrive(&mut self, index: usize, answered: bool) {
        let Some(Flight { node, boot, from }) = self.take(index) else { return };
        let there = &mut self.nodes[node];
        let arrived = there.up && there.boot == boot;
        let refused = there.blocked && there.data().is_none();
        if arrived && there.data().is_none() && !refused {
            there.requested = true;
        }
        let Some(orchestrator) = from.map(|from| &mut self.orchestrators[from]) else { return };
        orchestrator.next = look();
        if !(arrived && answered && orchestrator.ways[node]) {
            return;
        }
        match orchestrator.journal.as_mut() {
            Some(_) if refused => orchestrator.journal = None,
            Some(intent) => intent.accepted = true,
            None => {}
        }
    }
}
