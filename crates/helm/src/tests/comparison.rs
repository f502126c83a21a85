//! What an upgrade stores, against what is rendered before it.

use super::*;
use crate::comparison::{ReleaseObjects, differences};

const VOLATILE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: volatile}\n\
    data: {random: {{ randAlphaNum 9 | quote }}, revision: {{ .Release.Revision | quote }}, color: {{ .Values.color }}}\n";

#[tokio::test]
async fn a_stored_manifest_equals_its_renderings_until_the_chart_changes() {
    let cluster = Cluster::start().await;
    let folder = chart(cluster.folder.path());
    std::fs::write(folder.join("templates/volatile.yaml"), VOLATILE).unwrap();
    let mut red = release(folder.clone(), json!({"color": "red"}));
    red.flags.args = vec!["--no-hooks".into()];
    let method = ApplyMethod::ServerSide;
    let mut options = UpgradeOptions::new(method);
    options.labels =
        [("example.org/a".to_owned(), Some("x".to_owned())), ("b".to_owned(), Some("y".to_owned()))].into();
    let pulled = cluster.charts().pull(&red.chart).await.unwrap();
    let upgrade = async |options: &UpgradeOptions| {
        cluster.helm.upgrade(&red, &pulled, &cluster.kubeconfig.path(), options, |_, _| ()).await
    };
    let offline = async || {
        let options = TemplateOptions { hooks: true, ..TemplateOptions::default() };
        ReleaseObjects::new(&red.id, cluster.helm.template(&red, &pulled, &options).await.unwrap())
    };
    let dry_run = async || {
        let rendered = cluster.helm.dry_run_upgrade(&red, &pulled, &cluster.kubeconfig.path(), method).await.unwrap();
        ReleaseObjects::from_record(&rendered).unwrap()
    };
    let stored = async || ReleaseObjects::from_record(&cluster.newest().await.unwrap()).unwrap();

    upgrade(&options).await.unwrap();
    assert_eq!(stored().await.resources().count(), 2, "the hook is not among them");
    assert_eq!(differences(&stored().await, &[&offline().await, &dry_run().await]), []);
    // One rendering alone does not show what is random.
    assert!(!differences(&stored().await, &[&offline().await]).is_empty());

    // The next revision keeps a label that is not named, and drops one without a value.
    options.labels = [("b".to_owned(), None)].into();
    upgrade(&options).await.unwrap();
    let record = ["get", "secret", "sh.helm.release.v1.app.v2", "-n", "shop", "-o", "jsonpath={.metadata.labels}"];
    let labels: Value = serde_json::from_str(&cluster.kubectl(&record).await).unwrap();
    assert_eq!((&labels["example.org/a"], &labels["b"]), (&json!("x"), &Value::Null));
    assert_eq!(differences(&stored().await, &[&offline().await, &dry_run().await]), []);

    let job = std::fs::read_to_string(folder.join("templates/job.yaml")).unwrap();
    std::fs::write(folder.join("templates/job.yaml"), job.replace("image: x", "image: y")).unwrap();
    let found = differences(&stored().await, &[&offline().await, &dry_run().await]);
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["hook Job shop/never .spec.template.spec.containers[0].image differs"]);
    assert_eq!(cluster.newest().await.map(|release| release.revision), Some(2), "a dry run stores nothing");
}

#[test]
fn every_hook_may_take_the_whole_timeout() {
    let flags = InstallFlags { timeout: Duration::from_mins(20), ..release(PathBuf::new(), Value::Null).flags };
    assert_eq!([0, 1, 3].map(|hooks| upgrade_limit(&flags, hooks)), [30, 30, 70].map(Duration::from_mins));
}
