//! Points around effects at which a test ends the process, as a power cut would.
//!
//! A debug build counts the points that it reaches. With [`KILL_AT`] it ends by SIGKILL at one of them, and with
//! [`KILL_LOG`] it writes the name of each to a file. In a release build there are no points.

/// The variable with the points that end the process, whichever comes first: numbers, the first one being 1, and names,
/// separated by commas.
pub const KILL_AT: &str = "K8S_BOOTSTRAP_KILL_AT";

/// The variable with the file to which the name of every point is appended, a line each.
pub const KILL_LOG: &str = "K8S_BOOTSTRAP_KILL_LOG";

/// Does something that is seen outside of this process, with a point before it and one after it.
pub async fn around<T>(effect: &'static str, work: impl Future<Output = T>) -> T {
    point("before", effect);
    let outcome = work.await;
    point("after", effect);
    outcome
}

#[cfg(not(debug_assertions))]
fn point(_when: &'static str, _effect: &'static str) {}

#[cfg(debug_assertions)]
fn point(when: &'static str, effect: &'static str) {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU64, Ordering};
    static REACHED: AtomicU64 = AtomicU64::new(0);
    let number = REACHED.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(path) = std::env::var_os(KILL_LOG)
        && let Ok(mut log) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = writeln!(log, "{when} {effect}");
    }
    let chosen = std::env::var(KILL_AT).unwrap_or_default();
    let (number, name) = (number.to_string(), format!("{when} {effect}"));
    if chosen.split(',').any(|point| point == number || point == name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
