//! The official preparation of a data set's texts, before any metric sees them, hypothesis and references alike.
//!
//! | set | text | references |
//! |---|---|---|
//! | WebNLG | ASCII by unidecode, every character that is not of a word stands alone, lower-case | the first three |
//! | DART | the same without unidecode | the first three |
//!
//! A script that reads parallel reference files sees empty lines where a segment has fewer references: there the list is
//! filled up with empty texts, because they decide figures (multi-bleu's closest length).

pub mod unidecode;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::text::is_python_space;
use crate::{Direction, Metric, MetricError, References, Scorer, Signature};

/// References of a segment that count.
const N_REFERENCE: usize = 3;

/// Whose preparation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// WebNLG 2017.
    WebNlg,
    /// DART.
    Dart,
}

impl Preparation {
    /// The prepared text.
    pub fn text(self, text: &str) -> String {
        match self {
            Self::WebNlg => separate(&unidecode::to_ascii(text)).to_lowercase(),
            // In this order: in lower case a dotted capital I would fall apart.
            Self::Dart => separate(text).to_lowercase(),
        }
    }

    /// The prepared references of a segment: at most three, filled up with empty texts to `filled_to`.
    pub fn references(self, references: &[String], filled_to: usize) -> Vec<String> {
        let mut prepared: Vec<String> =
            references.iter().take(N_REFERENCE).map(|text| self.text(text)).collect();
        prepared.resize(prepared.len().max(filled_to), String::new());
        prepared
    }

    fn name(self) -> &'static str {
        match self {
            Self::WebNlg => "webnlg",
            Self::Dart => "dart",
        }
    }
}

/// `' '.join(re.split('(\W)', text))` with single blanks: runs of letters, digits and `_`, other characters alone.
fn separate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let mut after_word = false;
    for c in text.chars() {
        let word = is_python_word(c);
        if !is_python_space(c) {
            let same_word = after_word && word;
            if !same_word && !out.is_empty() {
                out.push(' ');
            }
            out.push(c);
        }
        after_word = word;
    }
    out
}

/// Python's `\w`: letters, numbers, `_`; no combining marks.
fn is_python_word(c: char) -> bool {
    match c {
        '_' => true,
        c if c.is_ascii() => c.is_ascii_alphanumeric(),
        c => {
            matches!(c.general_category_group(), GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number)
        }
    }
}

/// A metric that sees prepared texts.
pub struct Prepared {
    preparation: Preparation,
    filled_to: usize,
    metric: Box<dyn Metric>,
}

impl Prepared {
    /// `metric` after `preparation`; segments with fewer than `filled_to` references get empty ones.
    pub fn new(preparation: Preparation, filled_to: usize, metric: Box<dyn Metric>) -> Self {
        Self { preparation, filled_to, metric }
    }
}

impl Metric for Prepared {
    fn name(&self) -> &'static str {
        self.metric.name()
    }

    fn signature(&self) -> Signature {
        let signature = self.metric.signature().with("prep", self.preparation.name());
        let signature = signature.with("refs", format_args!("first-{N_REFERENCE}"));
        if self.filled_to == 0 { signature } else { signature.with("filled", self.filled_to) }
    }

    fn direction(&self) -> Direction {
        self.metric.direction()
    }

    fn fit(&self, references: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        let prepare = |segment: &Vec<String>| self.preparation.references(segment, self.filled_to);
        let prepared = References::new(references.segments().iter().map(prepare).collect())?;
        Ok(Box::new(PreparedScorer { prepared: self, scorer: self.metric.fit(&prepared)? }))
    }
}

struct PreparedScorer<'m> {
    prepared: &'m Prepared,
    scorer: Box<dyn Scorer + 'm>,
}

impl Scorer for PreparedScorer<'_> {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let Prepared { preparation, filled_to, .. } = self.prepared;
        self.scorer.statistics(&preparation.text(hypothesis), &preparation.references(references, *filled_to))
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        self.scorer.score(statistics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webnlg_text_is_ascii_and_separated() {
        let text = "Adolfo Suárez Madrid–Barajas' runway_18L/36R  (3.5 m).";
        assert_eq!(
            Preparation::WebNlg.text(text),
            "adolfo suarez madrid - barajas ' runway_18l / 36r ( 3 . 5 m ) ."
        );
    }

    #[test]
    fn dart_text_keeps_its_script() {
        assert_eq!(Preparation::Dart.text("Suárez–Barajas 日本!"), "suárez – barajas 日本 !");
        assert_eq!(Preparation::Dart.text("(İzmir)"), "( i\u{307}zmir )");
        assert_eq!(Preparation::Dart.text(" \t"), "");
    }

    #[test]
    fn references_are_cut_and_filled() {
        let references = ["A".to_owned(), "B.".to_owned()];
        assert_eq!(Preparation::Dart.references(&references, 3), ["a", "b .", ""]);
        assert_eq!(Preparation::Dart.references(&references, 0), ["a", "b ."]);
        let four = ["a", "b", "c", "d"].map(String::from);
        assert_eq!(Preparation::Dart.references(&four, 8).len(), 8);
        assert_eq!(Preparation::Dart.references(&four, 8)[3], "");
    }
}
