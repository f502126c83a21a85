//! Output: data to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use super::args::Output;
use super::error::CommandError;
use super::exit::Exit;
use crate::report::{JsonLines, Mask, PlainLines, Sink, Terminal, heading};
use engine::{Code, Subscriber};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use secrets::Redactor;
use serde_json::json;

/// How long a line waits for a reader.
const READER: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

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

/// Prints a line for the operator, unless standard error is not read: that must not stop a run.
pub(super) fn print_note(text: &str) {
    if is_writable(&std::io::stderr()) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Whether a stream accepts a line soon, as a pipe with space for one does, or a terminal that is not paused (`poll(2)`).
fn is_writable(stream: &impl AsFd) -> bool {
    let mut waiting = [PollFd::new(stream, PollFlags::OUT)];
    // What cannot be polled is written to.
    poll(&mut waiting, Some(&READER)).map_or(true, |ready| ready > 0)
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
    print_note(text.replacen("error:", &format!("{}:", heading(Some(Code::I02))), 1).trim_end());
    Exit::InvalidInput
}

/// The redactor as a mask.
pub(super) fn mask(redactor: &Redactor) -> Mask {
    let redactor = redactor.clone();
    Arc::new(move |text: &str| redactor.redact(text))
}

/// The reader of a run's events that fits the output.
pub(super) fn subscriber(output: Output, redactor: &Redactor) -> Arc<dyn Subscriber> {
    let mask = mask(redactor);
    match output {
        Output::Json => Arc::new(JsonLines::new(Sink::new(std::io::stdout(), mask))),
        Output::Text if std::io::stderr().is_terminal() => Arc::new(Terminal::new(mask)),
        Output::Text => Arc::new(PlainLines::new(Sink::new(std::io::stderr(), mask))),
    }
}
