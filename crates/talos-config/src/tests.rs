use jiff::Timestamp;
use serde_json::json;
use x509_parser::prelude::FromDer;

use super::*;
use talos_schema::Contract;
use yaml::Origin;

fn bundle() -> SecretsBundle {
    SecretsBundle::generate(Timestamp::now()).unwrap()
}

#[test]
fn a_generated_bundle_can_be_parsed_and_issues_certificates_signed_by_its_ca() {
    let bundle = bundle();
    let text = secrecy::ExposeSecret::expose_secret(&bundle.to_yaml()).to_owned();
    let again = SecretsBundle::parse(&Origin::new("talsecret.yaml"), &text).unwrap();
    assert_eq!(ca_fingerprint(&again.os.certificate).unwrap(), ca_fingerprint(&bundle.os.certificate).unwrap());

    let admin = AdminIdentity::issue(&again, Timestamp::now()).unwrap();
    let der = |pem: &str| pem::parse(pem).unwrap().into_contents();
    let (leaf, authority) = (der(&admin.certificate_pem), der(&admin.ca_pem));
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(&leaf).unwrap();
    let (_, authority) = x509_parser::certificate::X509Certificate::from_der(&authority).unwrap();
    leaf.verify_signature(Some(authority.public_key())).unwrap();
    assert_eq!(leaf.subject().to_string(), "O=os:admin");
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any, "Talos rejects other usages");
}

#[test]
fn all_missing_fields_of_a_bundle_are_reported_without_values() {
    let found = SecretsBundle::parse(
        &Origin::new("talsecret.yaml"),
        "cluster: {id: x}\nsecrets: {bootstraptoken: t0psecret}\ntrustdinfo: {token: y}\ncerts: {os: {crt: '%%', key: a}}\n",
    )
    .unwrap_err()
    .to_string();
    for field in ["`secret`", "`etcd`", "`k8s`", "`k8saggregator`", "`k8sserviceaccount`", "`crt` is not the base64"] {
        assert!(found.contains(field), "{field} is not named in:\n{found}");
    }
    assert!(!found.contains("t0psecret"));
}

#[test]
fn worker_configs_have_no_private_keys_of_cas() {
    let bundle = bundle();
    let subnets = ["10.42.0.0/16".to_owned()];
    let facts = GenerateInput {
        contract: Contract::V1_12,
        cluster_name: "blue",
        endpoint: "https://10.0.0.10:6443",
        kubernetes_version: "1.35.0",
        install_image: "ghcr.io/siderolabs/installer:v1.12.0",
        install_disk: "/dev/sda",
        dns_domain: "cluster.local",
        pod_subnets: &subnets,
        service_subnets: &subnets,
        bundle: &bundle,
    };
    let worker = generate(&facts, Role::Worker);
    assert_eq!(worker.0[0].pointer("/machine/ca/key"), Some(&json!("")));
    assert_eq!(worker.0[0].pointer("/cluster/ca/key"), Some(&json!("")));
    assert!(worker.0[0].pointer("/cluster/etcd").is_none());
}

fn talconfig_in(folder: &std::path::Path, text: &str) -> Result<talconfig::Talconfig, yaml::Diagnostics> {
    std::fs::write(folder.join("talconfig.yaml"), text).unwrap();
    talconfig::read(folder, folder, &|_| None, &FetchedInputs::default()).map_err(|error| error.mistakes)
}

#[test]
fn all_errors_of_a_talconfig_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let found = talconfig_in(
        folder.path(),
        "clusterName: blue\nendpoint: https://10.0.0.10\ntalosVersion: v1.7.0\nnodes:\n\
         - {hostname: a, ipAddress: 10.0.0.1, installDisk: /dev/sda, patches: ['@missing.yaml']}\n\
         - {hostname: b, ipAddress: 10.0.0.1, installDisk: [/dev/sda], installDiskSelector: {type: floppy, size: big}, nodeLabels: {bad label: x}}\n\
         - {hostname: a, ipAddress: 10.0.0.999, controlPlane: false, talosImageURL: 'ghcr.io/x/y:v1'}\n",
    )
    .unwrap_err();
    insta::assert_snapshot!(found, @"
    talconfig.yaml:6:51: `nodes[1].installDisk` must be a string, this is a list
    talconfig.yaml:3:15: Talos v1.7.0 is not supported; the supported versions are 1.11 to 1.14
    talconfig.yaml:5:71: cannot read the patch missing.yaml: No such file or directory (os error 2)
    talconfig.yaml:2:11: invalid endpoint `https://10.0.0.10`: expected https://HOST:PORT
      hint: the Kubernetes API usually listens on port 6443
    talconfig.yaml:1:1: the talconfig has no `kubernetesVersion`
    talconfig.yaml:6:63: unknown disk type `floppy`: expected ssd, hdd, nvme or sd
    talconfig.yaml:6:63: invalid disk size `big`: expected a size such as `>= 400GB`
    talconfig.yaml:6:111: `nodeLabels.bad label`: invalid name `bad label`: expected up to 63 letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit
    talconfig.yaml:7:28: invalid IP address `10.0.0.999`
    talconfig.yaml:7:3: the node has neither `installDisk` nor `installDiskSelector`
    talconfig.yaml:7:76: invalid `talosImageURL` `ghcr.io/x/y:v1`: expected an image with registry, without tag and digest
    talconfig.yaml:6:28: node `b` has the same address 10.0.0.1 as node `a` (talconfig.yaml:5:28)
    talconfig.yaml:7:14: duplicate node `a`, first at talconfig.yaml:5:14
    ");
}

#[test]
fn a_patch_that_is_a_file_name_gets_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("patches")).unwrap();
    std::fs::write(folder.path().join("patches/a.yaml"), "machine: {}\n").unwrap();
    let text = "clusterName: blue\nendpoint: https://10.0.0.10:6443\ntalosVersion: v1.12.0\nkubernetesVersion: v1.35.0\n\
                nodes:\n  - {hostname: a, ipAddress: 10.0.0.1, controlPlane: true, installDisk: /dev/sda}\n\
                controlPlane:\n  patches:\n    - ./patches/a.yaml\n";
    insta::assert_snapshot!(talconfig_in(folder.path(), text).unwrap_err(), @r#"
    talconfig.yaml:9:7: `./patches/a.yaml` is a file name, not a patch
      hint: write "@./patches/a.yaml"
    "#);
}

#[test]
fn an_undefined_variable_of_a_talconfig_is_reported_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let found = talconfig_in(folder.path(), "# ${COMMENT}\nclusterName: ${NAME}\n").unwrap_err();
    insta::assert_snapshot!(found, @"
    talconfig.yaml:2:14: the variable `NAME` is not defined
      hint: define it in talenv.yaml beside the talconfig, or in the environment
    ");
}

#[test]
fn fields_that_talhelper_ignores_are_warnings_with_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty.yaml"), " \n").unwrap();
    let talconfig = talconfig_in(
        folder.path(),
        "clusterName: blue\nendpoint: https://10.0.0.10:6443\nkubernetesVersion: 1.35.0\ncniConfgi: {name: none}\n\
         x-anchors: {a: 1}\nnodes:\n\
         - hostname: a\n  ipAddress: 10.0.0.1\n  controlPlane: true\n  installDisk: /dev/sda\n  patches: ['@empty.yaml']\n\
         \x20 networkInterfaces:\n  - {interface: eth0, mut: 1500}\n",
    );
    insta::assert_snapshot!(talconfig.unwrap().warnings, @"
    talconfig.yaml:4:1: unknown field `cniConfgi` is ignored, like in talhelper
      hint: did you mean `cniConfig`?
    talconfig.yaml:13:23: unknown field `nodes[0].networkInterfaces[0].mut` is ignored, like in talhelper
    talconfig.yaml:11:13: the patch empty.yaml is empty and has no effect
      hint: remove it from the list, or add content
    talconfig.yaml:1:1: the talconfig has no `talosVersion`; using v1.13.9, the default of talhelper
      hint: set `talosVersion`, since the default changes with talhelper releases
    ");
}

#[test]
fn an_expired_or_future_ca_issues_no_certificates() {
    let made: Timestamp = "2026-01-10T12:00:00Z".parse().unwrap();
    let bundle = SecretsBundle::generate(made).unwrap();
    let issue = |now: &str| {
        let issued = AdminIdentity::issue(&bundle, now.parse().unwrap());
        issued.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(issue("2026-01-10T12:00:00Z"), Ok(()));
    // The clock of the machine that generated it may have been ahead.
    assert_eq!(issue("2026-01-10T10:30:00Z"), Ok(()));
    assert_eq!(
        issue("2026-01-10T09:00:00Z").unwrap_err(),
        "the Talos CA of the secrets bundle is valid from 2026-01-10T11:00:00Z to 2036-01-08T12:00:00Z, the current \
         time is 2026-01-10T09:00:00Z"
    );
    assert!(issue("2036-02-01T00:00:00Z").is_err());
}

#[test]
fn templates_can_use_the_variables_of_talenv() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("talenv.yaml"), "ZONE: north\n").unwrap();
    let talconfig = talconfig_in(
        folder.path(),
        "clusterName: blue\nendpoint: https://10.0.0.10:6443\ntalosVersion: v1.12.4\nkubernetesVersion: 1.35.0\nnodes:\n\
         - hostname: a\n  ipAddress: 10.0.0.1\n  controlPlane: true\n  installDisk: /dev/sda\n\
         \x20 nodeLabels: {zone: '{{ env \"ZONE\" }}'}\n  patches: ['machine: {env: {Z: {{ env \"ZONE\" | upper }}}}']\n",
    )
    .unwrap();
    let rendered = talconfig.render(&bundle(), &talconfig.machines[0]).unwrap();
    assert_eq!(rendered.documents.0[0]["machine"]["nodeLabels"]["zone"], "north");
    assert_eq!(rendered.documents.0[0]["machine"]["env"]["Z"], "NORTH");
}
