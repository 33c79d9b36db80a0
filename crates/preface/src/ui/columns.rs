//! Two texts side by side, or one under the other where there is no room for that.

use textwrap::core::display_width;

const GAP: &str = "  |  ";
/// Columns narrower than this are not read any more.
const NARROWEST: usize = 26;

/// The lines of two titled texts in a terminal of this width.
pub fn side_by_side(left: (&str, &str), right: (&str, &str), width: usize) -> Vec<String> {
    let column = width.saturating_sub(GAP.len()) / 2;
    if column < NARROWEST {
        let part = |(title, text): (&str, &str)| {
            let options = textwrap::Options::new(width).initial_indent("  ").subsequent_indent("  ");
            let lines = textwrap::wrap(text, options).into_iter().map(|line| line.into_owned());
            std::iter::once(format!("{title}:")).chain(lines).collect::<Vec<_>>()
        };
        return [part(left), part(right)].concat();
    }
    let part = |(title, text): (&str, &str)| {
        let lines = textwrap::wrap(text, column).into_iter().map(|line| line.into_owned());
        std::iter::once(title.to_owned()).chain(lines).collect::<Vec<_>>()
    };
    let (left, right) = (part(left), part(right));
    (0..left.len().max(right.len()))
        .map(|i| {
            let cell = |lines: &[String]| lines.get(i).cloned().unwrap_or_default();
            let (left, right) = (cell(&left), cell(&right));
            let blanks = " ".repeat(column - display_width(&left));
            format!("{left}{blanks}{GAP}{right}").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let text = "Once upon a time there was a little dog who liked to run in the park with his friend.";
        for width in [24, 40, 80, 110] {
            let lines = side_by_side(("bare model", text), ("with prefix", "Short."), width);
            assert!(lines.iter().all(|line| display_width(line) <= width), "{width}: {lines:#?}");
            let all = lines.join(" ");
            assert!(all.contains("bare model") && all.contains("Short.") && all.contains("friend."), "{all}");
        }
    }
}
