//! Commands that read from a machine.

use serde_json::{Value, json};

use super::super::error::CommandError;
use super::super::output;
use super::{Machine, refusal};
use talos_client::{Client, ClientErrorKind, EventsSince, ImageSpace, LogMode, Tail, connect_delays};

pub(super) async fn logs(
    machine: &Machine,
    service: &str,
    tail: Option<u16>,
    mode: LogMode,
) -> Result<(), CommandError> {
    let tail = tail.map_or(Tail::Everything, Tail::Lines);
    let mut lines = machine.client.log(service, tail, mode).await.map_err(refusal)?;
    while let Some(line) = lines.next().await.map_err(refusal)? {
        machine.print(&line);
    }
    Ok(())
}

pub(super) async fn kernel(machine: &Machine, mode: LogMode) -> Result<(), CommandError> {
    let mut lines = machine.client.kernel_log(mode).await.map_err(refusal)?;
    while let Some(line) = lines.next().await.map_err(refusal)? {
        machine.print(&line);
    }
    Ok(())
}

/// Follows events across reboots. A rebooted machine has lost its earlier events, so all of the new ones are printed.
pub(super) async fn events(machine: &Machine) -> Result<(), CommandError> {
    let (mut client, mut boot) = (machine.client.clone(), machine.client.boot_id().await.map_err(refusal)?);
    let mut since = EventsSince::Everything;
    loop {
        match follow(machine, &client, &mut since).await {
            Ok(()) => {}
            Err(error) if error.kind == ClientErrorKind::Unavailable => {
                output::say(&format!("{}: {}; connecting again", machine.node.hostname, error.reason));
            }
            Err(error) => return Err(refusal(error)),
        }
        (client, boot) = match again(machine).await? {
            (client, now) if now == boot => (client, boot),
            (client, now) => {
                since = EventsSince::Everything;
                (client, now)
            }
        };
    }
}

/// Prints events until the stream ends, remembering the last one.
async fn follow(machine: &Machine, client: &Client, since: &mut EventsSince) -> Result<(), talos_client::ClientError> {
    let mut events = client.events(since, None).await?;
    while let Some(event) = events.next().await? {
        machine.print(&event.what.to_string());
        *since = EventsSince::After(event.id);
    }
    Ok(())
}

/// Connects until the machine answers; the connection, and the boot that it is to.
pub(super) async fn again(machine: &Machine) -> Result<(Client, String), CommandError> {
    for pause in connect_delays() {
        match Client::connect(&machine.access.dialer, machine.node.address, &machine.access.identity).await {
            Ok(client) => {
                if let Ok(boot) = client.boot_id().await {
                    return Ok((client, boot));
                }
            }
            Err(error) if error.kind != ClientErrorKind::Unavailable => return Err(refusal(error)),
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
    }
    Err(CommandError::precondition("the node does not respond"))
}

fn text<'r>(row: &'r Value, key: &str) -> &'r str {
    row[key].as_str().unwrap_or_default()
}

pub(super) async fn services(machine: &Machine) -> Result<(), CommandError> {
    let services = machine.client.services().await.map_err(refusal)?;
    let row = |service: talos_client::Service| {
        let last = service.events.last().cloned().unwrap_or_default();
        json!({"id": service.id, "state": service.state, "healthy": service.healthy, "last": last})
    };
    machine.rows(services.into_iter().map(row).collect(), |row| {
        let health = if row["healthy"] == true { "healthy" } else { "-" };
        let line = format!("{:<14} {:<12} {health:<8} {}", text(row, "id"), text(row, "state"), text(row, "last"));
        line.trim_end().to_owned()
    });
    Ok(())
}

pub(super) async fn get(machine: &Machine, namespace: &str, kind: &str, id: Option<&str>) -> Result<(), CommandError> {
    let found = machine.client.resources().text(namespace, kind, id).await.map_err(refusal)?;
    let texts: Vec<String> = found.iter().map(|(id, yaml)| format!("# {id}\n{}", yaml.trim_end())).collect();
    machine.print(&texts.join("\n---\n"));
    Ok(())
}

pub(super) async fn disks(machine: &Machine) -> Result<(), CommandError> {
    let disks = machine.client.disks().await.map_err(refusal)?;
    let row = |disk: talos_client::Disk| {
        json!({
            "device": disk.device, "gigabytes": disk.size / 1_000_000_000, "type": format!("{:?}", disk.kind),
            "model": disk.model, "serial": disk.serial, "wwid": disk.wwid, "busPath": disk.bus_path,
            "system": disk.is_system,
        })
    };
    machine.rows(disks.into_iter().map(row).collect(), |row| {
        let system = if row["system"] == true { "  system" } else { "" };
        format!(
            "{:<14} {:>6} GB  {:<8} {}  {}{system}",
            text(row, "device"),
            row["gigabytes"],
            text(row, "type"),
            text(row, "model"),
            text(row, "serial")
        )
    });
    Ok(())
}

pub(super) async fn time(machine: &Machine, server: Option<&str>) -> Result<(), CommandError> {
    let clock = machine.client.clock(server).await.map_err(refusal)?;
    let row = json!({"server": clock.server, "node": clock.local.to_string(), "ahead": clock.ahead.as_secs_f64()});
    machine.rows(vec![row], |row| {
        let ahead = row["ahead"].as_f64().unwrap_or_default();
        format!("{}, {ahead:+.3} s against {}", text(row, "node"), text(row, "server"))
    });
    Ok(())
}

pub(super) async fn images(machine: &Machine, pull: Option<&str>, system: bool) -> Result<(), CommandError> {
    let space = if system { ImageSpace::System } else { ImageSpace::Pods };
    if let Some(reference) = pull {
        let pulled = machine.client.pull_image(space, reference, &output::say).await.map_err(refusal)?;
        output::say(&format!("pulled {pulled}"));
    }
    let images = machine.client.images(space).await.map_err(refusal)?;
    let row = |image: talos_client::Image| json!({"name": image.name, "digest": image.digest, "bytes": image.size});
    machine.rows(images.into_iter().map(row).collect(), |row| text(row, "name").to_owned());
    Ok(())
}
