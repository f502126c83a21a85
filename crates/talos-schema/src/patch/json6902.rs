//! JSON patches (RFC 6902) with the deviations of the library that Talos uses (`evanphx/json-patch` 5).
//!
//! `replace` may set an absent key, negative indices count from the end, everything before the first slash of a path is
//! ignored, and null equals absent.

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
    /// Reads a list of mappings; operations are validated when they are applied.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
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
    /// The first operation that fails.
    pub(super) fn apply(&self, document: &Value) -> Result<Value, OperationError> {
        let mut patched = document.clone();
        for (index, operation) in self.0.iter().enumerate() {
            operation.apply(&mut patched).map_err(|reason| OperationError {
                number: index + 1,
                op: operation.op.clone(),
                path: operation.path.clone().unwrap_or_default(),
                reason,
            })?;
        }
        Ok(patched)
    }
}

/// An operation of a JSON patch that failed.
#[derive(Debug, thiserror::Error)]
#[error("operation {number} (`{op}` `{path}`) failed: {reason}")]
pub(super) struct OperationError {
    number: usize,
    op: String,
    path: String,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("it has no `{0}`")]
    NoPointer(&'static str),
    #[error("unknown operation `{0}`")]
    UnknownOperation(String),
    #[error("the config has no such path")]
    NoPath,
    #[error("key `{0}` not found")]
    NoKey(String),
    #[error("index `{0}` is out of range")]
    NoIndex(String),
    #[error("the values differ")]
    Different,
    #[error("the whole config can only be replaced by a mapping")]
    NotMapping,
}

impl Operation {
    fn apply(&self, document: &mut Value) -> Result<(), Reason> {
        let path = || self.path.as_deref().ok_or(Reason::NoPointer("path"));
        let from = || self.from.as_deref().ok_or(Reason::NoPointer("from"));
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
                if found.unwrap_or_default() == value { Ok(()) } else { Err(Reason::Different) }
            }
            other => Err(Reason::UnknownOperation(other.to_owned())),
        }
    }
}

/// The mapping or list that contains the last step of a path.
fn container<'d>(document: &'d mut Value, path: &str) -> Result<(&'d mut Value, String), Reason> {
    let decode = |step: &str| step.replace("~1", "/").replace("~0", "~");
    let mut steps: Vec<String> = path.split('/').skip(1).map(decode).collect();
    let last = steps.pop().ok_or(Reason::NoPath)?;
    let mut current = document;
    for step in steps {
        current = match current {
            Value::Object(map) => map.get_mut(&step),
            Value::Array(items) => index(&step, items.len()).and_then(|index| items.get_mut(index)),
            _ => None,
        }
        .ok_or(Reason::NoPath)?;
    }
    if current.is_object() || current.is_array() { Ok((current, last)) } else { Err(Reason::NoPath) }
}

/// An index into a list of this length; negative ones count from the end.
fn index(step: &str, length: usize) -> Option<usize> {
    let number: i64 = step.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    usize::try_from(if number < 0 { number + length } else { number }).ok()
}

fn no_index(step: &str) -> Reason {
    Reason::NoIndex(step.to_owned())
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), Reason> {
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

fn remove(document: &mut Value, path: &str) -> Result<Value, Reason> {
    let (container, step) = container(document, path)?;
    match container {
        Value::Object(map) => map.shift_remove(&step).ok_or(Reason::NoKey(step)),
        Value::Array(items) => match index(&step, items.len()).filter(|place| *place < items.len()) {
            Some(place) => Ok(items.remove(place)),
            None => Err(no_index(&step)),
        },
        _ => Err(Reason::NoPath),
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), Reason> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err(Reason::NotMapping);
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
        _ => Err(Reason::NoPath),
    }
}

fn get(document: &mut Value, path: &str) -> Result<Option<Value>, Reason> {
    let (container, step) = container(document, path)?;
    match container {
        Value::Array(items) => {
            let place = index(&step, items.len()).and_then(|place| items.get(place));
            place.cloned().map(Some).ok_or_else(|| no_index(&step))
        }
        other => Ok(other.get(&step).cloned()),
    }
}
