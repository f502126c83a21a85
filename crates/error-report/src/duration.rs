//! Durations in messages.

use std::fmt;
use std::time::Duration;

/// A duration as people write it: `4h`, `15m`, `30s`, `1.5s`, `10ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds, self.0.subsec_millis()) {
            (0, millis) => write!(f, "{millis}ms"),
            (seconds, 0) if seconds.is_multiple_of(3600) => write!(f, "{}h", seconds / 3600),
            (seconds, 0) if seconds.is_multiple_of(60) => write!(f, "{}m", seconds / 60),
            (seconds, 0) => write!(f, "{seconds}s"),
            _ => write!(f, "{:.1}s", self.0.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_one_unit() {
        let cases =
            [(14_400_000, "4h"), (900_000, "15m"), (30_000, "30s"), (90_000, "90s"), (1_500, "1.5s"), (10, "10ms")];
        for (millis, text) in cases {
            assert_eq!(HumanDuration(Duration::from_millis(millis)).to_string(), text);
        }
    }
}
