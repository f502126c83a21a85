//! helmfile's command line options.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use template::ProgramRunner;

use super::environment;
use super::selector::Selector;
use crate::set::{MAX_INDEX, infer_type};

/// Options for reading a helmfile.
#[derive(Debug, Clone, Default)]
pub struct HelmfileOptions {
    /// The environment; [`DEFAULT_ENVIRONMENT`](super::DEFAULT_ENVIRONMENT) if unset.
    pub environment: Option<String>,
    /// A release is selected if one of them matches, or if there are none.
    pub selectors: Vec<Selector>,
    /// Values files that override those of every environment.
    pub state_values_files: Vec<PathBuf>,
    /// Single values that override all of those.
    pub state_values: Vec<StateValue>,
    /// Also select what a selected release needs.
    pub include_needs: bool,
    pub depth: ReadDepth,
    /// Runs the programs of templates (`exec`); without it, such templates are an error.
    pub programs: Option<Arc<dyn ProgramRunner>>,
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadDepth {
    /// The fields of releases, without values files, hooks and charts.
    Fields,
    #[default]
    Everything,
}

/// `key.path[0]=value` of helmfile's `--state-values-set`.
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

    /// Merges the single values into one map.
    ///
    /// # Errors
    ///
    /// A path through a value that is neither a map nor a list.
    pub(super) fn overrides(&self) -> Result<Map<String, Value>, StateValueError> {
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

/// Why a state value is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateValueError {
    #[error("invalid state value `{text}`: expected `key=value`")]
    NoValue { text: String },
    #[error("invalid index in `{key}`: expected a number up to {MAX_INDEX}")]
    InvalidIndex { key: String },
    #[error("cannot set `{key}` in a value that is not a map")]
    NotAMap { key: String },
    #[error("`{key}` is not a list")]
    NotAList { key: String },
}

impl StateValue {
    /// Parses comma-separated `key=value`, as `--state-values-set` does.
    ///
    /// # Errors
    ///
    /// An item without `=`, or an invalid index.
    pub fn parse(written: &str) -> Result<Vec<Self>, StateValueError> {
        let item = |item: &str| match item.split_once('=') {
            Some((path, value)) => Ok(Self { path: parse_path(path)?, value: infer_type(value.to_owned()) }),
            None => Err(StateValueError::NoValue { text: item.to_owned() }),
        };
        written.split(',').map(item).collect()
    }

    /// Like [`parse`](Self::parse), but every value is a string, as `--state-values-set-string` does.
    ///
    /// # Errors
    ///
    /// An item without `=`, or an invalid index.
    pub fn parse_text(written: &str) -> Result<Vec<Self>, StateValueError> {
        let items = Self::parse(written)?;
        let texts = written.split(',').filter_map(|item| item.split_once('='));
        Ok(items.into_iter().zip(texts).map(|(set, (_, text))| Self { value: Value::from(text), ..set }).collect())
    }

    fn put(&self, all: &mut Value) -> Result<(), StateValueError> {
        let mut at = all;
        for step in &self.path {
            let (key, index) = match step {
                Step::Key(key) => (key, None),
                Step::Element(key, index) => (key, Some(*index)),
            };
            let Value::Object(map) = at else { return Err(StateValueError::NotAMap { key: key.clone() }) };
            at = map.entry(key).or_insert(if index.is_some() {
                Value::Array(vec![])
            } else {
                Value::Object(Map::new())
            });
            if let Some(index) = index {
                let Value::Array(items) = at else { return Err(StateValueError::NotAList { key: key.clone() }) };
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

/// Parses dot-separated keys; a backslash escapes a dot.
fn parse_path(written: &str) -> Result<Vec<Step>, StateValueError> {
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

fn step(key: &str) -> Result<Step, StateValueError> {
    let Some((name, index)) = key.strip_suffix(']').and_then(|key| key.split_once('[')) else {
        return Ok(Step::Key(key.to_owned()));
    };
    let index = index.parse().ok().filter(|index| *index <= MAX_INDEX);
    let index = index.ok_or_else(|| StateValueError::InvalidIndex { key: key.to_owned() })?;
    Ok(Step::Element(name.to_owned(), index))
}
