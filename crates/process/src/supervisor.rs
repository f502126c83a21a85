//! The supervisor of one program: it outlives neither the process that started it nor the program, and nothing that the
//! program started outlives the supervisor.
//!
//! It adopts every orphan among its descendants. When the program ends, or the process that started the supervisor ends
//! for whatever reason, it kills what is left. Decision: docs/adr/0015-supervisors.md.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};

#[cfg(target_os = "linux")]
use super::descendants::Left;
use super::{descendants, guard};

/// Asks a supervisor to kill its program and all descendants at once.
pub(super) const KILL_ALL: Signal = Signal::USR1;
/// Handed on to the program's process group.
const FORWARDED: [(i32, Signal); 4] =
    [(SIGTERM, Signal::TERM), (SIGINT, Signal::INT), (SIGHUP, Signal::HUP), (SIGQUIT, Signal::QUIT)];
/// How often the parent is looked for where the kernel cannot report its end.
const PARENT_CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// How a supervised program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Exited(u8),
    Signalled(i32),
    /// The process that started the supervisor ended first, or asked for the end of the program.
    Killed,
}

/// Runs `program` in a process group of its own until it or `parent` ends, and kills what is left of its descendants.
///
/// # Errors
///
/// A parent that has ended already, a program that cannot be started.
pub fn supervise(parent: u32, program: &OsStr, arguments: &[OsString]) -> io::Result<Ending> {
    let parent = Parent::watch(parent)?;
    descendants::adopt_orphans()?;
    // `pkill k8s-bootstrap` means the program that the operator started; a supervisor then ends by itself.
    #[cfg(target_os = "linux")]
    rustix::thread::set_name(c"k8sb-supervisor")?;
    let mut signals = Signals::listen()?;
    let child = guard::tied(program, arguments).process_group(0).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let ending = release_streams().and_then(|()| watch(&parent, &mut signals, pid));
    kill_descendants(pid);
    ending
}

/// Ends this process as its program ended, so that its parent sees the same status.
pub fn end_as(ending: Ending) -> u8 {
    let signal = match ending {
        Ending::Exited(code) => return code,
        Ending::Signalled(signal) => signal,
        Ending::Killed => Signal::KILL.as_raw(),
    };
    // The program has dumped its core, if it was to.
    let limit = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, limit);
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    // A shell's way to report a signal; reached only for signals that do not end a process by default.
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Input and output are the program's alone: its end of a pipe is closed when the program closes it. Errors of this
/// process go to the same place as the program's.
fn release_streams() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

fn watch(parent: &Parent, signals: &mut Signals, program: Pid) -> io::Result<Ending> {
    loop {
        // A child that ended before the handler was there has left no signal, so look first.
        if let Some(status) = reap(program)? {
            return Ok(status);
        }
        let parent_ended = parent.wait(signals)?;
        if parent_ended || signals.take_kill() {
            return Ok(Ending::Killed);
        }
        for signal in signals.take_forwarded() {
            // A group that has ended meanwhile needs no signal.
            let _ = kill_process_group(program, signal);
        }
    }
}

/// Reaps all children that have ended, adopted ones included.
fn reap(program: Pid) -> io::Result<Option<Ending>> {
    while let Some((pid, status)) = wait(WaitOptions::NOHANG)? {
        if pid == program {
            return Ok(Some(Ending::from_status(status)));
        }
    }
    Ok(None)
}

#[cfg(target_os = "linux")]
fn kill_descendants(_program: Pid) {
    // A process that starts another and ends while the children are listed may hide it: the kernel has the last word.
    while descendants::kill(|_| true) == Left::NoneFound && wait(WaitOptions::NOHANG).is_ok() {
        std::thread::yield_now();
    }
}

/// Without adoption only those that stayed in the program's process group are found.
#[cfg(not(target_os = "linux"))]
fn kill_descendants(program: Pid) {
    let _ = kill_process_group(program, Signal::KILL);
}

impl Ending {
    fn from_status(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, Some(signal)) => Self::Signalled(signal),
            (None, None) => Self::Killed,
        }
    }
}

/// The process that started the supervisor.
enum Parent {
    /// Readable from the moment it ends. Source: `pidfd_open(2)`, Linux 5.3.
    #[cfg(target_os = "linux")]
    Descriptor(OwnedFd),
    /// Looked for from time to time.
    Polled(u32),
}

impl Parent {
    fn watch(parent: u32) -> io::Result<Self> {
        let watched = Self::open(parent);
        // Checked last: the descriptor is that of the process which is the parent now.
        if guard::is_parent(parent) { Ok(watched) } else { Err(guard::parent_gone()) }
    }

    #[cfg(target_os = "linux")]
    fn open(parent: u32) -> Self {
        use rustix::process::{PidfdFlags, pidfd_open};
        let pid = i32::try_from(parent).ok().and_then(Pid::from_raw);
        let descriptor = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        descriptor.map_or(Self::Polled(parent), Self::Descriptor)
    }

    #[cfg(not(target_os = "linux"))]
    fn open(parent: u32) -> Self {
        Self::Polled(parent)
    }

    /// Waits for a signal or for the parent's end, and returns whether the parent has ended.
    fn wait(&self, signals: &mut Signals) -> io::Result<bool> {
        let mut watched = vec![PollFd::new(&signals.woken, PollFlags::IN)];
        let timeout = match self {
            #[cfg(target_os = "linux")]
            Self::Descriptor(descriptor) => {
                watched.push(PollFd::new(descriptor, PollFlags::IN));
                None
            }
            Self::Polled(_) => Some(&PARENT_CHECK),
        };
        match poll(&mut watched, timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = match self {
            #[cfg(target_os = "linux")]
            Self::Descriptor(_) => watched.get(1).is_some_and(|descriptor| !descriptor.revents().is_empty()),
            Self::Polled(parent) => !guard::is_parent(*parent),
        };
        drop(watched);
        signals.drain();
        Ok(ended)
    }
}

/// The signals that came in.
struct Signals {
    woken: UnixStream,
    kill: Arc<AtomicBool>,
    forwarded: Vec<(Signal, Arc<AtomicBool>)>,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let (woken, waker) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let flag = |signal: i32| {
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, flag.clone())?;
            // Registered second: the woken thread finds the flag set.
            signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
            io::Result::Ok(flag)
        };
        flag(SIGCHLD)?;
        let forwarded = FORWARDED.into_iter().map(|(number, signal)| Ok((signal, flag(number)?)));
        Ok(Self { kill: flag(SIGUSR1)?, forwarded: forwarded.collect::<io::Result<_>>()?, woken })
    }

    fn drain(&mut self) {
        let mut bytes = [0; 64];
        while self.woken.read(&mut bytes).is_ok_and(|count| count > 0) {}
    }

    fn take_kill(&self) -> bool {
        self.kill.swap(false, Ordering::Relaxed)
    }

    fn take_forwarded(&self) -> Vec<Signal> {
        let came = self.forwarded.iter().filter(|(_, flag)| flag.swap(false, Ordering::Relaxed));
        came.map(|(signal, _)| *signal).collect()
    }
}
