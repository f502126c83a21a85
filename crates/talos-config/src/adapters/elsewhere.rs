//! Variables that the environment lacks and the repository says; what a recipe reads from 1Password is read from there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::Place;
use crate::Wanted;
use discover::{FoundValue, VariableSearch, Wrapper};
use template::jinja;
use yaml::{Diagnostic, Location};

const REFERENCE: &str = "op://";

/// What the repository says of these names.
pub(super) fn written(place: &Place<'_>, names: &BTreeSet<String>) -> BTreeMap<String, FoundValue> {
    let search = VariableSearch { root: place.root, folder: place.folder, known: place.environment };
    if names.is_empty() { BTreeMap::new() } else { search.find(names) }
}

/// Where a recipe sets a variable by a command.
pub(super) fn computed(place: &Place<'_>, name: &str) -> Option<Location> {
    VariableSearch { root: place.root, folder: place.folder, known: place.environment }.assigned_at(name)
}

/// Tells of an undefined variable where a recipe sets it by a command, which is not run here.
pub(super) fn hinted(place: &Place<'_>, finding: Diagnostic) -> Diagnostic {
    let quoted = finding.message.strip_prefix(jinja::UNDEFINED).and_then(|rest| rest.split('`').nth(1));
    let name = quoted.map(|name| name.strip_prefix("ENV.").unwrap_or(name).to_owned());
    match name.and_then(|name| Some((computed(place, &name)?, name))) {
        Some((at, name)) => finding.with_hint(format!(
            "{at} sets it by a command: set `{name}` in the environment, or in k8s-bootstrap.yaml: \
             clusters.<name>.variables"
        )),
        None => finding,
    }
}

/// The value itself, where a reference was found.
pub(super) fn value(place: &Place<'_>, found: &FoundValue) -> String {
    if !found.value.starts_with(REFERENCE) {
        return found.value.clone();
    }
    let wanted = Wanted::References { origin: found.at.to_string(), text: found.value.clone() };
    // All is read again once the answer is there; until then the reference must not be taken for the template's own.
    place.sources.get(wanted).unwrap_or_else(|| "unknown".to_owned())
}

/// The value of a variable that recipes have from a program they run behind.
pub(super) fn behind(place: &Place<'_>, wrapper: &Wrapper, name: &str) -> String {
    let (behind, at) = (wrapper.command.clone(), wrapper.at.to_string());
    let wanted = Wanted::Variable { name: name.to_owned(), behind, at };
    place.sources.get(wanted).unwrap_or_else(|| "unknown".to_owned())
}

/// As [`written`], one name at a time.
pub(super) struct Elsewhere<'p> {
    place: &'p Place<'p>,
    wrapper: Option<Wrapper>,
    known: RefCell<BTreeMap<String, Option<FoundValue>>>,
}

impl<'p> Elsewhere<'p> {
    pub(super) fn new(place: &'p Place<'p>) -> Self {
        Self { place, wrapper: Wrapper::find(place.root), known: RefCell::default() }
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        let mut known = self.known.borrow_mut();
        let look = || written(self.place, &BTreeSet::from([name.to_owned()])).remove(name);
        let found = known.entry(name.to_owned()).or_insert_with(look);
        let found = found.as_ref().map(|found| value(self.place, found));
        found.or_else(|| self.wrapper.as_ref().map(|wrapper| behind(self.place, wrapper, name)))
    }

    /// What was found, each with its place.
    pub(super) fn notices(&self) -> Vec<Diagnostic> {
        let known = self.known.borrow();
        known.iter().filter_map(|(name, found)| Some(found.as_ref()?.warning(name))).collect()
    }
}
