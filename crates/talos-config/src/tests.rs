use jiff::Timestamp;
use serde_json::json;
use x509_parser::prelude::FromDer;

use super::*;
use yaml::Origin;

fn bundle() -> SecretsBundle {
    SecretsBundle::generate(Timestamp::now()).unwrap()
}

#[test]
fn a_fresh_bundle_is_read_back_and_issues_certificates_that_its_authority_signed() {
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
    assert!(usage.client_auth && !usage.server_auth && !usage.any, "Talos refuses anything but client use");
}

#[test]
fn a_bundle_with_holes_is_refused_with_every_hole_and_no_value() {
    let found = SecretsBundle::parse(
        &Origin::new("talsecret.yaml"),
        "cluster: {id: x}\nsecrets: {bootstraptoken: t0psecret}\ntrustdinfo: {token: y}\ncerts: {os: {crt: '%%', key: a}}\n",
    )
    .unwrap_err()
    .to_string();
    for hole in ["`secret`", "`etcd`", "`k8s`", "`k8saggregator`", "`k8sserviceaccount`", "`crt` is no base64"] {
        assert!(found.contains(hole), "{hole} is not named in:\n{found}");
    }
    assert!(!found.contains("t0psecret"));
}

#[test]
fn a_worker_gets_no_private_key_of_an_authority() {
    let bundle = bundle();
    let subnets = ["10.42.0.0/16".to_owned()];
    let facts = Generate {
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
    talconfig::read(folder, folder, &|_| None, &Sources::default())
}

#[test]
fn every_mistake_of_a_talconfig_is_told_at_once() {
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
    talconfig.yaml:3:15: Talos v1.7.0 is not supported; configs are written for 1.11, 1.12, 1.13 and 1.14
    talconfig.yaml:5:71: cannot read the patch missing.yaml: No such file or directory (os error 2)
    talconfig.yaml:2:11: the endpoint `https://10.0.0.10` is not of the form https://HOST:PORT
      hint: the Kubernetes API usually listens on port 6443
    talconfig.yaml:1:1: the talconfig has no `kubernetesVersion`
    talconfig.yaml:6:63: the disk type `floppy` is not ssd, hdd, nvme or sd
    talconfig.yaml:6:63: `big` is no size of a disk such as `>= 400GB`
    talconfig.yaml:6:111: `nodeLabels.bad label`: `bad label` is no name: up to 63 letters, digits, `-`, `_` and `.`, the first and the last a letter or a digit
    talconfig.yaml:7:28: `10.0.0.999` is no IP address
    talconfig.yaml:7:3: the node has neither `installDisk` nor `installDiskSelector`
    talconfig.yaml:7:76: `ghcr.io/x/y:v1` is no image with its registry and without tag or digest
    talconfig.yaml:6:28: node `b` has the address 10.0.0.1 of node `a` (talconfig.yaml:5:28)
    talconfig.yaml:7:14: a second node `a`, the first is at talconfig.yaml:5:14
    ");
}

#[test]
fn a_patch_that_is_the_name_of_a_file_is_told_with_its_spelling() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("patches")).unwrap();
    std::fs::write(folder.path().join("patches/a.yaml"), "machine: {}\n").unwrap();
    let text = "clusterName: blue\nendpoint: https://10.0.0.10:6443\ntalosVersion: v1.12.0\nkubernetesVersion: v1.35.0\n\
                nodes:\n  - {hostname: a, ipAddress: 10.0.0.1, controlPlane: true, installDisk: /dev/sda}\n\
                controlPlane:\n  patches:\n    - ./patches/a.yaml\n";
    insta::assert_snapshot!(talconfig_in(folder.path(), text).unwrap_err(), @r#"
    talconfig.yaml:9:7: `./patches/a.yaml` is no patch but the name of a file
      hint: write "@./patches/a.yaml"
    "#);
}

#[test]
fn an_undefined_variable_of_a_talconfig_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let found = talconfig_in(folder.path(), "# ${COMMENT}\nclusterName: ${NAME}\n").unwrap_err();
    insta::assert_snapshot!(found, @"
    talconfig.yaml:2:14: the variable `NAME` is not defined
      hint: define it in talenv.yaml beside the talconfig, or in the environment
    ");
}

#[test]
fn what_talhelper_passes_over_is_a_warning_with_its_line() {
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
    talconfig.yaml:4:1: `cniConfgi` is not known to talhelper, which passes over it; so nothing comes of it
      hint: did you mean `cniConfig`?
    talconfig.yaml:13:23: `nodes[0].networkInterfaces[0].mut` is not known to talhelper, which passes over it; so nothing comes of it
    talconfig.yaml:11:13: the patch empty.yaml is empty, so nothing comes of it
      hint: take it out of the list, or fill it
    talconfig.yaml:1:1: the talconfig has no `talosVersion`; v1.13.9 is taken, as talhelper does
      hint: name the version, so that the next talhelper does not change it
    ");
}

#[test]
fn an_authority_outside_its_time_makes_no_certificates() {
    let made: Timestamp = "2026-01-10T12:00:00Z".parse().unwrap();
    let bundle = SecretsBundle::generate(made).unwrap();
    let issue = |now: &str| {
        let issued = AdminIdentity::issue(&bundle, now.parse().unwrap());
        issued.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(issue("2026-01-10T12:00:00Z"), Ok(()));
    // Its maker's clock may have been ahead of ours.
    assert_eq!(issue("2026-01-10T10:30:00Z"), Ok(()));
    assert_eq!(
        issue("2026-01-10T09:00:00Z").unwrap_err(),
        "the Talos CA of the secrets bundle is valid from 2026-01-10T11:00:00Z to 2036-01-08T12:00:00Z, and now it is \
         2026-01-10T09:00:00Z"
    );
    assert!(issue("2036-02-01T00:00:00Z").is_err());
}

#[test]
fn templates_see_the_variables_of_talenv() {
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
