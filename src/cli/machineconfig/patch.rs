//! `machineconfig patch FILE --patch …`.

use super::super::args::Common;
use super::super::error::CommandError;
use super::super::exit::Exit;
use super::super::output;
use super::args::PatchArgs;
use super::{at, patches, read};
use talos_schema::parse_strictly;

pub(super) fn patch(common: &Common, args: &PatchArgs) -> Result<Exit, CommandError> {
    let (origin, text) = read(common, &args.config)?;
    let patches = patches(common, "--patch", &args.patch)?;
    let mut config = parse_strictly(&origin, &text)?;
    for patch in &patches {
        config = patch.apply(&config).map_err(|error| CommandError::from(error.0))?;
    }
    match &args.out {
        Some(out) => {
            output::private_file(&at(common, out), &config.to_yaml())?;
            output::say(&format!("{} written", out.display()));
        }
        None => output::data(&config.to_yaml()),
    }
    Ok(Exit::Done)
}
