use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::Code;

fn step(id: &str, phase: &str, needs: &[&str]) -> Step {
    let (kind, object) = id.split_once('/').unwrap_or((phase, id));
    let needs: Vec<StepId> = needs.iter().map(StepId::new).collect();
    let mut step = Step::new(kind, object, Code::K07).phase(PhaseName::new(phase)).needs(&needs);
    step.id = StepId::new(id);
    step
}

#[test]
fn the_built_in_phases_are_those_of_the_design() {
    let names: Vec<_> = builtin_phases().unwrap().names().iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "preflight",
            "machine-config",
            "etcd",
            "kubernetes-api",
            "base",
            "crds",
            "cilium",
            "coredns",
            "spegel",
            "cert-manager",
            "flux",
            "handoff"
        ]
    );
}

#[test]
fn a_release_that_no_phase_claims_belongs_to_apps() {
    let phases = builtin_phases().unwrap();
    assert_eq!(phases.of_release("external-secrets"), PhaseName::new("apps"));
    assert_eq!(phases.of_release("flux-instance"), PhaseName::new("flux"));
    let plan = Plan::new(&phases, vec![step("release/x", "apps", &[]), step("handoff/flux", "handoff", &[])]).unwrap();
    assert_eq!(plan.phases(), [PhaseName::new("apps"), PhaseName::new("handoff")]);
}

#[test]
fn a_cycle_is_reported_by_its_steps() {
    let steps = vec![step("a", "base", &["b"]), step("b", "base", &["c"]), step("c", "base", &["b"])];
    let error = Plan::new(&builtin_phases().unwrap(), steps).unwrap_err();
    assert_eq!(error.to_string(), "steps wait for each other: b -> c -> b");
}

#[test]
fn a_need_that_the_plan_does_not_have_is_rejected() {
    let error = Plan::new(&builtin_phases().unwrap(), vec![step("a", "base", &["gone"])]).unwrap_err();
    assert_eq!(error.to_string(), "step `a` needs `gone`, which the plan does not have");
}

#[test]
fn a_phase_after_an_unknown_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("phases")).unwrap();
    std::fs::write(folder.path().join("phases/10-a.yaml"), "name: a\nsummary: A.\nafter: [zero]\nextra: 1\n").unwrap();
    let found = read_phases(folder.path()).unwrap_err();
    assert_eq!(found.to_string(), "phases/10-a.yaml:4:1: the phase has an unknown key `extra`");
    std::fs::write(folder.path().join("phases/10-a.yaml"), "name: a\nsummary: A.\nafter: [zero]\n").unwrap();
    let found = read_phases(folder.path()).unwrap_err();
    assert_eq!(found.to_string(), "phases/10-a.yaml: comes after the unknown phase `zero`");
}

proptest! {
    #[test]
    fn every_step_stands_behind_what_it_needs(edges in prop::collection::vec((0usize..12, 0usize..12), 0..40)) {
        let steps: Vec<_> = (0..12)
            .map(|index| {
                let needs: Vec<_> = edges.iter().filter(|(a, b)| *a == index && b < a).map(|(_, b)| format!("s{b}")).collect();
                step(&format!("s{index}"), "base", &needs.iter().map(String::as_str).collect::<Vec<_>>())
            })
            .rev()
            .collect();
        let plan = Plan::new(&builtin_phases().unwrap(), steps).unwrap();
        for (index, step) in plan.steps().iter().enumerate() {
            for need in &step.needs {
                prop_assert!(plan.steps()[..index].iter().any(|earlier| earlier.id == *need));
            }
        }
    }
}

#[test]
fn a_secret_part_depends_on_the_key_and_never_shows() {
    let key = |text: &str| FingerprintKey::new(&text.into());
    let made = |key: &FingerprintKey, secret: &str| Fingerprint::builder().secret(key, &secret.into()).finish();
    let one = made(&key("a"), "hunter2");
    assert_eq!(one, made(&key("a"), "hunter2"));
    assert_ne!(one, made(&key("b"), "hunter2"));
    assert_ne!(one, made(&key("a"), "hunter3"));
    assert_ne!(one, Fingerprint::builder().part("hunter2").finish());
    assert!(!format!("{:?}", key("hunter2")).contains("hunter2"));
}

proptest! {
    /// A slow cluster is waited for longer the next time, and never endlessly.
    #[test]
    fn deadlines_grow_with_what_earlier_runs_needed_within_bounds(quiet in 0u64..1_000_000, minutes in 1u64..300) {
        let (quiet, own) = (Duration::from_secs(quiet), Duration::from_mins(minutes));
        let policy = Policy { deadline: own, ..Policy::new(Code::K07) };
        let learned = policy.with_learned(quiet);
        prop_assert!(learned.deadline >= own && learned.deadline <= own * 4);
        prop_assert!(learned.deadline >= (quiet * 2).min(own * 4));
        prop_assert!(quiet * 2 > own || learned == policy, "nothing else changes");
        prop_assert!(policy.with_learned(quiet + Duration::from_secs(1)).deadline >= learned.deadline);
    }
}
