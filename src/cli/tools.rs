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
        ToolsCommand::Install => install(common).await,
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

async fn install(common: &Common) -> Result<Exit, CommandError> {
    let toolbox = workspace(common).toolbox();
    for tool in Tool::LAB.into_iter().chain([Tool::Sops, Tool::Age, Tool::AgeKeygen]) {
        let found = toolbox.provide(tool, &|progress| output::print_note(progress)).await;
        let found = found.map_err(|error| {
            CommandError::caused_by(Exit::PreconditionFailed, Code::P01, &error)
                .hint("building needs `go` on PATH and access to its module proxy")
        })?;
        output::data(&line(tool, Ok(found)));
    }
    Ok(Exit::Done)
}
