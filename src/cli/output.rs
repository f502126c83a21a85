//! Output: data to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::args::Output;
use super::error::CommandError;
use super::exit::Exit;
use crate::report::{Background, BackgroundSubscriber, JsonLines, Mask, PlainLines, Sink, Terminal, heading};
use engine::{Code, Subscriber};
use secrets::Redactor;
use serde_json::json;

/// Prints the result of a command. A closed pipe is not an error.
pub(super) fn data(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Writes a file that holds secrets, readable by its owner only, whole or not at all.
pub(super) fn private_file(path: &Path, text: &str) -> Result<(), CommandError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)
    };
    write()
        .map(drop)
        .map_err(|error| CommandError::precondition(Code::P02, format!("cannot write {}: {error}", path.display())))
}

/// Prints a line for the operator.
pub(super) fn print_note(text: &str) {
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    let notes = notes.get_or_insert_with(|| {
        let write = |text: String| drop(writeln!(std::io::stderr(), "{text}"));
        Background::new(write, move |count| write(format!("{count} lines are missing here")))
    });
    notes.send(text.to_owned());
}

/// What [`print_note`] has to write.
static NOTES: Mutex<Option<Background<String>>> = Mutex::new(None);

/// Waits until every note is written, unless they are not read.
pub(super) fn finish() {
    drop(NOTES.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Prints why a command failed; for a program also as a JSON object.
pub(super) fn fail(error: &CommandError, output: Output) -> Exit {
    if output == Output::Json {
        let object = json!({"code": error.code, "message": error.message, "next": error.next()});
        data(&json!({"error": object}).to_string());
    }
    print_note(&format!("{}: {}", heading(Some(error.code)), error.message));
    print_note(&format!("hint: {}", error.next()));
    error.exit
}

/// Prints what is wrong with the command line, as clap words it, with the code.
pub(super) fn fail_usage(error: &clap::Error) -> Exit {
    let text = error.render().to_string();
    say(text.replacen("error:", &format!("{}:", heading(Some(Code::I02))), 1).trim_end());
    Exit::InvalidInput
}

/// The redactor as a mask.
pub(super) fn mask(redactor: &Redactor) -> Mask {
    let redactor = redactor.clone();
    Arc::new(move |text: &str| redactor.redact(text))
}

/// The reader of a run's events that fits the output.
pub(super) fn subscriber(output: Output, redactor: &Redactor) -> Arc<BackgroundSubscriber> {
    let mask = mask(redactor);
    let reader: Arc<dyn Subscriber> = match output {
        Output::Json => Arc::new(JsonLines::new(Sink::new(std::io::stdout(), mask))),
        Output::Text if std::io::stderr().is_terminal() => Arc::new(Terminal::new(mask)),
        Output::Text => Arc::new(PlainLines::new(Sink::new(std::io::stderr(), mask))),
    };
    Arc::new(BackgroundSubscriber::new(reader))
}
