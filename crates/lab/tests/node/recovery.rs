//! A snapshot of the real etcd, and a cluster that comes out of it again.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use test_support::{Condition, Deadline, wait_until_async};

use crate::call::{Trust, call, connect};
use crate::talosctl::{Ran, kubectl};
use crate::test_lab::TestLab;

const TIMEOUT: Duration = Duration::from_mins(2);
const NAMESPACE: &str = "kept";

struct Operator<'w> {
    test_lab: &'w TestLab,
    kubectl: std::path::PathBuf,
}

impl Operator<'_> {
    async fn ask(&self, method: &str, requests: &[Value]) -> (Vec<Value>, Option<tonic::Status>) {
        let own = self.test_lab.cluster.client(&["os:admin"]);
        let trust = Trust::Cluster { authority: &self.test_lab.cluster.machine.certificate, own };
        let channel = connect(&self.test_lab.dialled("cp-1"), trust);
        call(channel, &format!("machine.MachineService/{method}"), requests, &[], usize::MAX).await
    }

    /// Asks until the answer is good.
    async fn until(&self, method: &str, request: Value, good: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        wait_until_async(Deadline::after(TIMEOUT), async || {
            let (found, ended) = self.ask(method, std::slice::from_ref(&request)).await;
            if ended.is_none() && good(&found) {
                return Condition::Met(found);
            }
            Condition::Unmet(format!("{method}: {found:?} {ended:?}"))
        })
        .await
    }

    async fn kubectl(&self, arguments: &[&str]) -> Ran {
        let folder = self.test_lab.lab.spec().folder.join("lab.kubeconfig");
        let (program, arguments) =
            (self.kubectl.clone(), arguments.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        let run = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            kubectl(&program, &folder, &arguments, "")
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    async fn kubectl_until(&self, arguments: &[&str]) {
        wait_until_async(Deadline::after(TIMEOUT), async || {
            let ran = self.kubectl(arguments).await;
            if ran.code == 0 { Condition::Met(()) } else { Condition::Unmet(format!("{arguments:?}: {}", ran.err)) }
        })
        .await;
    }
}

fn any(_: &[Value]) -> bool {
    true
}

/// Everything in the snapshot is there again, and what came after it is not.
pub async fn recover(test_lab: &TestLab) {
    let operator = Operator { test_lab, kubectl: test_lab.kubectl().await };
    let apply = json!({"data": STANDARD.encode(test_lab.config("cp-1")), "mode": "AUTO"});
    let machine = connect(&test_lab.dialled("cp-1"), Trust::Anonymous);
    let (_, refused) = call(machine, "machine.MachineService/ApplyConfiguration", &[apply], &[], 1).await;
    assert!(refused.is_none(), "{refused:?}");
    operator.until("Bootstrap", json!({}), any).await;
    let member = |found: &[Value]| found[0].pointer("/messages/0/members/0").is_some();
    operator.until("EtcdMemberList", json!({}), member).await;
    operator.kubectl_until(&["create", "namespace", NAMESPACE]).await;

    let pieces = operator.until("EtcdSnapshot", json!({}), any).await;
    let size: usize = pieces.iter().map(|piece| STANDARD.decode(piece["bytes"].as_str().unwrap()).unwrap().len()).sum();
    assert_eq!(size % 512, 32, "a bolt file and its hash");
    operator.kubectl_until(&["create", "namespace", "lost"]).await;

    let wipe = json!({"reboot": true, "systemPartitionsToWipe": [{"label": "EPHEMERAL", "wipe": true}]});
    operator.until("Reset", wipe, any).await;
    let upload = |pieces: Vec<Value>| {
        let operator = &operator;
        async move {
            wait_until_async(Deadline::after(TIMEOUT), async || match operator.ask("EtcdRecover", &pieces).await {
                (_, None) => Condition::Met(()),
                (_, Some(status)) => Condition::Unmet(format!("{status:?}")),
            })
            .await;
        }
    };
    let empty = |found: &[Value]| found.len() == 1;
    operator.until("List", json!({"root": "/var/lib/etcd"}), empty).await;
    upload(pieces).await;
    operator.until("Bootstrap", json!({"recoverEtcd": true}), any).await;
    operator.until("EtcdMemberList", json!({}), member).await;
    operator.kubectl_until(&["get", "namespace", NAMESPACE]).await;
    let lost = operator.kubectl(&["get", "namespace", "lost"]).await;
    assert!(lost.code != 0 && lost.err.contains("NotFound"), "{}", lost.err);
}
