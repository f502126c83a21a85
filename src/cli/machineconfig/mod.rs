//! `k8s-bootstrap machineconfig gen|patch|validate`: machine configs without a repository, with the flags of talosctl.

mod args;
mod generate;
mod patch;
mod validate;

use std::path::{Path, PathBuf};

pub(super) use args::{MachineconfigArgs, MachineconfigCommand};

use super::args::Common;
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use talos_schema::ConfigPatch;
use yaml::{Diagnostics, Origin};

pub(super) fn machineconfig(common: &Common, command: &MachineconfigCommand) -> Result<Exit, CommandError> {
    match command {
        MachineconfigCommand::Gen(args) => generate::generate(common, args),
        MachineconfigCommand::Patch(args) => patch::patch(common, args),
        MachineconfigCommand::Validate(args) => validate::validate(common, args),
    }
}

/// Paths are relative to the working directory or to `-C`.
fn at(common: &Common, path: &Path) -> PathBuf {
    if common.directory == Path::new(".") { path.to_owned() } else { common.directory.join(path) }
}

fn read(common: &Common, path: &Path) -> Result<(Origin, String), CommandError> {
    let text = std::fs::read_to_string(at(common, path))
        .map_err(|error| CommandError::invalid(format!("cannot read {}: {error}", path.display())))?;
    Ok((Origin::of_path(path), text))
}

/// Reads the patches of a flag and reports all their errors.
fn patches(common: &Common, flag: &str, arguments: &[String]) -> Result<Vec<ConfigPatch>, CommandError> {
    let mut found = Diagnostics::default();
    let mut patches = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        let (origin, text) = match ConfigPatch::file(argument) {
            Some(file) => read(common, Path::new(file))?,
            None => (Origin::new(format!("<{flag} {}>", index + 1)), argument.clone()),
        };
        match ConfigPatch::parse(&origin, &text) {
            Ok(patch) => {
                if patch.is_empty() {
                    output::say(&format!("warning: the patch {origin} is empty"));
                }
                patches.push(patch);
            }
            Err(more) => found.extend(more),
        }
    }
    Ok(found.into_result(patches)?)
}
