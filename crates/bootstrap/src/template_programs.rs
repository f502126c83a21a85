//! Runs the programs that a repository's templates call.

use std::sync::Arc;
use std::time::Duration;

use process::Command;
use template::{ProgramCall, ProgramRunner};

const DEADLINE: Duration = Duration::from_secs(30);

/// Runs programs as children of this process, for at most 30 seconds.
#[derive(Debug, Clone, Copy)]
struct TemplatePrograms;

/// The runner of the programs that templates call: children of this process, for at most 30 seconds.
pub fn template_programs() -> Arc<dyn ProgramRunner> {
    Arc::new(TemplatePrograms)
}

impl ProgramRunner for TemplatePrograms {
    /// Starts the child on a thread of its own: starting children is async, templates are not and may run inside async
    /// code.
    fn run(&self, call: ProgramCall) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let command = Command::new(call.program).args(call.arguments).current_dir(call.folder).deadline(DEADLINE);
        let command = call.variables.into_iter().fold(command, |command, (name, value)| command.env(name, value));
        let command = match call.input {
            Some(input) => command.stdin(input.into()),
            None => command,
        };
        let run = || -> Result<Vec<u8>, RunError> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(command.run())?.stdout)
        };
        let result = std::thread::scope(|scope| scope.spawn(run).join());
        Ok(result.unwrap_or(Err(RunError::Panicked))?)
    }
}

#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("cannot start a runtime")]
    Runtime(#[from] std::io::Error),
    #[error(transparent)]
    Program(#[from] process::Error),
    #[error("the thread that ran the program panicked")]
    Panicked,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(program: &str, arguments: &[&str], input: Option<&str>) -> ProgramCall {
        ProgramCall {
            program: program.into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            folder: "/".into(),
            variables: vec![("NAME".to_owned(), "x".to_owned())],
            input: input.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn programs_run_from_within_async_code() {
        assert_eq!(TemplatePrograms.run(call("echo", &["-n", "x"], None)).unwrap(), b"x");
        assert_eq!(TemplatePrograms.run(call("cat", &[], Some("in"))).unwrap(), b"in");
        assert_eq!(TemplatePrograms.run(call("printenv", &["NAME"], None)).unwrap(), b"x\n");
    }

    #[test]
    fn errors_of_programs_are_reported() {
        let error = TemplatePrograms.run(call("sh", &["-c", "echo sad >&2; exit 3"], None)).unwrap_err().to_string();
        assert!(error.contains("sad") && error.contains("exit status: 3"), "{error}");
        let error = TemplatePrograms.run(call("no-such-program", &[], None)).unwrap_err().to_string();
        assert!(error.contains("no-such-program"), "{error}");
    }
}
