//! `machineconfig validate --config FILE --mode MODE`.

use super::super::args::Common;
use super::super::exit::{Exit, Refusal};
use super::super::output;
use super::args::ValidateArgs;
use super::read;
use talos_schema::validate_text;

pub(super) fn validate(common: &Common, args: &ValidateArgs) -> Result<Exit, Refusal> {
    let (origin, text) = read(common, &args.config)?;
    let findings = validate_text(&origin, &text, args.mode)?;
    for warning in findings.warnings.iter() {
        output::say(&format!("warning: {warning}"));
    }
    if args.strict && findings.strict {
        return Err(Refusal::from(findings.warnings).hint("warnings are refused because of --strict"));
    }
    findings.errors.into_result(())?;
    output::data(&format!("{} is valid for {} mode", args.config.display(), args.mode));
    Ok(Exit::Done)
}
