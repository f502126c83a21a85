//! Lists and maps; lookups by path are in `paths`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{ANY, Call, Entry, Failure, Outcome, list, map, string};
use crate::value;

pub(super) const TABLE: &[Entry] = &[
    ("all", 0, ANY, |_, a| Ok(Value::from(a.iter().all(value::truth)))),
    ("any", 0, ANY, |_, a| Ok(Value::from(a.iter().any(value::truth)))),
    ("append", 2, 2, |_, a| Ok(list(a, 0)?.iter().chain(&a[1..]).cloned().collect())),
    ("coalesce", 0, ANY, |_, a| Ok(a.iter().find(|one| value::truth(one)).cloned().unwrap_or_default())),
    ("compact", 1, 1, |_, a| Ok(list(a, 0)?.iter().filter(|one| value::truth(one)).cloned().collect())),
    ("concat", 0, ANY, concat),
    ("deepCopy", 1, 1, |_, a| Ok(a[0].clone())),
    ("deepEqual", 2, 2, |_, a| Ok(Value::from(a[0] == a[1]))),
    ("default", 1, 2, |_, a| Ok(a.get(1).filter(|given| value::truth(given)).unwrap_or(&a[0]).clone())),
    ("dict", 0, ANY, |_, a| Ok(dict(a))),
    ("empty", 1, 1, |_, a| Ok(Value::from(!value::truth(&a[0])))),
    ("fail", 1, 1, |_, a| Err(Failure::new(string(a, 0)?))),
    ("first", 1, 1, |_, a| Ok(list(a, 0)?.first().cloned().unwrap_or_default())),
    ("has", 2, 2, |_, a| Ok(Value::from(list(a, 1)?.contains(&a[0])))),
    ("hasKey", 2, 2, |_, a| Ok(Value::from(map(a, 0)?.contains_key(string(a, 1)?)))),
    ("initial", 1, 1, |_, a| Ok(list(a, 0)?.split_last().map(|(_, rest)| rest.to_vec()).unwrap_or_default().into())),
    ("keys", 1, ANY, keys),
    ("kindIs", 2, 2, |_, a| Ok(Value::from(kind(&a[1]) == string(a, 0)?))),
    ("kindOf", 1, 1, |_, a| Ok(Value::from(kind(&a[0])))),
    ("last", 1, 1, |_, a| Ok(list(a, 0)?.last().cloned().unwrap_or_default())),
    ("list", 0, ANY, |_, a| Ok(Value::from(a.to_vec()))),
    ("merge", 1, ANY, |_, a| merge(a, fill)),
    ("mergeOverwrite", 1, ANY, |_, a| merge(a, overwrite)),
    ("omit", 1, ANY, |_, a| select(a, Keys::Unlisted)),
    ("pick", 1, ANY, |_, a| select(a, Keys::Listed)),
    ("pluck", 1, ANY, pluck),
    ("prepend", 2, 2, |_, a| Ok(a[1..].iter().chain(list(a, 0)?).cloned().collect())),
    ("push", 2, 2, |_, a| Ok(list(a, 0)?.iter().chain(&a[1..]).cloned().collect())),
    ("required", 2, 2, required),
    ("rest", 1, 1, |_, a| Ok(list(a, 0)?.iter().skip(1).cloned().collect())),
    ("reverse", 1, 1, |_, a| Ok(list(a, 0)?.iter().rev().cloned().collect())),
    ("set", 3, 3, set),
    ("sprigGet", 2, 2, |_, a| Ok(map(a, 0)?.get(string(a, 1)?).cloned().unwrap_or_else(|| Value::from("")))),
    ("ternary", 3, 3, |_, a| Ok(if value::truth(&a[2]) { a[0].clone() } else { a[1].clone() })),
    ("tuple", 0, ANY, |_, a| Ok(Value::from(a.to_vec()))),
    ("typeIs", 2, 2, |_, a| Ok(Value::from(a[0] == type_name(&a[1])))),
    ("typeIsLike", 2, 2, |_, a| Ok(Value::from(a[0] == type_name(&a[1])))),
    ("typeOf", 1, 1, |_, a| Ok(Value::from(type_name(&a[0])))),
    ("uniq", 1, 1, uniq),
    ("unset", 2, 2, unset),
    ("values", 1, 1, |_, a| Ok(map(a, 0)?.values().cloned().collect())),
    ("without", 1, ANY, |_, a| Ok(list(a, 0)?.iter().filter(|one| !a[1..].contains(one)).cloned().collect())),
];

/// The type as Go prints it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        other => kind(other),
    }
}

/// The kind as Go's `reflect` names it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

fn concat(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let mut all = vec![];
    for index in 0..arguments.len() {
        all.extend_from_slice(list(arguments, index)?);
    }
    Ok(Value::from(all))
}

fn dict(arguments: &[Value]) -> Value {
    let pairs = arguments.chunks(2).map(|pair| {
        let value = pair.get(1).cloned().unwrap_or_else(|| Value::from(""));
        (value::text(&pair[0]), value)
    });
    Value::Object(pairs.collect())
}

fn keys(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let mut keys = vec![];
    for index in 0..arguments.len() {
        keys.extend(map(arguments, index)?.keys().cloned().map(Value::from));
    }
    Ok(Value::from(keys))
}

fn merge(arguments: &[Value], with: fn(&mut Map<String, Value>, &Map<String, Value>)) -> Outcome {
    let mut merged = map(arguments, 0)?.clone();
    for index in 1..arguments.len() {
        with(&mut merged, map(arguments, index)?);
    }
    Ok(Value::Object(merged))
}

/// Existing values stay, unless they are empty.
fn fill(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(into)), Value::Object(from)) => fill(into, from),
            (Some(mine), _) if value::truth(mine) => {}
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Later values win, even empty ones.
fn overwrite(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(into)), Value::Object(from)) => overwrite(into, from),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Which keys of a map are kept.
#[derive(Clone, Copy, PartialEq)]
enum Keys {
    Listed,
    Unlisted,
}

fn select(arguments: &[Value], keys: Keys) -> Outcome {
    let names: BTreeSet<&str> = arguments[1..].iter().filter_map(Value::as_str).collect();
    let is_kept = |key: &str| names.contains(key) == (keys == Keys::Listed);
    let kept = map(arguments, 0)?.iter().filter(|(key, _)| is_kept(key));
    Ok(Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect()))
}

fn pluck(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let key = string(arguments, 0)?;
    Ok(arguments[1..].iter().filter_map(|map| map.get(key).cloned()).collect())
}

fn required(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    match &arguments[1] {
        Value::Null => Err(Failure::new(string(arguments, 0)?)),
        Value::String(text) if text.is_empty() => Err(Failure::new(string(arguments, 0)?)),
        given => Ok(given.clone()),
    }
}

fn set(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let mut changed = map(arguments, 0)?.clone();
    changed.insert(string(arguments, 1)?.to_owned(), arguments[2].clone());
    Ok(Value::Object(changed))
}

fn unset(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let mut changed = map(arguments, 0)?.clone();
    changed.shift_remove(string(arguments, 1)?);
    Ok(Value::Object(changed))
}

fn uniq(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let mut unique: Vec<Value> = vec![];
    for item in list(arguments, 0)? {
        if !unique.contains(item) {
            unique.push(item.clone());
        }
    }
    Ok(Value::from(unique))
}
