//! direnv: `export NAME=value`, `dotenv` and `dotenv_if_exists` of `.envrc` (direnv 2.37 stdlib).

use std::path::PathBuf;

use lazy_regex::regex;
use regex::Captures;
use template::clean;

use crate::recipe_environment::RecipeEnvironment;

const FILE: &str = ".envrc";

pub(crate) fn read(environment: &mut RecipeEnvironment<'_>) {
    let Some(text) = environment.text(FILE) else { return };
    for line in text.lines().map(str::trim) {
        if let Some(found) = regex!(r"^export\s+([A-Za-z_]\w*)=(.*)$").captures(line) {
            let value = found[2].split(" #").next().unwrap_or_default().trim().trim_matches('"');
            let value = match value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
                Some(literal) => Some(literal.to_owned()),
                None => expand_shell(value, environment),
            };
            if let Some(value) = value {
                environment.set(&found[1], value);
            }
        } else if let Some(found) = regex!(r"^dotenv(?:_if_exists)?\b\s*(\S*)").captures(line) {
            let file = if found[1].is_empty() { ".env" } else { &found[1] };
            environment.dotenv_file(file);
        }
    }
}

/// Expands `$(expand_path x)`, `$(pwd)` and variables of the shell; none where anything else has to be evaluated.
fn expand_shell(text: &str, environment: &RecipeEnvironment<'_>) -> Option<String> {
    let shell = regex!(r#"\$\(expand_path\s+["']?([^\s"')]+)["']?\)|\$\((pwd)\)|\$\{?([A-Za-z_]\w*)\}?"#);
    let mut is_known = true;
    let expanded = shell.replace_all(text, |found: &Captures<'_>| {
        let value = match (found.get(1), found.get(2), found.get(3)) {
            (Some(path), ..) => Some(expand_path(path.as_str(), environment)),
            (_, Some(_), _) => Some(environment.folder()),
            (.., Some(name)) if name.as_str() == "PWD" => Some(environment.folder()),
            (.., Some(name)) => environment.get(name.as_str()),
            _ => None,
        };
        is_known &= value.is_some();
        value.unwrap_or_default()
    });
    (is_known && !expanded.contains(['`', '$', '"'])).then(|| expanded.into_owned())
}

fn expand_path(path: &str, environment: &RecipeEnvironment<'_>) -> String {
    let home = || Some(PathBuf::from(environment.own.get("HOME")?).join(path.strip_prefix("~/")?));
    clean(&home().unwrap_or_else(|| environment.root.join(path))).to_string_lossy().into_owned()
}
