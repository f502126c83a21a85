use super::*;

fn findings(text: &str, mode: RuntimeMode) -> (Vec<String>, Vec<String>) {
    let findings = validate_text(&Origin::new("config.yaml"), text, mode).unwrap();
    let lines = |found: Diagnostics| found.iter().map(ToString::to_string).collect();
    (lines(findings.errors), lines(findings.warnings))
}

fn errors(text: &str) -> Vec<String> {
    findings(text, RuntimeMode::Metal).0
}

const WORKER: &str =
    "machine: {type: worker, ca: {crt: YQ==}}\ncluster: {controlPlane: {endpoint: 'https://a:6443'}}\n";

#[test]
fn a_minimal_config_is_valid_and_findings_have_their_places() {
    assert_eq!(errors(WORKER), Vec::<String>::new());
    let network = "machine:\n  type: worker\n  ca: {crt: YQ==}\n  network:\n    interfaces:\n      - interface: eth0\n\
                   \x20       addresses: [10.0.0.1/24, 10.0.0.300/24]\ncluster: {}\n";
    assert_eq!(
        errors(network),
        ["config.yaml:7:34: `machine.network.interfaces[0].addresses[1]` of \"eth0\" is not an address: 10.0.0.300/24"]
    );
}

#[test]
fn documents_are_checked_by_their_kinds() {
    for (document, named) in [
        ("kind: VLANConfig\nname: eth0.1\nparent: eth0", "VLANConfig eth0.1: `vlanID`"),
        (
            "kind: UserVolumeConfig\nname: a\nprovisioning: {minSize: 2GiB, maxSize: 1GiB, diskSelector: {match: x}}",
            "`provisioning.minSize` is greater",
        ),
        ("kind: NetworkRuleConfig\nname: a\nportSelector: {ports: [1-10, 5], protocol: tcp}", "overlap at port 5"),
        ("kind: WireguardConfig\nname: wg0\nprivateKey: abc", "`privateKey` is not a WireGuard key"),
        ("kind: LinkAliasConfig\nname: net0\nselector: {match: 'mac(link.permanent_addr'}", "has an unclosed bracket"),
        ("kind: EtcFileConfig\nname: cri/x\nmode: 0o644\ncontents: x", "managed by Talos"),
        ("kind: RoutingRuleConfig\nname: '32766'\ntable: main", "the priority 32766 is reserved"),
        ("kind: KubeAPIServerConfig\nimage: x:1", "is only allowed on control plane machines"),
        ("kind: KubeletConfig\nimage: x:1\nconfig: {port: 1}", "`config.port` can't be overridden"),
        (
            "kind: RegistryMirrorConfig\nname: docker.io\nendpoints: [{url: 'ftp://a'}]",
            "`endpoints[0].url` must be an http",
        ),
        ("kind: WatchdogTimerConfig\ndevice: /dev/watchdog\ntimeout: 1s", "`timeout` must be at least 10s"),
        ("kind: ImageVerificationConfig\nrules: [{image: a/b}]", "one of skip, deny, keyless and publicKey"),
        ("kind: ContainerConfig\nname: a\nimage: b\ndependsOn: {containers: [c]}", "unknown container \"c\""),
        ("kind: KubeSpanConfig\nenabled: true", "KubeSpan requires cluster discovery"),
        (
            "kind: KubeNetworkConfig\npodSubnets: [10.0.0.0/8, 10.1.0.0/16]\nserviceSubnets: [10.2.0.0/16]",
            "must have one subnet",
        ),
    ] {
        let found = errors(&format!("{WORKER}---\napiVersion: v1alpha1\n{document}\n"));
        assert!(found.iter().any(|finding| finding.contains(named)), "{document}: {found:?}");
        assert!(
            found.iter().all(|finding| finding.starts_with("config.yaml:") || finding.contains("hostDNS")),
            "{found:?}"
        );
    }
}

#[test]
fn a_setting_in_both_documents_is_a_conflict() {
    let config = "machine: {type: worker, ca: {crt: YQ==}, network: {hostname: a, nameservers: [10.0.0.1]}}\ncluster: {}\n---\n\
                  apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: b\n---\napiVersion: v1alpha1\nkind: ResolverConfig\n";
    let found = errors(config);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("`machine.network.hostname` conflicts with the document HostnameConfig"));
    assert!(found[1].contains("`machine.network.nameservers` conflicts with the document ResolverConfig"));
}

#[test]
fn required_fields_depend_on_the_mode() {
    let no_disk = WORKER.replace("type: worker,", "type: worker, install: {image: a},");
    assert_eq!(findings(&no_disk, RuntimeMode::Cloud).0.len(), 0);
    assert_eq!(findings(&no_disk, RuntimeMode::Metal).0.len(), 1);
    assert_eq!(findings(WORKER, RuntimeMode::Container).0.len(), 2);
}

#[test]
fn documents_of_all_kinds_have_warnings() {
    let bond = "apiVersion: v1alpha1\nkind: BondConfig\nname: bond0\nlinks: [a]\nbondMode: 802.3ad\n";
    let check = |text: &str| validate_text(&Origin::new("config.yaml"), text, RuntimeMode::Metal).unwrap();
    let other = check(&format!("{WORKER}---\n{bond}"));
    assert_eq!((other.warnings.len(), other.errors.len()), (3, 0));
    let legacy = check(&WORKER.replace("type: worker,", "type: worker, install: {disk: a, extensions: [{image: b}]},"));
    assert_eq!((legacy.warnings.len(), legacy.errors.len()), (1, 0));
}
