use serde_json::json;

use super::super::parse_documents;
use super::*;

fn config(text: &str) -> Documents {
    parse_documents(&Origin::new("base.yaml"), text).unwrap()
}

fn patch(text: &str) -> Result<ConfigPatch, Diagnostics> {
    ConfigPatch::parse(&Origin::new("patch.yaml"), text)
}

fn error_of(base: &str, text: &str) -> String {
    match patch(text) {
        Err(found) => found.to_string(),
        Ok(patch) => patch.apply(&config(base)).unwrap_err().to_string(),
    }
}

#[test]
fn all_errors_of_a_patch_are_reported_with_their_places() {
    let text = "machine:\n  network: {hostName: x}\n  install: {wipe: maybe}\n  sysctls: {a: [1]}\n---\n\
                apiVersion: v1alpha1\nkind: HostNameConfig\n---\nkind: BondConfig\n---\nfoo: 1\n";
    insta::assert_snapshot!(patch(text).unwrap_err(), @r"
    patch.yaml:2:13: unknown field `machine.network.hostName`
      hint: did you mean `hostname`?
    patch.yaml:3:19: `machine.install.wipe` must be true or false, this is the string `maybe`
    patch.yaml:4:16: `machine.sysctls.a` must be a string, this is a list
    patch.yaml:7:7: unknown document kind `HostNameConfig` in `v1alpha1`
      hint: did you mean `HostnameConfig`?
    patch.yaml:9:1: the BondConfig document has no `apiVersion`
    patch.yaml:11:1: this document has neither `kind` nor `machine` or `cluster`
    ");
}

#[test]
fn deleting_an_absent_element_is_an_error() {
    let base = "machine: {type: worker, sysctls: {a: '1'}, network: {interfaces: [{interface: eth0}]}}\n";
    for (text, named) in [
        ("machine: {sysctls: {b: {$patch: delete}}}", "`machine.sysctls.b`"),
        ("machine: {network: {interfaces: [{interface: eth1, $patch: delete}]}}", "interfaces[interface: eth1]"),
        ("cluster: {network: {cni: {$patch: delete}}}", "`cluster.network.cni`"),
        (
            "machine: {network: {interfaces: [{interface: eth0, vip: {$patch: delete}}]}}",
            "Talos does not delete fields of list elements",
        ),
        ("$patch: delete\nmachine: {}", "the legacy document cannot be deleted"),
    ] {
        let error = error_of(base, text);
        assert!(error.contains(named), "{text}: {error}");
        assert!(error.starts_with("patch.yaml:1:"), "{error}");
    }
    let deleted = patch("machine: {sysctls: {a: {$patch: delete}}, time: {$patch: delete}}").unwrap();
    assert_eq!(deleted.apply(&config(base)).unwrap().0[0].pointer("/machine/sysctls"), None);
}

#[test]
fn an_element_of_a_list_in_a_keyed_list_is_deleted_by_number() {
    let base = "machine: {network: {interfaces: [{interface: eth0, vlans: [{vlanId: 100}, {vlanId: 200}]}]}}\n";
    let text = "machine: {network: {interfaces: [{interface: eth0, vlans: [{vlanId: 100, $patch: delete}]}]}}";
    let patched = patch(text).unwrap().apply(&config(base)).unwrap();
    let vlans = patched.0[0].pointer("/machine/network/interfaces/0/vlans").unwrap();
    assert_eq!(vlans, &json!([{"routes": [], "vlanId": 200}]));
}

#[test]
fn replace_is_not_a_directive() {
    for text in [
        "machine: {network: {$patch: replace}}",
        "machine: {sysctls: {$patch: replace}}",
        "machine: {kubelet: {extraConfig: {evictionHard: {$patch: replace}}}}",
    ] {
        let error = error_of("machine: {}", text);
        assert!(error.contains("`$patch: delete` is the only directive") && error.contains(":1:"), "{error}");
    }
}

#[test]
fn free_form_values_of_different_types_do_not_merge() {
    let base = "machine: {kubelet: {extraConfig: {maxPods: 5, z: null}}}\n";
    for value in ["'5'", "null", "[5]", "5.5"] {
        let error = error_of(base, &format!("machine: {{kubelet: {{extraConfig: {{maxPods: {value}}}}}}}"));
        assert!(error.contains("`machine.kubelet.extraConfig.maxPods` is an integer"), "{error}");
    }
    let patched = patch("machine: {kubelet: {extraConfig: {z: 1}}}").unwrap().apply(&config(base)).unwrap();
    assert_eq!(patched.0[0].pointer("/machine/kubelet/extraConfig/z"), Some(&json!(1)));
}

#[test]
fn conflicting_documents_are_rejected() {
    let base = "apiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\n";
    for kind in ["BondConfig", "DummyLinkConfig"] {
        let error = error_of(base, &format!("apiVersion: v1alpha1\nkind: {kind}\nname: eth0\n"));
        assert_eq!(error, format!("the documents LinkConfig eth0 and {kind} eth0 conflict"));
    }
    let twice = "machine: {type: worker}\n---\nmachine: {token: x}\n";
    assert_eq!(
        error_of(base, twice),
        "patch.yaml:3:1: duplicate legacy document in the patch, first at patch.yaml:1:1"
    );
}

#[test]
fn json_patches_follow_the_library_that_talos_uses() {
    let base = "machine: {certSANs: [a, b], type: worker}\n";
    let applied = |text: &str| patch(text).unwrap().apply(&config(base)).map(|config| config.0[0]["machine"].clone());
    assert_eq!(
        applied("[{op: replace, path: /machine/token, value: x}, {op: add, path: /machine/certSANs/-1, value: c}]")
            .unwrap(),
        json!({"certSANs": ["a", "b", "c"], "type": "worker", "token": "x"})
    );
    for (text, why) in [
        ("[{op: test, path: /machine/type, value: x}]", "operation 1 (`test` `/machine/type`) failed"),
        ("[{op: remove, path: /machine/certSANs/2}]", "index `2` is out of range"),
        ("[{op: add, path: /cluster/x/y, value: 1}]", "the config has no such path"),
        ("[{path: /machine}]", "unknown operation `unknown`"),
        ("[{op: add, path: /machine/noSuchField, value: 1}]", "unknown field `machine.noSuchField`"),
    ] {
        let error = applied(text).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("patch.yaml"), "{error}");
    }
    let several = config("machine: {}\n---\napiVersion: v1alpha1\nkind: HostnameConfig\n");
    let error = patch("[{op: remove, path: /machine}]").unwrap().apply(&several).unwrap_err().to_string();
    assert!(error.contains("only applies to a config with one document"), "{error}");
}

#[test]
fn a_patch_without_documents_is_empty_and_changes_nothing() {
    let empty = patch("# nothing here\n---\n# nor here\n").unwrap();
    assert!(empty.is_empty());
    let base = config("machine: {}\n---\napiVersion: v1alpha1\nkind: HostnameConfig\n");
    assert_eq!(empty.apply(&base).unwrap(), base);
}

#[test]
fn documents_of_unknown_kinds_merge_as_data() {
    let text = "apiVersion: v2\nkind: FutureConfig\nname: x\n";
    let merged = merge(&config(&format!("{text}a: {{b: 1}}\n")), &config(&format!("{text}a: {{c: 2}}\n"))).unwrap();
    assert_eq!(merged.0[0]["a"], json!({"b": 1, "c": 2}));
}
