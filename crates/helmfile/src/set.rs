//! Helm's `--set`, `--set-string` and `--set-file`: `key.path[0]=value` (Helm 4, `pkg/strvals`).
//!
//! Helm's own flags are not used, since a value may be a secret, and every process can read the arguments of another.

use std::io;

use serde_json::{Map, Value};

/// Maximum levels of keys, as in Helm.
const MAX_LEVELS: usize = 30;
/// Maximum index of a list, as in Helm.
pub(super) const MAX_INDEX: usize = 65_536;

/// How the text after `=` is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetFlag {
    /// `--set`: true, false, null and integers are recognised.
    Typed,
    /// `--set-string`: a string.
    Text,
    /// `--set-file`: the path of a file.
    File,
}

/// Why values cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error("key `{key}` has no value")]
    NoValue { key: String },
    #[error("an index has no value")]
    NoIndexValue,
    #[error("`{key}` is not a list")]
    NotAList { key: String },
    #[error("`{key}` is not a map")]
    NotAMap { key: String },
    #[error("a key has more than {MAX_LEVELS} levels")]
    TooManyLevels,
    #[error("invalid index `{text}`: expected a number up to {MAX_INDEX}")]
    InvalidIndex { text: String },
    #[error("missing `]` after an index")]
    UnclosedIndex,
    #[error("missing `}}` after a list")]
    UnclosedList,
    #[error("unexpected `{text}` after an index")]
    Unexpected { text: String },
    #[error("{path}: cannot read file: {error}")]
    File { path: String, error: io::Error },
}

/// Reads a file by its path.
pub type ReadFile<'r> = &'r dyn Fn(&str) -> io::Result<String>;

/// Sets every `key=value` of the comma-separated `text` in `values`; `read` reads the files of [`SetFlag::File`].
///
/// # Errors
///
/// Malformed text, a key below a value that is neither a map nor a list, an unreadable file.
pub fn assign(values: &mut Map<String, Value>, text: &str, kind: SetFlag, read: ReadFile<'_>) -> Result<(), SetError> {
    let mut parser = Parser { rest: text, kind, read };
    while !parser.rest.is_empty() {
        parser.key(values, 0)?;
    }
    Ok(())
}

struct Parser<'p> {
    rest: &'p str,
    kind: SetFlag,
    read: ReadFile<'p>,
}

impl Parser<'_> {
    /// The text up to one of `stops`, unescaped, and the stop, if any.
    fn until(&mut self, stops: &[char]) -> (String, Option<char>) {
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((at, character)) = characters.next() {
            if stops.contains(&character) {
                self.rest = &self.rest[at + character.len_utf8()..];
                return (text, Some(character));
            }
            if character == '\\' {
                text.extend(characters.next().map(|(_, escaped)| escaped));
            } else {
                text.push(character);
            }
        }
        self.rest = "";
        (text, None)
    }

    fn key(&mut self, values: &mut Map<String, Value>, level: usize) -> Result<(), SetError> {
        let (key, stop) = self.until(&['=', '[', ',', '.']);
        match stop {
            None if key.is_empty() => Ok(()),
            None | Some(',') => Err(SetError::NoValue { key }),
            Some('=') => {
                let value = self.value()?;
                put(values, key, value);
                Ok(())
            }
            Some('[') => {
                let index = self.index()?;
                let mut list = match values.get(&key) {
                    None => vec![],
                    Some(Value::Array(items)) => items.clone(),
                    Some(_) => return Err(SetError::NotAList { key }),
                };
                self.item(&mut list, index, level)?;
                put(values, key, Value::Array(list));
                Ok(())
            }
            Some(_) => {
                let mut inner = match values.get(&key) {
                    None | Some(Value::Null) => Map::new(),
                    Some(Value::Object(map)) => map.clone(),
                    Some(_) => return Err(SetError::NotAMap { key }),
                };
                self.deeper(&mut inner, level)?;
                if inner.is_empty() {
                    return Err(SetError::NoValue { key });
                }
                put(values, key, Value::Object(inner));
                Ok(())
            }
        }
    }

    fn deeper(&mut self, inner: &mut Map<String, Value>, level: usize) -> Result<(), SetError> {
        if level >= MAX_LEVELS {
            return Err(SetError::TooManyLevels);
        }
        self.key(inner, level + 1)
    }

    fn index(&mut self) -> Result<usize, SetError> {
        match self.until(&[']']) {
            (index, Some(_)) => match index.parse() {
                Ok(index) if index <= MAX_INDEX => Ok(index),
                _ => Err(SetError::InvalidIndex { text: index }),
            },
            (_, None) => Err(SetError::UnclosedIndex),
        }
    }

    fn item(&mut self, list: &mut Vec<Value>, index: usize, level: usize) -> Result<(), SetError> {
        let (unexpected, stop) = self.until(&['[', '.', '=']);
        if !unexpected.is_empty() {
            return Err(SetError::Unexpected { text: unexpected });
        }
        let existing = list.get(index).cloned().unwrap_or_default();
        let value = match stop {
            None => return Err(SetError::NoIndexValue),
            Some('=') => self.value()?,
            Some('[') => {
                let next = self.index()?;
                let mut inner = match existing {
                    Value::Null => vec![],
                    Value::Array(items) => items,
                    _ => return Err(SetError::NotAList { key: format!("[{index}]") }),
                };
                self.item(&mut inner, next, level)?;
                Value::Array(inner)
            }
            Some(_) => {
                let mut inner = if let Value::Object(map) = existing { map } else { Map::new() };
                self.deeper(&mut inner, level)?;
                Value::Object(inner)
            }
        };
        if list.len() <= index {
            list.resize(index + 1, Value::Null);
        }
        list[index] = value;
        Ok(())
    }

    /// `{a,b}` or a single value.
    fn value(&mut self) -> Result<Value, SetError> {
        if self.rest.is_empty() {
            return Ok(Value::from(""));
        }
        let Some(inside) = self.rest.strip_prefix('{') else {
            let (text, _) = self.until(&[',']);
            return self.typed(text);
        };
        self.rest = inside;
        let mut list = vec![];
        loop {
            let (text, stop) = self.until(&[',', '}']);
            let Some(stop) = stop else { return Err(SetError::UnclosedList) };
            list.push(self.typed(text)?);
            if stop == '}' {
                self.rest = self.rest.strip_prefix(',').unwrap_or(self.rest);
                return Ok(Value::Array(list));
            }
        }
    }

    fn typed(&self, text: String) -> Result<Value, SetError> {
        match self.kind {
            SetFlag::Text => Ok(Value::from(text)),
            SetFlag::File => match (self.read)(&text) {
                Ok(content) => Ok(Value::from(content)),
                Err(error) => Err(SetError::File { path: text, error }),
            },
            SetFlag::Typed => Ok(infer_type(text)),
        }
    }
}

/// Infers the type of a text as Helm and helmfile do: a leading zero makes it a string.
pub(super) fn infer_type(text: String) -> Value {
    match text.to_lowercase().as_str() {
        "true" => Value::from(true),
        "false" => Value::from(false),
        "null" => Value::Null,
        "0" => Value::from(0),
        _ if text.starts_with('0') => Value::from(text),
        _ => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
    }
}

fn put(values: &mut Map<String, Value>, key: String, value: Value) {
    if !key.is_empty() {
        values.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(values: Value, text: &str, kind: SetFlag) -> Result<Value, SetError> {
        let Value::Object(mut values) = values else { panic!("not a map") };
        assign(&mut values, text, kind, &|path| {
            if path == "gone" { Err(io::ErrorKind::NotFound.into()) } else { Ok(format!("<{path}>")) }
        })?;
        Ok(Value::Object(values))
    }

    #[test]
    fn keys_lists_and_types_follow_helm() {
        let typed = |text: &str| set(json!({}), text, SetFlag::Typed).unwrap();
        assert_eq!(typed("a=1,b.c=true,b.d=x"), json!({"a": 1, "b": {"c": true, "d": "x"}}));
        assert_eq!(
            typed("a=1.5,b=010,c=0,d=-3,e=null,f="),
            json!({"a": "1.5", "b": "010", "c": 0, "d": -3, "e": null, "f": ""})
        );
        assert_eq!(typed("list={a,b\\,c,3},x=1"), json!({"list": ["a", "b,c", 3], "x": 1}));
        assert_eq!(typed("a[1].b[0]=x"), json!({"a": [null, {"b": ["x"]}]}));
        assert_eq!(typed(r"a.example\.com/b=c\=d"), json!({"a": {"example.com/b": "c=d"}}));
        assert_eq!(typed("a=b=c"), json!({"a": "b=c"}));
        assert_eq!(typed("a={}"), json!({"a": [""]}));
        assert_eq!(typed(r"braces=\{x\}"), json!({"braces": "{x}"}));
    }

    #[test]
    fn existing_values_are_changed_in_place() {
        let values = json!({"a": {"b": 1, "c": 2}, "l": [{"x": 1}, "y"]});
        let changed = set(values, "a.b=9,l[0].z=3,l[1]=w", SetFlag::Typed).unwrap();
        assert_eq!(changed, json!({"a": {"b": 9, "c": 2}, "l": [{"x": 1, "z": 3}, "w"]}));
    }

    #[test]
    fn types_are_not_inferred_for_strings_and_files() {
        assert_eq!(set(json!({}), "a=1,b=true", SetFlag::Text).unwrap(), json!({"a": "1", "b": "true"}));
        assert_eq!(set(json!({}), "a=path/x", SetFlag::File).unwrap(), json!({"a": "<path/x>"}));
        let error = set(json!({}), "a=gone", SetFlag::File).unwrap_err();
        assert!(matches!(&error, SetError::File { path, .. } if path == "gone"), "{error}");
    }

    #[test]
    fn what_helm_rejects_is_rejected() {
        for text in ["a", "a,b=1", "a.=1", "a.b", "a[x]=1", "a[-1]=1", "a[0", "a[0]x=1", "a={b", "a[99999999]=1"] {
            assert!(set(json!({}), text, SetFlag::Typed).is_err(), "{text}");
        }
        assert!(set(json!({"a": "text"}), "a.b=1", SetFlag::Typed).is_err());
        assert!(set(json!({"a": "text"}), "a[0]=1", SetFlag::Typed).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text in "[a-c=.,\\[\\]{}0-2\\\\]{0,16}") {
            let _ = set(json!({"a": {"b": [1]}, "b": [{"c": 1}]}), &text, SetFlag::Typed);
        }
    }
}
