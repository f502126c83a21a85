//! Which process this is, so that a process that reads it later knows whether it has certainly ended.
//!
//! A process id alone is given to another process sooner or later, and means nothing on another machine or in another
//! container. Linux has what makes it unique: the boot (`random(4)`), the PID namespace (`pid_namespaces(7)`) and the time
//! at which the process started (`proc_pid_stat(5)`, field 22).

use std::fmt;
use std::str::FromStr;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const NAMESPACE: &str = "/proc/self/ns/pid";

/// A process of this or another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessIdentity {
    boot: String,
    namespace: String,
    pid: u32,
    /// In clock ticks since the boot.
    start: u64,
}

/// A text that is not the identity of a process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not identify a process")]
pub struct InvalidProcessIdentity(String);

impl ProcessIdentity {
    /// This process; nothing where the system does not say it, as on macOS.
    pub fn this_process() -> Option<Self> {
        let pid = std::process::id();
        let (_, start) = parse_stat(&stat(pid)?)?;
        Some(Self { boot: this_boot()?, namespace: this_namespace()?, pid, start })
    }

    /// Whether the process has certainly ended. One of another boot, another container or another machine may run.
    pub fn has_ended(&self) -> bool {
        let is_visible = this_boot().as_ref() == Some(&self.boot) && this_namespace().as_ref() == Some(&self.namespace);
        is_visible && self.is_absent_in(stat(self.pid).as_deref())
    }

    /// Whether this process is not the one that `stat` shows under its id.
    fn is_absent_in(&self, stat: Option<&str>) -> bool {
        match stat.and_then(parse_stat) {
            None => stat.is_none(),
            Some((state, start)) => start != self.start || matches!(state, 'Z' | 'X' | 'x'),
        }
    }
}

impl fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.boot, self.namespace, self.pid, self.start)
    }
}

impl FromStr for ProcessIdentity {
    type Err = InvalidProcessIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidProcessIdentity(text.to_owned());
        let [boot, namespace, pid, start] = text.split('/').collect::<Vec<_>>()[..] else { return Err(invalid()) };
        if boot.is_empty() || namespace.is_empty() {
            return Err(invalid());
        }
        let (pid, start) = (pid.parse().map_err(|_| invalid())?, start.parse().map_err(|_| invalid())?);
        Ok(Self { boot: boot.to_owned(), namespace: namespace.to_owned(), pid, start })
    }
}

fn this_boot() -> Option<String> {
    std::fs::read_to_string(BOOT_ID).ok().map(|text| text.trim().to_owned())
}

/// Such as `pid:[4026531836]`.
fn this_namespace() -> Option<String> {
    std::fs::read_link(NAMESPACE).ok()?.to_str().map(str::to_owned)
}

fn stat(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

/// The state and the start of a process. The name in parentheses may contain anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 3 is the state, field 22 the start.
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_has_not_ended_and_its_identity_can_be_read_back() {
        let ours = ProcessIdentity::this_process().unwrap();
        assert!(!ours.has_ended());
        assert_eq!(ours.to_string().parse(), Ok(ours.clone()));
        for other in ["", "a/b/c/d", "//1/2", "a/b/1", "a/b/1/2/3"] {
            assert_eq!(other.parse::<ProcessIdentity>(), Err(InvalidProcessIdentity(other.to_owned())));
        }
    }

    #[test]
    fn another_process_under_the_same_id_is_another_one() {
        let ours = ProcessIdentity::this_process().unwrap();
        assert!(ProcessIdentity { start: ours.start + 1, ..ours.clone() }.has_ended());
        assert!(!ProcessIdentity { start: ours.start + 1, boot: "another".to_owned(), ..ours.clone() }.has_ended());
        assert!(!ProcessIdentity { start: ours.start + 1, namespace: "another".to_owned(), ..ours }.has_ended());
    }

    #[test]
    fn a_zombie_has_ended_and_what_cannot_be_read_may_run() {
        let stat = |state: &str| format!("7 (a) b (c)) {state} 1 7 7 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 4711 0 0");
        assert_eq!(parse_stat(&stat("S")), Some(('S', 4711)));
        let process = ProcessIdentity { boot: "b".into(), namespace: "n".into(), pid: 7, start: 4711 };
        assert!(!process.is_absent_in(Some(&stat("S"))));
        assert!(process.is_absent_in(Some(&stat("Z"))));
        assert!(process.is_absent_in(None));
        assert!(!process.is_absent_in(Some("nonsense")));
    }
}
