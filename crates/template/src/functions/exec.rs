//! Programs that a template runs.
//!
//! `yq` on a file is evaluated here if [`Query`] supports its expression, so that `yq` need not be installed; other programs
//! are run by the [`ProgramRunner`] that the caller provides, if any.

use std::ffi::OsString;
use std::path::PathBuf;

use error_report::ErrorReport;
use serde_json::Value;

use super::{Call, Entry, Failure, Outcome, list, map, string};
use crate::value;
use yaml::Query;

/// Runs the programs that templates call.
pub trait ProgramRunner: std::fmt::Debug + Send + Sync {
    /// Runs a program to its end and returns its standard output.
    ///
    /// # Errors
    ///
    /// A program that cannot be started, fails, or takes too long.
    fn run(&self, call: ProgramCall) -> Result<Vec<u8>, Box<dyn std::error::Error>>;
}

/// A program that a template calls, without a shell.
#[derive(Debug)]
pub struct ProgramCall {
    pub program: OsString,
    pub arguments: Vec<String>,
    /// The working directory.
    pub folder: PathBuf,
    /// Environment variables, in addition to those of this process.
    pub variables: Vec<(String, String)>,
    /// Standard input.
    pub input: Option<String>,
}

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
    let Some(programs) = &functions.programs else {
        return Err(Failure::new("this template cannot run programs"));
    };
    let environment = functions.environment().iter().map(|(name, value)| (name.clone(), value.clone()));
    let output = programs.run(ProgramCall {
        program: path,
        arguments: texts,
        folder: functions.folder().to_owned(),
        variables: environment.chain(variables).collect(),
        input: input.map(str::to_owned),
    });
    let output = output.map_err(|error| Failure::new(ErrorReport::new(&*error).to_string()))?;
    String::from_utf8(output)
        .map(Value::from)
        .map_err(|_| Failure::new(format!("the output of `{program}` is not UTF-8")))
}

fn read(call: &Call<'_>, file: &str) -> Result<(String, yaml::Origin), Failure> {
    let text = call.functions.read(file)?;
    let origin = call.functions.last_read().map_or_else(|| yaml::Origin::new(file), |(origin, _)| origin);
    Ok((text, origin))
}
