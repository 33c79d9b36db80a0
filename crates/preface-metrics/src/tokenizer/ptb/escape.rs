//! How a token is printed: the Treebank's spellings of quotes, brackets, fractions and money.

use super::grammar::Action;

/// The printed form of a token's `text`; nothing for what leaves no trace.
pub(super) fn printed(action: Action, text: &str) -> Option<String> {
    Some(match action {
        Action::Skip | Action::EndLine => return None,
        Action::Keep | Action::GiveBack(_) | Action::StopTwice | Action::Acronym => text.to_owned(),
        Action::Becomes(other) => other.to_owned(),
        Action::DropSoftHyphens => drop_soft_hyphens(text),
        Action::Ampersand => replace_entity(text, "&amp;", "&"),
        Action::KeepTogether => keep_together(text),
        Action::Brackets => brackets(text),
        Action::KeepTogetherAndBrackets => brackets(&keep_together(text)),
        Action::OpenQuote => quotes(text, "`", "``"),
        Action::CloseQuote => quotes(text, "'", "''"),
        Action::Fraction => fraction(text).to_owned(),
        Action::Currency => currency(text).to_owned(),
        Action::Dash if (3..=4).contains(&text.len()) => "--".to_owned(),
        Action::Dash => text.to_owned(),
    })
}

fn drop_soft_hyphens(text: &str) -> String {
    let kept = text.replace('\u{AD}', "");
    if kept.is_empty() { "-".to_owned() } else { kept }
}

fn keep_together(text: &str) -> String {
    text.replace(' ', "\u{A0}")
}

fn brackets(text: &str) -> String {
    text.replace('(', "-LRB-").replace(')', "-RRB-")
}

/// Straight quotes become `single` or `double`; curly ones carry their direction with them.
fn quotes(text: &str, single: &str, double: &str) -> String {
    let text = text.replace("&apos;", "'").replace("&quot;", "\"");
    let mut printed = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' => printed.push_str(single),
            '"' => printed.push_str(double),
            '\u{91}' | '\u{2018}' | '\u{201B}' | '\u{2039}' => printed.push('`'),
            '\u{92}' | '\u{2019}' | '\u{203A}' => printed.push('\''),
            '\u{93}' | '\u{201C}' | '\u{AB}' => printed.push_str("``"),
            '\u{94}' | '\u{201D}' | '\u{BB}' => printed.push_str("''"),
            other => printed.push(other),
        }
    }
    printed
}

fn fraction(text: &str) -> &str {
    match text {
        "\u{BC}" => "1/4",
        "\u{BD}" => "1/2",
        "\u{BE}" => "3/4",
        "\u{2153}" => "1/3",
        "\u{2154}" => "2/3",
        other => other,
    }
}

fn currency(text: &str) -> &str {
    match text {
        "\u{A2}" => "cents",
        "\u{A3}" => "#",
        "\u{80}" | "\u{A4}" | "\u{20A0}" | "\u{20AC}" => "$",
        other => other,
    }
}

/// Replaces `entity` in any case.
fn replace_entity(text: &str, entity: &str, with: &str) -> String {
    let mut printed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find(entity) {
        printed.push_str(&rest[..at]);
        printed.push_str(with);
        rest = &rest[at + entity.len()..];
    }
    printed.push_str(rest);
    printed
}
