//! Evaluation on the validation data.

use preface_backend::Backend;
use preface_model::{Attachments, Model};

use crate::step::{GradientSum, accumulate};
use crate::{TokenPair, TrainError};

/// Likelihood of completions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvalLoss {
    /// Sum of the negative log-likelihoods of all completion tokens, in nats.
    pub sum_nll: f64,
    /// Number of completion tokens.
    pub n_token: usize,
}

impl EvalLoss {
    /// Nats per completion token.
    pub fn mean(&self) -> f64 {
        self.sum_nll / self.n_token as f64
    }

    /// `exp` of the mean.
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }
}

/// Scores generated answers to the validation inputs; what it generates and how it scores is its own affair.
pub trait Evaluator<B: Backend> {
    /// Names and values.
    ///
    /// # Errors
    /// Whatever prevents it.
    fn score(
        &mut self,
        model: &Model<B>,
        attachments: &Attachments<B>,
        segment: Option<usize>,
    ) -> Result<Vec<(String, f64)>, Box<dyn std::error::Error + Send + Sync>>;

    /// Whether a higher value of the metric is a better one.
    fn higher_is_better(&self, metric: &str) -> bool;
}

/// Likelihood of the completions of `pairs`, without label smoothing or dropout.
///
/// # Errors
/// A pair that the model cannot run or that is longer than a micro-batch may be.
pub fn evaluate_loss<B: Backend>(
    model: &Model<B>,
    attachments: &Attachments<B>,
    segment: Option<usize>,
    pairs: &[TokenPair],
    max_tokens_per_batch: usize,
) -> Result<EvalLoss, TrainError> {
    let pairs: Vec<&TokenPair> = pairs.iter().collect();
    let wanted =
        GradientSum { grads: None, label_smoothing: 0.0, prefix_dropout: &|_| None, masks: &|_| None };
    let sum = accumulate(model, attachments, segment, &pairs, max_tokens_per_batch, wanted)?;
    Ok(EvalLoss { sum_nll: sum.loss, n_token: sum.n_target })
}
