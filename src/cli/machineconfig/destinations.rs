//! Where generated files are written.

use std::path::{Path, PathBuf};

use bootstrap::ops::{GeneratedFile, Workspace, in_workspace};
use engine::Code;

use super::super::args::{GenArgs, OutputType};
use super::super::error::CommandError;

/// As a path: standard input or output.
pub(super) const STANDARD_STREAM: &str = "-";

/// A generated file and its path.
pub(super) struct Destination {
    pub(super) file: GeneratedFile,
    pub(super) path: PathBuf,
}

/// The path of each output; existing files are only overwritten with `--force`.
pub(super) fn destinations(workspace: &Workspace, args: &GenArgs) -> Result<Vec<Destination>, CommandError> {
    let stream = args.out == Path::new(STANDARD_STREAM);
    if stream && args.output_types.len() > 1 {
        return Err(CommandError::invalid("only one type can be written to standard output")
            .hint("select it with --output-types"));
    }
    let single = args.output_types.len() == 1 && args.out != Path::new(".");
    let mut all = Vec::new();
    for output in &args.output_types {
        let (file, name) = match output {
            OutputType::ControlPlane => (GeneratedFile::ControlPlane, "controlplane.yaml"),
            OutputType::Worker => (GeneratedFile::Worker, "worker.yaml"),
            OutputType::Talosconfig => (GeneratedFile::Talosconfig, "talosconfig"),
        };
        let path = match (stream, single) {
            (true, _) => args.out.clone(),
            (false, true) => in_workspace(workspace, &args.out),
            (false, false) => in_workspace(workspace, &args.out.join(name)),
        };
        if !stream && !args.force && path.exists() {
            let message = format!("{} already exists; nothing was changed", path.display());
            return Err(CommandError::precondition(Code::P02, message)
                .hint("overwrite it with --force, or set another path with --out"));
        }
        all.push(Destination { file, path });
    }
    Ok(all)
}
