//! Greedy search and sampling: one row, one token after the other.

use super::probability::{log_sum_exp, maximum};
use super::sample::Sampler;
use super::{Continuation, Rules, Search, Step, token_ids};
use crate::processor::{EXCLUDED, Past};
use crate::{Finish, GenerateError, Generation};

pub(crate) struct SingleSearch<'a> {
    rules: &'a Rules<'a>,
    request: usize,
    choice: Choice,
    /// Prompt and answer.
    ids: Vec<u32>,
    prompt_len: usize,
    logprob: f64,
    finished: Option<Finish>,
}

enum Choice {
    Best,
    Draw(Box<Sampler>),
}

impl<'a> SingleSearch<'a> {
    /// The answer to prompt number `request`.
    pub(crate) fn new(rules: &'a Rules<'a>, request: usize, prompt: &[u32]) -> Self {
        let settings = rules.settings;
        let draw = || Choice::Draw(Box::new(Sampler::new(settings.seed, request)));
        let choice = if settings.do_sample { draw() } else { Choice::Best };
        let (ids, prompt_len) = (prompt.to_vec(), prompt.len());
        Self { rules, request, choice, ids, prompt_len, logprob: 0.0, finished: None }
    }

    fn answer(&self) -> &[u32] {
        &self.ids[self.prompt_len..]
    }
}

impl Search for SingleSearch<'_> {
    fn step(&mut self, logits: &[f32]) -> Result<Step, GenerateError> {
        let (prompt, n_generated) = (self.request, self.answer().len());
        let normaliser = log_sum_exp(logits).ok_or(GenerateError::NotFinite { prompt, n_generated })?;
        let processors = &self.rules.processors;
        let mut changed = Vec::new();
        let scores = if processors.is_empty() {
            logits
        } else {
            changed.extend_from_slice(logits);
            processors.apply(Past { ids: &self.ids, prompt_len: self.prompt_len }, &mut changed);
            &changed
        };
        let chosen = match &mut self.choice {
            Choice::Best => best(scores),
            Choice::Draw(sampler) => sampler.draw(scores),
        };
        let token = chosen.ok_or(GenerateError::NoTokenLeft { prompt, n_generated })?;
        self.logprob += f64::from(logits[token as usize]) - normaliser;
        self.ids.push(token);
        self.finished = self.rules.finish(self.answer())?;
        Ok(match self.finished {
            None => Step::Continue(vec![Continuation { parent: 0, token }]),
            Some(finish) => Step::Finished(Generation {
                token_ids: token_ids(self.answer().to_vec(), finish),
                finish,
                logprob: self.logprob,
                score: None,
            }),
        })
    }

    fn certain(&self) -> &[u32] {
        let answer = self.answer();
        if self.finished == Some(Finish::End) { &answer[..answer.len() - 1] } else { answer }
    }
}

/// The first of the tokens with the highest score; `None` if every token is excluded.
fn best(scores: &[f32]) -> Option<u32> {
    let most = maximum(scores);
    let first = || scores.iter().position(|&score| score == most);
    if most > EXCLUDED { first().map(|token| token as u32) } else { None }
}
