//! A real API server on a real etcd, one for the whole test binary. Both end with the test process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use process::{Command, Daemon, guard};
use test_support::{Condition, Deadline, wait_until_async};
use tools::{Options, Tool, Toolbox};

const START_DEADLINE: Duration = Duration::from_mins(2);
const TOKEN: &str = "a-token-of-this-test";

/// How to reach the API server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    roots: Vec<Vec<u8>>,
    _daemons: Vec<Daemon>,
}

/// The server of this test binary, started by the first test that needs it.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        guard::set_program(PathBuf::from(env!("CARGO_BIN_EXE_k8s-bootstrap")));
        // A runtime of its own: that of a test ends with the test.
        std::thread::spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(start())).join().unwrap()
    })
}

impl Server {
    /// A client that dials `address`, which leads to the server.
    pub(crate) fn client_by(&self, address: SocketAddr) -> Client {
        let mut config = kube::Config::new(format!("https://{address}").parse().unwrap());
        config.root_cert = Some(self.roots.clone());
        config.auth_info.token = Some(TOKEN.to_owned().into());
        Client::try_from(config).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        self.client_by(self.address)
    }
}

/// A folder of this process; those of processes that have ended are removed.
fn folder() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(parent).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().into_string().unwrap_or_default();
        let pid = name.strip_prefix("kubernetes-");
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
    let folder = parent.join(format!("kubernetes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

async fn start() -> Server {
    let toolbox = Toolbox::new(Options::from_environment(None));
    let folder = folder();
    let path = |name: &str| folder.join(name).display().to_string();
    let (clients, peers, api) = (free_port(), free_port(), free_port());
    let etcd_url = format!("http://127.0.0.1:{clients}");
    let peer_url = format!("http://127.0.0.1:{peers}");
    let etcd = Command::new(toolbox.provide(Tool::Etcd, &|_| {}).await.unwrap().path)
        .args(["--unsafe-no-fsync", "--log-level", "warn", "--data-dir", &path("etcd")])
        .args(["--listen-client-urls", &etcd_url, "--advertise-client-urls", &etcd_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("default={peer_url}")])
        .spawn_daemon(&folder.join("etcd.log"))
        .await
        .unwrap();
    std::fs::write(path("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n")).unwrap();
    let accounts = rcgen::KeyPair::generate().unwrap();
    std::fs::write(path("accounts.key"), accounts.serialize_pem()).unwrap();
    std::fs::write(path("accounts.pub"), accounts.public_key_pem()).unwrap();
    let mut api_server = Command::new(toolbox.provide(Tool::KubeApiserver, &|_| {}).await.unwrap().path)
        .args(["--etcd-servers", &etcd_url, "--cert-dir", &path("certificates")])
        .args(["--bind-address", "127.0.0.1", "--secure-port", &api.to_string()])
        .args(["--advertise-address", "10.255.0.1", "--service-cluster-ip-range", "10.96.0.0/16"])
        .args(["--authorization-mode", "AlwaysAllow", "--token-auth-file", &path("tokens.csv")])
        .args(["--service-account-issuer", "https://127.0.0.1", "--service-account-key-file", &path("accounts.pub")])
        .args(["--service-account-signing-key-file", &path("accounts.key")])
        // Nothing makes ServiceAccounts here.
        .args(["--disable-admission-plugins", "ServiceAccount"])
        .spawn_daemon(&folder.join("kube-apiserver.log"))
        .await
        .unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, api));
    let roots = wait_until_async(Deadline::after(START_DEADLINE), async || {
        assert_eq!(api_server.ended(), None, "the API server ended");
        let chain = std::fs::read(path("certificates/apiserver.crt")).unwrap_or_default();
        let roots: Vec<Vec<u8>> = pem::parse_many(chain).unwrap().into_iter().map(pem::Pem::into_contents).collect();
        let probe = Server { address, roots, _daemons: vec![] };
        if probe.roots.is_empty() {
            return Condition::Unmet("the API server has no certificate yet".to_owned());
        }
        match kubernetes::readyz(&probe.client()).await {
            Ok(()) => Condition::Met(probe.roots),
            Err(error) => Condition::Unmet(error.to_string()),
        }
    })
    .await;
    Server { address, roots, _daemons: vec![etcd, api_server] }
}

/// A way to the server that can be cut, as the API is cut off when its static pod is started anew.
pub(crate) struct Bridge {
    pub(crate) address: SocketAddr,
    cut: &'static AtomicBool,
    refused: &'static tokio::sync::Notify,
    changed: tokio::sync::watch::Sender<()>,
}

impl Bridge {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut: &'static AtomicBool = Box::leak(Box::default());
        let refused: &'static tokio::sync::Notify = Box::leak(Box::default());
        let changed = tokio::sync::watch::Sender::new(());
        let cuts = changed.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cuts = cuts.subscribe();
                tokio::spawn(async move {
                    if cut.load(Ordering::SeqCst) {
                        drop(near);
                        return refused.notify_one();
                    }
                    let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut, refused, changed }
    }

    /// Closes every connection, and each new one at once.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.changed.send_replace(());
    }

    /// Waits until a connection was refused by the cut.
    pub(crate) async fn refused(&self) {
        self.refused.notified().await;
    }

    pub(crate) fn restore(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}
