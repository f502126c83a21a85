//! The seal of a rehearsal: a network namespace with nothing in it but loopback, for this process and all its children.
//!
//! A namespace is entered by starting ourselves again through `unshare` (util-linux) and `ip` (iproute2), where both are
//! there and the kernel lets an ordinary user have a namespace of his own. Whether there is a seal is then read from the
//! kernel's routes: without one, no address but this machine's own can be dialled.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use super::{Command, Error};

const PROGRAM: &str = "unshare";
const ARGUMENTS: [&str; 6] = ["--user", "--map-root-user", "--net", "--", "sh", "-c"];
/// Loopback is down in a new namespace.
const RAISE: &str = "ip link set lo up";
const BECOME: &str = r#"ip link set lo up && exec "$0" "$@""#;
const DEADLINE: Duration = Duration::from_secs(10);

/// Whether nothing but this machine itself can be dialled from here.
pub fn is_sealed() -> bool {
    let read = |table: &str| std::fs::read_to_string(format!("/proc/net/{table}"));
    read("route").is_ok_and(|ipv4| only_loopback(&ipv4, &read("ipv6_route").unwrap_or_default()))
}

/// The kernel's IPv4 table has a line of headings; in that of IPv6 an interface is the last word of a line.
fn only_loopback(ipv4: &str, ipv6: &str) -> bool {
    let first = |line: &str| line.split_whitespace().next() == Some("lo");
    let last = |line: &str| line.split_whitespace().last() == Some("lo");
    ipv4.lines().skip(1).all(first) && ipv6.lines().all(last)
}

/// Tries whether a namespace can be had here.
///
/// # Errors
///
/// A program that is missing, or the kernel's refusal.
pub async fn try_seal() -> Result<(), Error> {
    Command::new(PROGRAM).args(ARGUMENTS).arg(RAISE).deadline(DEADLINE).run().await.map(|_| ())
}

/// Becomes this same program, with these arguments, in a namespace of its own. Returns only when that is not possible.
pub fn become_sealed(arguments: impl IntoIterator<Item = OsString>) -> std::io::Error {
    match std::env::current_exe() {
        Ok(own) => std::process::Command::new(PROGRAM).args(ARGUMENTS).arg(BECOME).arg(own).args(arguments).exec(),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: &str = "Iface\tDestination\tGateway\n";

    #[test]
    fn a_route_over_another_interface_breaks_the_seal() {
        assert!(only_loopback(HEADINGS, "00 00 00 lo\n"));
        assert!(!only_loopback(&format!("{HEADINGS}eth0\t00000000\t0100000A\n"), ""));
        assert!(!only_loopback(HEADINGS, "00 00 00 lo\nfe80 40 00 eth0\n"));
    }
}
