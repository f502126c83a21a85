//! Services of a machine.

use talos_proto::machine::ServiceList;

/// A service of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub id: String,
    /// Such as `Running`, `Preparing`, `Failed`.
    pub state: String,
    pub healthy: bool,
    pub last_message: String,
    /// Its events since it was loaded, oldest first.
    pub events: Vec<String>,
}

pub(super) fn services_of(list: ServiceList) -> Vec<Service> {
    let services = list.services.into_iter().map(|service| {
        let health = service.health.unwrap_or_default();
        Service {
            id: service.id,
            state: service.state,
            healthy: health.healthy,
            last_message: health.last_message,
            events: service.events.unwrap_or_default().events.into_iter().map(|event| event.msg).collect(),
        }
    });
    services.collect()
}
