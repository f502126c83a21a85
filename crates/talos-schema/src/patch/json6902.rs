//! JSON patches (RFC 6902) with the liberties of the library that Talos uses (`evanphx/json-patch` 5).
//!
//! It lets `replace` set a key that is not there, takes negative indices for places from the end, ignores what stands
//! before the first slash of a path, and takes null for nothing.

use serde_json::Value;

/// A list of operations, applied in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Operations(Vec<Operation>);

#[derive(Debug, Clone, PartialEq)]
struct Operation {
    op: String,
    path: Option<String>,
    from: Option<String>,
    value: Option<Value>,
}

impl Operations {
    /// Reads a list of mappings; what they say is looked at when they are applied.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let items = value.as_array()?;
        let read = |item: &Value| {
            let map = item.as_object()?;
            let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
            Some(Operation {
                op: text("op").unwrap_or_else(|| "unknown".to_owned()),
                path: text("path"),
                from: text("from"),
                value: map.get("value").cloned(),
            })
        };
        items.iter().map(read).collect::<Option<_>>().map(Self)
    }

    /// Applies every operation.
    ///
    /// # Errors
    ///
    /// The first one that does not apply: its number, itself and why.
    pub(super) fn apply(&self, document: &Value) -> Result<Value, String> {
        let mut patched = document.clone();
        for (index, operation) in self.0.iter().enumerate() {
            operation.apply(&mut patched).map_err(|why| {
                let path = operation.path.as_deref().unwrap_or_default();
                format!("operation {} (`{}` `{path}`) does not apply: {why}", index + 1, operation.op)
            })?;
        }
        Ok(patched)
    }
}

const NO_PLACE: &str = "the config has no such place";

impl Operation {
    fn apply(&self, document: &mut Value) -> Result<(), String> {
        let path = || self.path.as_deref().ok_or_else(|| "it has no `path`".to_owned());
        let from = || self.from.as_deref().ok_or_else(|| "it has no `from`".to_owned());
        let value = self.value.clone().unwrap_or_default();
        match self.op.as_str() {
            "add" => add(document, path()?, value),
            "remove" => remove(document, path()?).map(drop),
            "replace" => replace(document, path()?, value),
            "move" => {
                let moved = remove(document, from()?)?;
                add(document, path()?, moved)
            }
            "copy" => {
                let copied = get(document, from()?)?.unwrap_or_default();
                add(document, path()?, copied)
            }
            "test" => {
                let found = if path()?.is_empty() { Some(document.clone()) } else { get(document, path()?)? };
                if found.unwrap_or_default() == value { Ok(()) } else { Err("the value is another".to_owned()) }
            }
            other => Err(format!("there is no operation `{other}`")),
        }
    }
}

/// The container that a path ends in, and the last step.
fn container<'d>(document: &'d mut Value, path: &str) -> Result<(&'d mut Value, String), String> {
    let decode = |step: &str| step.replace("~1", "/").replace("~0", "~");
    let mut steps: Vec<String> = path.split('/').skip(1).map(decode).collect();
    let last = steps.pop().ok_or_else(|| NO_PLACE.to_owned())?;
    let mut current = document;
    for step in steps {
        current = match current {
            Value::Object(map) => map.get_mut(&step),
            Value::Array(items) => index(&step, items.len()).and_then(|index| items.get_mut(index)),
            _ => None,
        }
        .ok_or_else(|| NO_PLACE.to_owned())?;
    }
    if current.is_object() || current.is_array() { Ok((current, last)) } else { Err(NO_PLACE.to_owned()) }
}

/// A place in a list of this length; negative ones count from the end.
fn index(step: &str, length: usize) -> Option<usize> {
    let number: i64 = step.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    usize::try_from(if number < 0 { number + length } else { number }).ok()
}

fn no_index(step: &str) -> String {
    format!("the list has no place `{step}`")
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let (container, step) = container(document, path)?;
    match container {
        Value::Object(map) => {
            map.insert(step, value);
        }
        Value::Array(items) if step == "-" => items.push(value),
        Value::Array(items) => {
            let place = index(&step, items.len() + 1).filter(|place| *place <= items.len());
            items.insert(place.ok_or_else(|| no_index(&step))?, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let (container, step) = container(document, path)?;
    match container {
        Value::Object(map) => map.shift_remove(&step).ok_or_else(|| format!("there is no key `{step}`")),
        Value::Array(items) => match index(&step, items.len()).filter(|place| *place < items.len()) {
            Some(place) => Ok(items.remove(place)),
            None => Err(no_index(&step)),
        },
        _ => Err(NO_PLACE.to_owned()),
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err("the whole config can only become a mapping".to_owned());
        }
        *document = value;
        return Ok(());
    }
    let (container, step) = container(document, path)?;
    match container {
        Value::Object(map) => {
            map.insert(step, value);
            Ok(())
        }
        Value::Array(items) => {
            let place = index(&step, items.len()).and_then(|place| items.get_mut(place));
            *place.ok_or_else(|| no_index(&step))? = value;
            Ok(())
        }
        _ => Err(NO_PLACE.to_owned()),
    }
}

fn get(document: &mut Value, path: &str) -> Result<Option<Value>, String> {
    let (container, step) = container(document, path)?;
    match container {
        Value::Array(items) => {
            let place = index(&step, items.len()).and_then(|place| items.get(place));
            place.cloned().map(Some).ok_or_else(|| no_index(&step))
        }
        other => Ok(other.get(&step).cloned()),
    }
}
