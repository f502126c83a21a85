//! The program under test.

use std::process::Command;

/// The program with a cleared environment. Every test starts it through this function.
pub(crate) fn program() -> Command {
    test_support::child(env!("CARGO_BIN_EXE_k8s-bootstrap"))
}
