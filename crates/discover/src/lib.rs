//! What a repository's own recipes (just, task, mise, direnv, shell scripts, files of variables) set for the tools that
//! they call. Files are read, nothing is run.
//!
//! One reader per format: `just`, `task`, `mise`, `direnv`, `dotenv`, `shell`. One expander of `{{ … }}`
//! (`expand`), one walker over the repository's files (`walk`), one value with its location ([`FoundValue`]).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod direnv;
pub mod dotenv;
mod environment;
mod expand;
mod just;
mod mise;
mod one_password;
mod recipe_environment;
mod recipes;
mod shell;
mod task;
mod variables;
pub mod walk;
mod wrapper;
mod yq;

pub use environment::{recipe_environment, secret_values, sops_key_file};
pub use recipes::{common_variables, named_by_recipes};
pub use shell::{CrdUrl, crd_urls};
pub use variables::{FoundValue, VariableSearch};
pub use wrapper::Wrapper;

use std::collections::BTreeMap;

/// Variables by name.
pub type Variables = BTreeMap<String, String>;
