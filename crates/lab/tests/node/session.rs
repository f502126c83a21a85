//! One operator's session with a real talosctl, from a bare machine to one that is switched off.

use std::path::Path;

use crate::talosctl::{Operator, Tool, cni, kubectl};
use crate::test_lab::TestLab;

/// What a session goes on with.
struct Session<'w> {
    test_lab: &'w TestLab,
    operator: Operator,
    minor: u32,
    kubectl: &'w Path,
}

pub fn run(test_lab: &TestLab, tool: Tool, kubectl: &Path) {
    let minor = tool.minor;
    let session = Session { test_lab, operator: Operator::new(tool, test_lab, "cp-1"), minor, kubectl };
    session.bare_machine();
    session.configured_machine();
    session.bootstrap();
    session.looking_around();
    session.configs();
    session.images();
    session.etcd();
    session.health();
    session.recovery();
    session.going_down();
}

impl Session<'_> {
    fn bare_machine(&self) {
        let (operator, node) = (&self.operator, self.test_lab.dialled("cp-1"));
        for name in ["cp-1", "worker-1"] {
            std::fs::write(operator.file(&format!("{name}.yaml")), self.test_lab.config(name)).unwrap();
        }
        let version: (i32, &[&str]) = if self.minor < 13 {
            (
                1,
                &[
                    "error getting version: rpc error: code = Unimplemented desc = API is not implemented in maintenance mode",
                ],
            )
        } else {
            (0, &[r"Tag: +v1\."])
        };
        operator.expect(&["version", "--insecure", "-n", &node], version.0, version.1);
        operator.expect(
            &["get", "disks", "--insecure", "-n", &node],
            0,
            &[r"^NODE +NAMESPACE +TYPE +ID +VERSION +SIZE ", "nvme0n1 +1 +549 GB"],
        );
        operator.expect(&["get", "machinestatus", "--insecure", "-n", &node], 0, &["machine +1 +maintenance +true"]);
        let apply = ["apply-config", "--insecure", "-n", &node, "-f", "cp-1.yaml"];
        operator.expect(&[&apply[..], &["--dry-run"]].concat(), 0, &["Dry run summary:"]);
        if self.minor < 13 {
            let refusal = "apply configuration --mode='staged' is not supported in maintenance mode";
            operator.expect(&[&apply[..], &["--mode", "staged"]].concat(), 1, &[refusal]);
        }
        operator.expect(&apply, 0, &[]);
        let worker = self.test_lab.dialled("worker-1");
        operator.expect(&["apply-config", "--insecure", "-n", &worker, "-f", "worker-1.yaml"], 0, &[]);
    }

    fn configured_machine(&self) {
        let operator = &self.operator;
        operator.until(&["service", "kubelet"], &[r"^STATE +Running$", r"^HEALTH +OK$"]);
        operator.expect(&["version"], 0, &["NODE: +10\\.65\\.", r"Tag: +v1\.", "Enabled: +RBAC"]);
        operator.expect(
            &["get", "disks", "--insecure", "-n", &self.test_lab.dialled("cp-1")],
            1,
            &["tls: certificate required|bad certificate|certificate required"],
        );
        operator.expect(&["config", "info"], 0, &["Current context: +lab", "Roles: +os:admin", "Nodes: +10\\.65\\."]);
        operator.expect(&["get", "nonsense"], 1, &[r#"resource "nonsense" is not registered"#]);
    }

    fn bootstrap(&self) {
        let operator = &self.operator;
        let worker = self.test_lab.address("worker-1");
        operator.until(&["-n", &worker, "service", "kubelet"], &["Running"]);
        let refusal: &[&str] = if self.minor < 13 {
            &["code = FailedPrecondition desc = bootstrap can only be performed on a control plane node"]
        } else {
            &["code = Unimplemented desc = bootstrap is only available on control plane nodes"]
        };
        operator.expect(&["-n", &worker, "bootstrap"], 1, refusal);
        operator.expect(&["bootstrap"], 0, &[]);
        operator.until(&["service", "etcd"], &[r"^STATE +Running$", r"^HEALTH +OK$"]);
        operator.expect(&["bootstrap"], 1, &["code = AlreadyExists desc = etcd data directory is not empty"]);
        operator.expect(&["kubeconfig", "kubeconfig", "--merge=false"], 0, &[]);
        let server = format!("https://{}:6443", self.test_lab.dialled("cp-1"));
        let kubeconfig = operator.file("kubeconfig");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(90);
        loop {
            let insecure = ["--server", &server, "--insecure-skip-tls-verify", "apply", "-f", "-"];
            let ran = kubectl(self.kubectl, &kubeconfig, &insecure, &cni());
            if ran.code == 0 {
                break;
            }
            assert!(std::time::Instant::now() < until, "{}", ran.err);
        }
    }

    fn looking_around(&self) {
        let operator = &self.operator;
        operator.until(
            &["get", "machinestatus"],
            &[r"^NODE +NAMESPACE +TYPE +ID +VERSION +STAGE +READY$", "machine +\\d+ +running +true"],
        );
        operator.expect(
            &["services"],
            0,
            &[r"^NODE +SERVICE +STATE +HEALTH +LAST CHANGE +LAST EVENT$", "apid +Running +OK", "etcd +Running +OK"],
        );
        operator.expect(&["service", "etcd"], 0, &[r"^NODE +10", r"^ID +etcd$", r"^EVENTS +\[Running\]"]);
        operator.expect(
            &["service", "etcd", "restart"],
            1,
            &[r#"service "etcd" doesn't support restart operation via API"#],
        );
        operator.expect(&["service", "nothing"], 1, &[r#"service "nothing" is not registered on any nodes"#]);
        operator.expect(
            &["get", "members"],
            0,
            &[
                r"HOSTNAME +MACHINE TYPE +OS +ADDRESSES$",
                r"cp-1 +\d+ +cp-1 +controlplane +Talos \(v1\.",
                r#"\["10\.65"#,
            ],
        );
        operator.expect(&["get", "members", "-o", "json"], 0, &[r#""machineType": "worker""#]);
        operator.expect(
            &["get", "machineconfig", "-o", "yaml"],
            0,
            &[r"^node: 10", r"^ +type: MachineConfigs", "type: controlplane"],
        );
        operator.watch(
            &["get", "machinestatus", "--watch"],
            &[r"^NODE +\* +NAMESPACE", r"\+ +runtime +MachineStatus +machine"],
        );
        operator.expect(&["logs", "kubelet"], 0, &[r"service\[kubelet\]\(Running\)"]);
        operator.expect(&["logs", "nothing"], 1, &[r#"log "nothing" was not registered"#]);
        operator.expect(&["dmesg"], 0, &["user: warning: \\["]);
        operator.watch(
            &["events", "--tail", "-1"],
            &[
                r"^NODE +ID +EVENT +ACTOR +SOURCE +MESSAGE",
                "machine.ServiceStateEvent|machined?",
                "talos/runtime/machine|SequenceEvent|ServiceState",
            ],
        );
        operator.expect(&["time"], 0, &[r"^NODE +NTP-SERVER +NODE-TIME +NTP-SERVER-TIME$", "time.cloudflare.com"]);
        operator.expect(&["get", "disks"], 0, &["nvme0n1"]);
        operator.expect(&["read", "/proc/sys/kernel/random/boot_id"], 0, &["^[0-9a-f-]{36}$"]);
        let both = format!("{},{}", self.test_lab.address("cp-1"), self.test_lab.address("worker-1"));
        operator.expect(
            &["-n", &both, "version"],
            0,
            &[&self.test_lab.address("cp-1"), &self.test_lab.address("worker-1")],
        );
        operator.expect(&["netstat"], 1, &["code = Unimplemented"]);
    }

    fn configs(&self) {
        let operator = &self.operator;
        let patch = r#"{"machine": {"nodeLabels": {"lab": "yes"}}}"#;
        operator.expect(
            &["patch", "mc", "-p", patch, "--dry-run"],
            0,
            &["Dry run summary:", r"^\+ +lab: ", "^Config diff:"],
        );
        operator.expect(&["patch", "mc", "-p", patch], 0, &["Applied configuration without a reboot|patched"]);
        operator.expect(&["get", "mc", "v1alpha1", "-o", "yaml"], 0, &["lab: "]);
        operator.expect(&["patch", "mc", "-p", patch], 0, &["Apply was skipped: no changes|patched|skipped"]);
        let hot = ["apply-config", "-f", "cp-1.yaml"];
        for mode in ["auto", "no-reboot", "staged", "try"] {
            operator.expect(&[&hot[..], &["--mode", mode]].concat(), 0, &[]);
        }
        if self.minor < 14 {
            let cold = r#"{"machine": {"sysctls": {"a.b": "1"}, "env": {"A": "b"}}}"#;
            let refusal = "code = InvalidArgument desc = this config change can't be applied in immediate mode";
            operator.expect(&["patch", "mc", "-p", cold, "--mode", "no-reboot"], 1, &[refusal]);
        } else {
            let refusal = "code = Unimplemented desc = the REBOOT mode is not supported|reboot";
            operator.expect(&[&hot[..], &["--mode", "reboot"]].concat(), 1, &[refusal]);
        }
        std::fs::write(operator.file("wrong.yaml"), "machine: {kind: 1").unwrap();
        assert_ne!(operator.run(&["apply-config", "-f", "wrong.yaml"]).code, 0);
    }

    fn images(&self) {
        let operator = &self.operator;
        operator.expect(&["image", "pull", "ghcr.io/acme/app:v1"], 0, &[]);
        operator.expect(
            &["image", "list"],
            0,
            &[r"^NODE +IMAGE +DIGEST +SIZE +(LABELS +)?CREATED", "ghcr.io/acme/app:v1 +sha256:[0-9a-f]{64} +\\d+ MB"],
        );
        assert_ne!(operator.run(&["image", "pull", "Not An Image"]).code, 0);
    }

    fn etcd(&self) {
        let operator = &self.operator;
        operator.expect(
            &["etcd", "members"],
            0,
            &[
                r"^NODE +ID +HOSTNAME +PEER URLS +CLIENT URLS +LEARNER",
                r"[0-9a-f]{16} +cp-1 +https://10\.65\.\d+\.11:2380 +https://10\.65\.\d+\.11:2379 +false",
            ],
        );
        operator.expect(&["etcd", "status"], 0, &[r"^NODE +MEMBER +DB SIZE +IN USE +LEADER", "false"]);
        operator.expect(&["etcd", "alarm", "list"], 0, &[]);
        operator.expect(&["etcd", "forfeit-leadership"], 1, &["cannot forfeit leadership, only one member"]);
        operator.expect(
            &["etcd", "snapshot", "etcd.db"],
            0,
            &["etcd snapshot saved to \"etcd.db\" \\(\\d+ bytes\\)", "snapshot info: hash [0-9a-f]+, revision \\d+"],
        );
        operator.expect(
            &["-n", &self.test_lab.address("worker-1"), "etcd", "members"],
            1,
            &["code = Unimplemented desc = member list is only available on control plane nodes"],
        );
    }

    fn recovery(&self) {
        let (operator, node) = (&self.operator, self.test_lab.dialled("cp-1"));
        let reset =
            ["reset", "--graceful=false", "--reboot", "--timeout", "90s", "--system-labels-to-wipe", "EPHEMERAL"];
        operator.expect(&[&reset[..], &["-n", &node]].concat(), 0, &[]);
        operator.until(&["service", "etcd"], &[r"^STATE +Preparing$"]);
        operator.until(
            &["bootstrap", "--recover-from", "etcd.db"],
            &["recovering from snapshot \"etcd.db\": hash [0-9a-f]+"],
        );
        operator.until(&["etcd", "members"], &["[0-9a-f]{16} +cp-1 "]);
        operator.until(&["get", "machinestatus"], &["machine +\\d+ +running +true"]);
    }

    fn health(&self) {
        let checks = [
            "discovered nodes: \\[\"10\\.65",
            "waiting for etcd to be healthy: OK",
            "waiting for all k8s nodes to report schedulable: OK",
        ];
        self.operator.expect(&["health", "--wait-timeout", "60s"], 0, &checks);
        let worker = self.test_lab.address("worker-1");
        self.operator.expect(
            &["-n", &worker, "health", "--wait-timeout", "5s"],
            1,
            &["cluster health check is only available on control plane nodes|code = "],
        );
    }

    fn going_down(&self) {
        let operator = &self.operator;
        let boot_id = || operator.run(&["read", "/proc/sys/kernel/random/boot_id"]).out;
        let before = boot_id();
        operator.expect(&["reboot", "--wait", "--timeout", "90s"], 0, &[]);
        assert_ne!(before, boot_id());
        let image = format!("ghcr.io/siderolabs/installer:v1.{}.99", self.minor);
        operator.expect(
            &["upgrade", "--image", &image, "--timeout", "90s", "--drain=false"][..if self.minor < 13 { 5 } else { 6 }],
            0,
            &[],
        );
        operator.until(&["version"], &[&format!(r"Tag: +v1\.{}\.99", self.minor)]);
        let reset = ["reset", "--graceful=false", "--reboot", "--timeout", "90s", "--system-labels-to-wipe"];
        // By the address where it listens: talosctl looks there for maintenance mode.
        let node = self.test_lab.dialled("cp-1");
        let both = ["STATE", "--system-labels-to-wipe", "EPHEMERAL", "-n", &node];
        operator.expect(&[&reset[..], &both].concat(), 0, &[]);
        operator.until(&["get", "machinestatus", "--insecure", "-n", &node], &["maintenance"]);
        let worker = self.test_lab.address("worker-1");
        // The first machine no longer answers: the worker is asked itself.
        let direct = self.test_lab.dialled("worker-1");
        operator.expect(&["-e", &direct, "-n", &worker, "shutdown", "--force", "--wait=false"], 0, &[]);
    }
}
