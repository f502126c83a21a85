//! Numbers, comparisons, versions.

use std::cmp::Ordering;

use serde_json::Value;
use version_range::VersionRange;

use super::{ANY, Call, Entry, Failure, Outcome, integer};
use crate::value;

/// The longest list that `until` and `untilStep` return.
const MAX_LENGTH: u64 = 10_000;

pub(super) const TABLE: &[Entry] = &[
    ("add", 0, ANY, |_, a| fold(a, 0, i64::checked_add)),
    ("add1", 1, 1, |_, a| whole(&a[0])?.checked_add(1).map(Value::from).ok_or_else(overflow)),
    ("add1f", 1, 1, |_, a| Ok(number(float(&a[0])? + 1.0))),
    ("addf", 0, ANY, |_, a| floats(a, |sum, next| sum + next)),
    ("atoi", 1, 1, |_, a| Ok(Value::from(value::text(&a[0]).parse::<i64>().unwrap_or_default()))),
    ("ceil", 1, 1, |_, a| Ok(Value::from(float(&a[0])?.ceil()))),
    ("divf", 1, ANY, |_, a| floats(a, |sum, next| sum / next)),
    ("div", 2, 2, |_, a| divide(a, i64::checked_div)),
    ("eq", 1, ANY, equal),
    ("float64", 1, 1, |_, a| Ok(Value::from(float(&a[0])?))),
    ("floor", 1, 1, |_, a| Ok(Value::from(float(&a[0])?.floor()))),
    ("ge", 2, 2, |_, a| ordered(a, Ordering::is_ge)),
    ("gt", 2, 2, |_, a| ordered(a, Ordering::is_gt)),
    ("int", 1, 1, |_, a| Ok(Value::from(whole(&a[0])?))),
    ("int64", 1, 1, |_, a| Ok(Value::from(whole(&a[0])?))),
    ("le", 2, 2, |_, a| ordered(a, Ordering::is_le)),
    ("len", 1, 1, length),
    ("lt", 2, 2, |_, a| ordered(a, Ordering::is_lt)),
    ("maxf", 1, ANY, |_, a| floats(a, f64::max)),
    ("minf", 1, ANY, |_, a| floats(a, f64::min)),
    ("mulf", 0, ANY, |_, a| floats(a, |sum, next| sum * next)),
    ("subf", 1, ANY, |_, a| floats(a, |sum, next| sum - next)),
    ("seq", 0, 3, seq),
    ("max", 1, ANY, |_, a| extreme(a, i64::max)),
    ("min", 1, ANY, |_, a| extreme(a, i64::min)),
    ("mod", 2, 2, |_, a| divide(a, i64::checked_rem)),
    ("mul", 0, ANY, |_, a| fold(a, 1, i64::checked_mul)),
    ("ne", 2, 2, |_, a| compare(a).map(|equal| Value::from(!equal))),
    ("not", 1, 1, |_, a| Ok(Value::from(!value::truth(&a[0])))),
    ("round", 2, 2, round),
    ("semver", 1, 1, semver),
    ("semverCompare", 2, 2, semver_compare),
    ("sub", 2, 2, |_, a| whole(&a[0])?.checked_sub(whole(&a[1])?).map(Value::from).ok_or_else(overflow)),
    ("toDecimal", 1, 1, |_, a| Ok(Value::from(i64::from_str_radix(&value::text(&a[0]), 8).unwrap_or_default()))),
    ("until", 1, 1, |_, a| steps(0, integer(a, 0)?, 1)),
    ("untilStep", 3, 3, |_, a| steps(integer(a, 0)?, integer(a, 1)?, integer(a, 2)?)),
    ("biggest", 1, ANY, |_, a| extreme(a, i64::max)),
];

fn number(value: f64) -> Value {
    Value::from(value)
}

fn floats(arguments: &[Value], step: fn(f64, f64) -> f64) -> Outcome {
    let numbers = arguments.iter().map(float).collect::<Result<Vec<_>, _>>()?;
    Ok(number(numbers.into_iter().reduce(step).unwrap_or_default()))
}

/// Like the program `seq`: first, step and last; the numbers in one string.
fn seq(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let given = arguments.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
    let (first, step, last) = match given.as_slice() {
        [] => return Ok(Value::from("")),
        [last] => (1, None, *last),
        [first, last] => (*first, None, *last),
        [first, step, last, ..] => (*first, Some(*step), *last),
    };
    let step = step.unwrap_or(if first <= last { 1 } else { -1 });
    if (last > first && step < 0) || (last < first && step > 0) {
        return Ok(Value::from(""));
    }
    let end = if step > 0 { last.saturating_add(1) } else { last.saturating_sub(1) };
    let numbers = steps(first, end, step)?;
    let texts: Vec<String> = numbers.as_array().into_iter().flatten().map(value::text).collect();
    Ok(Value::from(texts.join(" ")))
}

fn overflow() -> Failure {
    Failure::new("integer overflow: the result exceeds 64 bits")
}

/// Converts a number or its text to an integer, as sprig does.
fn whole(value: &Value) -> Result<i64, Failure> {
    let number = match value {
        Value::Null => Some(0),
        Value::Bool(value) => Some(i64::from(*value)),
        #[allow(clippy::cast_possible_truncation, reason = "Go's conversion cuts the fraction off too")]
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)),
        #[allow(clippy::cast_possible_truncation, reason = "Go's conversion cuts the fraction off too")]
        Value::String(text) => prefixed(text).or_else(|| Some(text.parse::<f64>().unwrap_or_default() as i64)),
        _ => None,
    };
    number.ok_or_else(|| Failure::new(format!("`{}` is not an integer", value::text(value))))
}

/// Parses an integer literal of Go: a leading zero means octal, `0x` hexadecimal.
fn prefixed(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text.trim_start_matches('+')), |digits| (-1, digits));
    let of = |radix, digits: &str| i64::from_str_radix(digits, radix).ok();
    let lower = digits.to_ascii_lowercase();
    let value = match (lower.get(..2), lower.strip_prefix('0')) {
        (Some("0x"), _) => of(16, &lower[2..]),
        (Some("0b"), _) => of(2, &lower[2..]),
        (Some("0o"), _) => of(8, &lower[2..]),
        (_, Some(rest)) if !rest.is_empty() => of(8, rest),
        _ => digits.parse().ok(),
    };
    value.map(|value| sign * value)
}

fn float(value: &Value) -> Result<f64, Failure> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => Some(text.parse().unwrap_or_default()),
        _ => None,
    };
    number.ok_or_else(|| Failure::new(format!("`{}` is not a number", value::text(value))))
}

fn fold(arguments: &[Value], start: i64, step: fn(i64, i64) -> Option<i64>) -> Outcome {
    let sum = arguments.iter().try_fold(start, |sum, next| step(sum, whole(next)?).ok_or_else(overflow))?;
    Ok(Value::from(sum))
}

fn extreme(arguments: &[Value], pick: fn(i64, i64) -> i64) -> Outcome {
    let numbers = arguments.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
    Ok(Value::from(numbers.into_iter().reduce(pick).unwrap_or_default()))
}

fn divide(arguments: &[Value], divide: fn(i64, i64) -> Option<i64>) -> Outcome {
    let result = divide(whole(&arguments[0])?, whole(&arguments[1])?);
    result.map(Value::from).ok_or_else(|| Failure::new("division by zero"))
}

fn round(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let places = i32::try_from(integer(arguments, 1)?).unwrap_or_default();
    let scale = 10f64.powi(places);
    Ok(Value::from((float(&arguments[0])? * scale).round() / scale))
}

fn compare(arguments: &[Value]) -> Result<bool, Failure> {
    value::equal(&arguments[0], &arguments[1]).ok_or_else(|| incomparable(&arguments[0], &arguments[1]))
}

fn incomparable(left: &Value, right: &Value) -> Failure {
    Failure::new(format!("{} and {} cannot be compared", value::kind(left), value::kind(right)))
}

/// Go's `eq`: whether the first argument equals any of the others.
fn equal(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let Some((first, rest)) = arguments.split_first() else { return Ok(Value::from(false)) };
    if rest.is_empty() {
        return Err("at least two values are needed".into());
    }
    for other in rest {
        if value::equal(first, other).ok_or_else(|| incomparable(first, other))? {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}

fn ordered(arguments: &[Value], holds: fn(Ordering) -> bool) -> Outcome {
    let order = value::order(&arguments[0], &arguments[1]);
    order.map(|order| Value::from(holds(order))).ok_or_else(|| incomparable(&arguments[0], &arguments[1]))
}

fn length(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    match &arguments[0] {
        Value::String(text) => Ok(Value::from(text.len())),
        Value::Array(items) => Ok(Value::from(items.len())),
        Value::Object(map) => Ok(Value::from(map.len())),
        other => Err(Failure::new(format!("{} has no length", value::kind(other)))),
    }
}

fn steps(from: i64, to: i64, step: i64) -> Outcome {
    let step = if from > to && step > 0 { -step } else { step };
    if step == 0 || to.abs_diff(from) / step.unsigned_abs() > MAX_LENGTH {
        return Err(Failure::new(format!("more than {MAX_LENGTH} numbers")));
    }
    let next = |at: &i64| at.checked_add(step);
    let inside = |at: &i64| if step > 0 { *at < to } else { *at > to };
    Ok(std::iter::successors(Some(from), next).take_while(inside).map(Value::from).collect())
}

fn version(text: &str) -> Result<semver::Version, Failure> {
    Ok(version_range::parse_version(text)?)
}

fn semver(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let version = version(super::string(arguments, 0)?)?;
    Ok(serde_json::json!({
        "Major": version.major, "Minor": version.minor, "Patch": version.patch,
        "Prerelease": version.pre.as_str(), "Metadata": version.build.as_str(),
    }))
}

fn semver_compare(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let range: VersionRange = super::string(arguments, 0)?.parse()?;
    Ok(Value::from(range.contains(&version(super::string(arguments, 1)?)?)))
}
