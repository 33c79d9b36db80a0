//! A metric of generated answers, measured on a part of the validation data while a run goes on.

use anyhow::{Result, bail};
use preface_backend::Backend;
use preface_data::Dataset;
use preface_generate::GenerationSettings;
use preface_metrics::{Direction, Metric, MetricOptions, References, registry};
use preface_model::tokenizer::{Input, SpecialTokens, Tokenizer};
use preface_model::{Attachments, Model};
use preface_train::Evaluator;

use crate::answers::{Answerer, score};
use crate::config::{AnswerConfig, RunConfig, nearest};
use crate::engine::Source;
use crate::pairs::{Encoder, Taken, prompts_of};

/// Answers a fixed draw of the validation inputs and scores the answers.
pub struct GeneratedMetrics {
    metrics: Vec<Box<dyn Metric>>,
    prompts: Vec<Input>,
    references: References,
    settings: GenerationSettings,
    tokenizer: Tokenizer,
    special: SpecialTokens,
}

impl GeneratedMetrics {
    /// Scores that include the one called `metric`, on at most `eval_generate_samples` inputs.
    ///
    /// # Errors
    /// A metric that does not exist, or an input that cannot be answered.
    pub fn new(
        metric: &str,
        config: &RunConfig,
        source: &Source,
        valid: &Dataset,
        taken: Taken,
    ) -> Result<Self> {
        let grouped = Dataset { examples: valid.grouped(), ..valid.clone() };
        let drawn = grouped.take(config.training.eval_generate_samples, config.seed);
        let encoder = Encoder::new(source, &config.text, taken, &config.data);
        let prompts = encoder
            .prompts(prompts_of(&drawn.path, &drawn.examples), config.generation.max_new_tokens)?
            .inputs;
        let references = drawn.examples.iter().map(|example| example.references.clone()).collect();
        let (tokenizer, special) = source.files.tokenizer()?;
        Ok(Self {
            metrics: metrics_with(metric)?,
            prompts,
            references: References::new(references)?,
            settings: config.generation.clone(),
            tokenizer,
            special,
        })
    }
}

/// The metrics of the entry that reports a score of this name (`rouge` reports `rouge1`, `rouge2` and `rougeL`).
fn metrics_with(score: &str) -> Result<Vec<Box<dyn Metric>>> {
    let mut known = vec![preface_train::EVAL_LOSS.to_owned()];
    for entry in registry::ENTRIES {
        // An entry that lacks its data cannot be the one that is meant, unless it has that very name.
        let metrics = match registry::build(entry.name, &MetricOptions::default()) {
            Ok(metrics) => metrics,
            Err(error) if entry.name == score => return Err(error.into()),
            Err(_) => continue,
        };
        if metrics.iter().any(|metric| metric.name() == score) {
            return Ok(metrics);
        }
        known.extend(metrics.iter().map(|metric| metric.name().to_owned()));
    }
    let hint = nearest(score, known.iter().map(String::as_str));
    let hint = hint.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    bail!("metric_for_best_model: no metric reports `{score}`{hint} (known: {})", known.join(", "))
}

impl<B: Backend> Evaluator<B> for GeneratedMetrics {
    fn score(
        &mut self,
        model: &Model<B>,
        attachments: &Attachments<B>,
        segment: Option<usize>,
    ) -> Result<Vec<(String, f64)>, Box<dyn std::error::Error + Send + Sync>> {
        let answerer = Answerer {
            model,
            attachments,
            segment,
            tokenizer: &self.tokenizer,
            special: &self.special,
            settings: &self.settings,
            batch_size: AnswerConfig::BATCH_SIZE,
        };
        let answers = answerer.answer(self.prompts.clone(), &mut ())?;
        let hypotheses: Vec<String> =
            answers.into_iter().map(|answer| answer.text.trim().to_owned()).collect();
        let scores = score(&self.metrics, &hypotheses, &self.references, &[])?.all;
        Ok(scores.into_iter().map(|score| (score.name, score.score)).collect())
    }

    fn higher_is_better(&self, name: &str) -> bool {
        let metric = self.metrics.iter().find(|metric| metric.name() == name);
        metric.is_some_and(|metric| metric.direction() == Direction::HigherIsBetter)
    }
}
