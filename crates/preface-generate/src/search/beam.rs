//! Beam search as `transformers` 5 does it.
//!
//! ```text
//! sum(hypothesis)   = sum of log-probabilities of its tokens, as the processors have left them
//! score(hypothesis) = sum / length ^ length_penalty      length: of the answer, or of prompt and answer (`length_norm`)
//! ```
//!
//! A step looks at all continuations of the `num_beams` running hypotheses by one token and takes the best
//! `max(2, 1 + number of end tokens) * num_beams` by their sum: enough that `num_beams` of them do not end with an end
//! token. Of these,
//! - the ones that end, if they are among the first `num_beams`, are candidates for the `num_beams` best *ended*
//!   hypotheses by score. At `max_new_tokens` every continuation ends;
//! - the best `num_beams` that do not end run on.
//!
//! The search is over when nothing runs on, or when there are `num_beams` ended hypotheses and `early_stopping` says
//! that it is enough. Sums and scores are `f32`, as there.

use super::probability::{log_sum_exp, maximum};
use super::{Continuation, Rules, Search, Step, token_ids};
use crate::processor::{EXCLUDED, Past};
use crate::{EarlyStopping, Finish, GenerateError, Generation, LengthNorm};

pub(crate) struct BeamSearch<'a> {
    rules: &'a Rules<'a>,
    request: usize,
    prompt_len: usize,
    n_generated: usize,
    /// Best first.
    running: Vec<Hypothesis>,
    /// Best first.
    ended: Vec<Ended>,
}

#[derive(Clone)]
struct Hypothesis {
    /// Prompt and answer.
    ids: Vec<u32>,
    sum: f32,
    /// The same before the processors.
    logprob: f64,
}

struct Ended {
    hypothesis: Hypothesis,
    score: f32,
    finish: Finish,
}

struct Candidate {
    parent: usize,
    token: u32,
    sum: f32,
}

impl<'a> BeamSearch<'a> {
    /// The answer to prompt number `request`.
    pub(crate) fn new(rules: &'a Rules<'a>, request: usize, prompt: &[u32]) -> Self {
        let running = vec![Hypothesis { ids: prompt.to_vec(), sum: 0.0, logprob: 0.0 }];
        Self { rules, request, prompt_len: prompt.len(), n_generated: 0, running, ended: Vec::new() }
    }

    fn n_candidate(&self) -> usize {
        (1 + self.rules.end_tokens.len()).max(2) * self.rules.settings.num_beams
    }

    /// The best continuations, and the normaliser of each row.
    fn candidates(&self, logits: &[f32]) -> Result<(Vec<Candidate>, Vec<f64>), GenerateError> {
        let vocab_size = logits.len() / self.running.len();
        let (mut best, mut normalisers) = (Best::new(self.n_candidate()), Vec::new());
        for (parent, (hypothesis, logits)) in
            self.running.iter().zip(logits.chunks_exact(vocab_size)).enumerate()
        {
            let normaliser = log_sum_exp(logits)
                .ok_or(GenerateError::NotFinite { prompt: self.request, n_generated: self.n_generated })?;
            normalisers.push(normaliser);
            let log_probability = |logit: f32| logit - normaliser as f32;
            if self.rules.processors.is_empty() {
                best.offer_all(parent, logits, |logit| log_probability(logit) + hypothesis.sum);
                continue;
            }
            let mut scores: Vec<f32> = logits.iter().map(|&logit| log_probability(logit)).collect();
            let past = Past { ids: &hypothesis.ids, prompt_len: self.prompt_len };
            self.rules.processors.apply(past, &mut scores);
            best.offer_all(parent, &scores, |score| score + hypothesis.sum);
        }
        Ok((best.candidates, normalisers))
    }

    fn length_factor(&self, n_generated: usize) -> f32 {
        let settings = self.rules.settings;
        let length = match settings.length_norm {
            LengthNorm::Generated => n_generated,
            LengthNorm::Total => self.prompt_len + n_generated,
        };
        (length as f64).powf(settings.length_penalty) as f32
    }

    fn end(&mut self, hypothesis: Hypothesis, finish: Finish) {
        let score = hypothesis.sum / self.length_factor(self.n_generated);
        let place = self.ended.partition_point(|ended| ended.score >= score);
        self.ended.insert(place, Ended { hypothesis, score, finish });
        self.ended.truncate(self.rules.settings.num_beams);
    }

    fn is_over(&self) -> bool {
        let settings = self.rules.settings;
        let Some(best) = self.running.first() else { return true };
        if self.ended.len() < settings.num_beams {
            return false;
        }
        let worst = self.ended.last().expect("there are `num_beams` of them").score;
        let favourable = match settings.early_stopping {
            EarlyStopping::WhenFull => return true,
            EarlyStopping::Never if settings.length_penalty > 0.0 => settings.max_new_tokens,
            EarlyStopping::Never | EarlyStopping::WhenUnlikely => self.n_generated,
        };
        best.sum / self.length_factor(favourable) <= worst
    }
}

impl Search for BeamSearch<'_> {
    fn step(&mut self, logits: &[f32]) -> Result<Step, GenerateError> {
        let vocab_size = logits.len() / self.running.len();
        let num_beams = self.rules.settings.num_beams;
        let (candidates, normalisers) = self.candidates(logits)?;
        let parents = std::mem::take(&mut self.running);
        self.n_generated += 1;
        let mut continuations = Vec::new();
        for (rank, Candidate { parent, token, sum }) in candidates.into_iter().enumerate() {
            let mut hypothesis = parents[parent].clone();
            hypothesis.ids.push(token);
            hypothesis.sum = sum;
            let logit = logits[parent * vocab_size + token as usize];
            hypothesis.logprob += f64::from(logit) - normalisers[parent];
            match self.rules.finish(&hypothesis.ids[self.prompt_len..])? {
                Some(finish) if rank < num_beams => self.end(hypothesis, finish),
                None if self.running.len() < num_beams => {
                    self.running.push(hypothesis);
                    continuations.push(Continuation { parent, token });
                }
                _ => {}
            }
        }
        if !self.is_over() {
            return Ok(Step::Continue(continuations));
        }
        if self.ended.is_empty() {
            let n_generated = self.n_generated - 1;
            return Err(GenerateError::NoTokenLeft { prompt: self.request, n_generated });
        }
        let Ended { mut hypothesis, score, finish } = self.ended.swap_remove(0);
        let answer = hypothesis.ids.split_off(self.prompt_len);
        let logprob = hypothesis.logprob;
        Ok(Step::Finished(Generation {
            token_ids: token_ids(answer, finish),
            finish,
            logprob,
            score: Some(score),
        }))
    }

    fn certain(&self) -> &[u32] {
        &[]
    }
}

/// The best candidates so far, best first; of equal ones the first to come.
struct Best {
    n_candidate: usize,
    candidates: Vec<Candidate>,
}

impl Best {
    fn new(n_candidate: usize) -> Self {
        Self { n_candidate, candidates: Vec::new() }
    }

    /// Every token of the vocabulary with its score, of which `sum` never falls while they rise: so a block is skipped whose
    /// largest would be too small.
    fn offer_all(&mut self, parent: usize, scores: &[f32], sum: impl Fn(f32) -> f32) {
        const BLOCK: usize = 256;
        for (block, scores) in scores.chunks(BLOCK).enumerate() {
            if sum(maximum(scores)) > self.least() {
                for (i, &score) in scores.iter().enumerate() {
                    let token = (block * BLOCK + i) as u32;
                    self.offer(Candidate { parent, token, sum: sum(score) });
                }
            }
        }
    }

    /// What a candidate must exceed.
    fn least(&self) -> f32 {
        let full = self.candidates.len() == self.n_candidate;
        if full { self.candidates[self.n_candidate - 1].sum } else { EXCLUDED }
    }

    fn offer(&mut self, candidate: Candidate) {
        if candidate.sum > self.least() {
            let place = self.candidates.partition_point(|better| better.sum >= candidate.sum);
            self.candidates.insert(place, candidate);
            self.candidates.truncate(self.n_candidate);
        }
    }
}
