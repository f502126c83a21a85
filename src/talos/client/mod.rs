//! The Talos API client: maintenance mode and mTLS, dial address apart from identity.
//!
//! Facts from Talos 1.11 to 1.14: one endpoint a node on port 50000, TLS without a client certificate in maintenance
//! mode, mTLS by the machine CA afterwards; errors come back as the call's own status because no `nodes` metadata is
//! ever sent.

mod api;
mod connect;
mod error;
mod probe;
mod status;

pub use api::{Applied, Client, EtcdMember, Maintenance, Service};
pub use connect::{Fingerprint, PORT};
pub use error::{ClientError, Kind};
pub use probe::{Foreign, Probe, probe};
pub use status::{MachineStatus, Stage};

#[cfg(test)]
mod tests;
