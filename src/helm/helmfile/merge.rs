//! Helm's merge of values.

use serde_json::{Map, Value};

/// Merges `over` into `into` as Helm merges one values file into the next (Helm 4, `pkg/cli/values`): maps merge, whatever
/// else is replaced, also by null, which takes a chart's default away.
pub fn merge_values(into: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(into)), Value::Object(over)) => merge_values(into, over),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
