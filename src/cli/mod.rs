//! The command line: arguments in, exit code out, one file a command, no logic.

mod args;
mod bundle;
mod child;
mod error;
mod etcd;
mod exit;
mod explain;
mod lab;
mod machineconfig;
mod node;
mod operator;
mod output;
mod plan;
mod rehearse;
mod releases;
mod render;
mod run;
mod secrets;
mod signals;
mod status;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use engine::Code;

use args::{Cli, Command};
use error::CommandError;
use exit::Exit;

/// The crates of this program that log, from warnings on.
const LOG_FILTER: &str = "helm=warn,kubernetes=warn,lab=warn";

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    if let Err(error) = process::guard::set_own_program() {
        let error = CommandError::precondition(Code::X01, format!("cannot start: {error}"));
        return output::fail(&error, args::Output::Text).into();
    }
    if let Some(exit) = child::run_internal() {
        return exit;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() {
                return output::fail_usage(&error).into();
            }
            // A closed pipe is not an error.
            let _ = error.print();
            return Exit::Done.into();
        }
    };
    // Libraries log retries as errors; what the operator must know comes as an event.
    let filter = tracing_subscriber::EnvFilter::try_from_env("K8S_BOOTSTRAP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG_FILTER));
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = CommandError::precondition(Code::X01, format!("cannot start: {error}"));
            return output::fail(&error, cli.common.output).into();
        }
    };
    let format = cli.common.output;
    let result = runtime.block_on(dispatch(cli));
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result.unwrap_or_else(|error| output::fail(&error, format)).into()
}

async fn dispatch(cli: Cli) -> Result<Exit, CommandError> {
    let common = &cli.common;
    match cli.command {
        Some(Command::Rehearse(args)) => rehearse::rehearse(common, args).await,
        Some(Command::Lab(args)) => lab::lab(common, args.command).await,
        Some(Command::Plan(args)) => plan::plan(common, args).await,
        Some(Command::Status(args)) => status::status(common, args).await,
        Some(Command::Render(args)) => render::render(common, args).await,
        Some(Command::Tools(args)) => tools::tools(common, args.command).await,
        Some(Command::Releases(args)) => releases::releases(common, args.command).await,
        Some(Command::Bundle(args)) => bundle::bundle(common, args.command).await,
        Some(Command::Secrets(args)) => secrets::secrets(&args.command),
        Some(Command::Etcd(args)) => etcd::etcd(common, args).await,
        Some(Command::Node(args)) => node::node(common, args).await,
        Some(Command::Machineconfig(args)) => machineconfig::machineconfig(common, &args),
        Some(Command::Explain(args)) => Ok(explain::explain(common, &args)),
        None => match cli.run.cluster.clone() {
            Some(cluster) => run::run(common, &cluster, &cli.run).await,
            None => Err(CommandError::invalid(Cli::command().render_help().to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::LOG_FILTER;

    /// The target of a log line is the name of its crate.
    #[test]
    fn warnings_of_every_crate_that_logs_are_printed() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
        let mut logging: Vec<String> = Vec::new();
        for folder in std::fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path()) {
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            if manifest.lines().any(|line| line.starts_with("tracing.") || line.starts_with("tracing =")) {
                let name = folder.file_name().unwrap().to_string_lossy().replace('-', "_");
                logging.push(format!("{name}=warn"));
            }
        }
        logging.sort();
        assert_eq!(LOG_FILTER, logging.join(","));
    }
}
