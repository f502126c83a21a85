//! Gets and sets values by a path of keys.

use serde_json::Value;

use super::{ANY, Call, Entry, Failure, Outcome, integer, string};
use crate::value;

pub(super) const TABLE: &[Entry] = &[
    ("dig", 3, ANY, |_, a| Ok(dig(a))),
    ("get", 2, 3, get),
    ("getOrNil", 2, 2, |_, a| Ok(find(&a[1], string(a, 0)?).cloned().unwrap_or_default())),
    ("index", 1, ANY, index),
    ("setValueAtPath", 3, 3, set_value_at_path),
    ("slice", 1, 3, slice),
];

/// The value at a path of keys and list indices, separated by dots.
fn find<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').filter(|_| !path.is_empty()).try_fold(value, |value, key| match value {
        Value::Object(map) => map.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// helmfile's `get PATH [DEFAULT] MAP`.
fn get(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let path = string(arguments, 0)?;
    let (value, default) = match arguments {
        [_, value] => (value, None),
        [_, default, value] => (value, Some(default)),
        _ => return Ok(Value::Null),
    };
    find(value, path).or(default).cloned().ok_or_else(|| {
        Failure::new(format!("no value at `{path}`")).hint("pass a default between path and map, or use `getOrNil`")
    })
}

/// sprig's `dig KEY… DEFAULT MAP`.
fn dig(arguments: &[Value]) -> Value {
    let [keys @ .., default, map] = arguments else { return Value::Null };
    let mut at = map;
    for key in keys {
        match at.get(value::text(key)) {
            Some(value) => at = value,
            None => return default.clone(),
        }
    }
    at.clone()
}

/// Go's `index`: a missing key of a map is nil, a missing index of a list is an error.
fn index(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let Some((value, keys)) = arguments.split_first() else { return Ok(Value::Null) };
    let mut at = value.clone();
    for (position, key) in keys.iter().enumerate() {
        at = match &at {
            Value::Object(map) => map.get(string(keys, position)?).cloned().unwrap_or_default(),
            Value::Array(items) => {
                let wanted = integer(keys, position)?;
                let item = usize::try_from(wanted).ok().and_then(|wanted| items.get(wanted));
                item.cloned().ok_or_else(|| {
                    Failure::new(format!("index {wanted} is out of range of a list of {}", items.len()))
                })?
            }
            other => {
                return Err(Failure::new(format!("cannot index {} with {}", value::kind(other), value::text(key))));
            }
        };
    }
    Ok(at)
}

fn slice(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let bound = |index: usize, default: usize| match arguments.get(index) {
        Some(_) => integer(arguments, index).map(|bound| usize::try_from(bound).unwrap_or(usize::MAX)),
        None => Ok(default),
    };
    let outside = || Failure::new("bounds out of range");
    match &arguments[0] {
        Value::String(text) => {
            let range = bound(1, 0)?..bound(2, text.len())?;
            text.get(range).map(Value::from).ok_or_else(outside)
        }
        Value::Array(items) => {
            let range = bound(1, 0)?..bound(2, items.len())?;
            items.get(range).map(|items| Value::from(items.to_vec())).ok_or_else(outside)
        }
        other => Err(Failure::new(format!("cannot slice {}", value::kind(other)))),
    }
}

/// helmfile's `setValueAtPath PATH VALUE MAP`: every map along the path must exist.
fn set_value_at_path(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (path, mut changed) = (string(arguments, 0)?, arguments[2].clone());
    let (parents, key) = path.rsplit_once('.').map_or((None, path), |(parents, key)| (Some(parents), key));
    let mut at = &mut changed;
    for step in parents.into_iter().flat_map(|parents| parents.split('.')) {
        at = match at {
            Value::Object(map) => match map.get_mut(step) {
                Some(value) => value,
                None => return Err(Failure::new(format!("no `{step}` along the path `{path}`"))),
            },
            other => {
                return Err(Failure::new(format!(
                    "the path `{path}` goes through {}, which is not a map",
                    value::kind(other)
                )));
            }
        };
    }
    match at {
        Value::Object(map) => map.insert(key.to_owned(), arguments[1].clone()),
        other => {
            return Err(Failure::new(format!(
                "the path `{path}` goes through {}, which is not a map",
                value::kind(other)
            )));
        }
    };
    Ok(changed)
}
