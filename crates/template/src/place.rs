//! Shared values. Go's maps have reference semantics: a change through a variable, a field or the dot is visible through
//! every other alias.
//!
//! A value is in a cell, or within the value of a cell. Aliases of a map or list share its cell; other values are copied
//! when they are bound, as in Go.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::Value;

/// One step of a path into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A reference to a value, or to a part of one.
#[derive(Debug, Clone)]
pub(super) struct ValueRef {
    cell: Rc<RefCell<Value>>,
    path: Vec<Step>,
}

impl ValueRef {
    /// A new value.
    pub(super) fn of(value: impl Into<Value>) -> Self {
        Self { cell: Rc::new(RefCell::new(value.into())), path: Vec::new() }
    }

    pub(super) fn child(&self, step: Step) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        Self { cell: self.cell.clone(), path }
    }

    /// Calls `look` with the value, or with null if the path no longer exists.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Value) -> T) -> T {
        let whole = self.cell.borrow();
        let found = self.path.iter().try_fold(&*whole, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        });
        look(found.unwrap_or(&Value::Null))
    }

    pub(super) fn get(&self) -> Value {
        self.with(Value::clone)
    }

    /// Replaces the value.
    pub(super) fn put(&self, value: Value) {
        let mut whole = self.cell.borrow_mut();
        let found = self.path.iter().try_fold(&mut *whole, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        });
        if let Some(found) = found {
            *found = value;
        }
    }

    /// The value as a variable refers to it: a map or list is shared, any other value is copied.
    pub(super) fn bound(self) -> Self {
        let is_shared = self.with(|value| value.is_object() || value.is_array());
        if is_shared || self.path.is_empty() && Rc::strong_count(&self.cell) == 1 { self } else { Self::of(self.get()) }
    }
}

/// The argument, or the part of one, that a function returns by reference; none if its result is a new value.
pub(super) fn aliased_argument(name: &str, arguments: &[ValueRef]) -> Option<ValueRef> {
    let text = |index: usize| arguments.get(index)?.with(|value| value.as_str().map(str::to_owned));
    let step = |place: &ValueRef| {
        place.with(|value| match value {
            Value::String(key) => Some(Step::Key(key.clone())),
            Value::Number(index) => Some(Step::Index(usize::try_from(index.as_u64()?).ok()?)),
            _ => None,
        })
    };
    let is_true = |place: &&ValueRef| place.with(super::value::truth);
    let within =
        |first: &ValueRef, steps: Vec<Step>| steps.into_iter().fold(first.clone(), |place, step| place.child(step));
    match (name, arguments) {
        ("set" | "unset" | "merge" | "mergeOverwrite" | "mustMerge" | "mustMergeOverwrite", [map, ..])
        | ("setValueAtPath", [_, _, map]) => Some(map.clone()),
        ("index", [first, keys @ ..]) => Some(within(first, keys.iter().map(step).collect::<Option<_>>()?)),
        ("get" | "getOrNil", [_, map] | [_, _, map]) => {
            Some(within(map, text(0)?.split('.').map(|key| Step::Key(key.to_owned())).collect()))
        }
        ("dig", [keys @ .., _, map]) => Some(within(map, keys.iter().map(step).collect::<Option<_>>()?)),
        ("first", [list]) => Some(list.child(Step::Index(0))),
        ("last", [list]) => {
            let last = list.with(|value| value.as_array().map(Vec::len))?.checked_sub(1)?;
            Some(list.child(Step::Index(last)))
        }
        ("required", [_, value]) => Some(value.clone()),
        ("default", [other, value]) => Some(if is_true(&value) { value.clone() } else { other.clone() }),
        ("coalesce" | "or", all) => all.iter().find(is_true).or(all.last()).cloned(),
        ("ternary", [yes, no, condition]) => Some(if is_true(&condition) { yes.clone() } else { no.clone() }),
        _ => None,
    }
}
