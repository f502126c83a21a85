//! Strings and regular expressions.

use regex::Regex;
use serde_json::Value;

use super::{ANY, Call, Entry, Failure, Outcome, check_length, integer, string};
use crate::value;

pub(super) const TABLE: &[Entry] = &[
    ("cat", 0, ANY, |_, a| Ok(Value::from(a.iter().map(value::text).collect::<Vec<_>>().join(" ")))),
    ("contains", 2, 2, |_, a| Ok(Value::from(string(a, 1)?.contains(string(a, 0)?)))),
    ("hasPrefix", 2, 2, |_, a| Ok(Value::from(string(a, 1)?.starts_with(string(a, 0)?)))),
    ("hasSuffix", 2, 2, |_, a| Ok(Value::from(string(a, 1)?.ends_with(string(a, 0)?)))),
    ("html", 1, ANY, |_, a| Ok(Value::from(gotmpl::html_escape(&concat(a))))),
    ("indent", 2, 2, |_, a| indent(a).map(Value::from)),
    ("join", 2, 2, join),
    ("js", 1, ANY, |_, a| Ok(Value::from(gotmpl::js_escape(&concat(a))))),
    ("lower", 1, 1, |_, a| Ok(Value::from(string(a, 0)?.to_lowercase()))),
    ("mustRegexFind", 2, 2, regex_find),
    ("mustRegexFindAll", 3, 3, regex_find_all),
    ("mustRegexMatch", 2, 2, regex_match),
    ("mustRegexReplaceAll", 3, 3, regex_replace),
    ("mustRegexReplaceAllLiteral", 3, 3, regex_replace_literal),
    ("mustRegexSplit", 3, 3, regex_split),
    ("nindent", 2, 2, |_, a| Ok(Value::from(format!("\n{}", indent(a)?)))),
    ("nospace", 1, 1, |_, a| Ok(Value::from(string(a, 0)?.split_whitespace().collect::<String>()))),
    ("print", 0, ANY, |_, a| format("print", a)),
    ("printf", 1, ANY, |_, a| {
        check_length(padding(string(a, 0)?))?;
        format("printf", a)
    }),
    ("println", 0, ANY, |_, a| format("println", a)),
    ("quote", 0, ANY, |_, a| Ok(Value::from(quoted(a, |text| format("printf", &["%q".into(), text.into()]))?))),
    ("regexFind", 2, 2, regex_find),
    ("regexFindAll", 3, 3, regex_find_all),
    ("regexMatch", 2, 2, |call, a| Ok(regex_match(call, a).unwrap_or(Value::from(false)))),
    ("regexQuoteMeta", 1, 1, |_, a| Ok(Value::from(regex::escape(string(a, 0)?)))),
    ("regexReplaceAll", 3, 3, regex_replace),
    ("regexReplaceAllLiteral", 3, 3, regex_replace_literal),
    ("regexSplit", 3, 3, regex_split),
    ("repeat", 2, 2, repeat),
    ("replace", 3, 3, replace),
    ("sortAlpha", 1, 1, |_, a| Ok(sort_alpha(&a[0]))),
    ("split", 2, 2, split),
    ("splitList", 2, 2, |_, a| Ok(string(a, 1)?.split(string(a, 0)?).map(Value::from).collect())),
    ("splitn", 3, 3, splitn),
    ("squote", 0, ANY, |_, a| Ok(Value::from(quoted(a, |text| Ok(Value::from(format!("'{text}'"))))?))),
    ("substr", 3, 3, substr),
    ("title", 1, 1, |_, a| Ok(Value::from(title(string(a, 0)?)))),
    ("toString", 1, 1, |_, a| Ok(Value::from(value::text(&a[0])))),
    ("toStrings", 1, 1, |_, a| Ok(texts(&a[0]).into_iter().map(Value::from).collect())),
    ("trim", 1, 1, |_, a| Ok(Value::from(string(a, 0)?.trim()))),
    ("trimAll", 2, 2, trim_all),
    ("trimPrefix", 2, 2, |_, a| {
        let (prefix, text) = (string(a, 0)?, string(a, 1)?);
        Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
    }),
    ("trimSuffix", 2, 2, |_, a| {
        let (suffix, text) = (string(a, 0)?, string(a, 1)?);
        Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
    }),
    ("trimall", 2, 2, trim_all),
    ("trunc", 2, 2, trunc),
    ("upper", 1, 1, |_, a| Ok(Value::from(string(a, 0)?.to_uppercase()))),
    ("urlquery", 1, ANY, |_, a| Ok(Value::from(gotmpl::url_encode(&concat(a))))),
];

/// Formats as Go does, by `gotmpl`.
fn format(function: &str, arguments: &[Value]) -> Outcome {
    let operands: String = (0..arguments.len()).map(|index| format!(" (index . {index})")).collect();
    let template = gotmpl::Template::new(function).parse(&format!("{{{{ {function}{operands} }}}}"));
    let data = gotmpl::Value::List(arguments.iter().map(value::to_go).collect());
    let text = template.and_then(|template| template.execute_to_string(&data));
    text.map(Value::from).map_err(|error| Failure::new(format!("cannot format: {error}")))
}

/// The padding that widths and precisions of a format may add; `gotmpl` clamps each of them.
fn padding(format: &str) -> usize {
    const CLAMP: usize = 65_535;
    let numbers = format.split(|character: char| !character.is_ascii_digit() && character != '*');
    numbers.filter(|number| !number.is_empty()).map(|number| number.parse().unwrap_or(CLAMP).min(CLAMP)).sum()
}

fn concat(arguments: &[Value]) -> String {
    arguments.iter().map(value::text).collect()
}

/// The elements of a list as strings, without nil; a single value counts as a list of one.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter(|item| !item.is_null()).map(value::text).collect(),
        Value::Null => vec![],
        other => vec![value::text(other)],
    }
}

fn quoted(arguments: &[Value], quote: impl Fn(String) -> Outcome) -> Result<String, Failure> {
    let some = arguments.iter().filter(|argument| !argument.is_null());
    let quoted: Result<Vec<String>, Failure> =
        some.map(|one| quote(value::text(one)).map(|v| value::text(&v))).collect();
    Ok(quoted?.join(" "))
}

fn indent(arguments: &[Value]) -> Result<String, Failure> {
    let pad = " ".repeat(usize::try_from(integer(arguments, 0)?).unwrap_or_default().min(200));
    let text = string(arguments, 1)?;
    check_length(text.matches('\n').count() * pad.len())?;
    Ok(format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

fn join(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (separator, texts) = (string(arguments, 0)?, texts(&arguments[1]));
    check_length(separator.len().saturating_mul(texts.len()))?;
    Ok(Value::from(texts.join(separator)))
}

fn replace(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (old, new, text) = (string(arguments, 0)?, string(arguments, 1)?, string(arguments, 2)?);
    check_length(text.matches(old).count().saturating_mul(new.len()))?;
    Ok(Value::from(text.replace(old, new)))
}

fn repeat(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (count, text) = (usize::try_from(integer(arguments, 0)?).unwrap_or_default(), string(arguments, 1)?);
    check_length(count.saturating_mul(text.len()))?;
    Ok(Value::from(text.repeat(count)))
}

fn sort_alpha(list: &Value) -> Value {
    let mut texts = texts(list);
    texts.sort();
    texts.into_iter().map(Value::from).collect()
}

/// sprig's `split`: a map with the keys `_0`, `_1` …
fn numbered<'t>(parts: impl Iterator<Item = &'t str>) -> Value {
    Value::Object(parts.enumerate().map(|(index, part)| (format!("_{index}"), Value::from(part))).collect())
}

fn split(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    Ok(numbered(string(arguments, 1)?.split(string(arguments, 0)?)))
}

fn splitn(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let count = usize::try_from(integer(arguments, 1)?).unwrap_or(usize::MAX);
    Ok(numbered(string(arguments, 2)?.splitn(count, string(arguments, 0)?)))
}

fn substr(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (from, to, text) = (integer(arguments, 0)?, integer(arguments, 1)?, string(arguments, 2)?);
    let from = usize::try_from(from).unwrap_or_default();
    let to = usize::try_from(to).unwrap_or(text.len()).min(text.len());
    text.get(from..to.max(from)).map(Value::from).ok_or_else(|| "bounds out of range".into())
}

fn trim_all(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (cut, text) = (string(arguments, 0)?, string(arguments, 1)?);
    Ok(Value::from(text.trim_matches(|c| cut.contains(c))))
}

fn trunc(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (count, text) = (integer(arguments, 0)?, string(arguments, 1)?);
    let keep = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let cut = if count < 0 { text.get(text.len().saturating_sub(keep)..) } else { text.get(..keep.min(text.len())) };
    cut.map(Value::from).ok_or_else(|| "the bound is inside of a character".into())
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .flat_map(|c| {
            let upper = std::mem::replace(&mut start, !c.is_alphanumeric() && c != '_') && c.is_alphabetic();
            let (upper, same) = if upper { (Some(c.to_uppercase()), None) } else { (None, Some(c)) };
            upper.into_iter().flatten().chain(same)
        })
        .collect()
}

fn pattern(arguments: &[Value]) -> Result<Regex, Failure> {
    let text = string(arguments, 0)?;
    Regex::new(text).map_err(|error| Failure::new(format!("invalid regular expression {text:?}: {error}")))
}

fn regex_match(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    Ok(Value::from(pattern(arguments)?.is_match(string(arguments, 1)?)))
}

fn regex_find(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    Ok(Value::from(pattern(arguments)?.find(string(arguments, 1)?).map_or("", |found| found.as_str())))
}

/// A number of matches or parts; negative means all.
fn count(arguments: &[Value]) -> Result<usize, Failure> {
    Ok(usize::try_from(integer(arguments, 2)?).unwrap_or(usize::MAX))
}

fn regex_find_all(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (pattern, text, count) = (pattern(arguments)?, string(arguments, 1)?, count(arguments)?);
    Ok(pattern.find_iter(text).take(count).map(|found| Value::from(found.as_str())).collect())
}

fn regex_split(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (pattern, text, count) = (pattern(arguments)?, string(arguments, 1)?, count(arguments)?);
    Ok(pattern.splitn(text, count).map(Value::from).collect())
}

fn regex_replace(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (pattern, text, with) = (pattern(arguments)?, string(arguments, 1)?, string(arguments, 2)?);
    // Each reference may expand to the whole match.
    let references = with.matches('$').count();
    let grown = pattern.find_iter(text).map(|found| with.len() + references.saturating_mul(found.len()));
    check_length(grown.fold(0, usize::saturating_add))?;
    Ok(Value::from(pattern.replace_all(text, with)))
}

fn regex_replace_literal(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (pattern, text, with) = (pattern(arguments)?, string(arguments, 1)?, string(arguments, 2)?);
    check_length(pattern.find_iter(text).count().saturating_mul(with.len()))?;
    Ok(Value::from(pattern.replace_all(text, regex::NoExpand(with))))
}
