//! Numbers, comparisons, truth.

use std::cmp::Ordering;

use serde_json::Value;

use super::{ANY, Call, Entry, Failure, Outcome, integer};
use crate::template::value;

/// The longest list of numbers.
const MAX_LENGTH: u64 = 10_000;

pub(super) const TABLE: &[Entry] = &[
    ("add", 0, ANY, |_, a| fold(a, 0, i64::checked_add)),
    ("add1", 1, 1, |_, a| whole(&a[0])?.checked_add(1).map(Value::from).ok_or_else(overflow)),
    ("atoi", 1, 1, |_, a| Ok(Value::from(whole(&a[0])?))),
    ("ceil", 1, 1, |_, a| Ok(Value::from(float(&a[0])?.ceil()))),
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

fn overflow() -> Failure {
    Failure::new("the result does not fit into 64 bits")
}

/// A whole number out of a number or its text, as sprig converts.
fn whole(value: &Value) -> Result<i64, Failure> {
    let number = match value {
        Value::Null => Some(0),
        Value::Bool(value) => Some(i64::from(*value)),
        #[allow(clippy::cast_possible_truncation, reason = "Go's conversion cuts the fraction off too")]
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| Failure::new(format!("{} is no whole number", value::text(value))))
}

fn float(value: &Value) -> Result<f64, Failure> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| Failure::new(format!("{} is no number", value::text(value))))
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
    result.map(Value::from).ok_or_else(|| Failure::new("a division by zero"))
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

/// Go's `eq` takes several: whether the first is any of the others.
fn equal(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let Some((first, rest)) = arguments.split_first() else { return Ok(Value::from(false)) };
    if rest.is_empty() {
        return Err("it compares at least two values".into());
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
    let bare = text.strip_prefix('v').unwrap_or(text);
    let core = bare.split(['-', '+']).next().unwrap_or_default();
    let padded = match core.matches('.').count() {
        0 => bare.replacen(core, &format!("{core}.0.0"), 1),
        1 => bare.replacen(core, &format!("{core}.0"), 1),
        _ => bare.to_owned(),
    };
    semver::Version::parse(&padded).map_err(|error| Failure::new(format!("{text:?} is no version: {error}")))
}

fn semver(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let version = version(super::string(arguments, 0)?)?;
    Ok(serde_json::json!({
        "Major": version.major, "Minor": version.minor, "Patch": version.patch,
        "Prerelease": version.pre.as_str(), "Metadata": version.build.as_str(),
    }))
}

/// `=1.2` and a bare `1.2` mean the same to sprig; to the crate a bare version is a caret one.
fn semver_compare(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (wanted, version) = (super::string(arguments, 0)?, version(super::string(arguments, 1)?)?);
    let wanted: Vec<String> = wanted
        .split(',')
        .map(|part| part.trim().replace(['v', ' '], ""))
        .map(|part| if part.starts_with(|c: char| c.is_ascii_digit()) { format!("={part}") } else { part })
        .collect();
    let wanted = semver::VersionReq::parse(&wanted.join(", "));
    let wanted = wanted.map_err(|error| Failure::new(format!("{:?}: {error}", arguments[0])))?;
    Ok(Value::from(wanted.matches(&version)))
}
