//! Other secret managers: the program that prints the value of a reference.
//!
//! A value comes on standard output, whole or as a part of JSON; arguments hold references only.

use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use super::{Error, UnresolvedReason};
use process::{Command, Credentials};
use secret_references::{Adapter, Adapters, Reference};

/// Cloud services respond within seconds; an unattended login prompt would wait for ever.
const DEADLINE: Duration = Duration::from_mins(2);

/// The value of a reference that one of these resolves; `folder` is where its program runs.
///
/// # Errors
///
/// A program that is not installed, fails, or prints unexpected output.
pub(super) async fn resolve(adapters: &Adapters, reference: &Reference, folder: &Path) -> Result<SecretString, Error> {
    let unresolved = |reason: UnresolvedReason| Error::Unresolved { reference: reference.clone(), reason };
    let (adapter, address) = adapter_of(adapters, reference);
    let (path, part) = match address.split_once('#').filter(|_| adapter.command != vals().command) {
        Some((path, part)) => (path, Some(part)),
        None => (address, None),
    };
    let mut words = adapter.command.iter().map(|word| fill(word, reference, path));
    let Some(program) = words.next() else { return Err(unresolved(UnresolvedReason::NoCommand)) };
    let command = Command::new(&program).args(words).current_dir(folder).deadline(DEADLINE);
    let output = command.credentials(Credentials::Operator).run().await.map_err(|error| match error {
        process::Error::Start { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let next = format!("install {program}, which resolves {}", reference.text);
            Error::Missing { program: program.clone(), next }
        }
        process::Error::Failed { stderr, .. } => {
            unresolved(UnresolvedReason::Rejected { program: program.clone(), message: stderr })
        }
        other => unresolved(UnresolvedReason::Program(other)),
    })?;
    let text = String::from_utf8(output.stdout)
        .map_err(|_| unresolved(UnresolvedReason::NotText { program: program.clone() }))?;
    let pointer = [adapter.pointer.as_deref(), part].into_iter().flatten().collect::<Vec<_>>();
    if pointer.is_empty() {
        let value = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(value.strip_suffix('\r').unwrap_or(value).to_owned().into());
    }
    let pointer = pointer.iter().map(|part| format!("/{}", part.trim_matches('/'))).collect::<String>();
    // What was printed is not quoted, since it holds the secret.
    let json: Value =
        serde_json::from_str(&text).map_err(|_| unresolved(UnresolvedReason::NotJson { program: program.clone() }))?;
    match json.pointer(&pointer) {
        Some(Value::String(value)) => Ok(value.clone().into()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string().into()),
        _ => Err(unresolved(UnresolvedReason::NoValue { program, pointer })),
    }
}

/// The adapter of a reference, and what follows its scheme.
fn adapter_of<'r>(adapters: &Adapters, reference: &'r Reference) -> (Adapter, &'r str) {
    let (scheme, address) = reference.text.split_once("://").unwrap_or(("", &reference.text));
    (adapters.0.get(scheme).cloned().unwrap_or_else(vals), address)
}

/// vals itself reads what follows `#`.
fn vals() -> Adapter {
    Adapter { command: ["vals", "get", "{ref}"].map(str::to_owned).to_vec(), pointer: None }
}

fn fill(word: &str, reference: &Reference, path: &str) -> String {
    let mut filled = word.replace("{ref}", &reference.text).replace("{path}", path);
    for (index, part) in path.split('/').enumerate() {
        filled = filled.replace(&format!("{{{}}}", index + 1), part);
    }
    filled
}
