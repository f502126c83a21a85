//! The integration tests of the program, as one binary: each module is a subject.
//!
//! Golden cases make their list of tests at run time and have a binary of their own (`golden`). The tests of a single
//! crate are in that crate, except those of `kubernetes`: its API server must end with the test process, and only the
//! program can make a child do so.

mod common;

mod api_outage;
mod bad_input;
mod canary;
mod circles;
mod conversion;
mod delays;
mod docs;
mod drift;
mod epoch;
mod explain;
mod faults;
mod handover;
mod hooks;
mod kill;
mod kubernetes;
mod lab_kubernetes;
mod lab_registry;
mod machineconfig;
mod missing_parts;
mod operations;
mod rehearsal;
mod release_state;
mod releases;
mod reliability;
mod render;
mod repositories;
mod rollout;
mod second_etcd;
mod second_writer;
mod secrets;
mod silent_worker;
mod supervisor;
mod unread_output;
mod walls;
mod words;
