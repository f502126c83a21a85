use std::fmt::Write;
use std::sync::LazyLock;

use jiff::Timestamp;
use secrecy::SecretString;

use super::*;
use crate::{GenerateInput, InputRequest, generate};
use talos_schema::{Contract, Documents};

mod recipes;

/// A directory of inputs with settings and environment.
struct Folder {
    root: tempfile::TempDir,
    settings: InputSettings,
    environment: BTreeMap<String, String>,
    sources: FetchedInputs,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join("talos/blue").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self {
            root,
            settings: InputSettings::default(),
            environment: BTreeMap::new(),
            sources: FetchedInputs::default(),
        }
    }

    fn read(&self) -> Result<Arc<dyn Inputs>, InputsError> {
        read(&InputContext {
            root: self.root.path(),
            folder: &self.root.path().join("talos/blue"),
            environment: &self.environment,
            sources: &self.sources,
            settings: &self.settings,
        })
    }

    fn errors(&self) -> String {
        self.read().unwrap_err().mistakes.to_string()
    }

    /// Reads with `answer` for all requests.
    fn read_with(&mut self, answer: impl Fn(&InputRequest) -> String) -> Result<Arc<dyn Inputs>, Diagnostics> {
        loop {
            let needs = match self.read() {
                Ok(inputs) => return Ok(inputs),
                Err(error) if error.needs.is_empty() => return Err(error.mistakes),
                Err(error) => error.needs,
            };
            for wanted in needs {
                let text = answer(&wanted);
                self.sources.provide(wanted, SecretString::from(text));
            }
        }
    }
}

/// Key generation is slow, so all tests share one bundle.
fn bundle() -> SecretsBundle {
    static BUNDLE: LazyLock<SecretsBundle> = LazyLock::new(|| SecretsBundle::generate(Timestamp::now()).unwrap());
    BUNDLE.clone()
}

fn generated(bundle: &SecretsBundle, role: Role) -> Documents {
    let subnets = ["10.42.0.0/16".to_owned()];
    let facts = GenerateInput {
        contract: Contract::V1_12,
        cluster_name: "blue",
        endpoint: "https://10.0.0.10:6443",
        kubernetes_version: "1.35.0",
        install_image: "factory.talos.dev/metal-installer/376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba:v1.12.4",
        install_disk: "/dev/sda",
        dns_domain: "cluster.local",
        pod_subnets: &subnets,
        service_subnets: &subnets,
        bundle,
    };
    generate(&facts, role)
}

/// A finished config of a node.
fn config(bundle: &SecretsBundle, role: Role, hostname: &str, address: &str) -> String {
    let mut text = generated(bundle, role).to_yaml().replace("auto: stable", &format!("hostname: {hostname}"));
    write!(text, "---\napiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\naddresses:\n- address: {address}/24\n")
        .unwrap();
    text
}

fn summary(inputs: &dyn Inputs) -> String {
    let inventory = inputs.inventory();
    let (name, url) = (&inventory.cluster_name, inventory.endpoint.url());
    let mut text = format!("{name} {url} {} {}\n", inventory.talos_version, inventory.kubernetes_version);
    for node in &inventory.nodes {
        writeln!(text, "{} {} {:?} {}", node.hostname, node.address, node.role, node.at).unwrap();
    }
    text
}

#[test]
fn a_directory_without_inputs_is_an_error() {
    insta::assert_snapshot!(Folder::new(&[("notes.txt", "")]).errors(), @"
    no Talos inputs found in talos/blue
      hint: supported inputs: `exec` in k8s-bootstrap.yaml, talconfig.yaml, topf.yaml, machineconfig.yaml.j2, machine configs, as in clusterconfig/*.yaml
    ");
}

#[test]
fn two_formats_in_one_directory_are_rejected() {
    let folder = Folder::new(&[("talconfig.yaml", ""), ("topf.yaml", "")]);
    insta::assert_snapshot!(folder.errors(), @"
    talos/blue has Talos inputs in several formats: talhelper (talconfig.yaml), topf (topf.yaml)
      hint: keep one, and move the others to another directory
    ");
}

#[test]
fn finished_configs_provide_inventory_and_secrets() {
    let bundle = bundle();
    let control = config(&bundle, Role::ControlPlane, "cp-1", "10.0.0.11");
    let worker = config(&bundle, Role::Worker, "w-1", "10.0.0.21");
    let files = [("clusterconfig/blue-cp-1.yaml", control.as_str()), ("clusterconfig/10.0.0.99.yaml", worker.as_str())];
    let inputs = Folder::new(&files).read().unwrap();
    insta::assert_snapshot!(summary(inputs.as_ref()), @"
    blue https://10.0.0.10:6443 v1.12.4 1.35.0
    w-1 10.0.0.99 Worker talos/blue/clusterconfig/10.0.0.99.yaml:1:1
    cp-1 10.0.0.11 ControlPlane talos/blue/clusterconfig/blue-cp-1.yaml:1:1
    ");
    let SecretsLocation::InConfigs(found) = inputs.secrets() else { panic!("{:?}", inputs.secrets()) };
    assert_eq!(found.cluster_id, bundle.cluster_id);
    let rendered = inputs.config(found, &inputs.inventory().nodes[1]).unwrap();
    assert!(rendered.documents.to_yaml().contains("hostname: cp-1"));
    let other = SecretsBundle { cluster_id: "another".to_owned(), ..self::bundle() };
    let replaced = inputs.config(&other, &inputs.inventory().nodes[1]).unwrap().documents.to_yaml();
    assert!(
        replaced.contains(&other.cluster_id) && !replaced.contains(&bundle.cluster_id),
        "a rehearsal replaces the secrets"
    );
}

#[test]
fn an_encrypted_config_is_requested() {
    let bundle = bundle();
    let sealed = "data: ENC[AES256_GCM,data:x,type:str]\nsops:\n  version: 3.10.0\n";
    let mut folder = Folder::new(&[("clusterconfig/cp-1.sops.yaml", sealed)]);
    let plain = config(&bundle, Role::ControlPlane, "cp-1", "10.0.0.11");
    let inputs = folder
        .read_with(|wanted| {
            assert!(
                matches!(wanted, InputRequest::SopsFile(path) if path.ends_with("clusterconfig/cp-1.sops.yaml")),
                "{wanted:?}"
            );
            plain.clone()
        })
        .unwrap();
    assert_eq!(inputs.inventory().nodes[0].hostname, "cp-1");
}

#[test]
fn duplicate_documents_are_rejected_with_their_layers() {
    let bundle = bundle();
    let twice = config(&bundle, Role::ControlPlane, "cp-1", "10.0.0.11")
        + "---\napiVersion: v1alpha1\nkind: HostnameConfig\nhostname: b\n";
    let folder = Folder::new(&[("clusterconfig/cp-1.yaml", twice.as_str())]);
    let inputs = folder.read().unwrap();
    let found = inputs.config(&bundle, &inputs.inventory().nodes[0]).unwrap_err();
    insta::assert_snapshot!(found, @"
    node `b`: `HostnameConfig` is defined twice, in talos/blue/clusterconfig/cp-1.yaml and in talos/blue/clusterconfig/cp-1.yaml
      hint: remove one of them, or make it a patch of the other
    ");
}

#[test]
fn a_kubernetes_that_the_configs_talos_does_not_run_is_rejected_where_it_is_written() {
    let bundle = bundle();
    let kubelet = "ghcr.io/siderolabs/kubelet:v1.35.0";
    let plain = config(&bundle, Role::ControlPlane, "cp-1", "10.0.0.11");
    assert!(plain.contains(kubelet), "{plain}");
    let newer = plain.replace(kubelet, "ghcr.io/siderolabs/kubelet:v1.36.1");
    let folder = Folder::new(&[("clusterconfig/cp-1.yaml", newer.as_str())]);
    let inputs = folder.read().unwrap();
    let found = inputs.config(&bundle, &inputs.inventory().nodes[0]).unwrap_err().to_string();
    let line = newer.lines().position(|line| line.contains("v1.36.1")).unwrap() + 1;
    let (place, message) = found.split_once(": ").unwrap();
    assert!(place.starts_with(&format!("talos/blue/clusterconfig/cp-1.yaml:{line}:")), "{found}");
    assert_eq!(
        message,
        "node `cp-1`: `machine.kubelet.image`: Talos v1.12.4 does not support Kubernetes 1.36.1, only 1.30 to 1.35"
    );
}

#[test]
fn a_config_above_the_message_limit_is_rejected() {
    let bundle = bundle();
    let blob = format!("---\napiVersion: v1\nkind: Blob\nname: x\ndata: {}\n", "x".repeat(4 << 20));
    let large = config(&bundle, Role::ControlPlane, "cp-1", "10.0.0.11") + &blob;
    let folder = Folder::new(&[("clusterconfig/cp-1.yaml", large.as_str())]);
    let inputs = folder.read().unwrap();
    let found = inputs.config(&bundle, &inputs.inventory().nodes[0]).unwrap_err().to_string();
    assert!(found.contains("the limit is 4194304 bytes"), "{found}");
}

#[test]
fn template_layers_are_merged_and_references_are_requested() {
    let bundle = bundle();
    let base = generated(&bundle, Role::ControlPlane).to_yaml().replace("type: controlplane", "type: {{ role }}");
    let mut folder = Folder::new(&[
        ("machineconfig.yaml.j2", base.as_str()),
        (
            "controlplane.yaml.j2",
            "machine:\n  sysctls:\n    {% if ENV.HUGE == '1' %}\n    vm.nr_hugepages: '1024'\n    {% endif %}\n    of: role\n",
        ),
        (
            "controlplane/10.0.0.11.yaml.j2",
            "{% include 'host.j2' %}\nmachine:\n  sysctls: {of: node}\n  env: {TOKEN: op://v/i/f}\n",
        ),
        (
            "host.j2",
            "apiVersion: v1alpha1\nkind: HostnameConfig\nauto: 'off'\nhostname: '{{ prefix.short ~ node.address | replace('.', '-') }}'\n---\n",
        ),
    ]);
    folder.environment.insert("HUGE".into(), "1".into());
    folder.settings.variables.insert("prefix".into(), serde_json::json!({"short": "cp-"}));
    let inputs = folder
        .read_with(|wanted| match wanted {
            InputRequest::References { origin, text } => {
                assert_eq!(origin, "talos/blue/controlplane/10.0.0.11.yaml.j2");
                text.replace("op://v/i/f", "t0psecret")
            }
            other => panic!("{other:?}"),
        })
        .unwrap();
    insta::assert_snapshot!(summary(inputs.as_ref()), @"
    blue https://10.0.0.10:6443 v1.12.4 1.35.0
    cp-10-0-0-11 10.0.0.11 ControlPlane talos/blue/controlplane/10.0.0.11.yaml.j2:1:1
    ");
    let rendered = inputs.config(&bundle, &inputs.inventory().nodes[0]).unwrap();
    let machine = &rendered.documents.0[0]["machine"];
    assert_eq!(machine["sysctls"], serde_json::json!({"vm.nr_hugepages": "1024", "of": "node"}));
    assert_eq!(machine["env"]["TOKEN"], "t0psecret");
    let setter = |path: &str| rendered.setter("", path).unwrap().to_string();
    assert_eq!(setter("machine.sysctls.of"), "talos/blue/controlplane/10.0.0.11.yaml.j2:3:13");
    assert_eq!(setter("machine.sysctls.vm.nr_hugepages"), "talos/blue/controlplane.yaml.j2:4:5");
}

#[test]
fn errors_in_templates_are_reported_with_their_places() {
    let bundle = bundle();
    let base = generated(&bundle, Role::ControlPlane).to_yaml();
    let folder = Folder::new(&[
        ("machineconfig.yaml.j2", base.as_str()),
        ("controlplane/a.yaml.j2", "machine:\n  env: {X: '{{ ENV.MISSING }}'}\n"),
        ("controlplane/b.yaml.j2", "{# nothing #}\n"),
        ("worker/b.yaml.j2", "machine: {}\n"),
        ("worker/c.yaml.j2", "{% if %}\n"),
        ("worker/d.yaml.j2", "machine:\n  env:\n    A: {$patch: delete}\n"),
    ]);
    insta::assert_snapshot!(folder.errors(), @"
    talos/blue/worker/b.yaml.j2:1:1: duplicate node `b`, also described by talos/blue/controlplane/b.yaml.j2
      hint: keep one of the two files
    talos/blue/controlplane/a.yaml.j2:2:16: the template variable `ENV.MISSING` is not defined
      hint: set it in the environment (`ENV.X`) or in k8s-bootstrap.yaml: clusters.<name>.variables
    talos/blue/controlplane/b.yaml.j2:1:1: this layer is empty
      hint: remove the file; if it is a template, check its conditions
    talos/blue/worker/c.yaml.j2:1:7: cannot render template: unexpected end of block in `%}`
    talos/blue/worker/d.yaml.j2:3:5: cannot delete `machine.env.A`: not found in the config
    ");
}

const TOPF: &str = "clusterName: blue\nclusterEndpoint: https://10.0.0.10:6443\nkubernetesVersion: 1.35.0\ntalosVersion: 1.12.4\ndata: {region: north}\nnodes:\n- {host: w-1, ip: 10.0.0.21, role: worker}\n- {host: cp-1, ip: 10.0.0.11, role: control-plane, data: {uuid: u1}, schematicId: '@schematic.yaml'}\n";

#[test]
fn topf_patches_all_then_the_role_then_the_node() {
    let folder = Folder::new(&[
        ("topf.yaml", TOPF),
        (
            "schematic.yaml",
            "customization:\n  systemExtensions:\n    officialExtensions: [siderolabs/qemu-guest-agent]\n",
        ),
        ("all/01-disk.yaml", "machine:\n  install: {disk: /dev/sda}\n  sysctls: {of: all}\n"),
        ("all/02-empty.yaml", "# nothing\n"),
        (
            "control-plane/01.yaml.tpl",
            "machine:\n  sysctls: {of: '{{ .Node.Role }}', region: '{{ .Data.region | upper }}'}\n",
        ),
        (
            "node/cp-1/01.yaml.tpl",
            "apiVersion: v1alpha1\nkind: HostnameConfig\nauto: 'off'\nhostname: {{ .Node.Host }}-{{ .Node.Data.uuid }}\n",
        ),
    ]);
    let inputs = folder.read().unwrap();
    insta::assert_snapshot!(summary(inputs.as_ref()), @"
    blue https://10.0.0.10:6443 v1.12.4 1.35.0
    cp-1 10.0.0.11 ControlPlane talos/blue/topf.yaml:8:3
    w-1 10.0.0.21 Worker talos/blue/topf.yaml:7:3
    ");
    let rendered = inputs.config(&bundle(), &inputs.inventory().nodes[0]).unwrap();
    let config = &rendered.documents.0[0];
    assert_eq!(config["machine"]["sysctls"], serde_json::json!({"of": "control-plane", "region": "NORTH"}));
    // The image factory's id of this schematic.
    let id = "ce4c980550dd2ab1b17bbf2b08801c7eb59418eafe8f279833297925d67c7515";
    assert_eq!(config["machine"]["install"]["image"], format!("factory.talos.dev/metal-installer/{id}:v1.12.4"));
    assert_eq!(rendered.documents.0[1]["hostname"], "cp-1-u1");
    let setter = rendered.setter("", "machine.sysctls.of").unwrap().to_string();
    assert_eq!(setter, "talos/blue/control-plane/01.yaml.tpl:2:13");
}

#[test]
fn all_errors_of_topf_are_reported_at_once() {
    let mut folder = Folder::new(&[
        (
            "topf.yaml",
            "clusterName: blue\nclusterEndpoint: 10.0.0.10\nkubernetesVersion: 1.35.0\nnodez: []\nnodes:\n- {host: a, role: worker}\n- {host: 10.0.0.11, role: controlplane}\n- {host: b, ip: 10.0.0.12, role: worker, talosVersion: 1.9.0}\n- {host: b, ip: 10.0.0.13, role: control-plane}\n",
        ),
        ("node/bb/x.yaml", "machine: {}\n"),
        ("all/v.yaml", "machine:\n  env: {A: ref+vault://x}\n"),
    ]);
    let errors = folder.read_with(|_| String::new()).unwrap_err();
    insta::assert_snapshot!(errors, @"
    talos/blue/topf.yaml:2:1: invalid endpoint `10.0.0.10`: expected https://HOST:PORT
    talos/blue/topf.yaml:4:1: topf.yaml has an unknown key `nodez`
      hint: did you mean `nodes`?
    talos/blue/topf.yaml:6:3: node `a` has no address, and the host name `a` does not resolve
      hint: set its `ip`: certificates and the order of control planes depend on it
    talos/blue/topf.yaml:7:21: unknown role `controlplane`: expected control-plane or worker
    talos/blue/topf.yaml:8:3: node `b` has two roles, first at talos/blue/topf.yaml:9:3
    talos/blue/all/v.yaml:2:1: vals references are not supported
      hint: encrypt the file with SOPS, or configure `exec` to print the config
    talos/blue/node/bb/x.yaml: this patch has no effect: unknown node `bb`
    talos/blue/topf.yaml:8:3: Talos v1.9.0 is not supported; the supported versions are 1.11 to 1.14
    ");
}

#[test]
fn an_undefined_value_in_a_topf_template_is_reported_with_its_place() {
    let folder = Folder::new(&[
        ("topf.yaml", TOPF),
        ("schematic.yaml", "{}"),
        ("all/x.yaml.tpl", "machine:\n  env: {A: '{{ .Node.Data.mac }}'}\n"),
        ("worker/j.yaml", "- {op: add, path: /a, value: 1}\n"),
    ]);
    let inputs = folder.read().unwrap();
    let found = inputs.config(&bundle(), &inputs.inventory().nodes[1]).unwrap_err();
    insta::assert_snapshot!(found, @"
    talos/blue/all/x.yaml.tpl:2:16: `.Node.Data.mac`: no `mac` in `.Node.Data`, which is empty
    talos/blue/worker/j.yaml:1:1: topf does not support JSON patches; write a merge patch
    ");
}

#[test]
fn a_command_prints_the_config_of_each_node() {
    let bundle = bundle();
    let mut folder = Folder::new(&[]);
    std::fs::create_dir_all(folder.root.path().join("talos/blue")).unwrap();
    folder.settings.exec = ["./render", "--node={node}", "{address}", "{role}"].map(str::to_owned).to_vec();
    let declared = |address: &str, role| DeclaredNode {
        address: Some(address.parse().unwrap()),
        role: Some(role),
        ..DeclaredNode::default()
    };
    folder.settings.nodes.insert("cp-1".into(), declared("10.0.0.11", Role::ControlPlane));
    folder.settings.nodes.insert("w-1".into(), declared("10.0.0.21", Role::Worker));
    let inputs = folder
        .read_with(|wanted| match wanted {
            InputRequest::CommandOutput(command)
                if command.ends_with(&["--node=cp-1".into(), "10.0.0.11".into(), "controlplane".into()]) =>
            {
                config(&bundle, Role::ControlPlane, "one", "10.9.9.9")
            }
            InputRequest::CommandOutput(_) => config(&bundle, Role::Worker, "two", "10.9.9.10"),
            other => panic!("{other:?}"),
        })
        .unwrap();
    insta::assert_snapshot!(summary(inputs.as_ref()), @"
    blue https://10.0.0.10:6443 v1.12.4 1.35.0
    one 10.0.0.11 ControlPlane <./render --node=cp-1 10.0.0.11 controlplane>:1:1
    two 10.0.0.21 Worker <./render --node=w-1 10.0.0.21 worker>:1:1
    ");
}

#[test]
fn a_node_with_two_roles_is_rejected() {
    let bundle = bundle();
    let mut folder =
        Folder::new(&[("clusterconfig/w-1.yaml", config(&bundle, Role::ControlPlane, "w-1", "10.0.0.21").as_str())]);
    folder.settings.nodes.insert("w-1".into(), DeclaredNode { role: Some(Role::Worker), ..DeclaredNode::default() });
    insta::assert_snapshot!(folder.errors(), @"talos/blue/clusterconfig/w-1.yaml:1:1: node `w-1` has two roles: worker by its file, control plane by `machine.type`");
}

#[test]
fn patches_without_effect_are_reported() {
    let talconfig = "clusterName: blue\ntalosVersion: v1.12.4\nkubernetesVersion: 1.35.0\nendpoint: https://10.0.0.10:6443\n\
        patches:\n- |-\n  apiVersion: v1alpha1\n  kind: TimeSyncConfig\n  $$patch: delete\n- 'machine: {sysctls: {a: b}}'\n\
        worker: {patches: ['machine: {}']}\n\
        nodes:\n- {hostname: a, ipAddress: 10.0.0.11, controlPlane: true, installDisk: /dev/sda}\n";
    let inputs = Folder::new(&[("talconfig.yaml", talconfig)]).read().unwrap();
    insta::assert_snapshot!(inputs.warnings(), @"talos/blue/talconfig.yaml:11:1: `worker` has no effect: no node has that role");
    let rendered = inputs.config(&bundle(), &inputs.inventory().nodes[0]).unwrap();
    insta::assert_snapshot!(RenderedConfig::unused_patches([&rendered]), @"
    talos/blue/talconfig.yaml:7:3: this patch changes nothing on any node
      hint: the fields that it deletes do not exist, or have the same values already
    ");
}

#[test]
fn invalid_fields_are_reported_at_the_lines_that_set_them() {
    let talconfig = "clusterName: blue\ntalosVersion: v1.12.4\nkubernetesVersion: 1.35.0\nendpoint: https://10.0.0.10:6443\n\
        nodes:\n- hostname: a\n  ipAddress: 10.0.0.11\n  controlPlane: true\n  installDisk: /dev/sda\n  patches:\n  - |-\n    machine:\n      nodeLabels:\n        'bad label': x\n  - '@net.yaml'\n";
    let net = "{{ if true }}\n{{ end -}}\ncluster:\n  network:\n    dnsDomain: '-bad-'\n";
    let inputs = Folder::new(&[("talconfig.yaml", talconfig), ("net.yaml", net)]).read().unwrap();
    let found = inputs.config(&bundle(), &inputs.inventory().nodes[0]).unwrap_err();
    insta::assert_snapshot!(found, @r#"
    talos/blue/net.yaml:5:5: node `a`: `cluster.network.dnsDomain` "-bad-" is not a valid DNS name
    talos/blue/talconfig.yaml:14:10: node `a`: `machine.nodeLabels` the name "bad label" is invalid
    "#);
}
