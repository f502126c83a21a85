//! The life cycle of a simulated machine through the client.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use secrecy::ExposeSecret;
use talos_client::{
    AddressStatus, ApplyMode, BlockDevice, Client, ClientErrorKind, ClusterInfo, Diagnostic, EtcdBootstrap,
    EtcdMemberId, EventAction, EventsSince, HostnameStatus, Identity, ImageSpace, LinkStatus, LogMode,
    MachineEventDetail, MachineType, Member, NetworkStatus, NodeAddress, Nodename, RebootMode, ResetOptions,
    ResourceChange, SecurityState, ServiceStatus, Stage, StaticPodStatus, SystemDisk, Tail, TimeStatus,
    UnattendedInstallStatus, UpgradeOutcome, VolumeStatus, WipeTarget,
};
use talos_schema::parse_documents;
use yaml::Origin;

use crate::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_1_11() {
    life_cycle("v1.11.6", "v1.11.7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_1_12() {
    life_cycle("v1.12.4", "v1.12.5").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_1_13() {
    life_cycle("v1.13.9", "v1.13.10").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_1_14() {
    life_cycle("v1.14.0-rc.1", "v1.14.1").await;
}

async fn life_cycle(talos: &str, next: &str) {
    let site = Site::start(talos).await;
    in_maintenance(&site, talos).await;
    let client = site.configure("cp-1").await;
    site.configure("cp-2").await;
    read_only_calls(&site, &client, talos).await;
    configs(&site, &client).await;
    etcd(&site, &client).await;
    streams(&client).await;
    images(&client).await;
    upgrade(&site, next).await;
    rollback_reset_and_shutdown(&site, next).await;
    // The next test on these addresses must not find this etcd.
    site.test_lab.lab.shut_down().await;
}

async fn in_maintenance(site: &Site, talos: &str) {
    let client = site.maintenance("cp-1").await;
    assert_eq!(client.machine_status().await.unwrap().stage, Stage::Maintenance);
    assert_eq!(client.version().await.unwrap().to_string(), talos);
    assert!(client.fingerprint.is_some());
    let disks = client.disks().await.unwrap();
    assert_eq!((disks[0].device.as_str(), disks[0].is_system), ("/dev/nvme0n1", false));
    let devices = client.resources().list::<BlockDevice>().await.unwrap();
    // Talos's own image is a read-only loop device among the resources.
    let paths: Vec<&str> = devices.iter().map(|(_, device)| device.dev_path.as_str()).collect();
    assert_eq!(paths, ["/dev/loop0", disks[0].device.as_str()]);
    // Maintenance mode accepts no administrator.
    let error = Client::connect(&site.dialer, site.address("cp-1"), &site.identity).await.unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Untrusted, "{error}");
}

async fn read_only_calls(site: &Site, client: &Client, talos: &str) {
    assert_eq!(client.version().await.unwrap().to_string(), talos);
    let services = client.services().await.unwrap();
    assert!(services.iter().any(|service| service.id == "apid" && service.healthy), "{services:?}");
    assert!(client.disks().await.unwrap()[0].is_system);
    let clock = client.clock(None).await.unwrap();
    assert!(clock.ahead.abs() < jiff::SignedDuration::from_mins(1) && !clock.server.is_empty(), "{clock:?}");
    client.clock(Some("pool.ntp.org")).await.unwrap();
    assert_eq!(client.folder("/no/such/folder").await.unwrap(), Vec::<String>::new());
    assert_eq!(client.read("/no/such/file").await.unwrap_err().kind, ClientErrorKind::NotFound);
    assert_eq!(client.boot_id().await.unwrap(), client.boot_id().await.unwrap());
    resources(site, client).await;
    // Forwarding to another node and to several nodes, one of which does not exist.
    let cp_2 = site.address("cp-2");
    let forwarded = client.forwarded_to(cp_2);
    assert_ne!(forwarded.boot_id().await.unwrap(), client.boot_id().await.unwrap());
    let absent: IpAddr = site.test_lab.network.host(250).into();
    let answers = client.every(&[site.address("cp-1"), cp_2, absent]).version().await.unwrap();
    assert_eq!(answers.len(), 3);
    for (name, answer) in answers {
        match answer {
            Ok(version) => assert!(version == talos && name != absent.to_string(), "{name}"),
            Err(error) => assert!(name == absent.to_string() && error.node == absent, "{name}: {error}"),
        }
    }
    let services = client.every(&[cp_2]).services().await.unwrap();
    assert!(services[0].1.as_ref().unwrap().iter().any(|service| service.id == "etcd"));
}

/// Reads all resource types of the machine.
async fn resources(site: &Site, client: &Client) {
    let all = client.resources();
    assert_eq!(all.get::<MachineType>("machine-type").await.unwrap(), MachineType::ControlPlane);
    assert_eq!(all.get::<ClusterInfo>("current").await.unwrap().cluster_name, "lab");
    assert!(!all.get::<Identity>("local").await.unwrap().node_id.is_empty());
    assert_eq!(all.get::<HostnameStatus>("hostname").await.unwrap().hostname, "cp-1");
    assert_eq!(all.get::<Nodename>("nodename").await.unwrap().nodename, "cp-1");
    assert!(all.get::<NetworkStatus>("status").await.unwrap().address_ready);
    assert!(all.get::<TimeStatus>("node").await.unwrap().synced);
    assert!(!all.get::<SecurityState>("securitystate").await.unwrap().secure_boot);
    assert_eq!(all.get::<SystemDisk>("system-disk").await.unwrap().dev_path, "/dev/nvme0n1");
    assert!(all.get::<ServiceStatus>("apid").await.unwrap().running);
    let members = all.list::<Member>().await.unwrap();
    let own = members.iter().find(|(id, _)| id == "cp-1").unwrap();
    assert_eq!(own.1.addresses, [site.address("cp-1")]);
    let volumes = all.list::<VolumeStatus>().await.unwrap();
    assert!(volumes.iter().any(|(id, volume)| id == "EPHEMERAL" && volume.phase == "ready"), "{volumes:?}");
    assert!(!all.list::<LinkStatus>().await.unwrap().is_empty());
    let addresses = all.list::<AddressStatus>().await.unwrap();
    assert!(addresses.iter().any(|(_, status)| status.address.addr() == site.address("cp-1")), "{addresses:?}");
    assert!(!all.list::<NodeAddress>().await.unwrap().is_empty());
    assert!(all.list::<Diagnostic>().await.unwrap().is_empty());
    all.list::<StaticPodStatus>().await.unwrap();
    // Resources that do not exist, and types that this Talos version does not have.
    assert_eq!(all.find::<EtcdMemberId>("absent").await.unwrap(), None);
    assert_eq!(all.get::<Nodename>("absent").await.unwrap_err().kind, ClientErrorKind::NotFound);
    all.find::<UnattendedInstallStatus>("unattended-install").await.unwrap();
    let text = all.read_yaml("network", "HostnameStatuses.net.talos.dev", Some("hostname")).await.unwrap();
    assert!(text[0].1.contains("hostname: cp-1"), "{text:?}");
}

async fn configs(site: &Site, client: &Client) {
    let sent = site.test_lab.config("cp-1");
    let data = |text: &str| parse_documents(&Origin::new("<test>"), text).unwrap();
    assert_eq!(data(client.machine_config().await.unwrap().expose_secret()), data(&sent));
    let tried = client.try_configuration(&sent).await.unwrap();
    assert!(tried.details.contains("No changes") && !tried.rebooting, "{tried:?}");
    let changed = sent.replace("debug: false", "debug: true");
    let tried = client.try_configuration(&changed).await.unwrap();
    assert!(tried.details.contains("Config diff"), "{tried:?}");
    let applied = client.apply_configuration(&changed, ApplyMode::NoReboot).await.unwrap();
    assert!(!applied.rebooting && applied.details.contains("without a reboot"), "{applied:?}");
    let staged = client.apply_configuration(&sent, ApplyMode::Staged).await.unwrap();
    assert!(staged.details.contains("next reboot"), "{staged:?}");
    let tried = client.apply_configuration(&sent, ApplyMode::Try(Duration::from_mins(1))).await.unwrap();
    assert!(!tried.rebooting, "{tried:?}");
    let error = client.try_configuration("machine: {type: nonsense}\n").await.unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Rejected, "{error}");
}

async fn etcd(site: &Site, client: &Client) {
    let before = client.etcd_members().await.unwrap_err();
    assert_eq!(before.kind, ClientErrorKind::NotReady, "{before}");
    assert!(before.reason.starts_with("etcd is Preparing"), "{before}");
    // A node rejects the call until its container runtime is up.
    let begun = async |client: &Client| match client.bootstrap(EtcdBootstrap::New).await {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind, ClientErrorKind::NotReady, "{error}");
            false
        }
    };
    site.when("cp-1", begun).await;
    let client = site.when("cp-1", async |client: &Client| client.etcd_status().await.is_ok()).await;
    assert_eq!(client.bootstrap(EtcdBootstrap::New).await.unwrap_err().kind, ClientErrorKind::AlreadyExists);
    let status = client.etcd_status().await.unwrap();
    let members = client.etcd_members().await.unwrap();
    assert!(members.iter().any(|member| member.id == status.member && member.hostname == "cp-1"), "{members:?}");
    assert_eq!(status.leader, status.member);
    assert_eq!(client.etcd_alarms().await.unwrap(), []);
    assert_eq!(client.etcd_disarm().await.unwrap(), []);
    assert_eq!(client.folder("/var/lib/etcd").await.unwrap(), ["member"]);
    let mut snapshot = Vec::new();
    let length = client.etcd_snapshot(&mut snapshot).await.unwrap();
    assert_eq!(snapshot.len() as u64, length);
    assert_eq!(length % 512, 32);
    client.etcd_recover(snapshot.as_slice()).await.unwrap();
    // A node with data rejects a recovery.
    let again = client.bootstrap(EtcdBootstrap::FromSnapshot { skip_hash_check: false }).await.unwrap_err();
    assert_eq!(again.kind, ClientErrorKind::AlreadyExists, "{again}");
    let kubeconfig = client.kubeconfig().await.unwrap();
    assert!(kubeconfig.expose_secret().contains("admin@lab"));
}

async fn streams(client: &Client) {
    let lines = client.log("machined", Tail::Everything, LogMode::Existing).await.unwrap().collect().await.unwrap();
    assert!(lines.iter().any(|line| line.contains("service[etcd]")), "{lines:?}");
    let last = client.log("machined", Tail::Lines(1), LogMode::Existing).await.unwrap().collect().await.unwrap();
    assert_eq!(last.len(), 1);
    let mut kernel = client.kernel_log(LogMode::Existing).await.unwrap();
    assert!(kernel.next().await.unwrap().is_some());
    let mut followed = client.log("machined", Tail::Everything, LogMode::Follow).await.unwrap();
    assert_eq!(followed.next().await.unwrap().as_ref(), lines.first());
    // The stream does not mark the end of past events.
    let mut events = client.events(&EventsSince::Everything, None).await.unwrap();
    let requested = loop {
        let event = events.next().await.unwrap().unwrap();
        if matches!(&event.what, MachineEventDetail::Service { id, message, .. } if id == "etcd" && message == "Bootstrap requested")
        {
            break event;
        }
    };
    let mut later = client.events(&EventsSince::After(requested.id.clone()), None).await.unwrap();
    assert!(later.next().await.unwrap().unwrap().id > requested.id);
    client.events(&EventsSince::Last(1), None).await.unwrap().next().await.unwrap().unwrap();
}

async fn images(client: &Client) {
    let lines = Mutex::new(Vec::new());
    let record = |line: &str| lines.lock().unwrap().push(line.to_owned());
    let pulled = client.pull_image(ImageSpace::Pods, "registry.k8s.io/pause:3.10", &record).await.unwrap();
    assert!(pulled.starts_with("registry.k8s.io/pause"), "{pulled}");
    let images = client.images(ImageSpace::Pods).await.unwrap();
    assert!(images.iter().any(|image| image.name.starts_with("registry.k8s.io/pause")), "{images:?}");
    let progress = client.version().await.unwrap().has_lifecycle_service();
    assert_eq!(!lines.lock().unwrap().is_empty(), progress, "{lines:?}");
}

async fn upgrade(site: &Site, next: &str) {
    // A worker can be upgraded without an etcd quorum check.
    let client = site.configure("worker-1").await;
    let before = client.boot_id().await.unwrap();
    let image = format!("ghcr.io/siderolabs/installer:{next}");
    let lines = Mutex::new(Vec::new());
    let record = |line: &str| lines.lock().unwrap().push(line.to_owned());
    let upgraded = client.upgrade(&image, &record).await.unwrap();
    assert!(!lines.lock().unwrap().is_empty());
    if upgraded == UpgradeOutcome::NeedsReboot {
        client.reboot(RebootMode::Default).await.unwrap();
    }
    site.when("worker-1", async |client: &Client| {
        client.boot_id().await.is_ok_and(|boot| boot != before)
            && client.version().await.is_ok_and(|version| version.to_string() == next)
    })
    .await;
    // A connection never survives a reboot.
    assert_eq!(client.boot_id().await.unwrap_err().kind, ClientErrorKind::Unavailable);
}

async fn rollback_reset_and_shutdown(site: &Site, next: &str) {
    let client = site.configured("worker-1").await;
    let mut watch = client.resources().watch::<TimeStatus>(Some("node")).await.unwrap();
    assert!(matches!(watch.next().await.unwrap(), ResourceChange::Present { .. }));
    let mut events = client.events(&EventsSince::Now, None).await.unwrap();
    client.rollback().await.unwrap();
    let started = loop {
        if let MachineEventDetail::Sequence { name, action, .. } = events.next().await.unwrap().unwrap().what {
            break (name, action);
        }
    };
    assert_eq!(started, ("reboot".to_owned(), Some(EventAction::Start)));
    assert_eq!(
        watch.next().await.unwrap_err().kind,
        ClientErrorKind::Unavailable,
        "a watch fails when the machine goes down"
    );
    let back = async |client: &Client| client.version().await.is_ok_and(|version| version.to_string() != next);
    let client = site.when("worker-1", back).await;
    let wipe = WipeTarget::Partitions(vec!["STATE".into(), "EPHEMERAL".into()]);
    let actor = client.reset(ResetOptions { graceful: false, reboot: true, wipe }).await.unwrap();
    assert!(!actor.is_empty());
    site.maintenance("worker-1").await;
    let client = site.configured("cp-2").await;
    client.shutdown().await.unwrap();
    let gone = loop {
        match Client::connect(&site.dialer, site.address("cp-2"), &site.identity).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(gone.kind, ClientErrorKind::Unavailable, "{gone}");
}
