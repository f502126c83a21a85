//! The lab's simulated kubelets, network and operators over a real Kubernetes control plane, without a run.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use common::TestEnvironment;
use serde_json::{Value, json};
use test_support::{CommandOutput, Condition, Deadline, wait_until};

/// kubectl with the lab's own kubeconfig.
struct Kubectl<'e> {
    environment: &'e TestEnvironment,
    kubeconfig: PathBuf,
}

impl<'e> Kubectl<'e> {
    fn new(environment: &'e TestEnvironment, cluster: &str) -> Self {
        let kubeconfig = environment.state().join("labs").join(cluster).join("lab.kubeconfig");
        Self { environment, kubeconfig }
    }

    fn run(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let mut child = self
            .environment
            .child("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    fn expect(&self, arguments: &[&str], input: &str) -> String {
        let (success, text) = self.run(arguments, input);
        assert!(success, "kubectl {arguments:?}: {text}");
        text
    }

    fn apply(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.expect(&["apply", "--server-side", "-f", "-"], &list.to_string());
    }

    fn get(&self, what: &[&str]) -> Value {
        let text = self.expect(&[&["get", "-o", "json"], what].concat(), "");
        serde_json::from_str(&text).unwrap()
    }
}

fn template(labels: &Value, image: &str, host_network: bool) -> Value {
    json!({
        "metadata": {"labels": labels},
        "spec": {
            "hostNetwork": host_network,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": image}],
        },
    })
}

fn cni() -> Value {
    let labels = json!({"k8s-app": "cilium"});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "cilium", "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": template(&labels, "quay.io/cilium/cilium:v1.18.5", true),
        },
    })
}

fn deployment(name: &str, image: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": labels},
            "template": template(&labels, image, false),
        },
    })
}

/// Every fact that had to be true before `effect`.
fn causes(status: &Value, effect: &str) -> Vec<String> {
    let facts = status["record"]["facts"].as_array().unwrap();
    let (mut found, mut open) = (Vec::new(), vec![effect.to_owned()]);
    while let Some(name) = open.pop() {
        let fact = facts.iter().find(|fact| fact["name"] == name.as_str());
        for cause in fact.into_iter().flat_map(|fact| fact["after"].as_array().unwrap()).filter_map(Value::as_str) {
            found.push(cause.to_owned());
            open.push(cause.to_owned());
        }
    }
    found
}

/// One cluster for all that the simulated kubelets and operators do: each part begins where the one before it ended.
#[test]
fn kubelets_and_operators_act_as_the_real_ones_do() {
    let environment = TestEnvironment::machines();
    let scenario =
        "base: fast\npodFaults:\n- pod: {name: broken}\n  what: image-pull\n  message: 429 Too Many Requests\n";
    let _lab = environment.lab_with("infra", scenario);
    environment.bootstrap_machines("infra");
    let kubectl = Kubectl::new(&environment, "infra");
    nodes_and_pods_become_ready_when_the_network_plugin_is(&environment, &kubectl);
    a_pod_that_cannot_start_reports_the_reason(&kubectl);
    the_webhook_rejects_requests_until_it_serves_and_then_validates(&kubectl);
    operators_act_only_once_they_run(&kubectl);
}

fn nodes_and_pods_become_ready_when_the_network_plugin_is(environment: &TestEnvironment, kubectl: &Kubectl) {
    kubectl.apply(&[deployment("web", "ghcr.io/acme/web:1")]);
    kubectl.expect(&["wait", "--for=jsonpath={.status.replicas}=3", "deployment/web", "--timeout=60s"], "");
    let waiting = "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ContainerCreating";
    kubectl.expect(&["wait", waiting, "pod", "-l", "app=web", "--timeout=60s"], "");
    let reported = "--for=jsonpath={.reason}=NetworkNotReady";
    kubectl.expect(&["wait", reported, "event", "--field-selector=reason=NetworkNotReady", "--timeout=60s"], "");

    kubectl.apply(&[cni()]);
    kubectl.expect(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"], "");
    kubectl.expect(&["rollout", "status", "deployment/web", "--timeout=60s"], "");
    for pod in kubectl.get(&["pod"])["items"].as_array().unwrap() {
        let address = pod["status"]["podIP"].as_str().unwrap();
        assert!(address.starts_with("10.42."), "{address} is not out of the pod network");
    }
    for node in kubectl.get(&["node"])["items"].as_array().unwrap() {
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        // The one for NoExecute goes when the node controller next comes round.
        let waits = |taint: &Value| taint["key"] == "node.kubernetes.io/not-ready" && taint["effect"] == "NoSchedule";
        assert!(!taints.iter().any(waits), "{taints:?}");
    }
    let mirrors = kubectl.get(&["pod", "-n", "kube-system", "-l", "tier=control-plane"]);
    assert_eq!(mirrors["items"].as_array().unwrap().len(), 9);
    kubectl.expect(&["wait", "--for=condition=Ready", "pod", "-A", "--all", "--timeout=60s"], "");

    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once", "namespace": "default"},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "main", "image": "ghcr.io/acme/once:1"}],
        }}},
    });
    kubectl.apply(&[job]);
    kubectl.expect(&["wait", "--for=condition=Complete", "job/once", "--timeout=60s"], "");
    kubectl.expect(&["delete", "deployment/web", "--cascade=foreground", "--timeout=60s"], "");
    assert_eq!(kubectl.get(&["pod", "-l", "app=web"])["items"], json!([]));

    let status = environment.status("infra");
    let causes = causes(&status, "node/infra-cp-01/ready");
    for cause in
        ["node/infra-cp-01/installed", "node/infra-cp-01/booted", "etcd/", "api/ready", "pod/kube-system/cilium-"]
    {
        assert!(causes.iter().any(|fact| fact.starts_with(cause)), "{cause} is not among {causes:?}");
    }
    assert!(status["critical_path"]["seconds"].as_f64().unwrap() > 0.0);
    assert!(status["record"]["requests"].as_array().unwrap().iter().any(|request| request["what"] == "Bootstrap"));
}

fn a_pod_that_cannot_start_reports_the_reason(kubectl: &Kubectl) {
    kubectl.apply(&[deployment("broken", "ghcr.io/acme/broken:1")]);
    let reason = "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff";
    kubectl.expect(&["wait", "--for=create", "pod", "-l", "app=broken", "--timeout=60s"], "");
    kubectl.expect(&["wait", reason, "pod", "-l", "app=broken", "--timeout=60s"], "");
    let warning = "--for=jsonpath={.type}=Warning";
    kubectl.expect(&["wait", warning, "event", "--field-selector=reason=Failed", "--timeout=60s"], "");
    let events = kubectl.get(&["event", "--field-selector=reason=Failed"]);
    assert!(events.to_string().contains("429 Too Many Requests"), "{events}");
}

/// A Deployment of one replica in a namespace, with the Service of its name.
fn serving(namespace: &str, name: &str) -> [Value; 2] {
    let mut deployment = deployment(name, "ghcr.io/acme/operator:1");
    deployment["metadata"]["namespace"] = json!(namespace);
    deployment["spec"]["replicas"] = json!(1);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"port": 443, "targetPort": 10250}]},
    });
    [deployment, service]
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn definition(group: &str, kind: &str, plural: &str, scope: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": scope,
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

fn webhook() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": "cert-manager-webhook",
            "annotations": {"cert-manager.io/inject-ca-from-secret": "cert-manager/cert-manager-webhook-ca"},
        },
        "webhooks": [{
            "name": "webhook.cert-manager.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "timeoutSeconds": 5, "matchPolicy": "Equivalent",
            "clientConfig": {"service": {"name": "cert-manager-webhook", "namespace": "cert-manager", "path": "/validate"}},
            "rules": [{
                "apiGroups": ["cert-manager.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["*/*"],
            }],
        }],
    })
}

fn the_webhook_rejects_requests_until_it_serves_and_then_validates(kubectl: &Kubectl) {
    kubectl.apply(&[
        definition("cert-manager.io", "ClusterIssuer", "clusterissuers", "Cluster"),
        definition("cert-manager.io", "Certificate", "certificates", "Namespaced"),
        namespace("cert-manager"),
        webhook(),
    ]);
    for plural in ["clusterissuers", "certificates"] {
        let crd = format!("crd/{plural}.cert-manager.io");
        kubectl.expect(&["wait", "--for=condition=Established", &crd, "--timeout=60s"], "");
    }
    let issuer = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": {"name": "own"},
        "spec": {"selfSigned": {}},
    });
    let (accepted, reason) = kubectl.run(&["create", "-f", "-"], &issuer.to_string());
    assert!(!accepted && reason.contains("failed calling webhook"), "{reason}");

    for name in ["cert-manager", "cert-manager-cainjector", "cert-manager-webhook"] {
        kubectl.apply(&serving("cert-manager", name));
    }
    let injected = "--for=jsonpath={.webhooks[0].clientConfig.caBundle}";
    let configuration = "validatingwebhookconfiguration/cert-manager-webhook";
    kubectl.expect(&["wait", injected, configuration, "--timeout=60s"], "");
    // The API server learns of the new authority by a watch of its own.
    wait_until(Deadline::after(Duration::from_secs(30)), || {
        match kubectl.run(&["create", "-f", "-"], &issuer.to_string()) {
            (true, _) => Condition::Met(()),
            (false, reason) => Condition::Unmet(reason),
        }
    });
    kubectl.expect(&["wait", "--for=condition=Ready", "clusterissuer/own", "--timeout=60s"], "");
    let certificate = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
        "metadata": {"name": "wrong", "namespace": "default"}, "spec": {"secretName": "tls"},
    });
    let (accepted, reason) = kubectl.run(&["create", "-f", "-"], &certificate.to_string());
    assert!(!accepted && reason.contains("spec.issuerRef.name: Required value"), "{reason}");
}

fn operators_act_only_once_they_run(kubectl: &Kubectl) {
    kubectl.apply(&[
        definition("fluxcd.controlplane.io", "FluxInstance", "fluxinstances", "Namespaced"),
        namespace("flux-system"),
    ]);
    let crd = "crd/fluxinstances.fluxcd.controlplane.io";
    kubectl.expect(&["wait", "--for=condition=Established", crd, "--timeout=60s"], "");
    let instance = json!({
        "apiVersion": "fluxcd.controlplane.io/v1", "kind": "FluxInstance",
        "metadata": {"name": "flux", "namespace": "flux-system"},
        "spec": {"distribution": {"version": "2.7.5"}, "sync": {
            "kind": "GitRepository", "url": "ssh://git@github.com/acme/k8s-ops.git", "ref": "refs/heads/main",
            "path": "clusters/infra/flux", "pullSecret": "github-deploy-key",
        }},
    });
    kubectl.apply(&[instance]);
    assert!(!kubectl.run(&["get", "crd", "ciliumbgpclusterconfigs.cilium.io"], "").0);

    kubectl.apply(&serving("kube-system", "cilium-operator"));
    kubectl.apply(&serving("flux-system", "flux-operator"));
    for crd in ["ciliumbgpclusterconfigs.cilium.io", "gitrepositories.source.toolkit.fluxcd.io"] {
        let crd = format!("crd/{crd}");
        kubectl.expect(&["wait", "--for=create", &crd, "--timeout=60s"], "");
        kubectl.expect(&["wait", "--for=condition=Established", &crd, "--timeout=60s"], "");
    }
    let space = ["-n", "flux-system", "--timeout=60s"];
    let wait = |condition: &str, object: &str| {
        kubectl.expect(&[&["wait", condition, object], &space[..]].concat(), "");
    };
    wait("--for=create", "gitrepository/flux-system");
    wait("--for=condition=Ready=False", "gitrepository/flux-system");
    wait("--for=condition=Ready=Unknown", "fluxinstance/flux");
    let key = ["create", "secret", "generic", "github-deploy-key", "-n", "flux-system", "--from-literal=identity=x"];
    kubectl.expect(&key, "");
    wait("--for=condition=Ready", "gitrepository/flux-system");
    wait("--for=condition=Ready", "kustomization/flux-system");
    wait("--for=condition=Ready", "fluxinstance/flux");
    let root = kubectl.get(&["kustomization", "flux-system", "-n", "flux-system"]);
    let revision = root["status"]["lastAppliedRevision"].as_str().unwrap();
    assert!(revision.starts_with("refs/heads/main@sha1:"), "{revision}");
    wait("--for=create", "kustomization/cluster-apps");
}

#[test]
fn refused_calls_are_retried_and_slow_ones_awaited() {
    let environment = TestEnvironment::machines();
    let scenario = "base: fast\nfaults:\n\
        - {node: infra-cp-01, call: ApplyConfiguration, what: refused}\n\
        - {node: infra-cp-02, call: ApplyConfiguration, what: {slow: 300}}\n";
    let _lab = environment.lab_with("infra", scenario);
    environment.bootstrap_machines("infra");
    let calls = environment.status("infra")["record"]["calls"].clone();
    assert_eq!(calls["infra-cp-01"]["ApplyConfiguration"], 1, "the refused call reached the node");
}

#[test]
fn every_control_plane_can_run_an_api_server_of_its_own() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab_as("infra", &["--control-planes", "all"]);
    environment.bootstrap_machines("infra");
    let kubectl = Kubectl::new(&environment, "infra");
    // Each API server enters itself here, with the address that it advertises.
    let entered = || {
        let slice = kubectl.get(&["endpointslice", "kubernetes"]);
        slice["endpoints"].as_array().unwrap().iter().flat_map(|it| it["addresses"].as_array().unwrap().clone()).count()
    };
    wait_until(Deadline::after(Duration::from_mins(1)), || match entered() {
        3 => Condition::Met(()),
        count => Condition::Unmet(format!("{count} of 3 API servers are registered")),
    });
    let members = environment.status("infra")["members"].as_array().unwrap().clone();
    let voters = members.iter().filter(|member| member["learner"] == false).count();
    assert_eq!((members.len(), voters), (3, 3), "{members:?}");
    let CommandOutput { code, stdout: out, stderr: err, .. } = environment.run(&["lab", "status", "infra"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("etcd member infra-cp-03") && out.contains("voter"), "{out}");
    assert!(out.contains("ApplyConfiguration 6"), "{out}");
}

#[test]
fn a_lab_whose_addresses_are_in_use_fails_to_start() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab("infra");
    let other = environment.state().with_file_name("other-state");
    let output =
        environment.command_with_state(&other, &["lab", "up", "infra", "--scenario", "fast"]).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("infra-cp-01") && err.contains("Address already in use"), "{err}");
}
