//! Jinja as operators have it rendered by `minijinja-cli`: strict, nothing escaped, blocks trimmed.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use crate::yaml::{Diagnostic, Origin, Position};

/// A template, and those that it may include, by their names.
#[derive(Clone, Copy)]
pub struct Jinja<'t> {
    pub name: &'t str,
    pub text: &'t str,
    pub others: &'t BTreeMap<String, String>,
    /// Where a template of that name was written.
    pub origin: &'t dyn Fn(&str) -> Origin,
}

impl std::fmt::Debug for Jinja<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jinja").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Jinja<'_> {
    /// Renders the template.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its place in the template that it is in, which may be an included one.
    pub fn render(&self, values: Value) -> Result<String, Diagnostic> {
        let own = |error: &minijinja::Error| told(&(self.origin)(self.name), self.text, error);
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_syntax(syntax().map_err(|error| own(&error))?);
        environment.set_debug(true);
        for (name, text) in self.others {
            // One that is not a template is told when it is used.
            let _ = environment.add_template_owned(name.clone(), text.clone());
        }
        environment.add_template_owned(self.name.to_owned(), self.text.to_owned()).map_err(|error| own(&error))?;
        let template = environment.get_template(self.name).map_err(|error| own(&error))?;
        template.render(values).map_err(|error| {
            let name = error.name().unwrap_or_default();
            match self.others.get(name).filter(|_| name != self.name) {
                Some(text) => told(&(self.origin)(name), text, &error),
                None => own(&error),
            }
        })
    }
}

/// The variables that a template expects from outside; none when it is no template.
pub fn undeclared(name: &str, text: &str) -> BTreeSet<String> {
    let mut environment = Environment::new();
    let Ok(syntax) = syntax() else { return BTreeSet::new() };
    environment.set_syntax(syntax);
    let template = environment.template_from_named_str(name, text);
    template.map(|template| template.undeclared_variables(false).into_iter().collect()).unwrap_or_default()
}

/// The whitespace rules of `minijinja-cli` as operators call it.
fn syntax() -> Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()
}

fn told(origin: &Origin, text: &str, error: &minijinja::Error) -> Diagnostic {
    let line = error.line().unwrap_or(1);
    let range = error.range();
    let column = range.as_ref().map_or(1, |range| {
        let before = text.get(..range.start).unwrap_or_default();
        before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1
    });
    let at = origin.at(Position { line, column });
    let expression = range.and_then(|range| text.get(range)).map(str::trim).filter(|text| !text.contains('\n'));
    match (error.kind(), expression) {
        (ErrorKind::UndefinedError, Some(expression)) => {
            Diagnostic::at(at, format!("the template variable `{expression}` is not defined"))
                .with_hint("set it in the environment (`ENV.X`) or in k8s-bootstrap.yaml: clusters.<name>.variables")
        }
        (_, expression) => {
            let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            let what = expression.map(|expression| format!(" in `{expression}`")).unwrap_or_default();
            Diagnostic::at(at, format!("the template cannot be rendered: {detail}{what}"))
        }
    }
}
