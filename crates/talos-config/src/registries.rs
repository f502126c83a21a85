//! Full image names and the endpoints that a node pulls them from: mirrors in order, then the registry itself.
//!
//! Facts: the reference format of the distribution project; Talos's `machine.registries.mirrors` (from 1.11 on) and its
//! `RegistryMirrorConfig` documents (from 1.12 on), which containerd tries from the first to the last.

use serde_json::Value;

use talos_schema::Documents;

/// The registry of names without one.
const DEFAULT: &str = "docker.io";

/// The name of an image with registry, path and tag or digest, as the container runtime stores it. A digest replaces the
/// tag.
pub fn full_name(image: &str) -> String {
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let name = match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("{DEFAULT}/{name}"),
        None => format!("{DEFAULT}/library/{name}"),
    };
    match digest {
        Some(digest) => format!("{name}@{digest}"),
        None => format!("{name}:{}", tag.unwrap_or("latest")),
    }
}

/// The endpoints that a node pulls an image from, in order; `None` without a mirror.
pub fn pull_endpoints(config: &Documents, image: &str) -> Option<Vec<String>> {
    let full = full_name(image);
    let registry = full.split('/').next()?;
    let mirror = of_legacy(config, registry).or_else(|| of_document(config, registry));
    let mirror = mirror.or_else(|| of_legacy(config, "*")).or_else(|| of_document(config, "*"))?;
    let endpoints = mirror.get("endpoints").and_then(Value::as_array).into_iter().flatten();
    let mut urls: Vec<String> = endpoints
        .filter_map(|endpoint| endpoint.as_str().or_else(|| endpoint.get("url")?.as_str()))
        .map(str::to_owned)
        .collect();
    if mirror.get("skipFallback").and_then(Value::as_bool) != Some(true) {
        urls.push(format!("https://{registry}"));
    }
    Some(urls)
}

fn of_legacy<'c>(config: &'c Documents, registry: &str) -> Option<&'c Value> {
    config.legacy()?.pointer("/machine/registries/mirrors")?.get(registry)
}

fn of_document<'c>(config: &'c Documents, registry: &str) -> Option<&'c Value> {
    config.0.iter().find(|document| document["kind"] == "RegistryMirrorConfig" && document["name"] == registry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_completed_like_in_the_runtime() {
        for (image, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("envoyproxy/gateway:v1", "docker.io/envoyproxy/gateway:v1"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("ghcr.io/a/b:1@sha256:00", "ghcr.io/a/b@sha256:00"),
            ("registry.lan:5000/a:1", "registry.lan:5000/a:1"),
        ] {
            assert_eq!(full_name(image), full);
        }
    }

    proptest! {
        #[test]
        fn a_full_name_stays_as_it_is(image in "([a-z]{1,4}(\\.[a-z]{2})?(:[0-9]{2})?/)?[a-z]{1,5}(/[a-z]{1,5}){0,2}(:[a-z0-9]{1,4})?(@sha256:[0-9a-f]{4})?") {
            let full = full_name(&image);
            prop_assert_eq!(full_name(&full), full);
        }
    }

    #[test]
    fn mirrors_come_in_order_and_the_registry_last() {
        let legacy = json!({"version": "v1alpha1", "machine": {"registries": {"mirrors": {
            "ghcr.io": {"endpoints": ["http://127.0.0.1:29999", "https://mirror.lan"]},
            "*": {"endpoints": ["http://127.0.0.1:29999"], "skipFallback": true},
        }}}});
        let document = json!({"apiVersion": "v1alpha1", "kind": "RegistryMirrorConfig", "name": "quay.io", "endpoints": [{"url": "https://q.lan"}]});
        let config = Documents(vec![legacy, document]);
        let of = |image: &str| pull_endpoints(&config, image).unwrap();
        assert_eq!(of("ghcr.io/a/b:1"), ["http://127.0.0.1:29999", "https://mirror.lan", "https://ghcr.io"]);
        assert_eq!(of("quay.io/a/b:1"), ["https://q.lan", "https://quay.io"]);
        assert_eq!(of("nginx"), ["http://127.0.0.1:29999"]);
        assert_eq!(pull_endpoints(&Documents::default(), "nginx"), None);
    }
}
