//! Words of docs/style.md: terms of a private dialect are rare in code and absent from the operator's documentation.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use regex::Regex;

/// At most so many per 10,000 lines of Rust. jj, uv and kube have 0 to 1.
const LIMIT: f64 = 3.0;
/// Words that have a plain term in docs/style.md, each cut in two so that this file does not contain it.
const IN_CODE: [(&str, &str); 5] = [("to", "ld"), ("nob", "ody"), ("someb", "ody"), ("whoe", "ver"), ("is", " no")];
const IN_DOCS: [(&str, &str); 6] =
    [("to", "ld"), ("nob", "ody"), ("someb", "ody"), ("whoe", "ver"), ("wor", "ld"), ("me", "nd")];
/// Folders without sources of our own.
const SKIPPED: [&str; 2] = ["target", "golden"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whole words, also as parts of `snake_case` names.
fn pattern(words: &[(&str, &str)]) -> Regex {
    let words: Vec<String> = words.iter().map(|(start, end)| format!("{start}{end}")).collect();
    Regex::new(&format!("(?i)(?:^|[^a-z])(?:{})(?:[^a-z]|$)", words.join("|"))).unwrap()
}

/// The files below a folder that end in `extension`.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|ending| ending == extension) {
            found.push(path);
        }
    }
    found
}

/// `file:line: text` of every line that matches, and the number of lines that were searched.
fn matches(files: &[PathBuf], words: &[(&str, &str)]) -> (Vec<String>, usize) {
    let pattern = pattern(words);
    let (mut found, mut lines) = (Vec::new(), 0);
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let place = file.strip_prefix(root()).unwrap().display();
        for (index, line) in text.lines().enumerate() {
            lines += 1;
            if pattern.is_match(line) {
                found.push(format!("{place}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    (found, lines)
}

#[test]
fn code_uses_the_words_of_the_style_guide() {
    let (found, lines) = matches(&files(root(), "rs"), &IN_CODE);
    assert!(lines > 50_000, "only {lines} lines of Rust found");
    #[expect(clippy::cast_precision_loss, reason = "line counts are far below 2^52")]
    let rate = found.len() as f64 * 10_000.0 / lines as f64;
    assert!(rate <= LIMIT, "{rate:.1} per 10,000 lines, at most {LIMIT}: see docs/style.md\n{}", found.join("\n"));
}

#[test]
fn the_operators_documentation_uses_the_words_of_the_style_guide() {
    // The style guide lists the words; decisions and the status are for developers.
    let is_for_operators = |path: &PathBuf| {
        let name = path.strip_prefix(root().join("docs")).unwrap();
        !name.starts_with("adr") && name != Path::new("style.md") && name != Path::new("status.md")
    };
    let mut pages = files(&root().join("docs"), "md");
    pages.retain(is_for_operators);
    pages.push(root().join("README.md"));
    let (found, lines) = matches(&pages, &IN_DOCS);
    assert!(lines > 500, "only {lines} lines of documentation found");
    assert!(found.is_empty(), "see docs/style.md\n{}", found.join("\n"));
}
