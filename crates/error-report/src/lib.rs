//! Prints an error with its causes on one line. Nothing else in the program follows [`Error::source`] to print it.
//! [`HumanDuration`] prints the durations in messages.

mod duration;

use std::error::Error;
use std::fmt;

pub use duration::HumanDuration;

/// An error as it is shown: its message, then the message of each cause.
///
/// Some libraries repeat the message of the cause at the end of their own; it is printed once.
///
/// ```
/// # use error_report::ErrorReport;
/// let error = std::io::Error::other("disk full");
/// assert_eq!(ErrorReport::new(&error).to_string(), "disk full");
/// ```
#[derive(Clone, Copy)]
pub struct ErrorReport<'e>(&'e dyn Error);

impl<'e> ErrorReport<'e> {
    pub fn new(error: &'e dyn Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for ErrorReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let message = cause.to_string();
            if !text.ends_with(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            next = cause.source();
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for ErrorReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("connection refused")]
    struct Refused;

    #[derive(Debug, thiserror::Error)]
    #[error("http://x does not respond")]
    struct Fetch(#[source] Refused);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot download helm")]
    struct Download(#[source] Fetch);

    #[test]
    fn causes_follow_and_repetitions_are_left_out() {
        let error = Download(Fetch(Refused));
        assert_eq!(
            ErrorReport::new(&error).to_string(),
            "cannot download helm: http://x does not respond: connection refused"
        );
    }
}
