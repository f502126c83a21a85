//! Commands that work without a part which others need, and what they report when they need it.

use crate::common::TestEnvironment;

#[test]
fn a_repository_without_a_helmfile_is_planned_and_rendered() {
    let environment = TestEnvironment::copy("10.62.21");
    std::fs::remove_dir_all(environment.repository.join("bootstrap")).unwrap();
    let (code, out, err) = environment.run(&["plan", "infra", "--secrets", "placeholder"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("warning: no helmfile found for `infra`"), "{err}");
    assert!(out.contains("etcd/bootstrap") && !out.contains("every chart can be pulled"), "{out}");
    let (code, out, err) = environment.run(&["render", "infra", "infra-cp-01"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("# infra-cp-01\n---\n"), "{out}");
}

#[test]
fn a_plan_needs_helm_only_to_compare_manifests() {
    let environment = TestEnvironment::copy("10.62.22");
    let empty = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = environment.command(arguments);
        command.env("PATH", empty.path()).env("XDG_CACHE_HOME", empty.path()).output().unwrap()
    };
    let plan = run(&["plan", "infra", "--secrets", "placeholder"]);
    assert_eq!(plan.status.code(), Some(0), "{plan:?}");
    assert!(String::from_utf8_lossy(&plan.stdout).contains("cilium"), "{plan:?}");
    let drift = run(&["plan", "infra", "--secrets", "placeholder", "--drift"]);
    assert_eq!(drift.status.code(), Some(3), "{drift:?}");
    assert!(String::from_utf8_lossy(&drift.stderr).contains("install helm 4"), "{drift:?}");
}
