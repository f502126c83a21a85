//! Programs that a template runs.
//!
//! `yq` on a file is evaluated here if [`Query`] supports its expression, so that `yq` need not be installed; other programs
//! run without a shell, for at most 30 seconds.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use super::{Call, Entry, Failure, Outcome, list, map, string};
use crate::value;
use process::Command;
use yaml::Query;

const DEADLINE: Duration = Duration::from_secs(30);

pub(super) const TABLE: &[Entry] = &[
    ("envExec", 3, 4, |c, a| {
        let variables = map(a, 0)?.iter().map(|(name, value)| (name.clone(), value::text(value))).collect();
        run(c, &a[1..], variables)
    }),
    ("exec", 2, 3, |c, a| run(c, a, vec![])),
];

fn run(call: &Call<'_>, arguments: &[Value], variables: Vec<(String, String)>) -> Outcome {
    let program = string(arguments, 0)?;
    let mut texts = vec![];
    for (index, argument) in list(arguments, 1)?.iter().enumerate() {
        match argument {
            Value::String(text) => texts.push(text.clone()),
            other => {
                return Err(Failure::new(format!(
                    "argument {} of `{program}` must be a string, not {}",
                    index + 1,
                    value::kind(other)
                )));
            }
        }
    }
    if let ("yq", None, Some(query)) = (program, arguments.get(2), Query::parse(&texts)) {
        let (text, origin) = read(call, query.file())?;
        return Ok(Value::from(query.run(&origin, &text)?));
    }
    let input = arguments.get(2).map(|_| string(arguments, 2)).transpose()?;
    let functions = call.functions;
    let path = if program.contains('/') { functions.path(program).into_os_string() } else { program.into() };
    let mut command = Command::new(path).args(texts).current_dir(functions.folder()).deadline(DEADLINE);
    for (name, value) in functions.environment().iter().map(|(n, v)| (n.clone(), v.clone())).chain(variables) {
        command = command.env(name, value);
    }
    if let Some(input) = input {
        command = command.stdin(SecretString::from(input));
    }
    let output = finish(command)?;
    String::from_utf8(output)
        .map(Value::from)
        .map_err(|_| Failure::new(format!("the output of `{program}` is not UTF-8")))
}

fn read(call: &Call<'_>, file: &str) -> Result<(String, yaml::Origin), Failure> {
    let text = call.functions.read(file)?;
    let origin = call.functions.last_read().map_or_else(|| yaml::Origin::new(file), |(origin, _)| origin);
    Ok((text, origin))
}

/// Runs the command on a thread of its own: starting children is async, templates are not and may run inside async code.
fn finish(command: Command) -> Result<Vec<u8>, Failure> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
        runtime.block_on(command.run()).map(|output| output.stdout).map_err(|error| Failure::new(error.to_string()))
    };
    let result = std::thread::scope(|scope| scope.spawn(run).join());
    result.unwrap_or_else(|_| Err(Failure::new("the thread that ran the program panicked")))
}
