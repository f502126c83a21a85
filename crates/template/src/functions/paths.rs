//! Looking values up, and putting them in, by a path of keys.

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

/// The value below a path of keys and list indices, with dots between them.
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
        Failure::new(format!("there is nothing at `{path}`"))
            .hint("a default may stand between path and map; `getOrNil` gives nil")
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

/// Go's `index`: a key that a map lacks gives nil, an index that a list lacks is an error.
fn index(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let Some((value, keys)) = arguments.split_first() else { return Ok(Value::Null) };
    let mut at = value.clone();
    for (position, key) in keys.iter().enumerate() {
        at = match &at {
            Value::Object(map) => map.get(string(keys, position)?).cloned().unwrap_or_default(),
            Value::Array(items) => {
                let wanted = integer(keys, position)?;
                let item = usize::try_from(wanted).ok().and_then(|wanted| items.get(wanted));
                item.cloned()
                    .ok_or_else(|| Failure::new(format!("there is no element {wanted} in a list of {}", items.len())))?
            }
            other => {
                return Err(Failure::new(format!("{} has no element {}", value::kind(other), value::text(key))));
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
    let outside = || Failure::new("the bounds are outside");
    match &arguments[0] {
        Value::String(text) => {
            let range = bound(1, 0)?..bound(2, text.len())?;
            text.get(range).map(Value::from).ok_or_else(outside)
        }
        Value::Array(items) => {
            let range = bound(1, 0)?..bound(2, items.len())?;
            items.get(range).map(|items| Value::from(items.to_vec())).ok_or_else(outside)
        }
        other => Err(Failure::new(format!("{} cannot be cut", value::kind(other)))),
    }
}

/// helmfile's `setValueAtPath PATH VALUE MAP`: every map on the way must be there.
fn set_value_at_path(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let (path, mut changed) = (string(arguments, 0)?, arguments[2].clone());
    let (way, key) = path.rsplit_once('.').map_or((None, path), |(way, key)| (Some(way), key));
    let mut at = &mut changed;
    for step in way.into_iter().flat_map(|way| way.split('.')) {
        at = match at {
            Value::Object(map) => match map.get_mut(step) {
                Some(value) => value,
                None => return Err(Failure::new(format!("there is nothing at `{step}` of `{path}`"))),
            },
            other => return Err(Failure::new(format!("`{path}` leads through {}", value::kind(other)))),
        };
    }
    match at {
        Value::Object(map) => map.insert(key.to_owned(), arguments[1].clone()),
        other => return Err(Failure::new(format!("`{path}` leads through {}", value::kind(other)))),
    };
    Ok(changed)
}
