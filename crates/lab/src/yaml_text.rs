//! JSON data as YAML.

/// The YAML text of a JSON value.
#[expect(clippy::expect_used, reason = "every JSON value can be expressed in YAML")]
pub(super) fn to_yaml(value: &serde_json::Value) -> String {
    yaml::to_string(value).expect("JSON is a subset of YAML")
}
