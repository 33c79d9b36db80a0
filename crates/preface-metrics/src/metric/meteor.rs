//! METEOR 1.5 for English as a metric: [`crate::meteor`] behind the seam.
//!
//! Statistics are the program's own counts (those of the best reference of a segment); the corpus score is made of their
//! sum, not a mean of segment scores. 0..1.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::meteor::{self, MeteorData};
use crate::tokenizer::ptb::caption_tokens;
use crate::{Metric, MetricError, References, Scorer, Signature};

/// What METEOR is given to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MeteorText {
    /// The texts as they stand, words separated by blanks: the program without options.
    AsIs,
    /// Normalised and in lower case: the program's `-norm`, as WebNLG and DART use it.
    #[default]
    Normalized,
    /// The tokens of coco-caption, then `-norm`, as e2e-metrics uses it.
    Captions,
}

/// METEOR 1.5, English, ranking task.
#[derive(Debug)]
pub struct Meteor {
    folder: Option<PathBuf>,
    text: MeteorText,
    data: OnceLock<MeteorData>,
}

impl Meteor {
    /// METEOR with the tables of `folder`, which are read at the first [`Metric::fit`].
    pub fn new(folder: Option<PathBuf>, text: MeteorText) -> Self {
        Self { folder, text, data: OnceLock::new() }
    }

    fn data(&self) -> Result<&MeteorData, MetricError> {
        if let Some(data) = self.data.get() {
            return Ok(data);
        }
        let data = match &self.folder {
            Some(folder) => MeteorData::open(folder)?,
            None => return Err(MeteorData::not_installed()),
        };
        Ok(self.data.get_or_init(|| data))
    }
}

impl Metric for Meteor {
    fn name(&self) -> &'static str {
        "meteor"
    }

    fn signature(&self) -> Signature {
        let (case, norm, tok) = match self.text {
            MeteorText::AsIs => ("mixed", "no", "none"),
            MeteorText::Normalized => ("lc", "yes", "none"),
            MeteorText::Captions => ("lc", "yes", "ptb-caption"),
        };
        Signature::new()
            .with("case", case)
            .with("tok", tok)
            .with("norm", norm)
            .with("lang", "en")
            .with("task", "rank")
            .with("mod", "exact.stem.synonym.paraphrase")
    }

    fn fit(&self, _references: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(MeteorScorer { data: self.data()?, text: self.text }))
    }
}

struct MeteorScorer<'m> {
    data: &'m MeteorData,
    text: MeteorText,
}

impl MeteorScorer<'_> {
    fn prepare(&self, text: &str) -> String {
        let normalize = |text: &str| self.data.normalizer().normalize(text).to_lowercase();
        match self.text {
            MeteorText::AsIs => text.to_owned(),
            MeteorText::Normalized => normalize(text),
            MeteorText::Captions => normalize(&caption_tokens(text).join(" ")),
        }
    }
}

impl Scorer for MeteorScorer<'_> {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let references: Vec<String> = references.iter().map(|reference| self.prepare(reference)).collect();
        meteor::statistics(&self.prepare(hypothesis), &references, self.data)
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        meteor::score(statistics)
    }
}
