//! Work on a running etcd: what an operator does to its members, and what a wiped machine leaves behind.

use std::path::PathBuf;

use serde_json::Value;

use super::ControlPlane;
use super::etcd::UNKNOWN_MEMBER;
use crate::machine::MachineConfig;
use crate::node::{Node, Recovery};
use process::Command;
use talos_proto::machine::EtcdMemberAlarm;
use talos_proto::machine::etcd_member_alarm::AlarmType;

impl ControlPlane {
    fn uploaded(&self, node: &Node) -> PathBuf {
        self.folder.join("etcd").join(node.address().to_string()).join("uploaded.snapshot")
    }

    /// Keeps an uploaded snapshot on the machine's EPHEMERAL partition.
    pub(crate) async fn keep_snapshot(&self, node: &Node, snapshot: &[u8]) -> Result<(), String> {
        let path = self.uploaded(node);
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(|error| error.to_string())?;
        }
        tokio::fs::write(&path, snapshot).await.map_err(|error| error.to_string())
    }

    /// Makes the data of a first member out of the uploaded snapshot.
    pub(super) async fn restore(
        &self,
        node: &Node,
        config: &MachineConfig,
        peer: &str,
        recovery: Recovery,
    ) -> Result<(), String> {
        let name = super::hostname_or(config, node);
        let mut command = Command::new(&self.programs.etcdutl)
            .args(["snapshot", "restore", &self.uploaded(node).display().to_string()])
            .args(["--name", name, "--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", &format!("{name}={peer}")])
            .args(["--data-dir", &self.data_folder(node).display().to_string()]);
        if recovery.skip_hash_check {
            command = command.args(["--skip-hash-check"]);
        }
        command.run().await.map(|_| ()).map_err(|error| format!("failed to recover etcd from snapshot: {error}"))
    }

    /// Removes the machine's member from the cluster and ends it.
    pub(crate) async fn leave_etcd(&self, node: &Node) -> Result<(), String> {
        let own = self.etcd_number(node).await?;
        let others = self.members(node).await?.into_iter().filter(|member| member.id != own).count();
        if others > 0 {
            // A member that removes itself may be gone before it has answered.
            let gate = self.gate_beside(node).await?;
            match self.persist(node, &gate, &["member", "remove", &format!("{own:x}")]).await {
                Err(reason) if !reason.contains(UNKNOWN_MEMBER) => return Err(reason),
                _ => {}
            }
        }
        self.stop_etcd(node).await;
        Ok(())
    }

    /// Removes what etcd has on a machine's EPHEMERAL partition.
    pub(crate) fn wipe_etcd(&self, node: &Node) -> Result<(), String> {
        let remove = |path: PathBuf| match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {error}", path.display()))
            }
            _ => Ok(()),
        };
        match std::fs::remove_file(self.uploaded(node)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
            _ => {}
        }
        remove(self.data_folder(node))
    }

    /// Whether a member runs on the machine.
    pub(crate) async fn runs_etcd(&self, node: &Node) -> bool {
        self.etcd.lock().await.contains_key(&node.address())
    }

    async fn ask(&self, node: &Node, arguments: &[&str]) -> Result<Value, String> {
        let gate = self.gate(node).await?;
        self.etcdctl(&gate, arguments).await.map_err(|said| errors_of(&said))
    }

    async fn etcd_number(&self, node: &Node) -> Result<u64, String> {
        Ok(self.member_status(node).await?.member_id)
    }

    pub(crate) async fn remove_member(&self, node: &Node, id: u64) -> Result<(), String> {
        self.ask(node, &["member", "remove", &format!("{id:x}")]).await.map(|_| ())
    }

    /// The member's name that leads now; none when this machine did not lead.
    pub(crate) async fn forfeit_leadership(&self, node: &Node) -> Result<String, String> {
        let status = self.member_status(node).await?;
        let members = self.members(node).await?;
        if members.len() == 1 {
            return Err("cannot forfeit leadership, only one member".to_owned());
        }
        let other = members.iter().find(|member| member.id != status.member_id && !member.is_learner);
        let Some(other) = other.filter(|_| status.leader == status.member_id) else { return Ok(String::new()) };
        self.ask(node, &["move-leader", &format!("{:x}", other.id)]).await?;
        Ok(other.hostname.clone())
    }

    pub(crate) async fn alarms(&self, node: &Node) -> Result<Vec<EtcdMemberAlarm>, String> {
        self.ask(node, &["alarm", "list"]).await.map(|answer| alarms_of(&answer))
    }

    pub(crate) async fn disarm_alarms(&self, node: &Node) -> Result<Vec<EtcdMemberAlarm>, String> {
        self.ask(node, &["alarm", "disarm"]).await.map(|answer| alarms_of(&answer))
    }

    pub(crate) async fn defragment(&self, node: &Node) -> Result<(), String> {
        self.ask(node, &["defrag"]).await.map(|_| ())
    }
}

/// What etcd answered, without what the tool says around it.
fn errors_of(said: &str) -> String {
    let errors: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("Error: ")).collect();
    if errors.is_empty() { said.to_owned() } else { errors.join("; ") }
}

fn alarms_of(answer: &Value) -> Vec<EtcdMemberAlarm> {
    let alarms = answer.get("alarms").and_then(Value::as_array);
    let alarm = |alarm: &Value| EtcdMemberAlarm {
        member_id: alarm.get("memberID").and_then(Value::as_u64).unwrap_or_default(),
        alarm: match alarm.get("alarm").and_then(Value::as_u64) {
            Some(1) => AlarmType::Nospace.into(),
            Some(2) => AlarmType::Corrupt.into(),
            _ => AlarmType::None.into(),
        },
    };
    alarms.into_iter().flatten().map(alarm).collect()
}
