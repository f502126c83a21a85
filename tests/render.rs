//! `render`: the configs themselves, who set what in them, and what would change on nodes that run.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::TestEnvironment;

#[test]
fn every_field_is_explained_by_the_line_that_set_it() {
    let output = TestEnvironment::reference().run(&["render", "infra", "infra-cp-01", "--explain"]);
    assert_eq!(output.code, 0, "{output}");
    let fields =
        ["machine.type:", "machine.token:", "cluster.network.cni.name:", "cluster.proxy.disabled:", "hostname:"];
    let is_chosen = |line: &&str| fields.iter().any(|field| line.starts_with(field));
    insta::assert_snapshot!(output.stdout.lines().filter(is_chosen).collect::<Vec<_>>().join("\n"), @r#"
    machine.type: "controlplane"                                  # generated for Talos v1.12
    machine.token: "******"                                       # generated for Talos v1.12
    cluster.network.cni.name: "none"                              # talos/infra/talconfig.yaml:17:1
    cluster.proxy.disabled: true                                  # talos/infra/patches/control-plane.yaml:9:5
    hostname: "infra-cp-01"                                       # talos/infra/talconfig.yaml:22:15
    "#);
}

#[test]
fn secrets_are_shown_at_a_terminal_only() {
    insta::assert_snapshot!(TestEnvironment::reference().run(&["render", "infra", "--show-secrets"]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: --show-secrets prints the private keys of `infra`; it needs a terminal for the confirmation
    hint: remove --show-secrets to print the config with masked secrets
    ");
}

#[test]
fn the_key_that_the_repositorys_own_tools_name_opens_its_secrets() {
    let environment = TestEnvironment::copy();
    let render = || {
        let mut command = environment.command(&["render", "infra", "infra-cp-01"]);
        environment.output(command.env_remove("SOPS_AGE_KEY_FILE").env("HOME", "/nowhere"))
    };
    let output = render();
    // The reason is worded by sops.
    insta::with_settings!({filters => [("cannot be decrypted: .*", "cannot be decrypted: [REASON]")]}, {
        insta::assert_snapshot!(output, @"
        exit code: 3
        ----- stderr -----
        error[O03]: [REPOSITORY]/talos/infra/talsecret.sops.yaml cannot be decrypted: [REASON]
        hint: make the key available to sops, for example SOPS_AGE_KEY_FILE=~/.config/sops/age/keys.txt
        ");
    });
    let key = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/age.key");
    std::fs::copy(key, environment.repository.join("age.key")).unwrap();
    std::fs::write(environment.repository.join(".mise.toml"), "[env]\nSOPS_AGE_KEY_FILE = '{{config_root}}/age.key'\n")
        .unwrap();
    let output = render();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
}

#[test]
fn a_running_node_is_compared_with_what_would_be_applied() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab("infra");
    environment.bootstrap_machines("infra");
    let diff = || environment.run(&["render", "infra", "infra-cp-01", "--diff", "--lab"]);
    insta::assert_snapshot!(diff(), @"exit code: 0");
    let setting = |value: u32| format!("fs.inotify.max_user_instances: \"{value}\"");
    environment.edit("talos/infra/patches/all.yaml", &setting(8192), &setting(4096));
    insta::assert_snapshot!(diff(), @r#"
    exit code: 5
    ----- stdout -----
    --- infra-cp-01 (running)
    +++ infra-cp-01 (rendered)
    @@ -120,7 +120,7 @@
       nodeLabels:
         node.kubernetes.io/exclude-from-external-load-balancers: ""
       sysctls:
    -    fs.inotify.max_user_instances: "8192"
    +    fs.inotify.max_user_instances: "4096"
         fs.inotify.max_user_watches: "1048576"
       token: ******
       type: controlplane
    "#);
}
