//! The integration tests of the program, as one binary: each module is a subject.
//!
//! Golden cases make their list of tests at run time and have binaries of their own, as have the tests of a single crate
//! (`bootstrap_model`, `client`, `kubernetes`, `node`).

mod common;

mod bad_input;
mod canary;
mod conversion;
mod docs;
mod drift;
mod faults;
mod hooks;
mod lab_kubernetes;
mod lab_registry;
mod machineconfig;
mod missing_parts;
mod operations;
mod rehearsal;
mod releases;
mod render;
mod repositories;
mod rollout;
mod secrets;
mod walls;
mod words;
