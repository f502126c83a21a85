//! An object of Flux that fails before it succeeds, as its scenario says.

use serde_json::json;

use crate::cluster_context::ClusterContext;
use crate::operators::objects::{ObjectKind, condition, current, set_status};
use crate::scenario::FluxStage;

/// Reports the failures of a stage on an object, each as long as it lasts. `observedGeneration` is -1 until an object has
/// succeeded once (kustomize-controller 1.7.3, helm-controller 1.4.5).
pub(super) async fn fail_first(
    context: &ClusterContext,
    stage: FluxStage,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
) {
    for fault in context.lab.scenario.flux_faults.iter().filter(|fault| fault.object == stage) {
        let failed = current(condition("Ready", "False", &fault.reason, &fault.message));
        let status = json!({"observedGeneration": -1, "conditions": [failed]});
        set_status(&context.cache.client, kind, Some(namespace), name, &status).await;
        tokio::time::sleep(fault.lasts.duration()).await;
    }
}
