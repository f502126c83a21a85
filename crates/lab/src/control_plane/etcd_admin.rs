//! Operations on a running etcd: what an operator does to its members, and what is left on a wiped machine.

use std::io;
use std::path::PathBuf;

use process::Command;
use serde_json::Value;
use talos_proto::machine::EtcdMemberAlarm;
use talos_proto::machine::etcd_member_alarm::AlarmType;

use super::{ControlPlane, ControlPlaneHost, EtcdError, SnapshotRecovery};
use crate::machine_config::AppliedConfig;

impl ControlPlane {
    fn uploaded_snapshot(&self, host: ControlPlaneHost<'_>) -> PathBuf {
        self.folder.join("etcd").join(host.address.to_string()).join("uploaded.snapshot")
    }

    /// Stores an uploaded snapshot on the machine's EPHEMERAL partition.
    pub(crate) async fn store_snapshot(&self, host: ControlPlaneHost<'_>, snapshot: &[u8]) -> Result<(), EtcdError> {
        let path = self.uploaded_snapshot(host);
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(EtcdError::data(folder))?;
        }
        tokio::fs::write(&path, snapshot).await.map_err(EtcdError::data(&path))
    }

    /// Restores the data of a first member from the uploaded snapshot.
    pub(super) async fn restore_snapshot(
        &self,
        host: ControlPlaneHost<'_>,
        config: &AppliedConfig,
        peer_url: &str,
        recovery: SnapshotRecovery,
    ) -> Result<(), EtcdError> {
        let name = super::hostname(config, host);
        let mut command = Command::new(&self.programs.etcdutl)
            .args(["snapshot", "restore", &self.uploaded_snapshot(host).display().to_string()])
            .args(["--name", name, "--initial-advertise-peer-urls", peer_url])
            .args(["--initial-cluster", &format!("{name}={peer_url}")])
            .args(["--data-dir", &self.etcd_data_folder(host).display().to_string()]);
        if recovery == SnapshotRecovery::SkipHashCheck {
            command = command.args(["--skip-hash-check"]);
        }
        command.run().await.map(|_| ()).map_err(EtcdError::Restore)
    }

    /// Removes the machine's member from the cluster and ends it.
    pub(crate) async fn leave_etcd(&self, host: ControlPlaneHost<'_>) -> Result<(), EtcdError> {
        let own = self.member_status(host).await?.member_id;
        let others = self.members(host).await?.into_iter().filter(|member| member.id != own).count();
        if others > 0 {
            // A member that removes itself may be gone before it responds.
            let access = self.healthy_access(host).await?;
            match self.retry_etcdctl(&access, &["member", "remove", &format!("{own:x}")]).await {
                Ok(_) | Err(EtcdError::MemberNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.stop_etcd(host).await;
        Ok(())
    }

    /// Removes etcd's files from the machine's EPHEMERAL partition.
    pub(crate) fn wipe_etcd(&self, host: ControlPlaneHost<'_>) -> Result<(), EtcdError> {
        let snapshot = self.uploaded_snapshot(host);
        if_found(std::fs::remove_file(&snapshot)).map_err(EtcdError::data(&snapshot))?;
        let data = self.etcd_data_folder(host);
        if_found(std::fs::remove_dir_all(&data)).map_err(EtcdError::data(&data))
    }

    /// Whether a member runs on the machine.
    pub(crate) async fn is_etcd_running(&self, host: ControlPlaneHost<'_>) -> bool {
        self.etcd.lock().await.contains_key(&host.address)
    }

    /// Runs etcdctl against the machine's own member.
    async fn own_etcdctl(&self, host: ControlPlaneHost<'_>, arguments: &[&str]) -> Result<Value, EtcdError> {
        let access = self.member_access(host).await?;
        self.etcdctl(&access, arguments).await
    }

    pub(crate) async fn remove_member(&self, host: ControlPlaneHost<'_>, id: u64) -> Result<(), EtcdError> {
        self.own_etcdctl(host, &["member", "remove", &format!("{id:x}")]).await.map(|_| ())
    }

    /// The name of the new leader. Empty if this machine was not the leader.
    pub(crate) async fn forfeit_leadership(&self, host: ControlPlaneHost<'_>) -> Result<String, EtcdError> {
        let status = self.member_status(host).await?;
        let members = self.members(host).await?;
        if members.len() == 1 {
            return Err(EtcdError::OnlyMember);
        }
        let other = members.iter().find(|member| member.id != status.member_id && !member.is_learner);
        let Some(other) = other.filter(|_| status.leader == status.member_id) else { return Ok(String::new()) };
        self.own_etcdctl(host, &["move-leader", &format!("{:x}", other.id)]).await?;
        Ok(other.hostname.clone())
    }

    pub(crate) async fn alarms(&self, host: ControlPlaneHost<'_>) -> Result<Vec<EtcdMemberAlarm>, EtcdError> {
        self.own_etcdctl(host, &["alarm", "list"]).await.map(|response| parse_alarms(&response))
    }

    pub(crate) async fn disarm_alarms(&self, host: ControlPlaneHost<'_>) -> Result<Vec<EtcdMemberAlarm>, EtcdError> {
        self.own_etcdctl(host, &["alarm", "disarm"]).await.map(|response| parse_alarms(&response))
    }

    pub(crate) async fn defragment(&self, host: ControlPlaneHost<'_>) -> Result<(), EtcdError> {
        self.own_etcdctl(host, &["defrag"]).await.map(|_| ())
    }
}

/// Ignores that the file or folder does not exist.
fn if_found(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn parse_alarms(response: &Value) -> Vec<EtcdMemberAlarm> {
    let alarms = response.get("alarms").and_then(Value::as_array);
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
