//! The output of a command as a transcript, without what differs from run to run.

use std::fmt;
use std::path::Path;
use std::process::Output;

use lazy_regex::regex;

use crate::LoopbackNetwork;

/// What a command printed, and its exit code. Its `Display` is a transcript for snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// `-1` when a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    redactions: Redactions,
}

impl CommandOutput {
    pub fn new(output: Output, redactions: Redactions) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or(-1);
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr), redactions }
    }

    /// Standard error, without what differs from run to run.
    pub fn redacted_stderr(&self) -> String {
        self.redactions.redact(&self.stderr)
    }
}

impl fmt::Display for CommandOutput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "exit code: {}", self.code)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(formatter, "----- {name} -----\n{}", self.redactions.redact(text).trim_end())?;
            }
        }
        Ok(())
    }
}

/// Replaces what differs from run to run: first known texts, then times, durations, ids and ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redactions(Vec<(String, String)>);

impl Redactions {
    /// Replaces a folder by a name in brackets.
    #[must_use]
    pub fn path(self, path: &Path, name: &str) -> Self {
        self.replace(&path.display().to_string(), &format!("[{name}]"))
    }

    /// Replaces the addresses of an allocated network by those of the reference inputs.
    #[must_use]
    pub fn network(self, network: &LoopbackNetwork) -> Self {
        let dialled = network.dialled(0).to_string();
        self.replace(&format!("{network}."), "10.25.11.").replace(dialled.trim_end_matches('0'), "127.25.11.")
    }

    #[must_use]
    pub fn replace(mut self, text: &str, replacement: &str) -> Self {
        self.0.push((text.to_owned(), replacement.to_owned()));
        self
    }

    pub fn redact(&self, text: &str) -> String {
        let variable = [
            (regex!(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z"), "[TIME]"),
            (regex!(r"\b\d+\.\d+ ?s\b"), "[DURATION]"),
            (regex!(r"\b\d+(?:ms|s) ago\b"), "[DURATION] ago"),
            (regex!(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"), "[ID]"),
            (regex!(r"\b\d{8}T\d{6}Z-[0-9a-f]{4}\b"), "[RUN]"),
            (regex!(r"\b[0-9a-f]{16}\b"), "[ID]"),
            (regex!(r"\b[0-9a-f]{64}\b"), "[DIGEST]"),
            (regex!(r"the fingerprint [A-Za-z0-9+/]{43}="), "the fingerprint [FINGERPRINT]"),
            (regex!(r"\b\d+ bytes\b"), "[SIZE]"),
            (regex!(r"(127\.0\.0\.1|localhost):\d{5}\b"), "$1:[PORT]"),
            (regex!(r"(?:/[\w.-]+)*/\.tmp\w{6}\b"), "[TEMP]"),
        ];
        let known = self.0.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        variable
            .iter()
            .fold(known, |text, (pattern, replacement)| pattern.replace_all(&text, *replacement).into_owned())
    }
}

#[test]
fn what_differs_from_run_to_run_is_replaced() {
    let redactions =
        Redactions::default().path(Path::new("/home/a/repository"), "REPOSITORY").replace("10.130.7.", "10.25.11.");
    let text =
        "2026-01-31T12:00:00.123Z /home/a/repository/a.yaml took 0.4s for 12 bytes on 10.130.7.11 by 127.0.0.1:43210";
    assert_eq!(
        redactions.redact(text),
        "[TIME] [REPOSITORY]/a.yaml took [DURATION] for [SIZE] on 10.25.11.11 by 127.0.0.1:[PORT]"
    );
}
