//! Commands that work without a part which others need, and what they report when they need it.

use crate::common::TestEnvironment;

#[test]
fn a_repository_without_a_helmfile_is_planned_and_rendered() {
    let environment = TestEnvironment::copy();
    std::fs::remove_dir_all(environment.repository.join("bootstrap")).unwrap();
    let plan = environment.run(&["plan", "infra", "--secrets", "placeholder"]);
    assert_eq!(plan.code, 0, "{plan}");
    assert!(plan.stderr.contains("warning: no helmfile found for `infra`"), "{plan}");
    assert!(plan.stdout.contains("etcd/bootstrap") && !plan.stdout.contains("every chart can be pulled"), "{plan}");
    let render = environment.run(&["render", "infra", "infra-cp-01"]);
    assert_eq!(render.code, 0, "{render}");
    assert!(render.stdout.contains("# infra-cp-01\n---\n"), "{render}");
}

#[test]
fn a_plan_needs_helm_only_to_compare_manifests() {
    let environment = TestEnvironment::copy();
    let empty = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = environment.command(arguments);
        environment.output(command.env("PATH", empty.path()).env("XDG_CACHE_HOME", empty.path()))
    };
    let plan = run(&["plan", "infra", "--secrets", "placeholder"]);
    assert_eq!(plan.code, 0, "{plan}");
    assert!(plan.stdout.contains("cilium"), "{plan}");
    insta::assert_snapshot!(run(&["plan", "infra", "--secrets", "placeholder", "--drift"]), @"
    exit code: 3
    ----- stderr -----
    error[P01]: helm was not found (searched: PATH, [TEMP]/k8s-bootstrap/tools); nothing was changed
    hint: install helm 4, provide it with `k8s-bootstrap tools install`, or name its folder with --tools-dir
    ");
}
