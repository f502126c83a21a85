//! How helm is asked for a chart, and how it logs in: by files of its own that never touch a disk, since arguments are
//! for everybody to see.

use std::io;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use secrecy::ExposeSecret;
use serde_json::json;

use helmfile::{Credentials, FetchOptions};
use process::SecretFile;

/// The name under which helm knows a repository with a login.
const REPOSITORY: &str = "repository";

/// A chart being asked for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Reference and version, as a person reads them.
    pub(super) subject: String,
    pub(super) source: ChartSource,
    /// A version or a range of them.
    pub(super) version: Option<String>,
    /// The same request gets the same package: it names a digest or one version.
    pub(super) exact: bool,
    /// Credentials are of no use, and none of this site's business.
    pub(super) anonymous: bool,
    pub(super) fetch: FetchOptions,
}

/// Where a chart lies.
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

/// The files that a login needs, for as long as helm reads them.
#[derive(Debug)]
pub(super) struct Login {
    file: SecretFile,
    flag: &'static str,
}

impl Login {
    /// Which login a request needs.
    ///
    /// # Errors
    ///
    /// When there is no room for its file.
    pub(super) fn of(request: &Request) -> io::Result<Option<Self>> {
        let Some(credentials) = request.fetch.credentials.as_ref().filter(|_| !request.anonymous) else {
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

/// Docker's configuration, which is helm's too.
fn registry(reference: &str, credentials: &Credentials) -> String {
    let host = reference.split('/').next().unwrap_or(reference);
    let login = format!("{}:{}", credentials.username, credentials.password.expose_secret());
    json!({"auths": {host: {"auth": BASE64_STANDARD.encode(login)}}}).to_string()
}

/// helm's list of repositories; JSON is YAML.
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
    /// helm's arguments that get the index of a repository with a login into `cache`; nothing else needs that.
    pub(super) fn update(&self, login: Option<&Login>, cache: &Path) -> Option<Vec<String>> {
        let (ChartSource::Repository { .. }, Some(login)) = (&self.source, login) else { return None };
        let [flag, file] = login.arguments();
        let words = ["repo", "update", REPOSITORY, "--repository-cache", &cache.display().to_string(), &flag, &file];
        Some(words.map(str::to_owned).to_vec())
    }

    /// helm's arguments that pull the package into `folder`.
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
        for (wanted, flag) in [
            (fetch.plain_http, "--plain-http"),
            // Helm does not speak plain HTTP when it is told this too.
            (fetch.skip_tls_verify && !fetch.plain_http, "--insecure-skip-tls-verify"),
            (fetch.devel, "--devel"),
        ] {
            arguments.extend(wanted.then(|| flag.to_owned()));
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

    /// A repository that wants a login, of one chart; ends with the test.
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
    async fn a_repositorys_login_reaches_helm_and_nobody_else() {
        let chart =
            PulledChart { path: "/nowhere".into(), digest: String::new(), name: "app".into(), version: "1.2.3".into() };
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
    fn no_login_is_an_argument() {
        let credentials = Some(Credentials { username: "me".into(), password: "hunter2".into(), pass_on: true });
        let registry = ChartSource::Registry { reference: "registry.example/charts/app".into() };
        let repository = ChartSource::Repository { url: "https://charts.example".into(), name: "app".into() };
        for source in [registry, repository] {
            let request = Request {
                subject: "app".into(),
                source,
                version: Some("1".into()),
                exact: true,
                anonymous: false,
                fetch: FetchOptions {
                    credentials: credentials.clone(),
                    skip_tls_verify: true,
                    ..FetchOptions::default()
                },
            };
            let login = Login::of(&request).unwrap();
            let (cache, folder) = (Path::new("/cache"), Path::new("/out"));
            let pull = request.pull(login.as_ref(), cache, folder);
            let all = [request.update(login.as_ref(), cache).unwrap_or_default(), pull].concat().join(" ");
            assert!(!all.contains("hunter2") && !all.contains(&BASE64_STANDARD.encode("me:hunter2")), "{all}");
            assert!(all.contains("--insecure-skip-tls-verify --destination /out"), "{all}");
            assert!(!format!("{request:?}{login:?}").contains("hunter2"));
        }
    }
}
