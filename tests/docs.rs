//! The documentation: its pages, links and commands exist.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` whose name ends in `ending`; not those of tools and of version control.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            found.extend(files(&path, ending));
        } else if path.is_file() && name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// All first groups of `pattern` in `text`.
fn all(pattern: &str, text: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// The codes that the program prints: variants of `engine::Code` anywhere in the source.
fn printed() -> BTreeSet<String> {
    let files = [root().join("src"), root().join("crates")].map(|folder| files(&folder, ".rs"));
    let source: Vec<String> = files.concat().iter().map(read).collect();
    all(r"\bCode::([TKHFOIPX][0-9]{2})\b", &source.concat())
}

#[test]
fn every_code_that_is_printed_has_a_page_and_every_page_is_listed() {
    let codes = printed();
    assert!(codes.contains("T04"), "the codes are written in another way now: {codes:?}");
    let index = read("docs/errors/README.md");
    for code in codes {
        assert!(root().join(format!("docs/errors/{code}.md")).is_file(), "{code} has no page");
    }
    for page in files(&root().join("docs/errors"), ".md") {
        let code = page.file_stem().unwrap().to_str().unwrap();
        let text = read(&page);
        if code != "README" {
            assert!(text.starts_with(&format!("# {code}: ")), "{code} is about something else");
            assert!(text.contains("**What to type next.**"), "{code} has no next command");
            assert!(index.contains(&format!("[{code}]({code}.md)")), "{code} is not listed");
        }
    }
}

#[test]
fn a_page_that_says_that_its_code_is_not_printed_is_right() {
    for code in printed() {
        let page = read(format!("docs/errors/{code}.md"));
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!page.contains("code is not printed"), "{code} is printed, but its page denies it");
    }
}

#[test]
fn every_relative_link_points_to_a_file_that_exists() {
    let mut links = 0;
    for page in files(root(), ".md") {
        // A command line may look like a link.
        let prose: String = read(&page).split("```").step_by(2).collect();
        for link in all(r"\]\(([^)\s]+)\)", &prose) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{} points to {link}", page.display());
            let headings = all(r"(?m)^#+ (.*)$", &read(&target));
            let anchors: Vec<_> = headings.iter().map(|heading| heading.to_lowercase().replace(' ', "-")).collect();
            assert!(
                anchor.is_empty() || anchors.iter().any(|known| known == anchor),
                "{} points to {link}",
                page.display()
            );
            links += 1;
        }
    }
    assert!(links > 20, "only {links} links were found");
}

#[test]
fn every_decision_is_listed() {
    let index = read("docs/adr/README.md");
    for page in files(&root().join("docs/adr"), ".md") {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || index.contains(&format!("({name})")), "{name} is not listed");
    }
}

fn help(command: &[String]) -> String {
    let output = common::program().args(command).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The subcommands that a help lists.
fn commands(help: &str) -> BTreeSet<String> {
    let listed = help.split("Commands:").nth(1).unwrap_or_default().split("\n\n").next().unwrap();
    all(r"(?m)^  ([a-z][a-z-]*)", listed)
}

/// The help of a command and of all below it.
fn whole_help(command: &[String]) -> String {
    let mut text = help(command);
    for name in commands(&text) {
        text += &whole_help(&[command, &[name]].concat());
    }
    text
}

#[test]
fn every_command_and_option_that_the_documents_name_exists() {
    let commands = commands(&help(&[]));
    assert!(commands.contains("rehearse"), "{commands:?}");
    let clusters = ["infra", "apps", "blue"];
    let mut pages = files(&root().join("docs"), ".md");
    pages.push(root().join("README.md"));
    pages.push(root().join("CONTRIBUTING.md"));
    let options = all(r"(--[a-z][a-z-]*)", &whole_help(&[]));
    for page in pages {
        let text = read(&page);
        for word in all(r"(?:k8s-bootstrap|cargo run --release --) ([a-z][a-z-]*)", &commands_only(&text)) {
            let known = commands.contains(&word) || clusters.contains(&word.as_str());
            assert!(known, "{} names `k8s-bootstrap {word}`", page.display());
        }
        for line in commands_only(&text).lines().filter(|line| line.contains("k8s-bootstrap ")) {
            // What follows a pipe or a redirection is another program's.
            let own = line.split(['|', '>', '#', ';']).next().unwrap_or(line);
            for option in all(r"(--[a-z][a-z-]*)", own.split("k8s-bootstrap ").last().unwrap()) {
                assert!(options.contains(&option), "{} names the option {option}", page.display());
            }
        }
    }
}

/// What is written as code: fenced blocks and inline code, a piece a line.
fn commands_only(text: &str) -> String {
    let inline = Regex::new(r"`([^`]+)`").unwrap();
    let mut pieces = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        if index % 2 == 1 {
            pieces.push(part.to_owned());
        } else {
            pieces.extend(inline.captures_iter(part).map(|found| found[1].replace('\n', " ")));
        }
    }
    pieces.join("\n")
}

#[test]
fn the_two_commands_of_the_readme_are_what_ci_runs() {
    let readme = read("README.md");
    let ci = read(".ci/run");
    assert!(readme.contains("\ncargo test ") && ci.contains("\nstep test cargo test\n"));
    assert!(readme.contains("\ncargo run --release -- rehearse infra "));
    assert!(ci.contains("cargo run --release --quiet -- rehearse"));
}

#[test]
fn every_recipe_that_the_readme_names_exists() {
    let justfile = read("Justfile");
    for recipe in all(r"`just ([a-z]+)", &read("README.md")) {
        assert!(Regex::new(&format!(r"(?m)^{recipe}[ :]")).unwrap().is_match(&justfile), "recipe {recipe} not found");
    }
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let contents = read("docs/README.md");
    for page in files(&root().join("docs"), ".md") {
        let name = page.strip_prefix(root().join("docs")).unwrap().to_str().unwrap();
        let has_own_index = name.starts_with("errors/") || name.starts_with("adr/");
        let is_index = name.ends_with("README.md");
        if name == "README.md" || (has_own_index && !is_index) {
            continue;
        }
        assert!(contents.contains(&format!("]({name})")), "docs/README.md does not list {name}");
    }
}

#[test]
fn the_readme_has_fewer_than_200_lines() {
    let lines = read("README.md").lines().count();
    assert!(lines < 200, "README.md has {lines} lines");
}

#[test]
fn a_change_is_one_line_of_at_most_120_characters() {
    let changelog = read("CHANGELOG.md");
    for line in changelog.lines() {
        assert!(line.chars().count() <= 120, "longer than 120 characters: {line}");
    }
    let changes = changelog.split_once("\n## ").unwrap().1;
    for line in changes.lines().skip(1).filter(|line| !line.is_empty()) {
        assert!(line.starts_with("- ") || line.starts_with('#'), "not a line of its own: {line}");
    }
}
