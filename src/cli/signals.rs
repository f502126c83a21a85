//! The signals that ask this program to stop.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, SIGTERM, and SIGHUP unless the operator asked to ignore it.
pub(super) struct StopSignals(Vec<Signal>);

impl StopSignals {
    /// Listens from now on; until then these signals end the program.
    pub(super) fn listen() -> io::Result<Self> {
        let hangup = (!ignores_hangup()).then_some(SignalKind::hangup());
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hangup);
        Ok(Self(kinds.map(signal).collect::<io::Result<_>>()?))
    }

    /// Waits for the next one.
    pub(super) async fn wait(&mut self) {
        poll_fn(|context| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Whether this program was started to outlive its terminal, as by `nohup`. Read from the kernel where it says so.
fn ignores_hangup() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup_by(&status))
}

/// Source: `proc_pid_status(5)`; the lowest bit is signal 1, SIGHUP.
fn ignores_hangup_by(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_started_by_nohup_ignores_hangups() {
        assert!(ignores_hangup_by("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup_by("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup_by(""));
    }
}
