//! prompts -> generations -> texts -> scores: what `generate`, `eval`, `demo` and the evaluations of a training run share.

use anyhow::Result;
use preface_backend::Backend;
use preface_generate::{Generation, GenerationSettings, Generator, Observer, Request, TextCodec};
use preface_metrics::slice::Slice;
use preface_metrics::statistics::complete_signature;
use preface_metrics::{Metric, MetricError, References, Score, StatisticsTable};
use preface_model::tokenizer::{Input, SpecialTokens, Tokenizer};
use preface_model::{Attachments, Model};

use crate::ui::Progress;

/// A model that answers, with all that decides how.
pub struct Answerer<'a, B: Backend> {
    /// The model.
    pub model: &'a Model<B>,
    /// What is attached to it.
    pub attachments: &'a Attachments<B>,
    /// The prefix that prompts stand behind.
    pub segment: Option<usize>,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its special tokens.
    pub special: &'a SpecialTokens,
    /// Generation.
    pub settings: &'a GenerationSettings,
    /// Prompts worked on at once.
    pub batch_size: usize,
}

/// An answer and its text, special tokens left out.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was generated.
    pub generation: Generation,
    /// Its text.
    pub text: String,
}

impl<B: Backend> Answerer<'_, B> {
    /// Answers in the order of the prompts.
    ///
    /// # Errors
    /// Settings that the model cannot do, or a prompt that it cannot run.
    pub fn answer(&self, prompts: Vec<Input>, observer: &mut dyn Observer) -> Result<Vec<Answer>> {
        let codec: &dyn TextCodec = self.tokenizer;
        let end_tokens = &self.special.end;
        let generator = Generator::new(self.model, self.attachments, self.settings, end_tokens, Some(codec))?;
        let segment = self.segment;
        let request = |Input { source, prompt }| Request { source, prompt, segment };
        let requests: Vec<Request> = prompts.into_iter().map(request).collect();
        let generations = generator.run(&requests, self.batch_size, observer)?;
        generations
            .into_iter()
            .map(|generation| {
                let text = self.tokenizer.decode(&generation.token_ids, true)?;
                Ok(Answer { generation, text })
            })
            .collect()
    }

    /// The same, with a progress bar.
    ///
    /// # Errors
    /// As [`Answerer::answer`].
    pub fn answer_with_progress(&self, prompts: Vec<Input>) -> Result<Vec<Answer>> {
        let mut watch = Watch { progress: Progress::new("answers", prompts.len() as u64, 0), n_finished: 0 };
        let answers = self.answer(prompts, &mut watch);
        watch.progress.finish();
        answers
    }
}

/// Shows how many answers there are.
struct Watch {
    progress: Progress,
    n_finished: u64,
}

impl Observer for Watch {
    fn finished(&mut self, _request: usize, _generation: &Generation) {
        self.n_finished += 1;
        self.progress.at(self.n_finished, "");
    }
}

/// The scores of a corpus, and of parts of it.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// Of all segments.
    pub all: Vec<Score>,
    /// Of each slice, in the order of the slices.
    pub slices: Vec<Vec<Score>>,
}

/// Scores a corpus and its slices. What a metric fits on references, it fits on all of them.
///
/// # Errors
/// Another number of hypotheses than of references, or data that a metric lacks.
pub fn score(
    metrics: &[Box<dyn Metric>],
    hypotheses: &[String],
    references: &References,
    slices: &[Slice],
) -> Result<Scores, MetricError> {
    let mut scores = Scores { all: Vec::new(), slices: vec![Vec::new(); slices.len()] };
    for metric in metrics {
        let scorer = metric.fit(references)?;
        let table = StatisticsTable::new(scorer.as_ref(), hypotheses, references)?;
        let signature = complete_signature(metric.as_ref(), references).to_string();
        let score = |statistics: Vec<f64>| Score {
            name: metric.name().to_owned(),
            score: scorer.score(&statistics),
            signature: signature.clone(),
            confidence: None,
        };
        scores.all.push(score(table.total()));
        for (slice, of_slice) in slices.iter().zip(&mut scores.slices) {
            of_slice.push(score(table.sum(slice.segments.iter().copied())));
        }
    }
    Ok(scores)
}
