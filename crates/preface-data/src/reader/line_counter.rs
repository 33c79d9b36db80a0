//! Line numbers of byte offsets, for parsers that only tell offsets.

/// Line numbers of offsets that do not shrink; each byte is looked at once.
pub(super) struct LineCounter<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, offset: 0, line: 1 }
    }

    /// The line, from 1, that `offset` lies on.
    pub fn at(&mut self, offset: u64) -> usize {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.text.len());
        if offset > self.offset {
            let passed = &self.text.as_bytes()[self.offset..offset];
            self.line += passed.iter().filter(|byte| **byte == b'\n').count();
            self.offset = offset;
        }
        self.line
    }

    /// The line of the first byte at or after `offset` that ends no line.
    pub fn of_content_at(&mut self, offset: u64) -> usize {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.text.as_bytes().get(offset..));
        let ends = rest.unwrap_or_default().iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.at(offset.saturating_add(ends as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_beyond_the_text_lie_on_its_last_line() {
        let mut lines = LineCounter::new("a\nb");
        assert_eq!(
            [lines.at(0), lines.at(1), lines.at(2), lines.at(99), lines.of_content_at(u64::MAX)],
            [1, 1, 2, 2, 2]
        );
    }

    #[test]
    fn content_begins_after_the_ends_of_lines() {
        assert_eq!(LineCounter::new("a\r\n\r\nb").of_content_at(2), 3);
        assert_eq!(LineCounter::new("a\nb").of_content_at(0), 1);
    }
}
