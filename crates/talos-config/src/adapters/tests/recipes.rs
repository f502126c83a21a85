//! Variables, secrets and data that recipes around the inputs would provide.

use serde_json::json;

use super::*;

/// A template of a control plane's config.
fn template() -> String {
    generated(&bundle(), Role::ControlPlane).to_yaml()
}

fn machine(inputs: &dyn Inputs, node: usize) -> serde_json::Value {
    let rendered = inputs.render(&bundle(), &inputs.inventory().nodes[node]).unwrap();
    rendered.documents.0[0]["machine"].clone()
}

#[test]
fn a_data_file_lists_the_nodes_of_one_template() {
    let base = template()
        .replace("type: controlplane", "type: {{ 'controlplane' if nodes[node].controller else 'worker' }}")
        .replace("v1.12.4", "{{ ENV.TALOS_VERSION }}")
        .replace("disk: /dev/sda", "disk: {{ nodes[node].disk }}");
    let folder = Folder::new(&[
        ("machineconfig.yaml.j2", base.as_str()),
        (
            "nodes.yaml",
            "nodes:\n  a: {ip: 10.0.0.11, controller: true, disk: /dev/vda}\n  b: {ip: 10.0.0.12, controller: false, disk: /dev/vdb}\n",
        ),
        ("env.yaml", "talosVersion: v1.12.4\n"),
    ]);
    let inputs = folder.read().unwrap();
    insta::assert_snapshot!(summary(inputs.as_ref()), @"
    blue https://10.0.0.10:6443 v1.12.4 1.35.0
    a 10.0.0.11 ControlPlane talos/blue/machineconfig.yaml.j2:1:1
    b 10.0.0.12 Worker talos/blue/machineconfig.yaml.j2:1:1
    ");
    assert_eq!(machine(inputs.as_ref(), 1)["install"]["disk"], "/dev/vdb");
}

#[test]
fn nodes_without_a_role_get_the_only_role_with_layers() {
    let folder = Folder::new(&[
        (
            "controlplane.yaml.j2",
            template()
                .replace("sysctls: {}", "")
                .replace("376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba", "{{ ENV.SCHEMATIC }}")
                .as_str(),
        ),
        ("nodes/10.0.0.11.yaml.j2", "machine:\n  sysctls: {of: '{{ 'cp' if ENV.CONTROLPLANE else 'w' }}'}\n"),
        ("nodes/schematic.yaml.j2", "customization:\n  extraKernelArgs: ['{{ 'w' if ENV.WORKER else 'cp' }}']\n"),
    ]);
    let inputs = folder.read().unwrap();
    insta::assert_snapshot!(summary(inputs.as_ref()), @"
    blue https://10.0.0.10:6443 v1.12.4 1.35.0
    10.0.0.11 10.0.0.11 ControlPlane talos/blue/nodes/10.0.0.11.yaml.j2:1:1
    ");
    let schematic = json!({"customization": {"extraKernelArgs": ["cp"]}});
    let machine = machine(inputs.as_ref(), 0);
    assert_eq!(machine["sysctls"]["of"], "cp");
    let id = crate::talconfig::schematic_id(&schematic);
    assert!(machine["install"]["image"].as_str().unwrap().contains(&id), "{machine}");
}

#[test]
fn node_settings_provide_schematic_and_variables() {
    let template =
        template().replace("376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba", "{{ ENV.SCHEMATIC }}");
    let mut folder = Folder::new(&[
        ("machineconfig.yaml.j2", template.as_str()),
        ("nodes/10.0.0.11.yaml.j2", "machine:\n  sysctls: {of: '{{ ENV.ZONE }} {{ ENV.GPU }} {{ ENV.PATH }}'}\n"),
        ("schematics/gpu.yaml", "customization: {extraKernelArgs: [gpu]}\n"),
    ]);
    folder.environment.insert("PATH".into(), "/bin".into());
    folder.settings.variables =
        [("ZONE".to_owned(), json!("attic")), ("GPU".to_owned(), json!("no"))].into_iter().collect();
    let node = DeclaredNode {
        schematic: Some("talos/blue/schematics/gpu.yaml".into()),
        variables: [("GPU".to_owned(), json!(2)), ("PATH".to_owned(), json!("/own"))].into_iter().collect(),
        ..DeclaredNode::default()
    };
    folder.settings.nodes.insert("10.0.0.11".into(), node);
    let machine = machine(folder.read().unwrap().as_ref(), 0);
    assert_eq!(machine["sysctls"]["of"], "attic 2 /own");
    let id = crate::talconfig::schematic_id(&json!({"customization": {"extraKernelArgs": ["gpu"]}}));
    assert!(machine["install"]["image"].as_str().unwrap().contains(&id), "{machine}");
}

#[test]
fn variables_of_a_wrapper_program_are_requested_with_their_place() {
    let mut folder = Folder::new(&[
        ("machineconfig.yaml.j2", template().as_str()),
        ("nodes/10.0.0.11.yaml.j2", "machine:\n  sysctls: {of: '{{ ENV.ZONE }} {{ ENV[\".tail\"] }}'}\n"),
        ("mod.just", "template file:\n    envconsul -secret=\"lab\" -once minijinja-cli --strict \"{{ file }}\"\n"),
    ]);
    let inputs = folder.read_with(|wanted| match wanted {
        InputRequest::Variable { name, behind, at } => {
            assert_eq!((behind.as_str(), at.as_str()), ("envconsul -secret=\"lab\" -once", "talos/blue/mod.just:2:1"));
            format!("of {name}")
        }
        other => panic!("{other:?}"),
    });
    let inputs = inputs.unwrap();
    assert_eq!(machine(inputs.as_ref(), 0)["sysctls"]["of"], "of ZONE of .tail");
}

#[test]
fn what_is_lacking_is_an_outcome_and_never_a_value() {
    let folder = Folder::new(&[
        ("machineconfig.yaml.j2", template().as_str()),
        ("nodes/10.0.0.11.yaml.j2", "machine:\n  sysctls: {of: 'op://{{ ENV.VAULT }}/net/V6'}\n"),
        ("mod.just", "template file:\n    envconsul -once minijinja-cli --strict \"{{ file }}\"\n"),
    ]);
    let error = folder.read().unwrap_err();
    // A reference with a stand-in for the vault would be another one.
    assert_eq!(error.needs.len(), 1, "{:?}", error.needs);
    assert!(matches!(error.needs.first(), Some(InputRequest::Variable { name, .. }) if name == "VAULT"));
}

#[test]
fn references_in_recipes_are_resolved() {
    let mut folder = Folder::new(&[
        ("machineconfig.yaml.j2", template().as_str()),
        ("nodes/10.0.0.11.yaml.j2", "machine:\n  sysctls: {of: '{{ ENV.PREFIX }}::/64'}\n"),
        ("mod.just", "render:\n    export PREFIX=\"$(op item get net --field V6 --vault lab)\"\n"),
    ]);
    let inputs = folder.read_with(|wanted| match wanted {
        InputRequest::References { origin, text } if text == "op://lab/net/V6" => {
            assert_eq!(origin, "talos/blue/mod.just:2:1");
            "fd00:1".to_owned()
        }
        other => panic!("{other:?}"),
    });
    let inputs = inputs.unwrap();
    assert_eq!(machine(inputs.as_ref(), 0)["sysctls"]["of"], "fd00:1::/64");
    insta::assert_snapshot!(inputs.warnings(), @"
    talos/blue/mod.just:2:1: the variable `PREFIX` is not set in the environment: using `op://lab/net/V6`
      hint: set the variable in the environment to use another value
    ");
}

#[test]
fn a_template_may_be_the_whole_config_of_a_node() {
    let folder = Folder::new(&[("10.0.0.11.yaml.j2", template().replace("v1.12.4", "{{ ENV.V }}").as_str())]);
    let mut folder = folder;
    folder.environment.insert("V".into(), "v1.12.4".into());
    insta::assert_snapshot!(summary(folder.read().unwrap().as_ref()), @"
    blue https://10.0.0.10:6443 v1.12.4 1.35.0
    10.0.0.11 10.0.0.11 ControlPlane talos/blue/10.0.0.11.yaml.j2:1:1
    ");
}

#[test]
fn finished_configs_are_detected_in_any_yaml_style() {
    let text = generated(&bundle(), Role::ControlPlane);
    let flow: Vec<String> =
        text.0.iter().map(|document| format!("---\n{{\n  # a comment\n  {}", &document.to_string()[1..])).collect();
    let folder = Folder::new(&[("10.0.0.11.sops.yaml", flow.join("\n").as_str())]);
    insta::assert_snapshot!(summary(folder.read().unwrap().as_ref()), @"
    blue https://10.0.0.10:6443 v1.12.4 1.35.0
    10.0.0.11 10.0.0.11 ControlPlane talos/blue/10.0.0.11.sops.yaml:1:1
    ");
}

#[test]
fn a_topf_host_without_an_address_is_resolved() {
    let topf = "clusterName: blue\nclusterEndpoint: https://10.0.0.10:6443\nkubernetesVersion: 1.35.0\ntalosVersion: 1.12.4\n\
                nodes:\n- {host: cp-1.lab, role: control-plane}\n";
    let mut folder = Folder::new(&[("topf.yaml", topf)]);
    let expected = InputRequest::Address { host: "cp-1.lab".to_owned(), subnet: None };
    let inputs = folder.read_with(|request| {
        assert_eq!(*request, expected);
        "10.0.0.11".to_owned()
    });
    insta::assert_snapshot!(summary(inputs.unwrap().as_ref()), @"
    blue https://10.0.0.10:6443 v1.12.4 1.35.0
    cp-1.lab 10.0.0.11 ControlPlane talos/blue/topf.yaml:6:3
    ");
}

#[test]
fn patches_can_use_variables_of_recipes() {
    let talconfig = "clusterName: blue\ntalosVersion: v1.12.4\nkubernetesVersion: 1.35.0\nendpoint: https://10.0.0.10:6443\n\
        patches: ['@net.yaml']\nnodes:\n- {hostname: a, ipAddress: 10.0.0.11, controlPlane: true, installDisk: /dev/sda}\n";
    let folder = Folder::new(&[
        ("talconfig.yaml", talconfig),
        ("net.yaml", "machine:\n  sysctls: {of: '${prefix}::/64', $patch: merge}\n"),
        ("mod.just", "export prefix := \"fd00\"\n"),
    ]);
    let inputs = folder.read().unwrap();
    insta::assert_snapshot!(inputs.warnings(), @"
    talos/blue/mod.just:1:1: the variable `prefix` is not set in the environment: using `fd00`
      hint: set the variable in the environment to use another value
    ");
}

#[test]
fn a_variable_computed_by_a_recipe_is_reported_with_its_place() {
    let folder = Folder::new(&[
        ("machineconfig.yaml.j2", template().as_str()),
        ("nodes/10.0.0.11.yaml.j2", "machine:\n  sysctls: {of: '{{ ENV.EARLY }}'}\n"),
        ("mod.just", "render:\n    export EARLY=\"$(just early)\"\n"),
    ]);
    insta::assert_snapshot!(folder.errors(), @"
    talos/blue/nodes/10.0.0.11.yaml.j2:2:21: the template variable `ENV.EARLY` is not defined
      hint: talos/blue/mod.just:2:1 computes it with a command: set `EARLY` in the environment, or in k8s-bootstrap.yaml: clusters.<name>.variables
    ");
}
