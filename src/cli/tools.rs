//! `k8s-bootstrap tools list|install`: the outside programs.

use super::args::{Common, ToolsCommand};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::workspace;
use engine::Code;
use error_report::ErrorReport;
use tools::{Error, Found, Tool};

pub(super) async fn tools(common: &Common, command: ToolsCommand) -> Result<Exit, CommandError> {
    match command {
        ToolsCommand::List => list(common).await,
        ToolsCommand::Install { tools } => install(common, &tools).await,
    }
}

async fn list(common: &Common) -> Result<Exit, CommandError> {
    let toolbox = workspace(common).toolbox();
    for tool in Tool::ALL {
        output::data(&line(tool, toolbox.find(tool).await));
    }
    Ok(Exit::Done)
}

fn line(tool: Tool, found: Result<Found, Error>) -> String {
    match found {
        Ok(found) => {
            format!(
                "{:<24} {:<10} {:<16} {}",
                tool.name(),
                found.version,
                found.source.to_string(),
                found.path.display()
            )
        }
        Err(error) => format!("{:<24} {:<10} {}", tool.name(), "-", ErrorReport::new(&error)),
    }
}

/// The tools of these names; without any, those of a rehearsal.
fn selected(names: &[String]) -> Result<Vec<Tool>, CommandError> {
    if names.is_empty() {
        return Ok(Tool::LAB.into_iter().chain([Tool::Sops, Tool::Age, Tool::AgeKeygen]).collect());
    }
    let find = |name: &String| {
        let unknown =
            || CommandError::invalid(format!("unknown tool `{name}`")).hint("list the tools: k8s-bootstrap tools list");
        Tool::ALL.into_iter().find(|tool| tool.name() == name).ok_or_else(unknown)
    };
    names.iter().map(find).collect()
}

async fn install(common: &Common, names: &[String]) -> Result<Exit, CommandError> {
    let toolbox = workspace(common).toolbox();
    for tool in selected(names)? {
        let found = toolbox.provide(tool, &|progress| output::print_note(progress)).await;
        let found = found.map_err(|error| {
            CommandError::caused_by(Exit::PreconditionFailed, Code::P01, &error)
                .hint("building needs `go` on PATH and access to its module proxy")
        })?;
        output::data(&line(tool, Ok(found)));
    }
    Ok(Exit::Done)
}
