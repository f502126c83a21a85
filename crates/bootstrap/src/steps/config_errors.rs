//! What a node says about its config as a step's error.

use engine::{Code, ErrorClass, StepError};
use talos_client::{ClientError, ClientErrorKind, ConfigRefusal};
use talos_config::InventoryNode;

use super::context::RunContext;
use super::errors::{error_class, place, step_error};

/// A node's response to its config as a step's error. One that rejects the config is T17, with each finding, the field that
/// it names and who set that.
pub(super) fn config_error(context: &RunContext, error: &ClientError, node: &InventoryNode) -> StepError {
    if matches!(error.kind, ClientErrorKind::Rejected | ClientErrorKind::PermissionDenied) {
        return rejected(context, error_class(error.kind), error, node);
    }
    step_error(error, node)
}

/// The same for a dry run. It changes nothing, so an error without a specific code is about the config too: Talos 1.11 and
/// 1.12 report a config that cannot be parsed so in maintenance mode.
pub(super) fn dry_run_error(context: &RunContext, error: &ClientError, node: &InventoryNode) -> StepError {
    if error.kind == ClientErrorKind::Other {
        return rejected(context, ErrorClass::InvalidInput, error, node);
    }
    config_error(context, error, node)
}

fn rejected(context: &RunContext, class: ErrorClass, error: &ClientError, node: &InventoryNode) -> StepError {
    StepError::new(class, "the node rejected its machine config")
        .with_place(place(node))
        .because(describe(&error.reason, |finding| context.field_in_message(node, finding)))
        .code(Code::T17)
}

/// The findings in a node's message, one a line where there are several, each with what `setter` knows of its field.
fn describe(reason: &str, setter: impl Fn(&str) -> Option<String>) -> String {
    let refusal = ConfigRefusal::parse(reason);
    let line = |text: String| match setter(&text) {
        Some(field) => format!("{text}; {field}"),
        None => text,
    };
    match refusal.findings.as_slice() {
        [one] if one.document.is_none() => line(reason.trim_end().to_owned()),
        findings => {
            let lines: Vec<String> = findings.iter().map(|finding| line(finding.to_string())).collect();
            let summary =
                [refusal.summary.clone(), status(&refusal.status)].into_iter().filter(|text| !text.is_empty());
            let summary = summary.collect::<Vec<_>>().join(" ");
            match (lines.as_slice(), summary.is_empty()) {
                ([only], true) => only.clone(),
                ([only], false) => format!("{summary}: {only}"),
                (_, true) => lines.join("\n"),
                (_, false) => format!("{summary}, {} findings:\n{}", lines.len(), lines.join("\n")),
            }
        }
    }
}

fn status(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!("({code})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setter(finding: &str) -> Option<String> {
        finding.contains("machine.install.disk").then(|| "`machine.install.disk` is set by talconfig.yaml:7".to_owned())
    }

    #[test]
    fn each_finding_of_a_refusal_is_a_line_with_its_document_and_who_set_the_field() {
        let nested = "configuration validation failed: 1 error occurred:\n\t* v1alpha1.Config: 2 errors occurred:\n\t* \
                      machine.install.disk is required\n\t* invalid subnet\n\n\n\n (InvalidArgument)";
        assert_eq!(
            describe(nested, setter),
            "configuration validation failed (InvalidArgument), 2 findings:\n\
             v1alpha1.Config: machine.install.disk is required; `machine.install.disk` is set by talconfig.yaml:7\n\
             v1alpha1.Config: invalid subnet"
        );
        let one = "failed to parse config: error decoding document v1alpha1/KubeSpanConfig/ (line 121): unknown keys (Unknown)";
        assert_eq!(describe(one, setter), "failed to parse config (Unknown): KubeSpanConfig (line 121): unknown keys");
        let flat = "version \"1.36.1\" is too new to be used with Talos 1.12.4 (InvalidArgument)";
        assert_eq!(describe(flat, setter), flat);
    }
}
