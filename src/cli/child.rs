//! `k8s-bootstrap __supervise` and `k8s-bootstrap __child`: the processes between this program and those that it starts.
//! They are no commands for an operator, and read without the command line's grammar, which would cost as much as the rest.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitCode;

use engine::Code;
use process::{guard, supervisor};

use super::args::Output;
use super::error::CommandError;
use super::exit::Exit;
use super::output;

/// Does the work of one of the two, when this process was started for it.
pub(super) fn run_internal() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let subcommand = arguments.next()?;
    let work = if subcommand == guard::SUPERVISE {
        supervise
    } else if subcommand == guard::CHILD {
        become_child
    } else {
        return None;
    };
    let parent = arguments.next().and_then(|parent| parent.to_str()?.parse().ok());
    let (Some(parent), Some(program)) = (parent, arguments.next()) else { return Some(Exit::InvalidInput.into()) };
    let arguments: Vec<OsString> = arguments.collect();
    Some(work(parent, &program, &arguments).unwrap_or_else(|error| {
        let name = program.display();
        let error = CommandError::precondition(Code::P01, format!("cannot start {name}: {error}"));
        output::fail(&error, Output::Text).into()
    }))
}

/// Supervises a program and ends as it does.
fn supervise(parent: u32, program: &OsStr, arguments: &[OsString]) -> io::Result<ExitCode> {
    let ending = supervisor::supervise(parent, program, arguments)?;
    Ok(supervisor::end_as(ending).into())
}

/// Becomes a program that ends with the process that started it.
#[cfg(target_os = "linux")]
fn become_child(parent: u32, program: &OsStr, arguments: &[OsString]) -> io::Result<ExitCode> {
    Err(guard::become_child(parent, program, arguments))
}

#[cfg(not(target_os = "linux"))]
fn become_child(_parent: u32, _program: &OsStr, _arguments: &[OsString]) -> io::Result<ExitCode> {
    Err(io::ErrorKind::Unsupported.into())
}
