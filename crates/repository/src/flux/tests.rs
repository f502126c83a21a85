use serde_json::{Value, json};

use super::drift::{Extent, compare};
use super::*;
use helmfile::{Chart, Release, ReleaseId};
use yaml::Position;

/// A HelmRelease with these lines of its spec.
fn helm_release(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata:\n  name: {name}\n  namespace: lab\nspec:\n{spec}"
    )
}

fn oci_repository(name: &str, reference: &str) -> String {
    format!(
        "kind: OCIRepository\nmetadata: {{name: {name}, namespace: lab}}\nspec: {{url: 'oci://ghcr.io/acme/{name}', ref: {reference}}}\n"
    )
}

const BY_REF: &str = "  chartRef: {kind: OCIRepository, name: app}\n";

/// The drift of a release of `oci://ghcr.io/acme/app` in a repository of these files.
fn drift(files: &[(&str, &str)], version: &str, values: Value) -> String {
    let drift = drifts(files, |release| {
        release.chart = Chart::Oci { reference: "ghcr.io/acme/app".to_owned(), version: Some(version.to_owned()) };
        release.values = values;
    });
    drift.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn drifts(files: &[(&str, &str)], change: impl FnOnce(&mut Release)) -> Vec<super::drift::Drift> {
    let found = with_counterpart(files, change, |release, flux| compare(release, flux, Extent::Everything));
    found.unwrap_or_default()
}

/// What is found of the release and its HelmRelease in the cluster `blue`, if it has one.
fn with_counterpart<T>(
    files: &[(&str, &str)],
    change: impl FnOnce(&mut Release),
    look: impl FnOnce(&Release, &Counterpart) -> T,
) -> Option<T> {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let objects = FluxObjects::read(root.path(), "blue", &["green".to_owned()].into());
    let id = ReleaseId { namespace: "lab".to_owned(), name: "app".to_owned() };
    let at = Origin::new("helmfile.yaml").location(Position { line: 2, column: 5 });
    let chart = Chart::Oci { reference: "ghcr.io/acme/app".to_owned(), version: Some("1.0.0".to_owned()) };
    let mut release = Release::new(id, chart, at);
    release.file = root.path().join("bootstrap/helmfile.yaml");
    change(&mut release);
    objects.counterpart(&release).map(|flux| look(&release, &flux))
}

#[test]
fn the_version_is_compared_through_every_kind_of_source() {
    let release = helm_release("app", BY_REF);
    let chart = |version: &str| {
        helm_release(
            "app",
            &format!(
                "  chart:\n    spec:\n      chart: app\n      version: {version}\n      sourceRef: {{kind: HelmRepository, name: acme}}\n"
            ),
        )
    };
    let repository = "kind: HelmRepository\nmetadata: {name: acme}\nspec: {url: 'https://acme.example/charts'}\n";
    let helm_chart = "kind: HelmChart\nmetadata: {name: app}\nspec:\n  chart: app\n  version: 2.x\n  sourceRef: {kind: HelmRepository, name: acme}\n";
    let by_chart = helm_release("app", "  chartRef: {kind: HelmChart, name: app}\n");
    let central = [oci_repository("other", "{tag: 9.0.0}"), oci_repository("app", "{tag: 1.1.0}")].join("---\n");
    let together = [oci_repository("app", "{tag: 1.1.0}"), release.clone()].join("---\n");
    let tag = "the bootstrap installs version 1.0.0, Flux";
    for (files, expected) in [
        (vec![("a/hr.yaml", release.as_str()), ("a/oci.yaml", &oci_repository("app", "{tag: 1.0.0}"))], None),
        (
            vec![("a/hr.yaml", &release), ("sources/all.yaml", &central)],
            Some(format!("{tag} 1.1.0 (sources/all.yaml:7:50)")),
        ),
        (vec![("a/app.yaml", &together)], Some(format!("{tag} 1.1.0 (a/app.yaml:3:50)"))),
        (vec![("a/hr.yaml", &release), ("a/oci.yaml", &oci_repository("app", "{semver: 1.x}"))], None),
        (
            vec![("a/hr.yaml", &release), ("a/oci.yaml", &oci_repository("app", "{semver: '>=1.2', tag: 1.0.0}"))],
            Some(format!("{tag} >=1.2 (a/oci.yaml:3:53)")),
        ),
        (vec![("a/hr.yaml", &chart("1.0.0")), ("a/repo.yaml", repository)], None),
        (
            vec![("a/hr.yaml", &chart("1.0.1")), ("a/repo.yaml", repository)],
            Some(format!("{tag} 1.0.1 (a/hr.yaml:10:16)")),
        ),
        (
            vec![("a/hr.yaml", &by_chart), ("a/chart.yaml", helm_chart), ("a/repo.yaml", repository)],
            Some(format!("{tag} 2.x (a/chart.yaml:5:12)")),
        ),
        (vec![("a/hr.yaml", &release)], Some("OCIRepository `app` is not in the repository".to_owned())),
        (vec![("a/hr.yaml", &helm_release("other", BY_REF))], None),
    ] {
        let files: Vec<(&str, &str)> = files;
        let found = drift(&files, "1.0.0", json!({}));
        match expected {
            Some(expected) => assert!(found.contains(&expected), "{files:?}: {found}"),
            None => assert_eq!(found, "", "{files:?}"),
        }
    }
}

#[test]
fn each_difference_has_its_place_and_what_to_do() {
    let spec = "  chartRef: {kind: OCIRepository, name: app}
  valuesFrom:
    - {kind: ConfigMap, name: app-values}
    - {kind: Secret, name: app-secret}
  postRenderers: [{kustomize: {images: []}}]
  values:
    id: ${ID}
    deep: {name: 'of ${NAME}', same: 1}
    list: [1, 2]
";
    let files = [
        ("apps/lab/app/hr.yaml", helm_release("app", spec)),
        ("apps/lab/app/oci.yaml", oci_repository("app", "{tag: 1.1.0}")),
        ("apps/lab/app/kustomization.yaml", "resources: [hr.yaml, oci.yaml]\nconfigMapGenerator:\n  - name: app-values\n    files: [values.yaml=./values.yaml]\n".to_owned()),
        ("apps/lab/app/values.yaml", "from: file\n".to_owned()),
        ("apps/lab/app.yaml", "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: app}\nspec: {path: ./apps/lab/app, postBuild: {substitute: {ID: '1'}}}\n".to_owned()),
    ];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    let ours = json!({"id": "${ID}", "deep": {"name": "of blue", "same": 2}, "list": [1, 2]});
    insta::assert_snapshot!(drift(&files, "1.0.0", ours), @r"
    helmfile.yaml:2:5: lab/app: the bootstrap installs version 1.0.0, Flux 1.1.0 (apps/lab/app/oci.yaml:3:50)
      next: set the same version in both
    apps/lab/app/hr.yaml:13:9: lab/app: `id` holds `${ID}`, which Flux substitutes and the bootstrap does not
      next: replace it in the values template too, for example by `replace` with the ConfigMap's value, or write the value
    apps/lab/app/hr.yaml:9:7: lab/app: Flux uses values from the ConfigMap `app-values`, which the bootstrap lacks
      next: add the same file to the release's `values`, before the HelmRelease's own
    apps/lab/app/hr.yaml:10:7: lab/app: Flux uses values from the Secret `app-secret`, which is not in the repository
      next: copy them into the release's `values`, or accept that Flux upgrades the release once
    apps/lab/app/hr.yaml:14:38: lab/app: the values differ from the HelmRelease's at `deep.same`
      next: read the values from the HelmRelease, or set the same in both
    apps/lab/app/hr.yaml:11:18: lab/app: Flux applies `postRenderers` to the chart, and the bootstrap does not
      next: set the same as `jsonPatches` or `strategicMergePatches` of the release, or accept that Flux upgrades it once
    ");
    // The same values as Flux will have, and its file as well: no difference is left to report.
    let ours = json!({"id": 1, "deep": {"name": "of blue", "same": 1}, "list": [1, 2], "from": "file"});
    let left = drift(&files, "1.1.0", ours);
    assert_eq!(left.lines().filter(|line| !line.starts_with("  next")).count(), 2, "{left}");
    assert!(left.contains("Secret `app-secret`") && left.contains("postRenderers"), "{left}");
}

#[test]
fn variables_come_from_the_kustomization_that_applies_the_file() {
    let release = helm_release("app", &format!("{BY_REF}  values: {{id: '${{ID}}', name: '${{APP}}'}}\n"));
    let shared = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: apps}\nspec:\n  path: ./apps\n  patches:\n    - target: {kind: Kustomization}\n      patch: |\n        spec: {postBuild: {substituteFrom: [{kind: ConfigMap, name: vars}]}}\n";
    let own = |name: &str| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}}}\nspec: {{path: ./apps/{name}/app, postBuild: {{substitute: {{APP: {name}}}}}}}\n"
        )
    };
    let (app, other) = (own("app"), own("other"));
    let vars = |id: &str| format!("kind: ConfigMap\nmetadata: {{name: vars}}\ndata: {{ID: '{id}'}}\n");
    let files = [
        ("flux/apps.yaml", shared.to_owned()),
        ("clusters/blue/vars.yaml", vars("7")),
        ("clusters/green/vars.yaml", vars("8")),
        ("apps/app/ks.yaml", app),
        ("apps/other/ks.yaml", other),
        ("apps/app/app/hr.yaml", release),
        ("apps/app/app/oci.yaml", oci_repository("app", "{tag: 1.0.0}")),
    ];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    assert_eq!(drift(&files, "1.0.0", json!({"id": 7, "name": "app"})), "");
    assert!(drift(&files, "1.0.0", json!({"id": 8, "name": "app"})).contains("differ from the HelmRelease's at `id`"));
    // Without any Kustomization nothing is put in, so what is written is what both install.
    let plain = [files[5], files[6]];
    assert_eq!(drift(&plain, "1.0.0", json!({"id": "${ID}", "name": "${APP}"})), "");
}

#[test]
fn the_cluster_and_the_namespace_decide_between_several() {
    let in_namespace =
        |namespace: &str| helm_release("app", BY_REF).replace("namespace: lab", &format!("namespace: {namespace}"));
    let source = |tag: &str| oci_repository("app", &format!("{{tag: {tag}}}"));
    let files = [
        ("clusters/green/app/hr.yaml", helm_release("app", BY_REF)),
        ("clusters/green/app/oci.yaml", source("2.0.0")),
        ("clusters/blue/app/hr.yaml", helm_release("app", BY_REF)),
        ("clusters/blue/app/oci.yaml", source("1.0.0")),
        ("clusters/blue/another/hr.yaml", in_namespace("another")),
        ("clusters/blue/patches/app.yaml", helm_release("app", "  values: {a: 1}\n")),
    ];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    assert_eq!(drift(&files, "1.0.0", json!({})), "");
    let lone = [("a/hr.yaml", in_namespace("another")), ("a/oci.yaml", source("1.0.0").replace("lab", "another"))];
    let lone = lone.each_ref().map(|(path, text)| (*path, text.as_str()));
    let found = drift(&lone, "1.0.0", json!({}));
    assert!(
        found.starts_with(
            "a/hr.yaml:4:9: lab/app: Flux installs `another/app` instead, a second release of the same objects"
        ),
        "{found}"
    );
}

#[test]
fn a_helm_release_that_would_own_another_release_is_reported_with_both_ways_to_correct_it() {
    let spec = |more: &str| helm_release("app", &format!("{BY_REF}{more}"));
    let of = |text: String| {
        let files = [("a/hr.yaml", text), ("a/oci.yaml", oci_repository("app", "{tag: 1.0.0}"))];
        let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
        drift(&files, "1.0.0", json!({}))
    };
    insta::assert_snapshot!(of(spec("  targetNamespace: lab\n")), @"
    a/hr.yaml:4:9: lab/app: Flux installs `lab/lab-app` instead, a second release of the same objects
      next: set `releaseName: app` in the HelmRelease, or name the release `lab/lab-app` in the helmfile
    ");
    assert_eq!(of(spec("  targetNamespace: lab\n  releaseName: app\n")), "");
    insta::assert_snapshot!(of(spec("  storageNamespace: flux-system\n")), @"
    a/hr.yaml:4:9: lab/app: Flux keeps its record in namespace `flux-system`, and installs the release a second time
      next: set `storageNamespace: lab` in the HelmRelease, or move the HelmRelease into namespace `lab`
    ");
    let renamed = drifts(
        &[("a/hr.yaml", &spec("  targetNamespace: lab\n")), ("a/oci.yaml", &oci_repository("app", "{tag: 1.0.0}"))],
        |release| "lab-app".clone_into(&mut release.id.name),
    );
    assert_eq!(renamed, [], "the other way");
}

/// What ends a run: the message, if a second release is certain.
fn second(files: &[(&str, String)]) -> Option<String> {
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    with_counterpart(&files, |_| (), super::drift::second_release)?.map(|drift| drift.message)
}

#[test]
fn only_a_second_release_that_is_certain_ends_a_run() {
    let spec = |more: &str| helm_release("app", &format!("{BY_REF}{more}"));
    let target = "  targetNamespace: lab\n";
    let source = || ("a/oci.yaml", oci_repository("app", "{tag: 1.0.0}"));
    let certain = Some("Flux installs `lab/lab-app` instead, a second release of the same objects".to_owned());
    assert_eq!(second(&[("a/hr.yaml", spec(target)), source()]), certain);
    assert_eq!(second(&[("a/hr.yaml", spec(target))]), certain, "its source is in another repository");
    // Another cluster's HelmRelease is correct, this one's is not.
    let correct = spec("  targetNamespace: lab\n  releaseName: app\n");
    let both = [("clusters/green/hr.yaml", correct.clone()), ("clusters/blue/hr.yaml", spec(target)), source()];
    assert_eq!(second(&both), certain);
    assert_eq!(
        second(&[("clusters/green/hr.yaml", spec(target)), ("clusters/blue/other.yaml", correct.clone())]),
        None
    );

    let patch = |field: &str| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: all}}\nspec:\n  patches:\n    - target: {{kind: HelmRelease}}\n      patch: '{{spec: {{{field}: app}}}}'\n"
        )
    };
    for (why, files) in [
        ("it is correct", vec![("a/hr.yaml", correct)]),
        ("a variable", vec![("a/hr.yaml", spec("  targetNamespace: lab\n  releaseName: ${APP}\n"))]),
        ("another namespace", vec![("a/hr.yaml", spec("  targetNamespace: other\n"))]),
        (
            "a record elsewhere",
            vec![("a/hr.yaml", spec("  targetNamespace: lab\n  releaseName: app\n  storageNamespace: x\n"))],
        ),
        ("a patch of the name", vec![("a/hr.yaml", spec(target)), ("flux/all.yaml", patch("releaseName"))]),
        ("an overlay", vec![("a/hr.yaml", spec(target)), ("b/hr.yaml", helm_release("app", "  releaseName: app\n"))]),
        (
            "another chart",
            vec![
                ("a/hr.yaml", spec(target)),
                ("a/oci.yaml", oci_repository("app", "{tag: 1.0.0}").replace("acme/app", "acme/else")),
            ],
        ),
    ] {
        assert_eq!(second(&files), None, "{why}");
    }
    assert_eq!(second(&[("a/hr.yaml", spec(target)), ("flux/all.yaml", patch("values"))]), certain);
}

#[test]
fn what_else_flux_does_with_a_release_is_reported() {
    let spec = "  suspend: true\n  commonMetadata: {labels: {team: a}}\n";
    let kustomization = |patches: &str| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: all}}\nspec:\n  path: ./a\n  patches:\n{patches}"
        )
    };
    let direct = kustomization(
        "    - target: {kind: HelmRelease}\n      patch: |\n        kind: HelmRelease\n        metadata: {name: x}\n        spec: {upgrade: {}, values: {a: 1}}\n    - target: {kind: HelmRelease, name: other}\n      patch: '[{op: add, path: /spec/chart/spec, value: x}]'\n",
    );
    let nested = kustomization(
        "    - patch: |\n        kind: Kustomization\n        spec:\n          patches:\n            - target: {kind: HelmRelease}\n              patch: '[{op: add, path: /spec/postRenderers/-, value: x}]'\n",
    );
    let files = [
        ("a/hr.yaml", helm_release("app", &format!("{BY_REF}{spec}"))),
        ("a/oci.yaml", oci_repository("app", "{tag: 1.0.0}")),
        ("flux/direct.yaml", direct),
        ("flux/nested.yaml", nested),
    ];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    insta::assert_snapshot!(drift(&files, "1.0.0", json!({})), @"
    a/hr.yaml:8:12: lab/app: Flux does not adopt it: its HelmRelease is suspended
      next: remove `suspend`, or `flux resume helmrelease` later
    a/hr.yaml:9:19: lab/app: Flux adds `commonMetadata` to every object, which the bootstrap does not
      next: set the same labels by the chart's values, or accept that Flux upgrades the release once
    flux/direct.yaml:9:9: lab/app: a Kustomization patches `values` of the HelmRelease
      next: set the same for the bootstrap, or accept that Flux upgrades the release once
    flux/nested.yaml:8:9: lab/app: a Kustomization patches `postRenderers` of the HelmRelease
      next: set the same for the bootstrap, or accept that Flux upgrades the release once
    ");
}

#[test]
fn patches_that_the_helmrelease_lacks_are_reported() {
    let files = [("a/hr.yaml", helm_release("app", BY_REF)), ("a/oci.yaml", oci_repository("app", "{tag: 1.0.0}"))];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    let at = Origin::new("helmfile.yaml").location(Position::default());
    let found = drifts(&files, |release| {
        release.patches = vec![helmfile::Patch::Merge { object: json!({}), at }];
    });
    assert_eq!(found.iter().map(|drift| drift.difference).collect::<Vec<_>>(), [super::drift::Difference::Patches]);
}

#[test]
fn what_flux_decrypts_is_found_by_who_applies_it_and_one_file_stands_for_each_set_of_recipients() {
    let kustomization = |name: &str, path: &str, more: &str| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}}}\nspec:\n  path: {path}\n{more}"
        )
    };
    let own = "  decryption: {provider: sops, secretRef: {name: own-age}}\n";
    let given =
        "  patches:\n    - patch: |\n        spec: {decryption: {provider: sops, secretRef: {name: sops-age}}}\n";
    let sealed = |recipient: &str| {
        format!("kind: Secret\nmetadata: {{name: a}}\nsops:\n  age: [{{recipient: {recipient}}}]\n  pgp: []\n")
    };
    let files = [
        ("flux/apps.yaml", kustomization("apps", "./apps", given)),
        ("apps/a.sops.yaml", sealed("age1x")),
        ("apps/b.sops.yaml", sealed("age1x")),
        ("apps/c.sops.yaml", sealed("age1y")),
        ("apps/pgp.sops.yaml", sealed("age1z").replace("age:", "kms:")),
        ("flux/own.yaml", kustomization("own", "./own", own)),
        ("own/d.sops.yaml", sealed("age1x")),
        ("bootstrap/unused.sops.yaml", sealed("age1x")),
    ];
    let root = tempfile::tempdir().unwrap();
    for (path, text) in &files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let found = FluxObjects::read(root.path(), "blue", &BTreeSet::new()).decryptions();
    let shown = found.iter().map(|decryption| {
        let files = decryption.files.iter().map(|path| path.strip_prefix(root.path()).unwrap().display().to_string());
        let (namespace, secret, count) = (&decryption.namespace, &decryption.secret, decryption.count);
        format!("{namespace}/{secret}: {count}: {}", files.collect::<Vec<_>>().join(", "))
    });
    insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n"), @r"
    flux-system/own-age: 1: own/d.sops.yaml
    flux-system/sops-age: 3: apps/a.sops.yaml, apps/c.sops.yaml
    ");
}

#[test]
fn pod_security_is_what_manifests_and_patches_of_the_cluster_say() {
    let root = tempfile::tempdir().unwrap();
    let labelled = |name: &str, level: &str| {
        let labels = format!("{{pod-security.kubernetes.io/enforce: {level}, app: x}}");
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n")
    };
    let patch = |name: &str| {
        let lines = labelled(name, "privileged").replace('\n', "\n      ");
        format!("kind: Kustomization\nnamespace: patched\npatches:\n  - patch: |-\n      {lines}\n")
    };
    let files = [
        ("apps/storage/namespace.yaml", labelled("storage", "privileged")),
        ("green/apps/other/namespace.yaml", labelled("other", "baseline")),
        ("blue/apps/other/namespace.yaml", labelled("other", "privileged")),
        ("apps/unknown/namespace.yaml", labelled("unknown", "${LEVEL}")),
        ("apps/patched/kustomization.yaml", patch("not-used")),
    ];
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let flux = FluxObjects::read(root.path(), "blue", &["green".to_owned()].into());
    for namespace in ["storage", "other", "patched"] {
        let labels: Vec<_> = flux.pod_security(namespace).into_iter().collect();
        assert_eq!(labels, [("pod-security.kubernetes.io/enforce".to_owned(), "privileged".to_owned())], "{namespace}");
    }
    assert!(flux.pod_security("unknown").is_empty() && flux.pod_security("absent").is_empty());
}
