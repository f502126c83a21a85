//! Jinja templates as `minijinja-cli` renders them: strict, without escaping, with trimmed blocks by default.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lazy_regex::{Captures, regex};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use yaml::{Diagnostic, Origin, Position};

/// A template that cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderError {
    pub diagnostic: Diagnostic,
    /// The expression, if a variable in it is undefined.
    pub undefined: Option<String>,
}

impl From<RenderError> for Diagnostic {
    fn from(error: RenderError) -> Self {
        error.diagnostic
    }
}

/// A template, and those that it may include, by name.
#[derive(Clone, Copy)]
pub struct Jinja<'t> {
    pub name: &'t str,
    pub text: &'t str,
    pub others: &'t BTreeMap<String, String>,
    /// The origin of the template of that name.
    pub origin: &'t dyn Fn(&str) -> Origin,
    pub style: Style,
}

/// How whitespace around blocks is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// The newline after a block is removed.
    pub trim: bool,
    /// The whitespace before a block is removed.
    pub lstrip: bool,
}

impl Default for Style {
    /// The usual setting.
    fn default() -> Self {
        Self { trim: true, lstrip: true }
    }
}

impl Style {
    /// Reads the file that `MINIJINJA_CONFIG_FILE` names, or `.minijinja.toml` in the repository's root.
    pub fn read_config(root: &Path, environment: &BTreeMap<String, String>) -> Self {
        let named = environment.get("MINIJINJA_CONFIG_FILE").map_or(".minijinja.toml", String::as_str);
        let text = std::fs::read_to_string(root.join(named)).unwrap_or_default();
        let table: toml::Table = text.parse().unwrap_or_default();
        let says = |key: &str, usual: bool| table.get(key).and_then(toml::Value::as_bool).unwrap_or(usual);
        Self { trim: says("trim-blocks", true), lstrip: says("lstrip-blocks", true) }
    }
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
    /// The first mistake, with its location in the template or in an included one.
    pub fn render(&self, values: Value) -> Result<String, RenderError> {
        let own = |error: &minijinja::Error| render_error(&(self.origin)(self.name), self.text, error);
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_syntax(syntax(self.style).map_err(|error| own(&error))?);
        environment.set_debug(true);
        for (name, text) in self.others {
            // An invalid template is reported when it is included.
            let _ = environment.add_template_owned(name.clone(), literal(text).into_owned());
        }
        let text = literal(self.text).into_owned();
        environment.add_template_owned(self.name.to_owned(), text).map_err(|error| own(&error))?;
        let template = environment.get_template(self.name).map_err(|error| own(&error))?;
        template.render(values).map_err(|error| {
            let name = error.name().unwrap_or_default();
            match self.others.get(name).filter(|_| name != self.name) {
                Some(text) => render_error(&(self.origin)(name), text, &error),
                None => own(&error),
            }
        })
    }
}

/// Quotes secret references in braces, `{{ op://vault/item/field }}`, so that they are kept for the tool that resolves
/// them.
fn literal(text: &str) -> Cow<'_, str> {
    let quoted = |captures: &Captures<'_>| format!("{{{{ {} }}}}", serde_json::Value::from(&captures[0]));
    regex!(r"\{\{\s*[a-z][a-z0-9+.-]*://[^{}]*\}\}").replace_all(text, quoted)
}

/// The variables that a template expects from its context; none if it is invalid.
pub fn undeclared(name: &str, text: &str) -> BTreeSet<String> {
    let mut environment = Environment::new();
    let Ok(syntax) = syntax(Style::default()) else { return BTreeSet::new() };
    environment.set_syntax(syntax);
    let text = literal(text);
    let template = environment.template_from_named_str(name, &text);
    template.map(|template| template.undeclared_variables(false).into_iter().collect()).unwrap_or_default()
}

/// The names of the environment variables that a template uses.
pub fn environment_variables(text: &str) -> BTreeSet<String> {
    let names = regex!(r#"ENV(?:\.([A-Za-z_][A-Za-z0-9_]*)|\[\s*["']([^"']+)["']\s*\])"#);
    let captures = names.captures_iter(text);
    captures.filter_map(|found| found.get(1).or(found.get(2))).map(|name| name.as_str().to_owned()).collect()
}

fn syntax(style: Style) -> Result<SyntaxConfig, minijinja::Error> {
    let builder = &mut SyntaxConfig::builder();
    builder.trim_blocks(style.trim).lstrip_blocks(style.lstrip).keep_trailing_newline(true).build()
}

fn render_error(origin: &Origin, text: &str, error: &minijinja::Error) -> RenderError {
    let line = error.line().unwrap_or(1);
    let range = error.range();
    let column = range.as_ref().map_or(1, |range| {
        let before = text.get(..range.start).unwrap_or_default();
        before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1
    });
    let location = origin.location(Position { line, column });
    let expression = range.and_then(|range| text.get(range)).map(str::trim).filter(|text| !text.contains('\n'));
    match (error.kind(), expression) {
        (ErrorKind::UndefinedError, Some(expression)) => {
            let diagnostic =
                Diagnostic::at_location(location, format!("the template variable `{expression}` is not defined"))
                    .with_hint(
                        "set it in the environment (`ENV.X`) or in k8s-bootstrap.yaml: clusters.<name>.variables",
                    );
            RenderError { diagnostic, undefined: Some(expression.to_owned()) }
        }
        (_, expression) => {
            let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            let context = expression.map(|expression| format!(" in `{expression}`")).unwrap_or_default();
            let diagnostic = Diagnostic::at_location(location, format!("cannot render template: {detail}{context}"));
            RenderError { diagnostic, undefined: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let origin = |name: &str| Origin::new(name);
        let (others, style) = (BTreeMap::new(), Style::default());
        let template = Jinja { name: "a.yaml.j2", text, others: &others, origin: &origin, style };
        template.render(minijinja::context! { x => 1 }).unwrap()
    }

    #[test]
    fn environment_variables_are_found_in_both_notations() {
        let names = environment_variables(r#"{{ ENV.A }} {% if ENV["b.c"] == ENV['D'] %} {{ OTHER.E }}"#);
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["A", "D", "b.c"]);
    }

    #[test]
    fn whitespace_around_blocks_follows_the_configuration_file() {
        let root = tempfile::tempdir().unwrap();
        let usual = Style::read_config(root.path(), &BTreeMap::new());
        assert_eq!(usual, Style::default());
        std::fs::write(root.path().join(".minijinja.toml"), "trim-blocks = false\nlstrip-blocks = false\n").unwrap();
        let style = Style::read_config(root.path(), &BTreeMap::new());
        let origin = |name: &str| Origin::new(name);
        let text = "a:\n  # {% if true %}\n  b: 1\n  # {% endif %}\n";
        let render = |style| {
            let template = Jinja { name: "a.yaml.j2", text, others: &BTreeMap::new(), origin: &origin, style };
            template.render(Value::UNDEFINED).unwrap()
        };
        assert_eq!(render(style), "a:\n  # \n  b: 1\n  # \n");
        assert_eq!(render(usual), "a:\n  #   b: 1\n  # ");
    }

    #[test]
    fn secret_references_in_braces_are_kept() {
        let text =
            "a: {{ op://v/\"i\"/f }}{{ x }}\nb: '*.{{ op://v/i/f }},{{op://v/i/g}}'\nc: {{ ref+vault://a#/b }}\n";
        assert_eq!(rendered(text), text.replace("{{ x }}", "1"));
        assert!(undeclared("a.yaml.j2", "{{ op://v/i/f }}{{ y }}").contains("y"));
    }
}
