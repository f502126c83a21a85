//! Which Service a `CONNECT` is for.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::Name;

/// The `host:port` of a `CONNECT` request line.
pub(super) fn of_request(request: &str) -> Option<&str> {
    let mut words = request.lines().next()?.split(' ');
    (words.next() == Some("CONNECT")).then(|| words.next()).flatten()
}

/// The Service that a `host:port` means: by cluster address, or by name as `SERVICE.NAMESPACE.svc`.
pub(super) fn service<'s>(target: &str, services: impl IntoIterator<Item = &'s Service>) -> Option<Name> {
    let (host, _) = target.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut labels = host.split('.');
    if let (Some(name), Some(namespace), Some("svc")) = (labels.next(), labels.next(), labels.next()) {
        return Some((namespace.to_owned(), name.to_owned()));
    }
    let has = |service: &&Service| {
        let spec = service.spec.as_ref();
        let one = spec.and_then(|spec| spec.cluster_ip.as_deref());
        let all = spec.and_then(|spec| spec.cluster_ips.as_deref()).unwrap_or_default();
        one == Some(host) || all.iter().any(|address| address == host)
    };
    let service = services.into_iter().find(has)?;
    Some((service.namespace()?, service.name_any()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_found_by_address_and_by_name() {
        let webhook: Service = serde_json::from_value(json!({
            "metadata": {"name": "webhook", "namespace": "infra"}, "spec": {"clusterIP": "10.43.0.7"},
        }))
        .unwrap();
        let expected = Some(("infra".to_owned(), "webhook".to_owned()));
        assert_eq!(service("10.43.0.7:443", [&webhook]), expected);
        assert_eq!(service("webhook.infra.svc:443", []), expected);
        assert_eq!(service("webhook.infra.svc.cluster.local:443", []), expected);
        assert_eq!(service("10.25.11.11:10250", [&webhook]), None);
    }

    #[test]
    fn only_a_connect_has_a_target() {
        assert_eq!(of_request("CONNECT 10.43.0.7:443 HTTP/1.1\r\nHost: x\r\n\r\n"), Some("10.43.0.7:443"));
        assert_eq!(of_request("GET / HTTP/1.1\r\n\r\n"), None);
    }
}
