//! The services of a machine, as `ServiceList` tells them.

use jiff::Timestamp;

use super::Node;
use crate::proto::machine::{ServiceEvent, ServiceEvents, ServiceHealth, ServiceInfo};

/// A service with its history.
#[derive(Debug, Clone, Default)]
pub(in crate::lab) struct Service {
    pub(in crate::lab) state: &'static str,
    pub(in crate::lab) healthy: Option<bool>,
    message: String,
    events: Vec<(String, &'static str, Timestamp)>,
}

/// Talos keeps this many events a service (1.12).
const KEPT: usize = 64;

impl Node {
    /// Moves a service to another state and remembers why.
    pub(super) fn service(&self, id: &'static str, state: &'static str, message: &str) {
        self.state.send_modify(|all| {
            let service = all.services.entry(id).or_default();
            service.state = state;
            service.healthy = None;
            service.events.push((message.to_owned(), state, Timestamp::now()));
            let surplus = service.events.len().saturating_sub(KEPT);
            service.events.drain(..surplus);
        });
    }

    pub(super) fn service_health(&self, id: &'static str, healthy: bool, message: &str) {
        self.state.send_modify(|all| {
            let service = all.services.entry(id).or_default();
            service.healthy = Some(healthy);
            message.clone_into(&mut service.message);
        });
    }
}

impl Service {
    pub(super) fn info(&self, id: &str) -> ServiceInfo {
        let stamp = |at: Timestamp| prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() };
        ServiceInfo {
            id: id.to_owned(),
            state: self.state.to_owned(),
            events: Some(ServiceEvents {
                events: self
                    .events
                    .iter()
                    .map(|(msg, state, at)| ServiceEvent {
                        msg: msg.clone(),
                        state: (*state).to_owned(),
                        ts: Some(stamp(*at)),
                    })
                    .collect(),
            }),
            health: Some(ServiceHealth {
                unknown: self.healthy.is_none(),
                healthy: self.healthy == Some(true),
                last_message: self.message.clone(),
                last_change: self.events.last().map(|(_, _, at)| stamp(*at)),
            }),
        }
    }
}
