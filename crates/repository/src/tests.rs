use super::*;
use talos_config::adapters::SecretsLocation;

#[test]
fn the_reference_clusters_are_read() {
    let root = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (name, nodes) in [("infra", 6), ("apps", 6)] {
        let cluster = Cluster::read(root, name, ReadContext::new(&BTreeMap::new())).unwrap();
        assert_eq!(cluster.inventory.nodes.len(), nodes);
        assert_eq!(cluster.inventory.control_planes().len(), 3);
        let SecretsLocation::File(bundle) = cluster.inputs.secrets() else { panic!("no bundle") };
        assert!(bundle.ends_with(format!("talos/{name}/talsecret.sops.yaml")), "{}", bundle.display());
    }
}

#[test]
fn an_unknown_cluster_is_reported_with_those_that_exist() {
    let root = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found = Cluster::read(root, "missing", ReadContext::new(&BTreeMap::new())).unwrap_err().to_string();
    assert!(found.contains("cluster `missing` not found") && found.contains("apps, infra"), "{found}");
}
