//! ASCII for any text, as Python's Unidecode, which WebNLG's scripts use.
//!
//! The tables are those of the crate `unidecode`, a port of the same Text::Unidecode. It leaves a mark where Unidecode
//! leaves nothing, and it lacks later additions: those that real texts hold are below. Equal to Unidecode 1.4.0 on all
//! data sets of this project's tests; not claimed for every character of Unicode.

/// What Unidecode says and the crate's tables do not.
fn correction(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{80}'..='\u{9f}' => "",
        '¼' => " 1/4",
        '½' => " 1/2",
        '¾' => " 3/4",
        'Ŋ' => "NG",
        'ŋ' => "ng",
        '™' => "(tm)",
        '№' => "No. ",
        '℃' => "degC",
        '℉' => "degF",
        'ℓ' => "l",
        '₹' => "Rs",
        '₽' => "R",
        '−' => "-",
        '∕' => "/",
        '∖' => "\\",
        '∗' => "*",
        '∣' => "|",
        '∶' => ":",
        '∼' => "~",
        '≤' | '≦' => "<=",
        '≥' | '≧' => ">=",
        'Ъ' | 'ъ' => "'",
        _ => return None,
    })
}

/// The text in ASCII; characters without an equivalent vanish.
pub fn to_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let ascii = correction(c).unwrap_or_else(|| unidecode::unidecode_char(c));
            out.push_str(if ascii.contains("[?]") { "" } else { ascii });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::to_ascii;

    // Unidecode 1.4.0
    #[test]
    fn equals_pythons_unidecode() {
        assert_eq!(
            to_ascii("Łódź–Αθήνα “x” ½ € 十里 ∞ −5 ≤ ™"),
            "Lodz-Athena \"x\"  1/2 EUR Shi Li   -5 <= (tm)"
        );
    }
}
