//! The table of failure modes in docs/reliability.md: every mode once, with a code, a test and a fault that exist. Only a mode
//! that is open may lack them.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use engine::Code;

/// The areas of the catalogue, and how many modes each has.
const AREAS: [(char, usize); 5] = [('T', 28), ('K', 11), ('H', 14), ('F', 6), ('O', 13)];
/// A cell without content.
const NONE: &str = "—";
/// A reason is at least so many characters long.
const SHORTEST_REASON: usize = 15;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A row of the table, by its columns.
struct Row<'t> {
    mode: &'t str,
    state: State<'t>,
    how: &'t str,
    code: &'t str,
    test: &'t str,
    lab: &'t str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State<'t> {
    Detected,
    Prevented,
    Open(&'t str),
}

impl<'t> Row<'t> {
    /// The row in a line of the page; nothing when the line is something else.
    fn parse(line: &'t str) -> Option<Result<Self, String>> {
        let (_, cells) = line.split_once("| ").filter(|(before, _)| before.is_empty())?;
        let cells: Vec<&str> = cells.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let is_mode = cells[0].len() == 3 && AREAS.iter().any(|(area, _)| cells[0].starts_with(*area));
        if !is_mode {
            return None;
        }
        let [mode, _, state, how, code, test, lab] = cells[..] else {
            return Some(Err(format!("{} has {} columns", cells[0], cells.len())));
        };
        let state = match (state, state.strip_prefix("open: ")) {
            ("detected", _) => State::Detected,
            ("prevented", _) => State::Prevented,
            (_, Some(reason)) => State::Open(reason),
            _ => return Some(Err(format!("{mode}: unknown state `{state}`"))),
        };
        Some(Ok(Self { mode, state, how, code, test, lab }))
    }

    /// What is wrong with the row.
    fn mistakes(&self, scenarios: &str) -> Vec<String> {
        let mut found = self.code_mistakes();
        match self.state {
            State::Open(reason) if reason.len() < SHORTEST_REASON => found.push("is open without a reason".to_owned()),
            State::Open(_) => {}
            State::Detected | State::Prevented => {
                if quoted(self.test).is_empty() {
                    found.push("has no test".to_owned());
                }
                if !quoted(self.how).iter().any(|text| text.contains('/')) {
                    found.push("does not name the file".to_owned());
                }
            }
        }
        found.extend(quoted(self.test).into_iter().filter_map(missing_test));
        let files = quoted(self.how).into_iter().filter(|text| text.contains('/'));
        found.extend(files.filter(|path| !is_file(path)).map(|path| format!("names {path}, which does not exist")));
        match self.lab.strip_prefix(NONE) {
            Some(reason) if reason.len() < SHORTEST_REASON => found.push("has no reason in the column lab".to_owned()),
            Some(_) => {}
            None => found.extend(missing_keys(self.lab, scenarios)),
        }
        found.into_iter().map(|text| format!("{} {text}", self.mode)).collect()
    }

    fn code_mistakes(&self) -> Vec<String> {
        if self.code == NONE {
            let lacks_code = !matches!(self.state, State::Open(_));
            return lacks_code.then(|| "has no code and is not open".to_owned()).into_iter().collect();
        }
        let name = self.code.trim_start_matches('[').split(']').next().unwrap_or_default();
        let mut found = Vec::new();
        if self.code != format!("[{name}](errors/{name}.md)") {
            found.push(format!("has no link to the page of its code: {}", self.code));
        }
        match Code::ALL.iter().find(|code| code.as_str() == name) {
            None => found.push(format!("has the unknown code {name}")),
            Some(code) if !is_file(&code.path()) => found.push(format!("{code} has no page")),
            Some(_) => {}
        }
        found
    }
}

/// The texts of a cell in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn is_file(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_file()
}

/// Why a test, written as `file::name`, does not exist.
fn missing_test(test: &str) -> Option<String> {
    let Some((file, name)) = test.rsplit_once("::") else { return Some(format!("names {test}, which is not a test")) };
    if !is_file(file) {
        return Some(format!("names the test file {file}, which does not exist"));
    }
    let is_test = |text: &str| {
        let mut lines = text.lines().map(str::trim).scan(false, |after_attribute, line| {
            let is_it = *after_attribute && line.contains(&format!("fn {name}("));
            *after_attribute = line.starts_with("#[") || (*after_attribute && line.starts_with("//"));
            Some(is_it)
        });
        lines.any(|is_it| is_it)
    };
    (!is_test(&read(file))).then(|| format!("names {test}, which is not a test"))
}

/// Keys of scenarios that their page does not describe.
fn missing_keys(cell: &str, scenarios: &str) -> Vec<String> {
    let keys = quoted(cell);
    if keys.is_empty() {
        return vec![format!("has neither a key nor a reason in the column lab: {cell}")];
    }
    let is_known = |key: &&str| {
        quoted(scenarios).iter().any(|known| known.split(':').next() == Some(*key))
            || key.chars().next().is_some_and(char::is_uppercase)
    };
    keys.into_iter()
        .filter(|key| !is_known(key))
        .map(|key| format!("names `{key}`, which docs/scenarios.md does not"))
        .collect()
}

/// All mistakes of a table.
fn mistakes(page: &str) -> Vec<String> {
    let scenarios = read("docs/scenarios.md");
    let expected: Vec<String> =
        AREAS.iter().flat_map(|(area, modes)| (1..=*modes).map(move |number| format!("{area}{number:02}"))).collect();
    let (mut found, mut modes) = (Vec::new(), Vec::new());
    for row in page.lines().filter_map(Row::parse) {
        match row {
            Ok(row) => {
                modes.push(row.mode.to_owned());
                found.extend(row.mistakes(&scenarios));
            }
            Err(mistake) => found.push(mistake),
        }
    }
    if modes != expected {
        let lacking: Vec<&String> = expected.iter().filter(|mode| !modes.contains(mode)).collect();
        found.push(format!("the modes are not T01 to O13, each once and in order; lacking: {lacking:?}"));
    }
    found
}

#[test]
fn every_failure_mode_has_a_code_a_test_and_a_fault_or_the_reason_why_not() {
    let found = mistakes(&read("docs/reliability.md"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The table test itself finds each kind of mistake.
#[test]
fn a_row_that_lacks_something_is_found() {
    let page = read("docs/reliability.md");
    let row = page.lines().find(|line| line.starts_with("| T01 |")).unwrap();
    for (from, to, mistake) in [
        ("::a_lost_reply_to_bootstrap", "::a_found_reply_to_bootstrap", "T01 names tests/faults.rs::a_found_reply"),
        ("tests/faults.rs::", "tests/fault.rs::", "T01 names the test file tests/fault.rs, which does not exist"),
        ("`tests/faults.rs::a_lost_reply_to_bootstrap_leads_to_no_second_call`", NONE, "T01 has no test"),
        ("[T01](errors/T01.md)", "[T99](errors/T99.md)", "T01 has the unknown code T99"),
        ("[T01](errors/T01.md)", NONE, "T01 has no code and is not open"),
        ("`lost-reply`", "`lost-answer`", "T01 names `lost-answer`, which docs/scenarios.md does not"),
        ("`lost-reply`", NONE, "T01 has no reason in the column lab"),
        ("etcd/mod.rs`", "etcd/absent.rs`", "T01 names crates/bootstrap/src/steps/etcd/absent.rs, which does not"),
        ("| detected |", "| open: later |", "T01 is open without a reason"),
        ("| detected |", "| known |", "T01: unknown state `known`"),
        ("| T01 |", "| T29 |", "lacking: [\"T01\"]"),
    ] {
        assert!(row.contains(from), "the row is written in another way now: {row}");
        let found = mistakes(&page.replace(row, &row.replace(from, to)));
        assert!(found.iter().any(|text| text.contains(mistake)), "{mistake} is not among {found:?}");
    }
}
