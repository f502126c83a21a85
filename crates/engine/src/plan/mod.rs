//! Phases and a cluster become a plan: the graph of steps, computed before anything is changed.
//!
//! A plan is plain data. `plan` prints it, the engine carries it out, `status` and the reports read it; nothing decides
//! the order a second time.

mod graph;
mod id;
mod phase;
mod step;

pub use graph::{Plan, PlanError};
pub use id::{Fingerprint, FingerprintBuilder, FingerprintKey, PhaseName, StepId};
pub use phase::{PhaseSpec, Phases, builtin_phases, read_phases};
pub use step::{Policy, Step};

#[cfg(test)]
mod tests;
