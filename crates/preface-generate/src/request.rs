//! What is asked for and what comes back.

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the encoder reads; empty where the model has none.
    pub source: Vec<u32>,
    /// What the decoder continues: a prompt, or an encoder-decoder's start token. At least one token.
    pub prompt: Vec<u32>,
    /// The prefix to put in front, by its number among the attached ones.
    pub segment: Option<usize>,
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// An end token came.
    End,
    /// A stop string came; the answer holds it.
    StopString,
    /// `max_new_tokens` are reached.
    Length,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// What was generated, without the end token.
    pub token_ids: Vec<u32>,
    /// Why it ends.
    pub finish: Finish,
    /// Natural logarithm of the probability that the model itself gives to the answer: the sum over its tokens, the
    /// end token included where one came, before any setting (temperature, penalties, ...) changes the probabilities.
    pub logprob: f64,
    /// Beams only: the length-normalised score by which the hypothesis won, as `transformers`' `sequences_scores`. It
    /// is made of log-probabilities *after* the settings have changed them.
    pub score: Option<f32>,
}

/// Somebody who looks on while answers are generated.
pub trait Observer {
    /// A token of the answer to prompt number `request`, as soon as it is chosen. End tokens are not told, and beams
    /// tell nothing: until the last step, any of them may win.
    fn token(&mut self, request: usize, token: u32) {
        let _ = (request, token);
    }

    /// An answer is complete. They come in the order in which they are completed.
    fn finished(&mut self, request: usize, generation: &Generation) {
        let _ = (request, generation);
    }

    /// Whether to give up; asked before every step.
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Nobody looks on.
impl Observer for () {}
