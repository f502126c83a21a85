//! dotenv files: lines `NAME=value` and `NAME: value`, as joho/godotenv reads them for talhelper and task.

use std::collections::BTreeMap;

/// Where a variable's value comes from.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// The variables of a dotenv file; `outer` looks up the variables that values refer to. None when the text is not a dotenv
/// file: those tools then ignore it as a whole.
pub fn parse(text: &str, outer: Lookup<'_>) -> Option<BTreeMap<String, String>> {
    let text = text.replace("\r\n", "\n");
    let mut variables = BTreeMap::new();
    let mut rest = text.as_str();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(variables);
        }
        if rest.starts_with('#') || is_document_start(rest) {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let (name, after) = name(rest)?;
        let (value, after) = value(after, &variables, outer)?;
        variables.insert(name.to_owned(), value);
        rest = after;
    }
}

fn is_document_start(text: &str) -> bool {
    text.strip_prefix("---").is_some_and(|after| after.is_empty() || after.starts_with('\n'))
}

fn name(text: &str) -> Option<(&str, &str)> {
    let text = match text.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start_matches([' ', '\t']),
        _ => text,
    };
    let end = text.find(['=', ':'])?;
    let name = &text[..end];
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | ' ' | '\t');
    name.chars().all(allowed).then(|| (name.trim_end(), text[end + 1..].trim_start_matches([' ', '\t'])))
}

fn value<'t>(text: &'t str, known: &BTreeMap<String, String>, outer: Lookup<'_>) -> Option<(String, &'t str)> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let (line, rest) = text.split_at(text.find('\n').unwrap_or(text.len()));
        let comment = line.match_indices('#').find(|(at, _)| line[..*at].ends_with([' ', '\t']));
        let line = comment.map_or(line, |(at, _)| &line[..at]);
        return Some((expand(line.trim(), known, outer), rest));
    };
    let mut escaped = false;
    let end = text.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })?;
    let inner = text[..end].trim_matches(quote);
    let value = if quote == '"' { expand(&unescape(inner), known, outer) } else { inner.to_owned() };
    Some((value, &text[end + 1..]))
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.clone().next() } else { None }) {
            ('\\', Some(escaped)) => {
                chars.next();
                match escaped {
                    'n' => out.push('\n'),
                    'r' => out.push('\r'),
                    '$' => out.push_str("\\$"),
                    other => out.push(other),
                }
            }
            _ => out.push(c),
        }
    }
    out
}

/// `$NAME` and `${NAME}` in capitals; `\$` and `$(` are text.
fn expand(text: &str, known: &BTreeMap<String, String>, outer: Lookup<'_>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, tail) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('\\') {
            out.push_str(before);
            out.push('$');
            rest = &tail[1..];
            continue;
        }
        out.push_str(before);
        let inner = tail[1..].strip_prefix('{').unwrap_or(&tail[1..]);
        let length = inner.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        let name = &inner[..length.unwrap_or(inner.len())];
        if name.is_empty() {
            out.push('$');
            rest = &tail[1..];
            continue;
        }
        out.push_str(&known.get(name).cloned().or_else(|| outer(name)).unwrap_or_default());
        rest = &inner[name.len()..];
        rest = rest.strip_prefix('}').unwrap_or(rest);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_godotenv_reads_them() {
        let text = "---\n# comment\nA: 007\nexport B='x $A' # c\nC = \"l1\\nl2 ${A} \\$A\"\nURL: http://p:3128/?a=b#c\nD: ${OUT}-$A # d\n";
        let outer = |name: &str| (name == "OUT").then(|| "o".to_owned());
        let read = parse(text, &outer).unwrap();
        let expected =
            [("A", "007"), ("B", "x $A"), ("C", "l1\nl2 007 $A"), ("URL", "http://p:3128/?a=b#c"), ("D", "o-007")];
        for (name, value) in expected {
            assert_eq!(read[name], value, "{name}");
        }
    }

    #[test]
    fn nested_yaml_is_not_a_dotenv_file() {
        assert_eq!(parse("a:\n  - b c\n", &|_| None), None);
    }
}
