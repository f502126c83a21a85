//! The integration tests of the program, as one binary: each module is a subject.
//!
//! Golden cases make their list of tests at run time and have a binary of their own (`golden`). The tests of a single
//! crate are in that crate, except those of `kubernetes`: its API server must end with the test process, and only the
//! program can make a child do so.

mod common;

mod bad_input;
mod canary;
mod conversion;
mod docs;
mod drift;
mod explain;
mod faults;
mod hooks;
mod kubernetes;
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
mod supervisor;
mod waiting;
mod walls;
mod words;
