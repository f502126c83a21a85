//! `machineconfig validate --config FILE --mode MODE`.

use super::super::args::Common;
use super::super::error::CommandError;
use super::super::exit::Exit;
use super::super::output;
use super::args::ValidateArgs;
use super::read;
use talos_schema::validate_text;

pub(super) fn validate(common: &Common, args: &ValidateArgs) -> Result<Exit, CommandError> {
    let (origin, text) = read(common, &args.config)?;
    let findings = validate_text(&origin, &text, args.mode)?;
    if args.strict && !findings.warnings.is_empty() {
        let mut found = findings.errors;
        found.extend(findings.warnings);
        return Err(CommandError::from(found).hint("--strict treats warnings as errors"));
    }
    for warning in findings.warnings.iter() {
        output::say(&format!("warning: {warning}"));
    }
    findings.errors.into_result(())?;
    output::data(&format!("{} is valid for {} mode", args.config.display(), args.mode));
    Ok(Exit::Done)
}
