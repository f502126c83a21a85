//! Control planes that do not respond while etcd is nowhere: the evidence for `--force-bootstrap-node`.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::view::{Etcd, State, View};

/// How long a control plane must have been unreachable before the flag is offered. Servers need minutes to reboot (T11).
const OFFERED_AFTER: Duration = Duration::from_mins(10);

/// A control plane that does not respond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    pub node: IpAddr,
    pub since: Timestamp,
    pub lasted: Duration,
}

/// Every control plane either has no etcd data or does not respond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// Those that were seen without etcd data, the lowest address first.
    pub without_data: Vec<IpAddr>,
    /// Those that could not be reached, with the reason.
    unreachable: Vec<(Unreachable, String)>,
}

impl Absence {
    /// What is known while a control plane that does not respond holds the bootstrap up; nothing when something else
    /// does. `outages` has every control plane that does not respond.
    pub fn find(views: &[View], outages: &[Unreachable]) -> Option<Self> {
        let mut found = Self { without_data: vec![], unreachable: vec![] };
        for view in views {
            match &view.state {
                State::Unknown { reason } => {
                    let outage = outages.iter().find(|outage| outage.node == view.node)?;
                    found.unreachable.push((outage.clone(), reason.clone()));
                }
                State::Known(facts)
                    if !facts.data && !facts.requested && !matches!(facts.etcd, Etcd::Running { .. }) =>
                {
                    found.without_data.push(view.node);
                }
                _ => return None,
            }
        }
        found.without_data.sort_unstable();
        (!found.unreachable.is_empty()).then_some(found)
    }

    /// The node to offer for `--force-bootstrap-node`, once the others have been away for so long that they may be lost.
    pub fn forced_node(&self) -> Option<IpAddr> {
        let is_long = self.unreachable.iter().all(|(outage, _)| outage.lasted >= OFFERED_AFTER);
        self.without_data.first().copied().filter(|_| is_long)
    }

    /// The control planes that could not be reached.
    pub fn unreachable_nodes(&self) -> impl Iterator<Item = IpAddr> {
        self.unreachable.iter().map(|(outage, _)| outage.node)
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen: Vec<String> = self.without_data.iter().map(|node| format!("{node}: no etcd data")).collect();
        let away = self.unreachable.iter().map(|(outage, reason)| {
            let since = outage.since.strftime("%H:%M:%SZ");
            format!("{}: unreachable since {since} ({reason})", outage.node)
        });
        f.write_str(&seen.into_iter().chain(away).collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::Facts;
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn view(last: u8, state: State) -> View {
        View { node: address(last), state }
    }

    fn empty() -> Facts {
        let etcd = Etcd::Waiting { message: "Running pre state".into() };
        Facts { boot: "a".into(), etcd, requested: false, data: false, blocked: None }
    }

    fn away(last: u8) -> View {
        view(last, State::Unknown { reason: "connection refused".into() })
    }

    fn outage(last: u8, minutes: u64) -> Unreachable {
        let since = "2026-11-30T12:03:41Z".parse().unwrap();
        Unreachable { node: address(last), since, lasted: Duration::from_mins(minutes) }
    }

    #[test]
    fn the_flag_is_offered_only_with_its_evidence_and_after_a_while() {
        let views = [view(2, State::Known(empty())), view(1, State::Known(empty())), away(3)];
        let rebooting = Absence::find(&views, &[outage(3, 2)]).unwrap();
        assert_eq!(rebooting.forced_node(), None);
        let lost = Absence::find(&views, &[outage(3, 10)]).unwrap();
        assert_eq!(lost.forced_node(), Some(address(1)));
        assert_eq!(
            lost.to_string(),
            "10.0.0.1: no etcd data; 10.0.0.2: no etcd data; 10.0.0.3: unreachable since 12:03:41Z (connection refused)"
        );
    }

    #[test]
    fn one_that_has_just_gone_withholds_the_flag() {
        let views = [view(1, State::Known(empty())), away(2), away(3)];
        let absence = Absence::find(&views, &[outage(2, 30), outage(3, 1)]).unwrap();
        assert_eq!(absence.forced_node(), None);
    }

    #[test]
    fn nothing_is_offered_where_etcd_may_be() {
        let all_away = Absence::find(&[away(1), away(2)], &[outage(1, 60), outage(2, 60)]).unwrap();
        assert_eq!(all_away.forced_node(), None, "no control plane was seen without data");
        let other = [
            State::Known(Facts { data: true, ..empty() }),
            State::Known(Facts { requested: true, ..empty() }),
            State::Unconfigured { stage: "maintenance".into() },
            State::Foreign { evidence: "unknown issuer".into() },
        ];
        for state in other {
            assert_eq!(Absence::find(&[view(1, state), away(2)], &[outage(2, 60)]), None);
        }
        assert_eq!(Absence::find(&[view(1, State::Known(empty()))], &[]), None, "every control plane responds");
    }
}
