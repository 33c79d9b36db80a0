//! Tables of text: aligned columns, each as wide as its widest cell. In a terminal that is too narrow the last column is
//! wrapped; where even that does not help, every row becomes a list of its cells.

use textwrap::core::{Word, display_width};
use textwrap::{Options, WordSeparator, WordSplitter};

/// On which side a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table under construction.
pub struct Table {
    /// Empty for a table without one.
    head: Vec<String>,
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

const GAP: usize = 2;
/// The last column is wrapped to this width at least.
const NARROWEST: usize = 16;

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            head: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
            align: columns.iter().map(|(_, align)| *align).collect(),
            rows: Vec::new(),
        }
    }

    /// A table without a head: names and what is said of them.
    pub fn of_facts() -> Self {
        Self { head: Vec::new(), align: vec![Align::Left; 2], rows: Vec::new() }
    }

    /// Appends a row of as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.align.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// The lines for a terminal of this width, without trailing blanks.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let last = self.align.len() - 1;
        let all = || std::iter::once(&self.head).filter(|head| !head.is_empty()).chain(&self.rows);
        let widest = |column: usize| all().map(|row| display_width(&row[column])).max().unwrap_or(0);
        let widths: Vec<usize> = (0..=last).map(widest).collect();
        let before: usize = widths[..last].iter().map(|width| width + GAP).sum();
        if before + widths[last].min(NARROWEST) > width {
            return self.lists(width);
        }
        let room = width - before;
        let mut lines = Vec::new();
        for row in all() {
            let wrapped = match widths[last] <= room {
                true => vec![row[last].clone()],
                false => wrap(&row[last], room),
            };
            for (i, part) in wrapped.iter().enumerate() {
                let cells = row[..last].iter().map(|cell| if i == 0 { cell.as_str() } else { "" });
                let padded = cells.zip(&widths).zip(&self.align).map(|((cell, &width), align)| {
                    let blanks = " ".repeat(width - display_width(cell));
                    match align {
                        Align::Left => format!("{cell}{blanks}{}", " ".repeat(GAP)),
                        Align::Right => format!("{blanks}{cell}{}", " ".repeat(GAP)),
                    }
                });
                let blanks = match self.align[last] {
                    Align::Right => " ".repeat(widths[last].min(room).saturating_sub(display_width(part))),
                    Align::Left => String::new(),
                };
                let line = padded.chain([blanks, part.clone()]).collect::<String>();
                lines.push(line.trim_end().to_owned());
            }
        }
        lines
    }

    /// Each row as a list: a line for each cell, with the column's name in front.
    fn lists(&self, width: usize) -> Vec<String> {
        let names = self.head.iter().map(|name| display_width(name)).max().unwrap_or(0);
        let mut lines = Vec::new();
        for row in &self.rows {
            if self.head.is_empty() {
                let options = Options::new(width).subsequent_indent("  ");
                lines.extend(
                    textwrap::wrap(&row.join(": "), options).into_iter().map(|line| line.into_owned()),
                );
                continue;
            }
            for (name, cell) in self.head.iter().zip(row) {
                let blanks = " ".repeat(names - display_width(name) + GAP);
                for (i, part) in wrap(cell, width.saturating_sub(names + GAP).max(1)).iter().enumerate() {
                    let first = if i == 0 { format!("{name}{blanks}") } else { " ".repeat(names + GAP) };
                    lines.push(format!("{first}{part}").trim_end().to_owned());
                }
            }
            lines.push(String::new());
        }
        lines
    }

    /// The table as Markdown.
    pub fn markdown(&self) -> Vec<String> {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |", cells.join(" | "))
        };
        let rule: Vec<&str> =
            self.align.iter().map(|align| if *align == Align::Left { "---" } else { "---:" }).collect();
        let head = [line(&self.head), format!("|{}|", rule.join("|"))];
        head.into_iter().chain(self.rows.iter().map(|row| line(row))).collect()
    }
}

/// Wraps at blanks and bars (a signature has no blank), and inside a word where nothing else helps.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let words: WordSplit = |line| Box::new(line.split_inclusive([' ', '|']).map(Word::from));
    let options = Options::new(width)
        .word_separator(WordSeparator::Custom(words))
        .word_splitter(WordSplitter::NoHyphenation);
    let lines = textwrap::wrap(text, options);
    if lines.is_empty() { vec![String::new()] } else { lines.into_iter().map(Into::into).collect() }
}

type WordSplit = for<'line> fn(&'line str) -> Box<dyn Iterator<Item = Word<'line>> + 'line>;

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new(&[("metric", Align::Left), ("score", Align::Right), ("signature", Align::Left)]);
        table.row(vec!["bleu".into(), "9.50".into(), "nrefs:1|case:mixed|eff:no|tok:13a".into()]);
        table.row(vec!["größe".into(), "37.10".into(), "x".into()]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            table().lines(80),
            [
                "metric  score  signature",
                "bleu     9.50  nrefs:1|case:mixed|eff:no|tok:13a",
                "größe   37.10  x"
            ]
        );
    }

    #[test]
    fn a_narrow_terminal_wraps_the_last_column_only() {
        let lines = table().lines(32);
        assert!(lines.iter().all(|line| display_width(line) <= 32), "{lines:#?}");
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(lines[2].starts_with("               "), "{lines:#?}");
    }

    #[test]
    fn a_terminal_narrower_than_the_columns_gets_lists() {
        let lines = table().lines(26);
        assert!(lines.iter().all(|line| display_width(line) <= 26), "{lines:#?}");
        assert_eq!(lines[0], "metric     bleu");
        assert_eq!(lines[2], "signature  nrefs:1|");
    }

    #[test]
    fn facts_have_no_head() {
        let mut facts = Table::of_facts();
        facts.row(vec!["adapter_model.safetensors".into(), "the prefix, for preface and PEFT".into()]);
        facts.row(vec!["README.md".into(), "its card".into()]);
        let wide = [
            "adapter_model.safetensors  the prefix, for preface and PEFT",
            "README.md                  its card",
        ];
        assert_eq!(facts.lines(80), wide);
        let narrow =
            ["adapter_model.safetensors: the", "  prefix, for preface and PEFT", "README.md: its card"];
        assert_eq!(facts.lines(30), narrow);
    }

    #[test]
    fn markdown_escapes_bars() {
        assert_eq!(table().markdown()[2], r"| bleu | 9.50 | nrefs:1\|case:mixed\|eff:no\|tok:13a |");
        assert_eq!(table().markdown()[1], "|---|---:|---|");
    }
}
