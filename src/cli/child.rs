//! `k8s-bootstrap __child`: this process becomes a program that ends with the process that started it.

use std::process::ExitCode;

use super::args::ChildArgs;
#[cfg(target_os = "linux")]
use super::error::CommandError;
use super::exit::Exit;
#[cfg(target_os = "linux")]
use super::output;

#[cfg(target_os = "linux")]
pub(super) fn become_child(child: &ChildArgs) -> ExitCode {
    let Some((program, arguments)) = child.command.split_first() else { return Exit::InvalidInput.into() };
    let error = process::guard::become_child(child.parent, program, arguments);
    let name = program.display();
    output::fail(&CommandError::precondition(format!("cannot start {name}: {error}"))).into()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn become_child(_child: &ChildArgs) -> ExitCode {
    Exit::InvalidInput.into()
}
