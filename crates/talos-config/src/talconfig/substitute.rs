//! talhelper's variable substitution: textual, before YAML parsing, outside of comments.
//!
//! The syntax is that of a8m/envsubst, which rejects unset and empty variables here: `$NAME`, `${NAME}`,
//! `${NAME:-default}` and the other shell operators; `$$` is a dollar sign.

use saphyr_parser::{Event, Parser};

use discover::dotenv::Lookup;
use yaml::{Diagnostic, Diagnostics, Origin, Position};

/// Substitutes the variables of a YAML text and removes comments, like talhelper.
///
/// Reports undefined and empty variables with their places; YAML syntax errors are left to the parser.
pub(super) fn substitute(origin: &Origin, text: &str, lookup: Lookup<'_>, found: &mut Diagnostics) -> String {
    replace(origin, &without_comments(text), lookup, found)
}

/// Substitutes the variables of a file, which need not be YAML. YAML mappings and lists lose comments and empty lines.
///
/// Text that merely parses as a YAML scalar keeps its lines and comments; talhelper would fold it.
pub(super) fn substitute_content(origin: &Origin, text: &str, lookup: Lookup<'_>, found: &mut Diagnostics) -> String {
    let is_data = yaml::parse(origin, text).is_ok_and(|documents| {
        !documents.is_empty()
            && documents.iter().all(|node| node.as_mapping().is_some() || node.as_sequence().is_some())
    });
    if !is_data {
        return replace(origin, text, lookup, found);
    }
    let mut kept = String::with_capacity(text.len());
    let blank = blank_lines(text);
    for (index, line) in without_comments(text).split_inclusive('\n').enumerate() {
        if !(blank.contains(&index) && line.trim().is_empty()) {
            kept.push_str(line);
        }
    }
    replace(origin, &kept, lookup, found)
}

/// The byte ranges of scalars; `None` for invalid YAML.
fn scalars(text: &str) -> Option<Vec<(usize, usize)>> {
    let mut offsets: Vec<usize> = text.char_indices().map(|(offset, _)| offset).collect();
    offsets.push(text.len());
    let offset = |index: usize| offsets.get(index).copied().unwrap_or(text.len());
    let mut spans = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        if let Event::Scalar(..) = event {
            let (start, end) = (offset(span.start.index()), offset(span.end.index()));
            spans.push((start, start + own_length(&text[start..end])));
        }
    }
    Some(spans)
}

/// The length of a scalar: the parser's span of a quoted one includes text after it.
fn own_length(text: &str) -> usize {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) else { return text.len() };
    let mut escaped = false;
    let mut inner = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = inner.next() {
        if c == quote && quote == '\'' && inner.peek().is_some_and(|(_, next)| *next == quote) {
            inner.next();
        } else if c == quote && !escaped {
            return at + 1;
        }
        escaped = quote == '"' && c == '\\' && !escaped;
    }
    text.len()
}

fn without_comments(text: &str) -> String {
    let Some(spans) = scalars(text) else { return text.to_owned() };
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (start, end) in spans.into_iter().chain([(text.len(), text.len())]) {
        if start >= from {
            out.push_str(&strip_gap(text, from, start));
            from = start;
        }
        if end > from {
            out.push_str(&text[from..end]);
            from = end;
        }
    }
    out
}

/// The text between two scalars, without comments.
fn strip_gap(text: &str, start: usize, end: usize) -> String {
    let mut out = String::new();
    let mut before = text[..start].chars().next_back();
    let mut in_comment = false;
    for c in text[start..end].chars() {
        match c {
            '\n' => in_comment = false,
            '#' if before.is_none_or(char::is_whitespace) => in_comment = true,
            _ => {}
        }
        if !in_comment {
            out.push(c);
        }
        before = Some(c);
    }
    out
}

/// The empty lines and comment lines outside of scalars, from 0.
fn blank_lines(text: &str) -> Vec<usize> {
    let spans = scalars(text).unwrap_or_default();
    let mut blank = Vec::new();
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let content = line.trim();
        let outside = !spans.iter().any(|(start, end)| *start <= offset && offset < *end);
        if outside && (content.is_empty() || content.starts_with('#')) {
            blank.push(index);
        }
        offset += line.len();
    }
    blank
}

fn replace(origin: &Origin, text: &str, lookup: Lookup<'_>, found: &mut Diagnostics) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let tail = &rest[dollar..];
        let at = || origin.location(position(text, text.len() - tail.len()));
        rest = match expression(tail) {
            Ok(Some(Parsed { expression, length })) => {
                match expression.value(lookup) {
                    Ok(value) => out.push_str(&value),
                    Err(error) => found.push(undefined(Diagnostic::at_location(at(), error.to_string()), &expression)),
                }
                &tail[length..]
            }
            Ok(None) if tail.starts_with("$$") => {
                out.push('$');
                &tail[2..]
            }
            Ok(None) => {
                out.push('$');
                &tail[1..]
            }
            Err(error) => {
                found.error(at(), error.to_string());
                out.push('$');
                &tail[1..]
            }
        };
    }
    out.push_str(rest);
    out
}

fn undefined(diagnostic: Diagnostic, expression: &Expression<'_>) -> Diagnostic {
    if expression.name == "patch" {
        return diagnostic.with_hint("talhelper treats `$patch` as a variable here; write `$$patch: delete`");
    }
    diagnostic.with_hint("define it in talenv.yaml beside the talconfig, or in the environment")
}

/// `${name operator word}`, or `$name`.
struct Expression<'t> {
    name: &'t str,
    operator: &'t str,
    word: &'t str,
}

/// An expression and its length in bytes.
struct Parsed<'t> {
    expression: Expression<'t>,
    length: usize,
}

#[derive(Debug, thiserror::Error)]
enum SubstituteError {
    #[error("the variable `{0}` is not defined")]
    Undefined(String),
    #[error("the variable `{0}` is defined but empty")]
    Empty(String),
    #[error("this `${{` has no closing brace on its line")]
    Unclosed,
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Parses the expression at the start of `tail`, which starts with a dollar sign.
fn expression(tail: &str) -> Result<Option<Parsed<'_>>, SubstituteError> {
    let Some(inner) = tail.strip_prefix("${") else {
        let name = &tail[1..];
        let name = &name[..name.find(|c| !is_name(c)).unwrap_or(name.len())];
        if name.is_empty() || name == "_" {
            return Ok(None);
        }
        let expression = Expression { name, operator: "", word: "" };
        return Ok(Some(Parsed { expression, length: name.len() + 1 }));
    };
    if !inner.starts_with(is_name) {
        return Ok(None);
    }
    let line = inner.find(['\n', '\r']).map_or(inner, |end| &inner[..end]);
    let Some(end) = line.find('}') else {
        return Err(SubstituteError::Unclosed);
    };
    let body = &inner[..end];
    let (name, rest) = body.split_at(body.find(|c| !is_name(c)).unwrap_or(body.len()));
    let operator = [":-", ":=", ":+", "-", "=", "+"].into_iter().find(|operator| rest.starts_with(operator));
    let operator = operator.unwrap_or_default();
    let expression = Expression { name, operator, word: &rest[operator.len()..] };
    Ok(Some(Parsed { expression, length: end + 3 }))
}

impl Expression<'_> {
    fn value(&self, lookup: Lookup<'_>) -> Result<String, SubstituteError> {
        let known = lookup(self.name);
        if self.operator.is_empty() || self.word.is_empty() {
            return plain(self.name, known);
        }
        match (self.operator, known) {
            (":-" | ":=", Some(value)) if !value.is_empty() => Ok(value),
            ("-" | "=", Some(value)) => plain(self.name, Some(value)),
            (":+" | "+", None) => Ok(String::new()),
            _ => match self.word.strip_prefix('$').filter(|name| !name.is_empty() && name.chars().all(is_name)) {
                Some(name) => plain(name, lookup(name)),
                None => Ok(self.word.to_owned()),
            },
        }
    }
}

fn plain(name: &str, value: Option<String>) -> Result<String, SubstituteError> {
    match value {
        None => Err(SubstituteError::Undefined(name.to_owned())),
        Some(value) if value.is_empty() => Err(SubstituteError::Empty(name.to_owned())),
        Some(value) => Ok(value),
    }
}

fn position(text: &str, offset: usize) -> Position {
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    Position { line, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, Diagnostics> {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut found = Diagnostics::default();
        let out = substitute(&Origin::new("t"), text, &lookup, &mut found);
        if found.is_empty() { Ok(out) } else { Err(found) }
    }

    #[test]
    fn variables_are_substituted_like_in_envsubst() {
        for (text, expected) in [
            ("x: $A", "x: a"),
            ("x: ${A}b$A.c", "x: aba.c"),
            ("x: ${B:-d}${B-e}${B:=f}${EMPTY:-g}", "x: defg"),
            ("x: ${A:-d}${A+y}${B+z}.", "x: ay."),
            ("x: ${B:-$A}", "x: a"),
            ("x: $$A $${B} $ $_ ${}", "x: $A ${B} $ $_ ${}"),
        ] {
            assert_eq!(run(text).unwrap(), expected, "{text}");
        }
        for (text, reason) in [
            ("x: $B", "t:1:4: the variable `B` is not defined"),
            ("x: ${EMPTY}", "t:1:4: the variable `EMPTY` is defined but empty"),
            ("x: ${B:-}", "the variable `B` is not defined"),
            ("x: ${A", "no closing brace"),
            ("$patch: delete", "write `$$patch: delete`"),
        ] {
            let error = run(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn variables_in_comments_are_ignored() {
        let text = "# $B\nx: '# $A' # $B\ny: |- # $B\n  # $A\n  z\nz: a#$A\n";
        assert_eq!(run(text).unwrap(), "\nx: '# a' \ny: |- \n  # a\n  z\nz: a#a\n");
    }

    #[test]
    fn content_keeps_its_lines_unless_it_is_yaml() {
        let lookup = |_: &str| Some("v".to_owned());
        let mut found = Diagnostics::default();
        let mut run = |text: &str| substitute_content(&Origin::new("t"), text, &lookup, &mut found);
        assert_eq!(run("#!/bin/sh\n# why\n\necho $A\n"), "#!/bin/sh\n# why\n\necho v\n");
        assert_eq!(run("# why\na: $A # b\n\nc: |\n  # kept\n\n  d\n"), "a: v \nc: |\n  # kept\n\n  d\n");
    }
}
