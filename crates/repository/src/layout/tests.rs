use super::*;

const TALCONFIG: &str = "clusterName: &name main # ours\nendpoint: https://10.0.0.10:6443\n";
const CRDS: &str = "helmDefaults:\n  args: [--include-crds, --no-hooks]\nreleases: []\n";
const SEALED: &str = "apiVersion: v1\nkind: Secret\nsops: {}\n";
const TEMPLATE: &str = "apiVersion: v1\nkind: Secret\nstringData:\n  token: op://vault/item/field\n";
const APPS: &str = "releases:\n  - name: cilium\n";

/// A repository of these files; the layout of a cluster in it, each path relative.
fn layout(files: &[(&str, &str)], name: &str) -> Result<[String; 4], Diagnostic> {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let found = Layout::find(root.path(), name, &Paths::default(), &Adapters::default())?;
    let relative = |paths: &[PathBuf]| {
        let paths = paths.iter().map(|path| path.strip_prefix(root.path()).unwrap().display().to_string());
        paths.collect::<Vec<_>>().join(" ")
    };
    Ok([relative(&[found.talos]), relative(&found.crds), relative(&found.releases), relative(&found.secrets)])
}

#[test]
fn one_cluster_is_known_by_its_talconfig_and_needs_no_folder_of_its_name() {
    let found = layout(
        &[
            ("talos/talconfig.yaml", TALCONFIG),
            ("bootstrap/helmfile.d/00-crds.yaml", CRDS),
            ("bootstrap/helmfile.d/01-apps.yaml", APPS),
            ("bootstrap/helmfile.d/templates/values.yaml.gotmpl", "releases: {}\n"),
            (".sops.yaml", "creation_rules: []\n"),
            ("bootstrap/resources.yaml.tpl", TEMPLATE),
            ("bootstrap/github-deploy-key.sops.yaml", SEALED),
            ("bootstrap/registry.sops.json", "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"sops\": {}}\n"),
            ("bootstrap/settings.sops.json", "{\"a\": \"ENC[]\", \"sops\": {}}\n"),
            ("kubernetes/apps/default/web/secret.sops.yaml", SEALED),
            ("kubernetes/apps/default/web/values.yaml", "releases: []\n"),
        ],
        "main",
    );
    insta::assert_snapshot!(found.unwrap().join("\n"), @r"
    talos
    bootstrap/helmfile.d/00-crds.yaml
    bootstrap/helmfile.d/01-apps.yaml
    bootstrap/github-deploy-key.sops.yaml bootstrap/registry.sops.json bootstrap/resources.yaml.tpl
    ");
}

#[test]
fn the_only_cluster_may_be_called_as_one_likes_but_for_a_slip() {
    let files = [
        ("setup/talos/cluster.yaml.j2", "machine: {}\ncluster:\n  clusterName: main\n"),
        ("setup/bootstrap/helmfile.d/01-apps.yaml", APPS),
    ];
    let chosen = ["setup/talos", "", "setup/bootstrap/helmfile.d/01-apps.yaml", ""];
    for name in ["main", "home", "setup"] {
        assert_eq!(layout(&files, name).unwrap(), chosen, "{name}");
    }
    let error = layout(&files, "mian").unwrap_err().to_string();
    assert!(error.contains("did you mean `main`?"), "{error}");
}

#[test]
fn each_of_several_clusters_has_the_files_with_its_name_on_their_way_and_the_shared_ones() {
    let files = [
        ("kubernetes/blue/talos/talconfig.yaml", "clusterName: b\n"),
        ("kubernetes/green/talos/talconfig.yaml", "clusterName: g\n"),
        ("kubernetes/blue/bootstrap/helmfile.yaml", APPS),
        ("bootstrap/helmfile/apps.yaml", APPS),
        ("bootstrap/helmfile/crds.yaml", CRDS),
        ("bootstrap/helmfile/default.yaml", "helmDefaults: {}\n"),
        ("bootstrap/green/secrets.yaml", TEMPLATE),
    ];
    insta::assert_snapshot!(layout(&files, "blue").unwrap().join("\n"), @r"
    kubernetes/blue/talos

    kubernetes/blue/bootstrap/helmfile.yaml
    ");
    insta::assert_snapshot!(layout(&files, "green").unwrap().join("\n"), @r"
    kubernetes/green/talos
    bootstrap/helmfile/crds.yaml
    bootstrap/helmfile/apps.yaml
    bootstrap/green/secrets.yaml
    ");
    insta::assert_snapshot!(layout(&files, "gren").unwrap_err(), @r"
    cluster `gren` not found: no folder of that name holds Talos inputs
      hint: did you mean `green`? This repository describes: blue, green
    ");
}

#[test]
fn secrets_that_a_kustomization_takes_in_are_that_kustomization() {
    let takes = |what: &str| format!("kind: Kustomization\nresources:\n  - ./{what}\n");
    let (folder, secret) = (takes("external-secrets"), takes("secret.yaml"));
    let files = [
        ("talos/talconfig.yaml", TALCONFIG),
        ("bootstrap/helmfile/apps.yaml", APPS),
        ("bootstrap/kustomize/kustomization.yaml", folder.as_str()),
        ("bootstrap/kustomize/external-secrets/kustomization.yaml", secret.as_str()),
        ("bootstrap/kustomize/external-secrets/secret.yaml", TEMPLATE),
        ("bootstrap/other/secret.yaml", TEMPLATE),
    ];
    assert_eq!(layout(&files, "main").unwrap()[3], "bootstrap/kustomize bootstrap/other/secret.yaml");
}

#[test]
fn finished_configs_are_inputs_unless_they_lie_below_what_they_were_made_from() {
    const CONFIG: &str = "machine:\n  token: x\n  kubelet: {}\ncluster:\n  controlPlane:\n    endpoint: x\n";
    let helmfile = ("bootstrap/helmfile.yaml", APPS);
    let alone = [("machines/10.0.0.1.yaml", CONFIG), helmfile];
    assert_eq!(layout(&alone, "main").unwrap()[0], "machines");
    let made = [("talos/talconfig.yaml", TALCONFIG), ("talos/made/a.yaml", CONFIG), helmfile];
    assert_eq!(layout(&made, "main").unwrap()[0], "talos");
}

#[test]
fn a_helmfile_that_takes_others_in_stands_for_them() {
    let found = layout(
        &[
            ("talos/main/topf.yaml", "clusterName: main\n"),
            ("helmfile.yaml", "helmfiles:\n  - path: helmfile.d/apps.yaml\n"),
            ("helmfile.d/apps.yaml", APPS),
        ],
        "main",
    );
    insta::assert_snapshot!(found.unwrap().join("\n"), @r"
    talos/main

    helmfile.yaml
    ");
}

#[test]
fn of_a_file_and_a_folder_of_helmfiles_the_folder_is_taken() {
    let files = [
        ("talos/talconfig.yaml", TALCONFIG),
        ("bootstrap/helmfile.yaml", APPS),
        ("bootstrap/helmfile.d/00-crds.yaml", CRDS),
        ("bootstrap/helmfile.d/01-apps.yaml", APPS),
    ];
    let [_, crds, releases, _] = layout(&files, "main").unwrap();
    assert_eq!(
        (crds.as_str(), releases.as_str()),
        ("bootstrap/helmfile.d/00-crds.yaml", "bootstrap/helmfile.d/01-apps.yaml")
    );
}

#[test]
fn two_folders_for_one_cluster_are_an_error() {
    let files = [("a/main/talconfig.yaml", TALCONFIG), ("b/main/talconfig.yaml", TALCONFIG)];
    insta::assert_snapshot!(layout(&files, "main").unwrap_err(), @r"
    several folders hold Talos inputs of `main`: a/main, b/main
      hint: name one of them in k8s-bootstrap.yaml: clusters.main.talos
    ");
    insta::assert_snapshot!(layout(&[], "main").unwrap_err(), @r"
    cluster `main` not found: no folder of that name holds Talos inputs
      hint: run from the root of the repository that describes your clusters, or name it with -C
    ");
}

#[test]
fn of_two_state_files_with_the_same_release_the_one_that_recipes_name_counts() {
    let old = ("kubernetes/bootstrap/helmfile.yaml", "releases:\n  - name: \"cilium\"\n");
    let new = (
        "kubernetes/bootstrap/apps/helmfile.yaml",
        "repositories:\n  - name: x\nreleases:\n  # first\n  - name: cilium\n",
    );
    let other = ("kubernetes/bootstrap/more/helmfile.yaml", "releases:\n  - name: x\n");
    let talos = ("kubernetes/talos/talconfig.yaml", TALCONFIG);
    let recipe = (
        ".taskfiles/bootstrap/Taskfile.yaml",
        "- helmfile --file {{.KUBERNETES_DIR}}/bootstrap/apps/helmfile.yaml apply\n",
    );
    let named = layout(&[old, new, other, talos, recipe], "main").unwrap();
    assert_eq!(named[2], "kubernetes/bootstrap/apps/helmfile.yaml kubernetes/bootstrap/more/helmfile.yaml");
    // A file that no recipe names is reported later, with both locations.
    let all = layout(&[old, new, talos], "main").unwrap();
    assert_eq!(all[2], "kubernetes/bootstrap/apps/helmfile.yaml kubernetes/bootstrap/helmfile.yaml");
}
