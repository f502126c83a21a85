//! Ends the descendants of a process that adopts orphans (a child subreaper).
//!
//! Only direct children are signalled: their numbers cannot be reused before this process has waited for them. What a
//! killed child leaves behind becomes a direct child in its turn, whatever session or process group it chose.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Makes the kernel hand the orphans among the descendants to this process. Source: `prctl(2)`, Linux 3.4.
#[cfg(target_os = "linux")]
pub(super) fn adopt_orphans() -> std::io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Elsewhere orphans go to init.
#[cfg(not(target_os = "linux"))]
pub(super) fn adopt_orphans() -> std::io::Result<()> {
    Ok(())
}

/// Whether descendants may be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    NoneFound,
    /// Processes of another user, such as those of `sudo`, which an ordinary user cannot kill.
    Refused,
}

/// Kills the selected children and their descendants until none is found that this process may kill, and reaps them.
pub(super) fn kill(selected: impl Fn(Pid) -> bool) -> Left {
    loop {
        let found: Vec<Pid> = children().into_iter().filter(|pid| selected(*pid)).collect();
        if found.is_empty() {
            return Left::NoneFound;
        }
        let killed: Vec<Pid> = found.into_iter().filter(|pid| kill_process(*pid, Signal::KILL).is_ok()).collect();
        if killed.is_empty() {
            return Left::Refused;
        }
        for pid in killed {
            // Its children are handed to this process before the wait ends.
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// The direct children of this process.
fn children() -> Vec<Pid> {
    let listed = listed_children();
    // The kernel's list may skip a child while a sibling exits (`proc_pid_children(5)`), and can be configured out.
    if listed.is_empty() { scanned_children() } else { listed }
}

fn listed_children() -> Vec<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().filter_map(Result::ok);
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(to_pid).collect::<Vec<_>>()).collect()
}

fn scanned_children() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let pid = to_pid(entry.file_name().to_str()?)?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The program's name is in parentheses and may hold anything; state and parent follow it.
            let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?;
            (parent == own).then_some(pid)
        })
        .collect()
}

fn to_pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}
