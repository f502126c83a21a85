//! Kubernetes quantities, compared by their amount.

use serde_json::Value;

/// Whether two values are quantities of one amount: `1000m`, `"1"` and `1` are.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    matches!((amount(one), amount(other)), (Some(one), Some(other)) if one == other)
}

/// The amount in billionths, the finest that Kubernetes keeps (`n`).
fn amount(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        _ => None,
    }
}

/// Reads the grammar of `k8s.io/apimachinery/pkg/api/resource`: a signed decimal and a binary, decimal or exponent
/// suffix. What is finer than a billionth, or larger than an `i128` of them, is none.
fn parse(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let whole = whole.trim_start_matches(['+', '-']);
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    let billionths = digits(whole)?.checked_mul(1_000_000_000)?.checked_add(digits(&format!("{fraction:0<9}"))?)?;
    let scaled = match suffix {
        "n" => divide(billionths, 1_000_000_000)?,
        "u" => divide(billionths, 1_000_000)?,
        "m" => divide(billionths, 1_000)?,
        _ => billionths.checked_mul(factor(suffix)?)?,
    };
    Some(if negative { -scaled } else { scaled })
}

fn divide(amount: i128, by: i128) -> Option<i128> {
    (amount % by == 0).then_some(amount / by)
}

fn factor(suffix: &str) -> Option<i128> {
    let power = |base: i128, exponent: u32| base.checked_pow(exponent);
    match suffix {
        "" => Some(1),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "E" => power(1000, 6),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => power(10, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_compared_whatever_their_spelling() {
        for (one, other) in [
            (json!("1000m"), json!("1")),
            (json!("0.5"), json!("500m")),
            (json!(2), json!("2")),
            (json!("1024Mi"), json!("1Gi")),
            (json!("1e3"), json!("1k")),
            (json!("-1"), json!("-1000m")),
            (json!("100n"), json!("0.1u")),
        ] {
            assert!(same(&one, &other), "{one} {other}");
        }
        for (one, other) in [
            (json!("1000Mi"), json!("1Gi")),
            (json!("1"), json!("1m")),
            (json!("a"), json!("a")),
            (json!(""), json!("0")),
            (json!("1x"), json!("1x")),
            (json!("99999999999999999999999999E"), json!("1")),
        ] {
            assert!(!same(&one, &other), "{one} {other}");
        }
    }
}
