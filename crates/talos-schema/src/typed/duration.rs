//! Go durations.

/// Parses a duration such as `1h30m` or `-1.5s` like Go's `time.ParseDuration`; in nanoseconds.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0_f64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len()));
        let factor = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        nanoseconds += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    // Go's limit of 292 years; below it the cast is exact enough for comparisons.
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    let whole = (nanoseconds < 9.2e18).then_some(nanoseconds as i64)?;
    Some(if negative { -whole } else { whole })
}
