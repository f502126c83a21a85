//! task: `vars`, `env` and `dotenv` of the Taskfile at the repository's root (task 3 "Environment variables").

use yaml::{Node, Origin};

use crate::Variables;
use crate::recipe_environment::RecipeEnvironment;

const FILES: [&str; 4] = ["Taskfile.dist.yaml", "Taskfile.dist.yml", "Taskfile.yaml", "Taskfile.yml"];

pub(crate) fn read(environment: &mut RecipeEnvironment<'_>) {
    for file in FILES {
        let Some(text) = environment.text(file) else { continue };
        let Ok(document) = yaml::parse_one(&Origin::new(file), &text) else { continue };
        taskfile(&document, environment);
    }
}

fn taskfile(document: &Node, environment: &mut RecipeEnvironment<'_>) {
    let field = |key: &str| document.as_mapping().and_then(|mapping| mapping.get(key));
    let texts = |key: &str| -> Vec<(String, String)> {
        let entries = field(key).and_then(Node::as_mapping).into_iter().flat_map(|mapping| mapping.iter());
        entries.filter_map(|entry| Some((entry.key.clone(), entry.value.as_str()?.to_owned()))).collect()
    };
    let mut vars = Variables::new();
    for (name, value) in texts("vars") {
        if let Some(value) = environment.expand(&value, &vars) {
            vars.insert(name, value);
        }
    }
    let files = field("dotenv").and_then(Node::as_sequence).unwrap_or_default();
    // The first of several files that has a variable counts, so it is read last.
    for path in files.iter().rev().filter_map(Node::as_str) {
        if let Some(path) = environment.expand(path, &vars) {
            environment.dotenv_file(&path);
        }
    }
    for (name, value) in texts("env") {
        if let Some(value) = environment.expand(&value, &vars) {
            environment.set(&name, value);
        }
    }
}
