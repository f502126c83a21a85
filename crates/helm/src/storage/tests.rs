use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn stored(status: Status) -> StoredRelease {
    StoredRelease {
        namespace: "kube-system".into(),
        name: "cilium".into(),
        revision: 3,
        status,
        description: "the operation failed".into(),
        chart_name: "cilium".into(),
        chart_version: "1.18.5".into(),
        config: json!({"cluster": {"id": 1, "name": "infra"}, "list": [1, 2]}),
        manifest: String::new(),
        hooks: vec![],
        labels: BTreeMap::new(),
        apply_method: None,
        last_deployed: None,
    }
}

fn packed(json: &Value) -> String {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(json.to_string().as_bytes()).unwrap();
    STANDARD.encode(gzip.finish().unwrap())
}

#[test]
fn a_record_is_read_with_one_layer_of_base64_and_with_two() {
    let record = packed(&json!({
        "name": "cilium", "namespace": "kube-system", "version": 2, "apply_method": "csa",
        "info": {"status": "pending-upgrade", "description": "Preparing upgrade", "notes": "x"},
        "chart": {"metadata": {"name": "cilium", "version": "1.18.5"}, "templates": []},
        "config": {"k8sServicePort": 7445}, "manifest": "---\nkind: X\n",
        "hooks": [{"name": "a", "manifest": "kind: Job\n", "last_run": {"phase": "Succeeded"}}],
    }));
    let once = StoredRelease::decode(record.as_bytes()).unwrap();
    assert_eq!(once, StoredRelease::decode(STANDARD.encode(&record).as_bytes()).unwrap());
    assert_eq!((once.revision, once.status), (2, Status::PendingUpgrade));
    assert_eq!(once.config, json!({"k8sServicePort": 7445}));
    assert_eq!(
        (once.manifest.as_str(), once.hooks.as_slice()),
        ("---\nkind: X\n", ["kind: Job\n".to_owned()].as_slice())
    );
    assert_eq!(once.apply_method.as_deref(), Some("csa"));
    assert_eq!(once.secret_name(), "sh.helm.release.v1.cilium.v2");
    assert!(!format!("{once:?}").contains("7445"), "values may be secret");
}

#[test]
fn an_invalid_record_names_the_invalid_layer() {
    let broken = |bytes: &[u8]| StoredRelease::decode(bytes).unwrap_err().to_string();
    assert!(broken(b"%%%").starts_with("invalid base64"), "{}", broken(b"%%%"));
    let cut = STANDARD.encode([0x1f, 0x8b, 8, 0]);
    assert!(broken(cut.as_bytes()).starts_with("cannot be unpacked"));
    assert!(broken(packed(&json!({"name": "x"})).as_bytes()).starts_with("not a helm release"));
}

#[test]
fn a_recorded_release_is_compared_with_the_desired_one() {
    let values = json!({"cluster": {"id": 1.0, "name": "infra"}, "list": [1, 2]});
    let other = json!({"cluster": {"id": 2, "name": "infra"}, "list": [1, 2]});
    let null = json!({"cluster": {"id": 1, "name": "infra", "default": null}, "list": [1, 2]});
    let longer = json!({"cluster": {"id": 1, "name": "infra"}, "list": [1, 2, 3]});
    let outdated = |reason: &str| ReleaseState::Outdated(reason.to_owned());
    let pending = |status| ReleaseState::Pending { revision: 3, status };
    for (status, version, values, state) in [
        (Status::Deployed, "1.18.5", &values, ReleaseState::Deployed),
        (Status::Deployed, "v1.18.5", &values, ReleaseState::Deployed),
        (Status::Deployed, "1.18.5+sha.1234", &values, ReleaseState::Deployed),
        (Status::Deployed, "1.18.6", &values, outdated("chart cilium 1.18.5 is installed, expected cilium 1.18.6")),
        (Status::Deployed, "1.18.5", &other, outdated("values differ, first at `cluster.id`")),
        (Status::Deployed, "1.18.5", &null, outdated("values differ, first at `cluster.default`")),
        (Status::Deployed, "1.18.5", &longer, outdated("values differ, first at `list`")),
        (Status::Superseded, "1.18.5", &values, outdated("the newest revision 3 is superseded")),
        (Status::Unknown, "1.18.5", &values, outdated("the newest revision 3 is unknown")),
        (Status::Failed, "1.18.5", &values, ReleaseState::Failed("the operation failed".into())),
        (Status::PendingInstall, "1.18.5", &values, pending(Status::PendingInstall)),
        (Status::PendingUpgrade, "1.18.5", &values, pending(Status::PendingUpgrade)),
        (Status::PendingRollback, "1.18.5", &values, pending(Status::PendingRollback)),
        (Status::Uninstalling, "1.18.5", &values, pending(Status::Uninstalling)),
        (Status::Uninstalled, "1.18.5", &values, ReleaseState::Absent),
    ] {
        let wanted = DesiredRelease { chart_name: "cilium", chart_version: version, values };
        assert_eq!(release_state(Some(&stored(status)), &wanted), state, "{status} {version}");
    }
    assert_eq!(
        release_state(None, &DesiredRelease { chart_name: "x", chart_version: "1", values: &values }),
        ReleaseState::Absent
    );
}

#[test]
fn the_newest_revision_has_the_highest_number() {
    let revisions = [9, 10, 2].map(|revision| StoredRelease { revision, ..stored(Status::Superseded) });
    assert_eq!(newest(revisions.into()).map(|release| release.revision), Some(10));
    assert_eq!(newest(vec![]), None);
}

#[test]
fn only_the_record_of_an_interrupted_operation_is_deleted() {
    for status in [Status::PendingInstall, Status::PendingUpgrade, Status::PendingRollback, Status::Uninstalling] {
        let Recovery::DeleteRecord { namespace, secret, reason } = recovery(Some(&stored(status))) else {
            panic!("{status} is not recovered")
        };
        assert_eq!((namespace.as_str(), secret.as_str()), ("kube-system", "sh.helm.release.v1.cilium.v3"));
        assert!(reason.contains(&status.to_string()), "{reason}");
    }
    for status in [Status::Deployed, Status::Failed, Status::Superseded, Status::Uninstalled, Status::Unknown] {
        assert_eq!(recovery(Some(&stored(status))), Recovery::Nothing, "{status}");
    }
    assert_eq!(recovery(None), Recovery::Nothing);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = StoredRelease::decode(&bytes);
        let _ = StoredRelease::decode(STANDARD.encode(&bytes).as_bytes());
    }
}
