//! Maps lines of a rendered template to lines of the template.

use similar::{DiffOp, TextDiff};

/// The template line for each rendered line; both start at 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LineMap(Vec<usize>);

impl LineMap {
    pub(super) fn new(template: &str, rendered: &str) -> Self {
        if template == rendered {
            return Self::default();
        }
        let mut lines = vec![1; rendered.lines().count()];
        for op in TextDiff::from_lines(template, rendered).ops() {
            let (from, to) = (op.old_range(), op.new_range());
            let last = if matches!(op, DiffOp::Insert { .. }) { from.start } else { from.end.saturating_sub(1) };
            for (offset, line) in to.enumerate() {
                if let Some(slot) = lines.get_mut(line) {
                    *slot = (from.start + offset).min(last) + 1;
                }
            }
        }
        Self(lines)
    }

    /// The template line; a line outside of the map maps to itself.
    pub(super) fn source(&self, line: usize) -> usize {
        self.0.get(line.saturating_sub(1)).copied().unwrap_or(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_mapped_around_deleted_and_inserted_lines() {
        let template = "a: 1\n{% if x %}\nb: {{ y }}\n{% endif %}\nc: 3\n{{ more }}\nd: 4\n";
        let rendered = "a: 1\nb: 2\nc: 3\ne: 5\nf: 6\nd: 4\n";
        let lines = LineMap::new(template, rendered);
        let found: Vec<usize> = (1..=6).map(|line| lines.source(line)).collect();
        assert_eq!((found[0], found[2], found[5]), (1, 5, 7));
        assert!((2..=4).contains(&found[1]) && found[3] == 6 && found[4] == 6, "{found:?}");
        assert_eq!(LineMap::new("a\n", "a\n").source(1), 1);
    }
}
