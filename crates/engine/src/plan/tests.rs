use proptest::prelude::*;

use super::*;

fn draft(id: &str, phase: &str, needs: &[&str]) -> Draft {
    Draft {
        id: StepId::new(id),
        phase: PhaseName::new(phase),
        title: id.to_owned(),
        needs: needs.iter().map(StepId::new).collect(),
        fingerprint: Fingerprint::builder().part(id).finish(),
        policy: Policy::default(),
    }
}

#[test]
fn the_built_in_phases_are_the_way_of_the_design() {
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
    let plan =
        Plan::new(&phases, vec![draft("release/x", "apps", &[]), draft("handoff/flux", "handoff", &[])]).unwrap();
    assert_eq!(plan.phases(), [PhaseName::new("apps"), PhaseName::new("handoff")]);
}

#[test]
fn a_cycle_is_told_by_its_steps() {
    let drafts = vec![draft("a", "base", &["b"]), draft("b", "base", &["c"]), draft("c", "base", &["b"])];
    let error = Plan::new(&builtin_phases().unwrap(), drafts).unwrap_err();
    assert_eq!(error.to_string(), "steps wait for each other: b -> c -> b");
}

#[test]
fn a_need_that_is_no_step_is_refused() {
    let error = Plan::new(&builtin_phases().unwrap(), vec![draft("a", "base", &["gone"])]).unwrap_err();
    assert_eq!(error.to_string(), "step `a` needs `gone`, which is no step of this plan");
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
    assert_eq!(found.to_string(), "phases/10-a.yaml: comes after `zero`, which is no phase");
}

proptest! {
    #[test]
    fn every_step_stands_behind_what_it_needs(edges in prop::collection::vec((0usize..12, 0usize..12), 0..40)) {
        let drafts: Vec<_> = (0..12)
            .map(|index| {
                let needs: Vec<_> = edges.iter().filter(|(a, b)| *a == index && b < a).map(|(_, b)| format!("s{b}")).collect();
                draft(&format!("s{index}"), "base", &needs.iter().map(String::as_str).collect::<Vec<_>>())
            })
            .rev()
            .collect();
        let plan = Plan::new(&builtin_phases().unwrap(), drafts).unwrap();
        for (index, step) in plan.steps().iter().enumerate() {
            for need in &step.needs {
                prop_assert!(plan.steps()[..index].iter().any(|earlier| earlier.id == *need));
            }
        }
    }
}
