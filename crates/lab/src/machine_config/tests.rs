use std::path::{Path, PathBuf};

use super::*;

fn reader(talos: &str) -> ConfigReader {
    ConfigReader { talos: semver::Version::parse(talos).unwrap(), system: SystemState::NotInstalled }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/talos/validate")
}

fn config(case: &str) -> String {
    std::fs::read_to_string(golden().join(case).join("config.yaml")).unwrap()
}

/// Refused by 1.14, whose rules the schema has, and accepted by 1.12.
const NEWER_RULE: &str = "13-hostdns";

/// How Talos itself judged a golden case: by `talosctl validate` of 1.12, and of 1.14 where that differs.
struct Judgement {
    talos: &'static str,
    is_valid: bool,
}

fn judgements(case: &Path) -> Vec<Judgement> {
    let text = |file: &str| std::fs::read_to_string(case.join(file)).ok().map(|text| text.trim().to_owned());
    let is_new_tool = text("tool").is_some_and(|tool| tool.contains("1.14"));
    let exits = [("1.12.4", text("exit").filter(|_| !is_new_tool)), ("1.14.0-rc.1", text("exit-1.14"))];
    let own = ("1.14.0-rc.1", text("exit").filter(|_| is_new_tool));
    let exits = exits.into_iter().chain([own]);
    exits.filter_map(|(talos, exit)| Some(Judgement { talos, is_valid: exit? == "0" })).collect()
}

#[test]
fn every_golden_input_is_judged_as_talos_judges_it() {
    let mut judged = (0, 0);
    for entry in std::fs::read_dir(golden()).unwrap() {
        let case = entry.unwrap().path();
        // A machine has no strict mode, and those of the lab are of metal.
        if std::fs::read_to_string(case.join("mode")).unwrap().trim() != "metal" {
            continue;
        }
        let text = std::fs::read_to_string(case.join("config.yaml")).unwrap();
        for Judgement { talos, is_valid } in judgements(&case) {
            if case.ends_with(NEWER_RULE) && is_valid {
                continue;
            }
            let read = AcceptedConfig::read(&text, &reader(talos));
            let is_accepted = !matches!(read, Err(ConfigRejection::Parse(_) | ConfigRejection::Invalid(_)));
            assert_eq!(is_accepted, is_valid, "{} on {talos}: {read:?}", case.display());
            if is_valid { judged.0 += 1 } else { judged.1 += 1 }
        }
    }
    assert!(judged.0 >= 5 && judged.1 >= 14, "{judged:?}");
}

#[test]
fn a_rejection_has_the_form_of_talos() {
    let rejection = |case: &str, talos: &str| AcceptedConfig::read(&config(case), &reader(talos)).unwrap_err();
    let ConfigRejection::Invalid(text) = rejection("21-persist-false", "1.12.4") else { panic!() };
    assert_eq!(
        text,
        "1 error occurred:\n\t* v1alpha1.Config: 1 error occurred:\n\t* `persist` should be enabled\n\n\n\n"
    );
    let ConfigRejection::Invalid(text) = rejection("27-documents", "1.12.4") else { panic!() };
    assert!(text.contains("\t* VLANConfig/eth0.10: ") && text.contains("\t* HostnameConfig: "), "{text}");
    let ConfigRejection::Parse(text) = rejection("29-unknown-key", "1.12.4") else { panic!() };
    assert!(text.starts_with("error decoding document /v1alpha1/ (line 1): "), "{text}");
    let ConfigRejection::Parse(text) = rejection("29-unknown-key", "1.11.6") else { panic!() };
    assert!(!text.contains("(line "), "{text}");
}

#[test]
fn a_kubernetes_of_another_time_is_rejected_by_the_machine_alone() {
    let text = config("02-control-plane-1.12");
    let (_, version) = text.split_once("ghcr.io/siderolabs/kubelet:v").unwrap();
    let version = version.lines().next().unwrap().trim();
    let problems = |talos: &str, kubernetes: &str| match AcceptedConfig::read(
        &text.replace(&format!(":v{version}"), &format!(":v{kubernetes}")),
        &reader(talos),
    ) {
        Ok(_) => String::new(),
        Err(ConfigRejection::InvalidHere(problems)) => problems,
        other => panic!("{other:?}"),
    };
    let too_new = problems("1.12.4", "1.36.1");
    for program in ["kubelet", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let line = format!(
            "\t* {program} image is not valid: version of Kubernetes 1.36.1 is too new to be used with Talos 1.12.4\n"
        );
        assert!(too_new.contains(&line), "{too_new}");
    }
    assert!(problems("1.12.4", "1.29.9").contains("Kubernetes 1.29.9 is too old to be used with Talos 1.12.4"));
    assert_eq!(problems("1.12.4", "1.35.9"), "");
}

#[test]
fn documents_alone_are_accepted_and_do_not_complete_a_config() {
    let documents = AcceptedConfig::read(&config("28-documents-only"), &reader("1.12.4")).unwrap();
    assert!(documents.complete.is_none());
    let bond = AcceptedConfig::read(&config("37-warnings"), &reader("1.12.4")).unwrap();
    assert!(bond.warnings.iter().any(|warning| warning.contains("miimon")), "{:?}", bond.warnings);
}
