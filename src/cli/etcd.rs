//! `k8s-bootstrap etcd …`: a running cluster's etcd, through the first control plane with a healthy member.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};
use tokio::fs::File;

use super::args::{Common, EtcdArgs, EtcdCommand, Output};
use super::error::CommandError;
use super::exit::Exit;
use super::node::refusal;
use super::output;
use super::workspace::{LabFlag, target, workspace};
use bootstrap::ops::{NodeAccess, node_access};
use error_report::ErrorReport;
use talos_client::{Client, ClientError, EtcdStatus};

pub(super) async fn etcd(common: &Common, args: EtcdArgs) -> Result<Exit, CommandError> {
    let (EtcdCommand::Snapshot { of, .. } | EtcdCommand::Status { of } | EtcdCommand::Disarm { of }) = &args.command;
    let workspace = workspace(common);
    let target = target(&workspace, &of.cluster, LabFlag(of.lab))?;
    let access = node_access(&workspace, &of.cluster, &target).await?;
    match args.command {
        EtcdCommand::Snapshot { out, .. } => snapshot(&access, &out).await?,
        EtcdCommand::Status { .. } => status(&access, common.output).await,
        EtcdCommand::Disarm { .. } => {
            let alarms = working(&access).await?.etcd_disarm().await.map_err(refusal)?;
            output::say(&format!("{} alarms disarmed", alarms.len()));
        }
    }
    Ok(Exit::Done)
}

/// A control plane whose member has a leader.
async fn working(access: &NodeAccess) -> Result<Client, CommandError> {
    let mut why = Vec::new();
    for node in access.cluster.inventory.control_planes() {
        match member(access, node.address).await {
            Ok((client, status)) if status.leader != 0 => return Ok(client),
            Ok(_) => why.push(format!("{}: its member has no leader", node.hostname)),
            Err(error) => why.push(ErrorReport::new(&error).to_string()),
        }
    }
    Err(CommandError::precondition(format!("no control plane has a healthy etcd member\n  {}", why.join("\n  "))))
}

async fn member(access: &NodeAccess, address: IpAddr) -> Result<(Client, EtcdStatus), ClientError> {
    let client = Client::connect(&access.dialer, address, &access.identity).await?;
    let status = client.etcd_status().await?;
    Ok((client, status))
}

/// Writes the snapshot atomically, with mode 0600: it contains every secret of the cluster.
async fn snapshot(access: &NodeAccess, out: &Path) -> Result<(), CommandError> {
    let cannot = |error: std::io::Error| CommandError::precondition(format!("cannot write {}: {error}", out.display()));
    let client = working(access).await?;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    let mut file = File::from_std(part.reopen().map_err(cannot)?);
    let length = client.etcd_snapshot(&mut file).await.map_err(refusal)?;
    file.sync_all().await.map_err(cannot)?;
    part.persist(out).map_err(|error| cannot(error.error))?;
    output::say(&format!("{}: {length} bytes, digest checked", out.display()));
    Ok(())
}

async fn status(access: &NodeAccess, format: Output) {
    let mut rows = Vec::new();
    for node in access.cluster.inventory.control_planes() {
        let etcd = match describe(access, node.address).await {
            Ok(row) => row,
            Err(error) => json!({"error": ErrorReport::new(&error).to_string()}),
        };
        rows.push(json!({"node": node.hostname, "etcd": etcd}));
    }
    output::data(&match format {
        Output::Json => Value::from(rows).to_string(),
        Output::Text => rows.iter().map(line).collect::<Vec<_>>().join("\n"),
    });
}

async fn describe(access: &NodeAccess, address: IpAddr) -> Result<Value, ClientError> {
    let (client, status) = member(access, address).await?;
    let members = client.etcd_members().await?;
    let alarms = client.etcd_alarms().await?;
    let own = alarms.iter().filter(|(member, _)| *member == status.member);
    Ok(json!({
        "member": format!("{:016x}", status.member),
        "leads": status.leader == status.member,
        "learns": status.is_learner,
        "version": status.version,
        "bytes": status.database,
        "bytesInUse": status.database_in_use,
        "behind": status.raft_index.saturating_sub(status.raft_applied_index),
        "members": members.len(),
        "alarms": own.map(|(_, alarm)| format!("{alarm:?}")).collect::<Vec<_>>(),
        "errors": status.errors,
    }))
}

fn line(row: &Value) -> String {
    let node = row["node"].as_str().unwrap_or_default();
    let etcd = &row["etcd"];
    if let Some(error) = etcd["error"].as_str() {
        return format!("{node:<20} {error}");
    }
    let role = match (etcd["leads"].as_bool(), etcd["learns"].as_bool()) {
        (Some(true), _) => "leads",
        (_, Some(true)) => "learns",
        _ => "follows",
    };
    let troubles: Vec<&str> = ["alarms", "errors"]
        .iter()
        .flat_map(|key| etcd[*key].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    let megabytes = etcd["bytes"].as_i64().unwrap_or_default() / 1_000_000;
    let member = etcd["member"].as_str().unwrap_or_default();
    let version = etcd["version"].as_str().unwrap_or_default();
    let line = format!(
        "{node:<20} {member} {role:<8} etcd {version} {megabytes} MB, {} members {}",
        etcd["members"],
        troubles.join("; ")
    );
    line.trim_end().to_owned()
}
