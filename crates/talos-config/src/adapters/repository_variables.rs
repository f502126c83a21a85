//! Variables that the environment lacks, found in the repository. 1Password references in recipes are resolved.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::InputContext;
use crate::{InputRequest, InputsError};
use discover::{FoundValue, VariableSearch, Wrapper};
use template::jinja::RenderError;
use yaml::{Diagnostic, Location};

const REFERENCE: &str = "op://";

/// Finds variables in the repository.
pub(super) fn find(place: &InputContext<'_>, names: &BTreeSet<String>) -> BTreeMap<String, FoundValue> {
    let search = VariableSearch { root: place.root, folder: place.folder, known: place.environment };
    if names.is_empty() { BTreeMap::new() } else { search.find(names) }
}

/// Where a recipe sets a variable by a command.
pub(super) fn computed(place: &InputContext<'_>, name: &str) -> Option<Location> {
    VariableSearch { root: place.root, folder: place.folder, known: place.environment }.assigned_at(name)
}

/// Adds a hint to an undefined variable that a recipe computes with a command, since recipes are not run.
pub(super) fn hinted(place: &InputContext<'_>, error: RenderError) -> Diagnostic {
    let RenderError { diagnostic: finding, undefined } = error;
    let name = undefined.map(|name| name.strip_prefix("ENV.").unwrap_or(&name).to_owned());
    match name.and_then(|name| Some((computed(place, &name)?, name))) {
        Some((at, name)) => finding.with_hint(format!(
            "{at} computes it with a command: set `{name}` in the environment, or in k8s-bootstrap.yaml: \
             clusters.<name>.variables"
        )),
        None => finding,
    }
}

/// The value of a variable, with a reference resolved.
pub(super) fn value(place: &InputContext<'_>, found: &FoundValue) -> Result<String, InputRequest> {
    if !found.value.starts_with(REFERENCE) {
        return Ok(found.value.clone());
    }
    place.sources.get(InputRequest::References { origin: found.at.to_string(), text: found.value.clone() })
}

/// The value of a variable that a wrapper program of recipes provides.
pub(super) fn from_wrapper(place: &InputContext<'_>, wrapper: &Wrapper, name: &str) -> Result<String, InputRequest> {
    let (behind, at) = (wrapper.command.clone(), wrapper.at.to_string());
    place.sources.get(InputRequest::Variable { name: name.to_owned(), behind, at })
}

/// Finds single variables in the repository or from a wrapper program, with a cache.
pub(super) struct RepositoryVariables<'p> {
    place: &'p InputContext<'p>,
    wrapper: Option<Wrapper>,
    known: RefCell<BTreeMap<String, Option<FoundValue>>>,
    needs: RefCell<BTreeSet<InputRequest>>,
}

impl<'p> RepositoryVariables<'p> {
    pub(super) fn new(place: &'p InputContext<'p>) -> Self {
        Self { place, wrapper: Wrapper::find(place.root), known: RefCell::default(), needs: RefCell::default() }
    }

    /// The value of a variable; what it needs from outside is in [`RepositoryVariables::needs`].
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let mut known = self.known.borrow_mut();
        let search = || find(self.place, &BTreeSet::from([name.to_owned()])).remove(name);
        let found = known.entry(name.to_owned()).or_insert_with(search);
        let found = found.as_ref().map(|found| value(self.place, found));
        let value = found.or_else(|| Some(from_wrapper(self.place, self.wrapper.as_ref()?, name)))?;
        value.map_err(|need| self.needs.borrow_mut().insert(need)).ok()
    }

    /// What the variables so far need from outside.
    pub(super) fn needs(&self) -> InputsError {
        InputsError { needs: self.needs.borrow().clone(), ..InputsError::default() }
    }

    /// Warnings about the found variables, with their places.
    pub(super) fn warnings(&self) -> Vec<Diagnostic> {
        let known = self.known.borrow();
        known.iter().filter_map(|(name, found)| Some(found.as_ref()?.warning(name))).collect()
    }
}
