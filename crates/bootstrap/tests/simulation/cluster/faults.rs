//! Faults of machines, networks, services and the operators' own machines.

use std::time::Duration;

use talos_config::Role;

use super::{Cause, OPERATORS, SimulatedCluster};

impl SimulatedCluster {
    fn happens(&mut self, often: u64) -> bool {
        self.chance.happens(often)
    }

    fn any_node(&mut self) -> usize {
        self.chance.index(self.nodes.len())
    }

    /// The faults of one tick.
    pub(super) fn tick_faults(&mut self) {
        if self.faults_ended {
            return;
        }
        let (now, rates) = (self.now(), self.rates);
        if self.happens(rates.reboot) {
            let index = self.any_node();
            if self.happens(rates.slow_boot) {
                self.nodes[index].extra_boot = self.chance.millis(20_000..=120_000);
            }
            self.counts.reboots += 1;
            self.reboot(index, Cause::Other);
        }
        if self.happens(rates.wipe) && !self.etcd_exists() {
            self.wipe();
        }
        if self.happens(rates.partition) {
            let (index, operator) = (self.any_node(), self.chance.index(OPERATORS));
            self.nodes[index].unreachable_until[operator] = now + self.chance.millis(2_000..=60_000);
            let name = self.nodes[index].name.clone();
            self.log(|| format!("operator {operator} does not reach {name}"));
        }
        if self.happens(rates.block) {
            let index = self.any_node();
            self.nodes[index].blocked_until = now + self.chance.millis(2_000..=60_000);
        }
        if self.happens(rates.api_outage) {
            let until = now + self.chance.millis(2_000..=90_000);
            self.kubernetes.api_away_until = until;
            self.log(|| format!("the API is away until {until:?}"));
        }
        if self.happens(rates.registry_outage) {
            self.kubernetes.registry_away_until = now + self.chance.millis(2_000..=60_000);
        }
        if self.happens(rates.etcd_alarm) && now >= self.alarm_until {
            (self.alarm_since, self.alarm_until) = (now, now + self.chance.millis(5_000..=90_000));
            self.counts.alarms += 1;
            let until = self.alarm_until;
            self.log(|| format!("etcd raises an alarm until {until:?}"));
        }
        if self.happens(rates.disk_full) {
            let operator = self.chance.index(OPERATORS);
            let took: Duration = self.chance.millis(2_000..=60_000);
            self.disk_full_until[operator] = now + took;
            self.log(|| format!("the disk of operator {operator} is full for {took:?}"));
        }
    }

    /// A worker that waits for its turn fails while two others have theirs: the moment in which the limit of nodes that may be
    /// down counts.
    pub(super) fn tick_worker_failure(&mut self) {
        let workers = (0..self.nodes.len()).filter(|index| self.nodes[*index].role == Role::Worker);
        let (in_turn, others): (Vec<usize>, Vec<usize>) =
            workers.filter(|index| self.nodes[*index].is_up()).partition(|index| self.kubernetes.is_cordoned(*index));
        let mut waiting = others.into_iter().filter(|index| self.nodes[*index].config != Some(self.inputs));
        let (Some(index), 2..) = (waiting.next(), in_turn.len()) else { return };
        if self.worker_failures_left == 0 || !self.happens(500) {
            return;
        }
        self.worker_failures_left -= 1;
        self.counts.worker_failures += 1;
        self.nodes[index].extra_boot = self.chance.millis(10_000..=60_000);
        self.reboot(index, Cause::Other);
    }

    /// A machine is reset: its disk is empty, and it waits in maintenance mode. Only before any disk has etcd's data.
    fn wipe(&mut self) {
        let index = self.any_node();
        self.counts.wipes += 1;
        self.reboot(index, Cause::Other);
        self.nodes[index].config = None;
        let name = self.nodes[index].name.clone();
        self.log(|| format!("the disk of {name} is wiped"));
    }
}
