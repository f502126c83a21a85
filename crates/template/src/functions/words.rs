//! Case conversion, abbreviation, wrapping.

use serde_json::Value;

use super::{Call, Entry, Outcome, integer, string};

pub(super) const TABLE: &[Entry] = &[
    ("abbrev", 2, 2, |_, a| Ok(Value::from(abbreviated(string(a, 1)?, 0, integer(a, 0)?)))),
    ("abbrevboth", 3, 3, |_, a| Ok(Value::from(abbreviated(string(a, 2)?, integer(a, 0)?, integer(a, 1)?)))),
    ("camelcase", 1, 1, |_, a| {
        Ok(Value::from(words(string(a, 0)?).iter().map(|word| upper_first(word)).collect::<String>()))
    }),
    ("initials", 1, 1, |_, a| {
        Ok(Value::from(string(a, 0)?.split_whitespace().filter_map(|word| word.chars().next()).collect::<String>()))
    }),
    ("kebabcase", 1, 1, |_, a| Ok(Value::from(words(string(a, 0)?).join("-")))),
    ("plural", 3, 3, |_, a| Ok(if integer(a, 2)? == 1 { a[0].clone() } else { a[1].clone() })),
    ("snakecase", 1, 1, |_, a| Ok(Value::from(words(string(a, 0)?).join("_")))),
    ("swapcase", 1, 1, |_, a| Ok(Value::from(string(a, 0)?.chars().map(swapped).collect::<String>()))),
    ("untitle", 1, 1, |_, a| Ok(Value::from(untitled(string(a, 0)?)))),
    ("wrap", 2, 2, |_, a| Ok(Value::from(wrapped(string(a, 1)?, width(a)?, "\n", LongWords::Keep)))),
    ("wrapWith", 3, 3, wrap_with),
];

/// What happens to a word that is longer than a line.
#[derive(Clone, Copy, PartialEq)]
enum LongWords {
    Keep,
    Break,
}

fn wrap_with(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    Ok(Value::from(wrapped(string(arguments, 2)?, width(arguments)?, string(arguments, 1)?, LongWords::Break)))
}

fn width(arguments: &[Value]) -> Result<usize, super::Failure> {
    Ok(usize::try_from(integer(arguments, 0)?).unwrap_or_default().max(1))
}

/// Truncates a text to a width, with an ellipsis at the end and, for an `offset`, at the start.
fn abbreviated(text: &str, offset: i64, width: i64) -> String {
    const DOTS: &str = "...";
    let letters: Vec<char> = text.chars().collect();
    let (Ok(width), offset) = (usize::try_from(width), usize::try_from(offset).unwrap_or_default()) else {
        return text.to_owned();
    };
    if width < 4 || (offset > 0 && width < 7) || letters.len() <= width {
        return text.to_owned();
    }
    let of = |letters: &[char]| letters.iter().collect::<String>();
    let room = width - DOTS.len();
    let offset = offset.min(letters.len()).min(letters.len() - room);
    if offset <= 4 {
        return of(&letters[..room]) + DOTS;
    }
    if offset + room < letters.len() {
        let rest = of(&letters[offset..]);
        return format!("{DOTS}{}", abbreviated(&rest, 0, i64::try_from(room).unwrap_or_default()));
    }
    format!("{DOTS}{}", of(&letters[letters.len() - room..]))
}

/// The words of an identifier in any case style, in lower case: a word begins at an upper-case letter after a lower-case
/// one, and at the last of several upper-case letters before a lower-case one.
fn words(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let mut words: Vec<String> = Vec::new();
    let mut fresh = true;
    for (index, letter) in letters.iter().enumerate() {
        if !letter.is_alphanumeric() {
            fresh = true;
            continue;
        }
        let before = index.checked_sub(1).and_then(|before| letters.get(before));
        let after = letters.get(index + 1);
        let begins = letter.is_uppercase()
            && (before.is_some_and(|before| before.is_lowercase() || before.is_ascii_digit())
                || (before.is_some_and(|before| before.is_uppercase())
                    && after.is_some_and(|after| after.is_lowercase())));
        match words.last_mut() {
            Some(word) if !fresh && !begins => word.extend(letter.to_lowercase()),
            _ => words.push(letter.to_lowercase().collect()),
        }
        fresh = false;
    }
    words
}

fn upper_first(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn untitled(text: &str) -> String {
    let mut starts = true;
    let lowered = |letter: char| {
        let begins = std::mem::replace(&mut starts, letter.is_whitespace());
        if begins { letter.to_lowercase().next().unwrap_or(letter) } else { letter }
    };
    text.chars().map(lowered).collect()
}

fn swapped(letter: char) -> char {
    let other = if letter.is_uppercase() { letter.to_lowercase().next() } else { letter.to_uppercase().next() };
    other.unwrap_or(letter)
}

/// Wraps a text at spaces.
fn wrapped(text: &str, width: usize, separator: &str, long_words: LongWords) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut lines: Vec<String> = Vec::new();
    let mut from = 0;
    while letters.len() - from > width {
        if letters[from] == ' ' {
            from += 1;
            continue;
        }
        let blank = |end: usize| letters[from..end].iter().rposition(|letter| *letter == ' ').map(|at| at + from);
        let (end, next) = match blank(from + width + 1) {
            Some(at) => (at, at + 1),
            None if long_words == LongWords::Break => (from + width, from + width),
            None => match letters[from + width..].iter().position(|letter| *letter == ' ') {
                Some(at) => (from + width + at, from + width + at + 1),
                None => (letters.len(), letters.len()),
            },
        };
        lines.push(letters[from..end].iter().collect());
        from = next;
    }
    lines.push(letters[from..].iter().collect());
    lines.retain(|line| !line.is_empty());
    lines.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_styles_are_converted() {
        assert_eq!(words("HTTPServerTest99").join("_"), "http_server_test99");
        assert_eq!(words("foo-bar baz").iter().map(|word| upper_first(word)).collect::<String>(), "FooBarBaz");
        assert_eq!(words("XMLHttpRequest").join("-"), "xml-http-request");
    }

    #[test]
    fn long_texts_are_truncated_and_wrapped() {
        assert_eq!(abbreviated("hello world", 0, 5), "he...");
        assert_eq!(abbreviated("1234 5678 9123", 5, 10), "...5678...");
        assert_eq!(wrapped("hello big world", 5, "\n", LongWords::Keep), "hello\nbig\nworld");
        assert_eq!(wrapped("Hello World", 5, "\t", LongWords::Break), "Hello\tWorld");
        assert_eq!(untitled("Hello World"), "hello world");
    }
}
