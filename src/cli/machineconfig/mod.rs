//! `k8s-bootstrap machineconfig gen|patch|validate`: machine configs without a repository, with the flags of talosctl.

mod destinations;
mod generate;

use bootstrap::ops::{self, NamedText, PatchArguments, Strictness, Workspace, in_workspace};

use super::args::{Common, MachineconfigArgs, MachineconfigCommand, PatchArgs, ValidateArgs};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::workspace;

pub(super) fn machineconfig(common: &Common, args: &MachineconfigArgs) -> Result<Exit, CommandError> {
    let workspace = workspace(common);
    match &args.command {
        MachineconfigCommand::Gen(args) => generate::generate(&workspace, args)?,
        MachineconfigCommand::Patch(args) => patch(&workspace, args)?,
        MachineconfigCommand::Validate(args) => validate(&workspace, args)?,
    }
    Ok(Exit::Done)
}

fn patch(workspace: &Workspace, args: &PatchArgs) -> Result<(), CommandError> {
    let config = NamedText::file(workspace, &args.config)?;
    let patches = PatchArguments { argument: "--patch", patches: &args.patch };
    let patched = ops::patch_machine_config(workspace, &config, patches)?;
    match &args.out {
        Some(out) => {
            output::private_file(&in_workspace(workspace, out), &patched.to_yaml())?;
            output::print_note(&format!("{} written", out.display()));
        }
        None => output::data(&patched.to_yaml()),
    }
    Ok(())
}

fn validate(workspace: &Workspace, args: &ValidateArgs) -> Result<(), CommandError> {
    let config = NamedText::file(workspace, &args.config)?;
    let strictness = if args.strict { Strictness::Strict } else { Strictness::Lenient };
    ops::validate_machine_config(workspace, &config, args.mode, strictness)?;
    output::data(&format!("{} is valid for {} mode", args.config.display(), args.mode));
    Ok(())
}
