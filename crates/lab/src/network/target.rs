//! The Service that a `CONNECT` request is for.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::ServiceKey;

/// The `host:port` of a `CONNECT` request line.
pub(super) fn connect_target(request: &str) -> Option<&str> {
    let mut words = request.lines().next()?.split(' ');
    (words.next() == Some("CONNECT")).then(|| words.next()).flatten()
}

/// The Service at a `host:port`: by cluster IP, or by name as `SERVICE.NAMESPACE.svc`.
pub(super) fn find_service<'s>(target: &str, services: impl IntoIterator<Item = &'s Service>) -> Option<ServiceKey> {
    let (host, _) = target.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut labels = host.split('.');
    if let (Some(name), Some(namespace), Some("svc")) = (labels.next(), labels.next(), labels.next()) {
        return Some(ServiceKey { namespace: namespace.to_owned(), name: name.to_owned() });
    }
    let has_address = |service: &&Service| {
        let spec = service.spec.as_ref();
        let one = spec.and_then(|spec| spec.cluster_ip.as_deref());
        let all = spec.and_then(|spec| spec.cluster_ips.as_deref()).unwrap_or_default();
        one == Some(host) || all.iter().any(|address| address == host)
    };
    let service = services.into_iter().find(has_address)?;
    Some(ServiceKey { namespace: service.namespace()?, name: service.name_any() })
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
        let expected = Some(ServiceKey { namespace: "infra".to_owned(), name: "webhook".to_owned() });
        assert_eq!(find_service("10.43.0.7:443", [&webhook]), expected);
        assert_eq!(find_service("webhook.infra.svc:443", []), expected);
        assert_eq!(find_service("webhook.infra.svc.cluster.local:443", []), expected);
        assert_eq!(find_service("10.25.11.11:10250", [&webhook]), None);
    }

    #[test]
    fn only_connect_requests_have_a_target() {
        assert_eq!(connect_target("CONNECT 10.43.0.7:443 HTTP/1.1\r\nHost: x\r\n\r\n"), Some("10.43.0.7:443"));
        assert_eq!(connect_target("GET / HTTP/1.1\r\n\r\n"), None);
    }
}
