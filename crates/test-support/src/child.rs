//! Children of tests, whose environment is cleared: a test must not depend on what the caller has set.

use std::ffi::OsStr;
use std::process::Command;

/// The variables that each child inherits.
const INHERITED: [&str; 2] = ["PATH", "TMPDIR"];
/// Variables of a child that downloads and builds: caches, proxies, certificates.
const FOR_DOWNLOADS: [&str; 12] = [
    "HOME",
    "XDG_CACHE_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GOPROXY",
    "GOCACHE",
];

/// A command whose child inherits `PATH` and `TMPDIR` only and has no home.
pub fn child(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", "/dev/null");
    inherit(&mut command, &INHERITED);
    command
}

/// A command whose child may also download and build, into the caller's caches.
pub fn with_downloads(mut command: Command) -> Command {
    inherit(&mut command, &FOR_DOWNLOADS);
    command
}

fn inherit(command: &mut Command, names: &[&str]) {
    command.envs(names.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
}

#[test]
fn a_child_inherits_nothing_else() {
    let output = child("env").output().unwrap();
    let names: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split('=').next().unwrap_or_default().to_owned())
        .collect();
    assert!(names.iter().all(|name| name == "HOME" || INHERITED.contains(&name.as_str())), "{names:?}");
}
