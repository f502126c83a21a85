//! Requests for charts, and helm's credentials for them: in memory-backed files, since every process can read the
//! arguments of another.

use std::io;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use secrecy::ExposeSecret;
use serde_json::json;

use helmfile::{Credentials, FetchOptions};
use process::SecretFile;

/// The name of a repository with credentials in helm's configuration.
const REPOSITORY: &str = "repository";

/// A request for a chart.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Reference and version, for messages.
    pub(super) subject: String,
    pub(super) source: ChartSource,
    /// A version or a range of them.
    pub(super) version: Option<String>,
    /// The request names a digest or an exact version, so the package is always the same.
    pub(super) exact: bool,
    /// Whether helm uses credentials.
    pub(super) credentials: CredentialUse,
    pub(super) fetch: FetchOptions,
}

/// Whether helm uses credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialUse {
    /// The repository's own, else the operator's.
    Configured,
    Anonymous,
}

/// The location of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChartSource {
    /// Without the scheme.
    Registry {
        reference: String,
    },
    Repository {
        url: String,
        name: String,
    },
}

impl Request {
    pub(super) fn is_in_registry(&self) -> bool {
        matches!(self.source, ChartSource::Registry { .. })
    }
}

/// A credentials file for helm; it exists as long as this value.
#[derive(Debug)]
pub(super) struct Login {
    file: SecretFile,
    flag: &'static str,
}

impl Login {
    /// The credentials of a request, if it has any.
    ///
    /// # Errors
    ///
    /// A failure to create the file in memory.
    pub(super) fn new(request: &Request) -> io::Result<Option<Self>> {
        let Some(credentials) =
            request.fetch.credentials.as_ref().filter(|_| request.credentials == CredentialUse::Configured)
        else {
            return Ok(None);
        };
        let (text, flag) = match &request.source {
            ChartSource::Registry { reference } => (registry(reference, credentials), "--registry-config"),
            ChartSource::Repository { url, .. } => {
                (repository(url, credentials, &request.fetch), "--repository-config")
            }
        };
        Ok(Some(Self { file: SecretFile::new(&text.into())?, flag }))
    }

    pub(super) fn arguments(&self) -> [String; 2] {
        [self.flag.to_owned(), self.file.path()]
    }
}

/// A registry configuration in Docker's format.
fn registry(reference: &str, credentials: &Credentials) -> String {
    let host = reference.split('/').next().unwrap_or(reference);
    let login = format!("{}:{}", credentials.username, credentials.password.expose_secret());
    json!({"auths": {host: {"auth": BASE64_STANDARD.encode(login)}}}).to_string()
}

/// A repository configuration of helm; JSON is YAML.
fn repository(url: &str, credentials: &Credentials, fetch: &FetchOptions) -> String {
    let path = |file: &Option<std::path::PathBuf>| file.as_ref().map(|path| path.display().to_string());
    json!({
        "apiVersion": "", "generated": "2000-01-01T00:00:00Z",
        "repositories": [{
            "name": REPOSITORY, "url": url, "username": credentials.username,
            "password": credentials.password.expose_secret(), "pass_credentials_all": credentials.pass_on,
            "caFile": path(&fetch.ca_file), "certFile": path(&fetch.cert_file), "keyFile": path(&fetch.key_file),
            "insecure_skip_tls_verify": fetch.skip_tls_verify,
        }],
    })
    .to_string()
}

impl Request {
    /// Arguments that download the index of a repository with credentials into `cache`; other sources do not need it.
    pub(super) fn update(&self, login: Option<&Login>, cache: &Path) -> Option<Vec<String>> {
        let (ChartSource::Repository { .. }, Some(login)) = (&self.source, login) else { return None };
        let [flag, file] = login.arguments();
        let words = ["repo", "update", REPOSITORY, "--repository-cache", &cache.display().to_string(), &flag, &file];
        Some(words.map(str::to_owned).to_vec())
    }

    /// Arguments that pull the package into `folder`.
    pub(super) fn pull(&self, login: Option<&Login>, cache: &Path, folder: &Path) -> Vec<String> {
        let mut arguments = vec!["pull".to_owned()];
        match &self.source {
            ChartSource::Registry { reference } => arguments.push(format!("oci://{reference}")),
            ChartSource::Repository { name, .. } if login.is_some() => {
                arguments.push(format!("{REPOSITORY}/{name}"));
                arguments.extend(["--repository-cache".to_owned(), cache.display().to_string()]);
            }
            ChartSource::Repository { url, name } => {
                arguments.extend([name.clone(), "--repo".to_owned(), url.clone()]);
            }
        }
        arguments.extend(login.iter().flat_map(|login| login.arguments()));
        arguments.extend(self.version.iter().flat_map(|version| ["--version".to_owned(), version.clone()]));
        let fetch = &self.fetch;
        for (flag, file) in
            [("--ca-file", &fetch.ca_file), ("--cert-file", &fetch.cert_file), ("--key-file", &fetch.key_file)]
        {
            arguments.extend(file.iter().flat_map(|path| [flag.to_owned(), path.display().to_string()]));
        }
        for (is_set, flag) in [
            (fetch.plain_http, "--plain-http"),
            // With this flag, Helm ignores `--plain-http`.
            (fetch.skip_tls_verify && !fetch.plain_http, "--insecure-skip-tls-verify"),
            (fetch.devel, "--devel"),
        ] {
            arguments.extend(is_set.then(|| flag.to_owned()));
        }
        arguments.extend(["--destination".to_owned(), folder.display().to_string()]);
        arguments
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::wrap::wrap;
    use crate::{Charts, Helm, HelmErrorKind, Mirrors, PulledChart};
    use helmfile::Chart;
    use tools::{Options, Tool, Toolbox};

    /// A repository of one chart that requires credentials; it ends with the test.
    fn serve(package: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let index =
            format!("apiVersion: v1\nentries:\n  app: [{{name: app, version: 1.2.3, urls: ['{url}/app.tgz']}}]\n");
        let wanted = format!("authorization: basic {}", BASE64_STANDARD.encode("me:hunter2").to_lowercase());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines: Vec<String> =
                    BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let is_known = lines.iter().any(|line| line.to_lowercase() == wanted);
                let body = match lines.first().map(String::as_str) {
                    _ if !is_known => b"who are you?".to_vec(),
                    Some(line) if line.contains("index.yaml") => index.clone().into_bytes(),
                    _ => package.clone(),
                };
                let status = if is_known { "200 OK" } else { "401 Unauthorized" };
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        url
    }

    #[tokio::test]
    async fn credentials_of_a_repository_reach_only_helm() {
        let chart = PulledChart::absent("app", "1.2.3");
        let url = serve(wrap(&chart, &[], &[]).unwrap());
        let found = Toolbox::new(Options::from_environment(None)).provide(Tool::Helm, &|_| ()).await.unwrap();
        let helm = Helm { program: found.path, version: found.version };
        let cache = tempfile::tempdir().unwrap();
        let charts = Charts { helm, cache: cache.path().to_owned(), mirrors: Mirrors::default(), bundle: None };
        let chart = Chart::Repository { url, name: "app".into(), version: Some("1.2.3".into()) };
        let login = |password: &str| FetchOptions {
            credentials: Some(Credentials { username: "me".into(), password: password.into(), pass_on: false }),
            ..FetchOptions::default()
        };
        assert_eq!(charts.fetch(&chart, &login("wrong")).await.unwrap_err().kind, HelmErrorKind::Denied);
        assert_eq!(charts.fetch(&chart, &login("hunter2")).await.unwrap().name, "app");
        let mut folders = vec![cache.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let written = std::fs::read(&path).unwrap();
                    assert!(!String::from_utf8_lossy(&written).contains("hunter2"), "{path:?}");
                }
            }
        }
    }

    #[test]
    fn credentials_are_never_arguments() {
        let credentials = Some(Credentials { username: "me".into(), password: "hunter2".into(), pass_on: true });
        let registry = ChartSource::Registry { reference: "registry.example/charts/app".into() };
        let repository = ChartSource::Repository { url: "https://charts.example".into(), name: "app".into() };
        for source in [registry, repository] {
            let request = Request {
                subject: "app".into(),
                source,
                version: Some("1".into()),
                exact: true,
                credentials: CredentialUse::Configured,
                fetch: FetchOptions {
                    credentials: credentials.clone(),
                    skip_tls_verify: true,
                    ..FetchOptions::default()
                },
            };
            let login = Login::new(&request).unwrap();
            let (cache, folder) = (Path::new("/cache"), Path::new("/out"));
            let pull = request.pull(login.as_ref(), cache, folder);
            let all = [request.update(login.as_ref(), cache).unwrap_or_default(), pull].concat().join(" ");
            assert!(!all.contains("hunter2") && !all.contains(&BASE64_STANDARD.encode("me:hunter2")), "{all}");
            assert!(all.contains("--insecure-skip-tls-verify --destination /out"), "{all}");
            assert!(!format!("{request:?}{login:?}").contains("hunter2"));
        }
    }
}
