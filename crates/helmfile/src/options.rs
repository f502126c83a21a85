//! What helmfile takes from its command line.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::environment;
use super::selector::Selector;
use crate::set::{MAX_INDEX, typed};

/// Which environment, which releases, which values: all optional.
#[derive(Debug, Clone, Default)]
pub struct HelmfileOptions {
    /// The environment; [`DEFAULT_ENVIRONMENT`](super::DEFAULT_ENVIRONMENT) when nobody names one.
    pub environment: Option<String>,
    /// A release that one of them takes is meant; none take every release.
    pub selectors: Vec<Selector>,
    /// Values files over every environment's own.
    pub state_values_files: Vec<PathBuf>,
    /// Single values over all of those.
    pub state_values: Vec<StateValue>,
    /// What a selected release needs is selected as well.
    pub include_needs: bool,
    pub depth: ReadDepth,
}

/// How far a reading goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadDepth {
    /// The releases' fields; values files, hooks and charts are not looked at.
    Fields,
    #[default]
    Everything,
}

/// `key.path[0]=value` as helmfile's `--state-values-set` takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct StateValue {
    path: Vec<Step>,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Element(String, usize),
}

impl HelmfileOptions {
    pub(super) fn environment(&self) -> &str {
        self.environment.as_deref().filter(|name| !name.is_empty()).unwrap_or(environment::DEFAULT)
    }

    /// The single values as one map.
    ///
    /// # Errors
    ///
    /// A path that leads through something that is neither a map nor a list.
    pub(super) fn overrides(&self) -> Result<Map<String, Value>, String> {
        let mut all = Value::Object(Map::new());
        for set in &self.state_values {
            set.put(&mut all)?;
        }
        match all {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }
}

impl StateValue {
    /// Reads one `key=value`, or several with commas between them, as `--state-values-set`.
    ///
    /// # Errors
    ///
    /// An item without `=`, or an index that is none.
    pub fn parse(written: &str) -> Result<Vec<Self>, String> {
        let item = |item: &str| match item.split_once('=') {
            Some((path, value)) => Ok(Self { path: path_of(path)?, value: typed(value.to_owned()) }),
            None => Err(format!("`{item}` is not `key=value`")),
        };
        written.split(',').map(item).collect()
    }

    /// As [`parse`](Self::parse), but a value is text whatever it looks like, as `--state-values-set-string`.
    ///
    /// # Errors
    ///
    /// An item without `=`, or an index that is none.
    pub fn parse_text(written: &str) -> Result<Vec<Self>, String> {
        let items = Self::parse(written)?;
        let texts = written.split(',').filter_map(|item| item.split_once('='));
        Ok(items.into_iter().zip(texts).map(|(set, (_, text))| Self { value: Value::from(text), ..set }).collect())
    }

    fn put(&self, all: &mut Value) -> Result<(), String> {
        let mut at = all;
        for step in &self.path {
            let (key, index) = match step {
                Step::Key(key) => (key, None),
                Step::Element(key, index) => (key, Some(*index)),
            };
            let Value::Object(map) = at else { return Err(format!("`{key}` is set in something that is no map")) };
            at = map.entry(key).or_insert(if index.is_some() {
                Value::Array(vec![])
            } else {
                Value::Object(Map::new())
            });
            if let Some(index) = index {
                let Value::Array(items) = at else { return Err(format!("`{key}` is no list")) };
                if items.len() <= index {
                    items.resize(index + 1, Value::Null);
                }
                at = &mut items[index];
                if at.is_null() {
                    *at = Value::Object(Map::new());
                }
            }
        }
        *at = self.value.clone();
        Ok(())
    }
}

/// Keys with dots between them; a backslash takes a dot its meaning.
fn path_of(written: &str) -> Result<Vec<Step>, String> {
    let (mut keys, mut escaped) = (vec![String::new()], false);
    for character in written.chars() {
        match keys.last_mut() {
            _ if character == '.' && !escaped => keys.push(String::new()),
            Some(key) if escaped || character != '\\' => key.push(character),
            _ => {
                escaped = true;
                continue;
            }
        }
        escaped = false;
    }
    keys.into_iter().map(|key| step(&key)).collect()
}

fn step(key: &str) -> Result<Step, String> {
    let Some((name, index)) = key.strip_suffix(']').and_then(|key| key.split_once('[')) else {
        return Ok(Step::Key(key.to_owned()));
    };
    let index = index.parse().ok().filter(|index| *index <= MAX_INDEX);
    index.map(|index| Step::Element(name.to_owned(), index)).ok_or_else(|| format!("`{key}` has no index"))
}
