//! The Kubernetes API: server-side apply, readiness, watches.
