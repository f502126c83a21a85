//! Where text leaves: data to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use super::args::Output;
use super::exit::{Exit, Refusal};
use crate::engine::Subscriber;
use crate::report::{JsonLines, Mask, PlainLines, Sink, Terminal};
use crate::secrets::Redactor;

/// Prints what a command was asked for. A reader that went away is no failure.
pub(super) fn data(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Writes what holds secrets: for nobody else's eyes, whole or not at all.
pub(super) fn private_file(path: &Path, text: &str) -> Result<(), Refusal> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map(drop).map_err(|error| Refusal::world(format!("{} cannot be written: {error}", path.display())))
}

/// Says something to the operator.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says why a command did not do its work.
pub(super) fn refuse(refusal: &Refusal) -> Exit {
    say(&format!("error: {}", refusal.message));
    if let Some(hint) = &refusal.hint {
        say(&format!("hint: {hint}"));
    }
    refusal.exit
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
