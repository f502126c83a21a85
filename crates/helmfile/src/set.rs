//! What Helm's `--set`, `--set-string` and `--set-file` make of `key.path[0]=value` (Helm 4, `pkg/strvals`).
//!
//! It is done here and not by Helm's flags, since what is set may be a secret, and arguments are for everybody to see.

use serde_json::{Map, Value};

/// Levels of keys, as Helm limits them.
const MAX_LEVELS: usize = 30;
/// The greatest index of a list, as Helm limits it.
pub(super) const MAX_INDEX: usize = 65_536;

/// What the text behind `=` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetFlag {
    /// `--set`: true, false, null and whole numbers are what they look like.
    Typed,
    /// `--set-string`.
    Text,
    /// `--set-file`: a path; the caller reads it.
    File,
}

/// Puts every `key=value` of `text`, with commas between them, into `values`.
///
/// # Errors
///
/// Where the text is malformed, where a key leads through something that is neither a map nor a list, and whatever
/// `read` says of a file.
pub fn assign(
    values: &mut Map<String, Value>,
    text: &str,
    kind: SetFlag,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Result<(), String> {
    let mut parser = Parser { rest: text, kind, read };
    while !parser.rest.is_empty() {
        parser.key(values, 0)?;
    }
    Ok(())
}

struct Parser<'p> {
    rest: &'p str,
    kind: SetFlag,
    read: &'p dyn Fn(&str) -> Result<String, String>,
}

impl Parser<'_> {
    /// The text up to one of `stops`, with its escapes taken away, and the stop; none at the end.
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

    fn key(&mut self, values: &mut Map<String, Value>, level: usize) -> Result<(), String> {
        let (key, stop) = self.until(&['=', '[', ',', '.']);
        match stop {
            None if key.is_empty() => Ok(()),
            None => Err(format!("the key `{key}` has no value")),
            Some(',') => Err(format!("the key `{key}` has no value, it ends with a comma")),
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
                    Some(_) => return Err(format!("`{key}` is no list")),
                };
                self.item(&mut list, index, level)?;
                put(values, key, Value::Array(list));
                Ok(())
            }
            Some(_) => {
                let mut inner = match values.get(&key) {
                    None | Some(Value::Null) => Map::new(),
                    Some(Value::Object(map)) => map.clone(),
                    Some(_) => return Err(format!("`{key}` is no map")),
                };
                self.deeper(&mut inner, level)?;
                if inner.is_empty() {
                    return Err(format!("the key map `{key}` has no value"));
                }
                put(values, key, Value::Object(inner));
                Ok(())
            }
        }
    }

    fn deeper(&mut self, inner: &mut Map<String, Value>, level: usize) -> Result<(), String> {
        if level >= MAX_LEVELS {
            return Err(format!("a key has more than {MAX_LEVELS} levels"));
        }
        self.key(inner, level + 1)
    }

    fn index(&mut self) -> Result<usize, String> {
        match self.until(&[']']) {
            (index, Some(_)) => match index.parse() {
                Ok(index) if index <= MAX_INDEX => Ok(index),
                _ => Err(format!("`{index}` is no index up to {MAX_INDEX}")),
            },
            (_, None) => Err("an index lacks its `]`".to_owned()),
        }
    }

    fn item(&mut self, list: &mut Vec<Value>, index: usize, level: usize) -> Result<(), String> {
        let (unexpected, stop) = self.until(&['[', '.', '=']);
        if !unexpected.is_empty() {
            return Err(format!("`{unexpected}` behind an index"));
        }
        let existing = list.get(index).cloned().unwrap_or_default();
        let value = match stop {
            None => return Err("an index without a value".to_owned()),
            Some('=') => self.value()?,
            Some('[') => {
                let next = self.index()?;
                let mut inner = match existing {
                    Value::Null => vec![],
                    Value::Array(items) => items,
                    _ => return Err(format!("element {index} is no list")),
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
    fn value(&mut self) -> Result<Value, String> {
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
            let Some(stop) = stop else { return Err("a list lacks its `}`".to_owned()) };
            list.push(self.typed(text)?);
            if stop == '}' {
                self.rest = self.rest.strip_prefix(',').unwrap_or(self.rest);
                return Ok(Value::Array(list));
            }
        }
    }

    fn typed(&self, text: String) -> Result<Value, String> {
        match self.kind {
            SetFlag::Text => Ok(Value::from(text)),
            SetFlag::File => (self.read)(&text).map(Value::from),
            SetFlag::Typed => Ok(typed(text)),
        }
    }
}

/// What a text looks like, as Helm and helmfile judge it: a leading zero makes it text.
pub(super) fn typed(text: String) -> Value {
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

    fn set(values: Value, text: &str, kind: SetFlag) -> Result<Value, String> {
        let Value::Object(mut values) = values else { panic!("no map") };
        assign(&mut values, text, kind, &|path| {
            if path == "gone" { Err("gone".to_owned()) } else { Ok(format!("<{path}>")) }
        })?;
        Ok(Value::Object(values))
    }

    #[test]
    fn keys_lists_and_types_are_read_as_helm_reads_them() {
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
    fn what_is_there_already_is_changed_in_its_place() {
        let values = json!({"a": {"b": 1, "c": 2}, "l": [{"x": 1}, "y"]});
        let changed = set(values, "a.b=9,l[0].z=3,l[1]=w", SetFlag::Typed).unwrap();
        assert_eq!(changed, json!({"a": {"b": 9, "c": 2}, "l": [{"x": 1, "z": 3}, "w"]}));
    }

    #[test]
    fn texts_and_files_are_not_typed() {
        assert_eq!(set(json!({}), "a=1,b=true", SetFlag::Text).unwrap(), json!({"a": "1", "b": "true"}));
        assert_eq!(set(json!({}), "a=path/x", SetFlag::File).unwrap(), json!({"a": "<path/x>"}));
        assert_eq!(set(json!({}), "a=gone", SetFlag::File), Err("gone".to_owned()));
    }

    #[test]
    fn what_helm_refuses_is_refused() {
        for text in ["a", "a,b=1", "a.=1", "a.b", "a[x]=1", "a[-1]=1", "a[0", "a[0]x=1", "a={b", "a[99999999]=1"] {
            assert!(set(json!({}), text, SetFlag::Typed).is_err(), "{text}");
        }
        assert!(set(json!({"a": "text"}), "a.b=1", SetFlag::Typed).is_err());
        assert!(set(json!({"a": "text"}), "a[0]=1", SetFlag::Typed).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c=.,\\[\\]{}0-2\\\\]{0,16}") {
            let _ = set(json!({"a": {"b": [1]}, "b": [{"c": 1}]}), &text, SetFlag::Typed);
        }
    }
}
