//! `validate`: a config and a mode to a verdict.

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::{Kind, ended};
use crate::program::program;

pub(crate) const KIND: Kind = Kind { name: "validate", run, not_yet: &[] };

fn run(case: &Path) -> Result<(), String> {
    let mode = std::fs::read_to_string(case.join("mode")).unwrap();
    let mut command = program();
    command.args(["-C".as_ref(), case.as_os_str()]).args(["machineconfig", "validate", "--config", "config.yaml"]);
    command.arg("--mode").args(mode.split_whitespace());
    let outcome = ended(command);
    let text = |file: &str| std::fs::read_to_string(case.join(file)).ok();
    let agree = |exit: &str, expected: &str| {
        let (Some(exit), Some(expected)) = (text(exit), text(expected)) else {
            return Err("no such result".to_owned());
        };
        // talosctl lets warnings about documents other than the legacy one pass; here --strict rejects all warnings.
        let warns = expected.lines().any(|line| line.starts_with("WARNING"));
        let valid = exit.trim() == "0" && !(warns && mode.contains("--strict"));
        agrees(valid, &expected, &outcome)
    };
    agree("exit", "expected.txt")
        .or_else(|old| agree("exit-1.14", "expected-1.14.txt").map_err(|new| format!("{old}\n{new}")))
}

fn agrees(valid: bool, expected: &str, outcome: &Result<String, String>) -> Result<(), String> {
    match (valid, outcome) {
        (true, Ok(_)) => Ok(()),
        (true, Err(findings)) => Err(format!("expected to be valid\n{findings}")),
        (false, Ok(_)) => Err(format!("expected to be refused:\n{expected}")),
        (false, Err(findings)) => {
            let missing: Vec<&str> = names(expected).into_iter().filter(|name| !findings.contains(*name)).collect();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("{missing:?} not named in\n{findings}\nexpected\n{expected}"))
            }
        }
    }
}

/// What the findings are about: fields with a dot in front, documents, and quoted values. A few of the tool's paths put
/// the cluster below the machine.
fn names(expected: &str) -> Vec<&str> {
    static FIELD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:^|[ (])\.(?:machine\.cluster\.)?((?:machine|cluster|persist|network|proxy)[\w.]*)").unwrap()
    });
    static DOCUMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\* ([A-Z]\w+Config)(?:/([\w.-]+))?:").unwrap());
    static QUOTED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""([^"]+)""#).unwrap());
    static CAMEL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b([a-z]+(?:ID|[A-Z]\w+)|Kube\w+Config|hostname|endpoint|etcd|KubeSpan)\b").unwrap()
    });
    let mut names = Vec::new();
    for line in expected.lines().filter(|line| !line.starts_with("WARNING")) {
        let found = [&FIELD, &DOCUMENT, &CAMEL, &QUOTED];
        let captures = found.iter().flat_map(|regex| regex.captures_iter(line));
        names.extend(
            captures.flat_map(|captures| [captures.get(1), captures.get(2)]).flatten().map(|found| found.as_str()),
        );
    }
    names
}
