//! How the next tokens are chosen, one prompt at a time and without knowing where logits come from.
//!
//! A search follows one or several *rows*: continuations of the same prompt, each a sequence of the K/V cache. A step
//! is given the logits behind every row and says which rows go on with which token; whoever runs the model forks,
//! feeds and frees the sequences. So a batch can mix any searches, and a test can script a model.

mod beam;
mod probability;
mod sample;
mod single;

pub(crate) use beam::BeamSearch;
pub(crate) use probability::{log_sum_exp, softmax};
pub(crate) use single::SingleSearch;

use crate::processor::Processors;
use crate::stop::StopStrings;
use crate::{Finish, GenerateError, Generation, GenerationSettings};

/// What all searches of a call share.
pub(crate) struct Rules<'a> {
    pub settings: &'a GenerationSettings,
    pub processors: Processors,
    pub stop_strings: StopStrings<'a>,
    pub end_tokens: &'a [u32],
}

impl Rules<'_> {
    /// Whether and why an answer is complete, its last token being the end token if one came.
    fn finish(&self, answer: &[u32]) -> Result<Option<Finish>, GenerateError> {
        Ok(if answer.last().is_some_and(|last| self.end_tokens.contains(last)) {
            Some(Finish::End)
        } else if self.stop_strings.end(answer)? {
            Some(Finish::StopString)
        } else if answer.len() >= self.settings.max_new_tokens {
            Some(Finish::Length)
        } else {
            None
        })
    }
}

/// An answer as it is reported: without the end token.
fn token_ids(mut answer: Vec<u32>, finish: Finish) -> Vec<u32> {
    if finish == Finish::End {
        answer.pop();
    }
    answer
}

/// A row of the next step: row `parent` of this step, and one more token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Continuation {
    pub parent: usize,
    pub token: u32,
}

/// What a step has led to.
#[derive(Debug)]
pub(crate) enum Step {
    /// The rows of the next step, at least one.
    Continue(Vec<Continuation>),
    /// The answer.
    Finished(Generation),
}

/// The search for one answer.
pub(crate) trait Search: Send {
    /// Goes on by one token. `logits` is `[n_row, vocab_size]`, the first step having one row: the prompt.
    fn step(&mut self, logits: &[f32]) -> Result<Step, GenerateError>;

    /// Tokens of the answer that are certain by now, without the end token.
    fn certain(&self) -> &[u32];
}

#[cfg(test)]
mod tests;
