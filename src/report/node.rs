//! What a node reports, as tables and as JSON.

use serde_json::{Value, json};
use talos_client::{Clock, Disk, Image, Service};

/// Rows with the line that a person reads for each.
pub(crate) struct NodeTable {
    rows: Vec<Row>,
}

struct Row {
    line: String,
    data: Value,
}

impl NodeTable {
    pub(crate) fn to_json(&self) -> String {
        Value::from(self.rows.iter().map(|row| row.data.clone()).collect::<Vec<_>>()).to_string()
    }

    pub(crate) fn to_text(&self) -> String {
        self.rows.iter().map(|row| row.line.as_str()).collect::<Vec<_>>().join("\n")
    }
}

pub(crate) fn service_table(services: Vec<Service>) -> NodeTable {
    let row = |service: Service| {
        let last = service.events.last().cloned().unwrap_or_default();
        let health = if service.healthy { "healthy" } else { "-" };
        let line = format!("{:<14} {:<12} {health:<8} {last}", service.id, service.state);
        let data = json!({"id": service.id, "state": service.state, "healthy": service.healthy, "last": last});
        Row { line: line.trim_end().to_owned(), data }
    };
    NodeTable { rows: services.into_iter().map(row).collect() }
}

pub(crate) fn disk_table(disks: Vec<Disk>) -> NodeTable {
    let row = |disk: Disk| {
        let gigabytes = disk.size / 1_000_000_000;
        let kind = format!("{:?}", disk.kind);
        let system = if disk.is_system { "  system" } else { "" };
        let line = format!("{:<14} {gigabytes:>6} GB  {kind:<8} {}  {}{system}", disk.device, disk.model, disk.serial);
        let data = json!({
            "device": disk.device, "gigabytes": gigabytes, "type": kind, "model": disk.model, "serial": disk.serial,
            "wwid": disk.wwid, "busPath": disk.bus_path, "system": disk.is_system,
        });
        Row { line, data }
    };
    NodeTable { rows: disks.into_iter().map(row).collect() }
}

pub(crate) fn clock_table(clock: &Clock) -> NodeTable {
    let (node, ahead) = (clock.local.to_string(), clock.ahead.as_secs_f64());
    let line = format!("{node}, {ahead:+.3} s against {}", clock.server);
    NodeTable { rows: vec![Row { line, data: json!({"server": clock.server, "node": node, "ahead": ahead}) }] }
}

pub(crate) fn image_table(images: Vec<Image>) -> NodeTable {
    let row = |image: Image| {
        let data = json!({"name": image.name, "digest": image.digest, "bytes": image.size});
        Row { line: image.name, data }
    };
    NodeTable { rows: images.into_iter().map(row).collect() }
}

/// Resources as YAML documents, each under its id.
pub(crate) fn resources_text(resources: &[(String, String)]) -> String {
    let texts: Vec<String> = resources.iter().map(|(id, yaml)| format!("# {id}\n{}", yaml.trim_end())).collect();
    texts.join("\n---\n")
}
