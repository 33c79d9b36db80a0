//! Rules that change the scores of the next token, each in a file, applied in the order of `transformers`.
//!
//! Scores are logits in greedy search and sampling, and log-probabilities in beam search (normalised again afterwards
//! only with `renormalize_logits`). A token with score `-inf` is excluded.

mod bad_words;
mod forced;
mod min_new_tokens;
mod min_p;
mod no_repeat_ngram;
mod renormalize;
mod repetition_penalty;
mod temperature;
mod top_k;
mod top_p;

use bad_words::BadWords;
use forced::Forced;
use min_new_tokens::MinNewTokens;
use min_p::MinP;
use no_repeat_ngram::NoRepeatNgram;
use renormalize::Renormalize;
use repetition_penalty::RepetitionPenalty;
use temperature::Temperature;
use top_k::TopK;
use top_p::TopP;

use crate::GenerationSettings;

/// A token that is excluded.
pub(crate) const EXCLUDED: f32 = f32::NEG_INFINITY;

/// What stands before the token that is scored. Prefix rows are no tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Past<'a> {
    /// Prompt and answer.
    pub ids: &'a [u32],
    /// How many of them are the prompt.
    pub prompt_len: usize,
}

/// One rule.
trait Processor: Send + Sync {
    /// Changes the scores, one for each token of the vocabulary.
    fn apply(&self, past: Past<'_>, scores: &mut [f32]);
}

/// The rules that the settings ask for.
pub(crate) struct Processors(Vec<Box<dyn Processor>>);

impl Processors {
    /// Only what is not neutral. `bad_words` holds those given as text as well.
    pub(crate) fn new(settings: &GenerationSettings, bad_words: Vec<Vec<u32>>, end_tokens: &[u32]) -> Self {
        let s = settings;
        let mut rules: Vec<Box<dyn Processor>> = Vec::new();
        if s.repetition_penalty != 1.0 {
            rules.push(Box::new(RepetitionPenalty { penalty: s.repetition_penalty as f32 }));
        }
        if s.no_repeat_ngram_size > 0 {
            rules.push(Box::new(NoRepeatNgram { size: s.no_repeat_ngram_size }));
        }
        if !bad_words.is_empty() {
            rules.push(Box::new(BadWords::new(bad_words, end_tokens)));
        }
        if s.min_new_tokens > 0 {
            let end_tokens = end_tokens.to_vec();
            rules.push(Box::new(MinNewTokens { min_new_tokens: s.min_new_tokens, end_tokens }));
        }
        if let Some(token) = s.forced_bos_token_id {
            rules.push(Box::new(Forced { token, at: 0 }));
        }
        if let Some(token) = s.forced_eos_token_id {
            rules.push(Box::new(Forced { token, at: s.max_new_tokens - 1 }));
        }
        if s.do_sample {
            if s.temperature != 1.0 {
                rules.push(Box::new(Temperature { temperature: s.temperature as f32 }));
            }
            if s.top_k > 0 {
                rules.push(Box::new(TopK { top_k: s.top_k }));
            }
            if s.top_p < 1.0 {
                rules.push(Box::new(TopP { top_p: s.top_p }));
            }
            if s.min_p > 0.0 {
                rules.push(Box::new(MinP { min_p: s.min_p as f32 }));
            }
        }
        if s.renormalize_logits {
            rules.push(Box::new(Renormalize));
        }
        Self(rules)
    }

    /// Whether scores stay as they are.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies all of them.
    pub(crate) fn apply(&self, past: Past<'_>, scores: &mut [f32]) {
        for rule in &self.0 {
            rule.apply(past, scores);
        }
    }
}

#[cfg(test)]
mod tests;
