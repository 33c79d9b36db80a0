//! Answers to many prompts in one K/V cache.
//!
//! Up to `batch_size` prompts are worked on at once. Every step runs the new tokens of all of them as packed rows:
//! the whole prompt where one has just joined, one token for each row of the others. A prompt that is finished leaves
//! and the next one joins in the step after, so no row ever waits for the longest answer. There is no padding and
//! each sequence attends only to itself, so an answer does not depend on what else is in the batch.
//!
//! An encoder-decoder's sources are read when their prompts join, once for all beams.
//!
//! A prefix is a run of keys in the attachments, shared by all prompts and beams; beams also share the pages of their
//! common past.

use preface_backend::Backend;
use preface_model::{Attachments, Feed, KvCache, Model, SequenceId, SourceFeed};
use rayon::prelude::*;

use crate::processor::Processors;
use crate::search::{BeamSearch, Continuation, Rules, Search, SingleSearch, Step};
use crate::stop::StopStrings;
use crate::{GenerateError, Generation, GenerationSettings, Observer, Request, TextCodec};

/// Prompt tokens that join in one step; a longer prompt joins alone. Bounds the memory of a step's activations.
const PROMPT_TOKENS_PER_STEP: usize = 2048;

/// A model with its attachments and settings, ready to answer.
pub struct Generator<'a, B: Backend> {
    model: &'a Model<B>,
    attachments: &'a Attachments<B>,
    rules: Rules<'a>,
}

impl<'a, B: Backend> Generator<'a, B> {
    /// Checks the settings against each other and against the model. `end_tokens` end an answer: any of them. The
    /// `codec` is needed for `stop_strings` and `bad_words` only.
    ///
    /// # Errors
    /// Senseless settings, tokens that the model does not have, text settings without a codec.
    pub fn new(
        model: &'a Model<B>,
        attachments: &'a Attachments<B>,
        settings: &'a GenerationSettings,
        end_tokens: &'a [u32],
        codec: Option<&'a dyn TextCodec>,
    ) -> Result<Self, GenerateError> {
        settings.validate()?;
        let needs_codec = |setting, texts: &[String]| match codec {
            None if !texts.is_empty() => Err(GenerateError::NeedsTokenizer { setting }),
            _ => Ok(()),
        };
        needs_codec("stop_strings", &settings.stop_strings)?;
        needs_codec("bad_words", &settings.bad_words)?;
        let mut bad_words = settings.bad_words_ids.clone();
        for text in &settings.bad_words {
            let spellings = codec.map_or(Ok(Vec::new()), |codec| codec.spellings(text))?;
            if spellings.is_empty() {
                return Err(GenerateError::NothingToBan { text: text.clone() });
            }
            bad_words.extend(spellings);
        }
        let vocab_size = model.spec().vocab_size;
        let known = |setting, tokens: &[u32]| {
            let unknown = tokens.iter().find(|&&token| token as usize >= vocab_size);
            unknown.map_or(Ok(()), |&token| Err(GenerateError::UnknownToken { setting, token, vocab_size }))
        };
        known("bad_words_ids", &bad_words.concat())?;
        known("eos_token_id", end_tokens)?;
        known("forced_bos_token_id", settings.forced_bos_token_id.as_slice())?;
        known("forced_eos_token_id", settings.forced_eos_token_id.as_slice())?;
        let processors = Processors::new(settings, bad_words, end_tokens);
        let stop_strings = StopStrings::new(&settings.stop_strings, codec);
        Ok(Self { model, attachments, rules: Rules { settings, processors, stop_strings, end_tokens } })
    }

    /// Answers in the order of the requests, at most `batch_size` (at least 1) of them being worked on at once.
    ///
    /// # Errors
    /// A prompt that is empty, unknown to the model or too long, found before the first is run; a model that computes
    /// no numbers; settings that exclude every token; an observer that wants to stop.
    pub fn run(
        &self,
        requests: &[Request],
        batch_size: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Generation>, GenerateError> {
        for (number, request) in requests.iter().enumerate() {
            self.check(number, request)?;
        }
        let mut cache = KvCache::new(self.model, self.attachments);
        let mut waiting = requests.iter().enumerate().peekable();
        let mut active: Vec<Active<'_>> = Vec::new();
        let mut answers: Vec<Option<Generation>> = vec![None; requests.len()];
        loop {
            if observer.should_stop() {
                let n_finished = answers.iter().flatten().count();
                return Err(GenerateError::Stopped { n_finished, n_prompt: requests.len() });
            }
            let mut n_token = 0;
            let mut joining = Vec::new();
            while active.len() + joining.len() < batch_size.max(1) {
                let needed = |request: &Request| request.source.len() + request.prompt.len();
                let room = |request: &Request| n_token + needed(request) <= PROMPT_TOKENS_PER_STEP;
                let Some((number, request)) = waiting.next_if(|(_, next)| n_token == 0 || room(next)) else {
                    break;
                };
                n_token += needed(request);
                joining.push((number, request));
            }
            active.extend(self.join(&mut cache, &joining)?);
            if active.is_empty() {
                return Ok(answers
                    .into_iter()
                    .map(|answer| answer.expect("every prompt has left"))
                    .collect());
            }
            for (number, generation) in step(&mut cache, &mut active, observer)? {
                observer.finished(number, &generation);
                answers[number] = Some(generation);
            }
        }
    }

    fn check(&self, prompt: usize, request: &Request) -> Result<(), GenerateError> {
        let spec = self.model.spec();
        let vocab_size = spec.vocab_size;
        if request.prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt { prompt });
        }
        if let Some(&token) = request.prompt.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(GenerateError::UnknownPromptToken { prompt, token, vocab_size });
        }
        let max_positions = spec.max_positions;
        let unknown = request.source.iter().find(|&&token| token as usize >= vocab_size);
        if let Some(&token) = unknown {
            return Err(GenerateError::UnknownPromptToken { prompt, token, vocab_size });
        }
        match (spec.encoder, request.source.len()) {
            (None, 1..) => return Err(GenerateError::NoEncoder { prompt }),
            (Some(_), 0) => return Err(GenerateError::EmptySource { prompt }),
            (Some(_), source_len) if source_len > max_positions => {
                return Err(GenerateError::SourceTooLong { prompt, source_len, max_positions });
            }
            _ => {}
        }
        let prefix_len = match request.segment {
            None => 0,
            Some(segment) => {
                let n_segment = self.attachments.segments.len();
                let attached = self.attachments.segments.get(segment);
                attached.ok_or(GenerateError::UnknownSegment { prompt, segment, n_segment })?.first_position
            }
        };
        let (prompt_len, max_new_tokens) = (request.prompt.len(), self.rules.settings.max_new_tokens);
        // The last token is chosen but never run.
        let n_position = (prefix_len + prompt_len).saturating_add(max_new_tokens - 1);
        if n_position > max_positions {
            return Err(GenerateError::TooLong {
                prompt,
                prefix_len,
                prompt_len,
                max_new_tokens,
                max_positions,
            });
        }
        Ok(())
    }

    /// Starts to work on some requests; in an encoder-decoder their sources are read here.
    fn join<'s>(
        &'s self,
        cache: &mut KvCache<'_, B>,
        requests: &[(usize, &Request)],
    ) -> Result<Vec<Active<'s>>, GenerateError> {
        let sequences = if self.model.spec().encoder.is_some() && !requests.is_empty() {
            let feeds: Vec<SourceFeed<'_>> = requests
                .iter()
                .map(|(_, request)| SourceFeed { tokens: &request.source, segment: request.segment })
                .collect();
            cache.encode(&feeds)?
        } else {
            requests.iter().map(|(_, request)| cache.start(request.segment)).collect()
        };
        let active = requests.iter().zip(sequences).map(|(&(number, request), sequence)| {
            let search: Box<dyn Search + 's> = match self.rules.settings.num_beams {
                1 => Box::new(SingleSearch::new(&self.rules, number, &request.prompt)),
                _ => Box::new(BeamSearch::new(&self.rules, number, &request.prompt)),
            };
            let row = Row { sequence, tokens: request.prompt.clone() };
            Active { number, rows: vec![row], search, n_told: 0 }
        });
        Ok(active.collect())
    }
}

/// A prompt that is being worked on.
struct Active<'a> {
    number: usize,
    rows: Vec<Row>,
    search: Box<dyn Search + 'a>,
    /// Tokens of the answer that the observer knows.
    n_told: usize,
}

/// A sequence and what it is fed in the next step.
struct Row {
    sequence: SequenceId,
    tokens: Vec<u32>,
}

/// Goes on by one token for every prompt; those that are finished leave.
fn step<B: Backend>(
    cache: &mut KvCache<'_, B>,
    active: &mut Vec<Active<'_>>,
    observer: &mut dyn Observer,
) -> Result<Vec<(usize, Generation)>, GenerateError> {
    let rows = active.iter().flat_map(|prompt| &prompt.rows);
    let feeds: Vec<Feed<'_>> = rows.map(|row| Feed { sequence: row.sequence, tokens: &row.tokens }).collect();
    let logits = cache.extend(&feeds)?;
    let vocab_size = cache.model().spec().vocab_size;
    let mut rest = &logits[..];
    let mut work = Vec::new();
    for prompt in active.iter_mut() {
        let (own, others) = rest.split_at(prompt.rows.len() * vocab_size);
        rest = others;
        work.push((prompt, own));
    }
    // Choosing a token reads the whole vocabulary, which would keep the other cores waiting.
    let steps: Vec<Result<Step, GenerateError>> =
        work.into_par_iter().map(|(prompt, logits)| prompt.search.step(logits)).collect();

    let mut finished = Vec::new();
    let mut going_on = Vec::new();
    for (mut prompt, step) in active.drain(..).zip(steps) {
        let step = step?;
        let certain = prompt.search.certain();
        for &token in &certain[prompt.n_told..] {
            observer.token(prompt.number, token);
        }
        prompt.n_told = certain.len();
        match step {
            Step::Continue(continuations) => {
                prompt.rows = go_on(cache, prompt.rows, &continuations);
                going_on.push(prompt);
            }
            Step::Finished(generation) => {
                go_on(cache, prompt.rows, &[]);
                finished.push((prompt.number, generation));
            }
        }
    }
    *active = going_on;
    Ok(finished)
}

/// The rows of the next step. The first continuation of a row takes over its sequence, others fork it, and rows
/// without a continuation are freed.
fn go_on<B: Backend>(cache: &mut KvCache<'_, B>, rows: Vec<Row>, continuations: &[Continuation]) -> Vec<Row> {
    let mut taken = vec![false; rows.len()];
    let next = continuations.iter().map(|&Continuation { parent, token }| {
        let sequence = rows[parent].sequence;
        let sequence =
            if std::mem::replace(&mut taken[parent], true) { cache.fork(sequence) } else { sequence };
        Row { sequence, tokens: vec![token] }
    });
    let next = next.collect();
    for (row, taken) in rows.iter().zip(taken) {
        if !taken {
            cache.release(row.sequence);
        }
    }
    next
}
