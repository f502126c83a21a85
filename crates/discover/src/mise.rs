//! mise: the table `[env]` and its `_.file` (mise 2026 "Environments").

use crate::Variables;
use crate::recipe_environment::RecipeEnvironment;

/// Where mise reads, what counts most last.
const FILES: [&str; 6] = [
    ".config/mise/config.toml",
    ".config/mise.toml",
    "mise/config.toml",
    ".mise/config.toml",
    "mise.toml",
    ".mise.toml",
];

pub(crate) fn read(environment: &mut RecipeEnvironment<'_>) {
    for file in FILES {
        let table = environment.text(file).and_then(|text| text.parse::<toml::Table>().ok());
        if let Some(variables) = table.as_ref().and_then(|table| table.get("env")?.as_table()) {
            env_table(variables, environment);
        }
    }
}

fn env_table(variables: &toml::Table, environment: &mut RecipeEnvironment<'_>) {
    let none = Variables::new();
    for (name, value) in variables {
        let value = value.get("value").unwrap_or(value);
        let text = match value {
            toml::Value::String(text) => environment.expand(text, &none),
            toml::Value::Integer(number) => Some(number.to_string()),
            _ => None,
        };
        if let Some(text) = text {
            environment.set(name, text);
        }
    }
    let files = match variables.get("_").and_then(|special| special.get("file")) {
        Some(toml::Value::Array(files)) => files.iter().collect(),
        other => Vec::from_iter(other),
    };
    for file in files {
        let path = file.as_str().or_else(|| file.get("path")?.as_str());
        if let Some(path) = path.and_then(|path| environment.expand(path, &none)) {
            environment.dotenv_file(&path);
        }
    }
}
