//! What may be asked of generation, under the names that Hugging Face's `generate` uses.
//!
//! A setting that is absent has the value of `transformers`, except for `max_new_tokens` (20 there, which cuts off
//! nearly every answer). Values that switch a rule off are always accepted, whatever the other settings say.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::EarlyStopping;

/// Settings of generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationSettings {
    /// Draw tokens at random; otherwise the best one is taken, or beams are followed.
    pub do_sample: bool,
    /// Divides the logits before drawing: below 1 bolder, above 1 more random. Only with `do_sample`.
    pub temperature: f64,
    /// Draw among the best so many tokens; 0 is off. Only with `do_sample`.
    pub top_k: usize,
    /// Draw among the best tokens that together have this probability; 1 is off. Only with `do_sample`.
    pub top_p: f64,
    /// Draw among tokens with at least this share of the best one's probability; 0 is off. Only with `do_sample`.
    pub min_p: f64,
    /// Divides positive and multiplies negative scores of tokens that the prompt or the answer has; 1 is off.
    pub repetition_penalty: f64,
    /// No sequence of so many tokens comes twice in prompt and answer together; 0 is off.
    pub no_repeat_ngram_size: usize,
    /// Token sequences that must not be generated.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// The same, given as texts.
    pub bad_words: Vec<String>,
    /// The first token, if it is not chosen (mBART-50's language).
    pub forced_bos_token_id: Option<u32>,
    /// The token at `max_new_tokens`, if it is not chosen there (BART's end token).
    pub forced_eos_token_id: Option<u32>,
    /// Make log-probabilities of the scores again after all rules (Marian; changes nothing but the sums of beams).
    pub renormalize_logits: bool,
    /// Tokens before which no end token is generated.
    pub min_new_tokens: usize,
    /// Tokens after which generation ends, the end token included.
    pub max_new_tokens: usize,
    /// Hypotheses that are followed side by side; 1 is off.
    pub num_beams: usize,
    /// A hypothesis' score is its log-probability divided by its length to this power. Only with beams.
    pub length_penalty: f64,
    /// Which length that is. Only with beams.
    pub length_norm: LengthNorm,
    /// When beams stop looking for better hypotheses than those that have ended. Only with beams.
    pub early_stopping: EarlyStopping,
    /// Texts that end an answer, which keeps them. They are looked for in the answer only, not across the prompt's end.
    pub stop_strings: Vec<String>,
    /// Seed of `do_sample`.
    pub seed: u64,
}

/// Length by which a beam's log-probability is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LengthNorm {
    /// Tokens generated, the end token included: `transformers` today.
    #[default]
    Generated,
    /// The prompt's tokens too: the library that the experiments of 2021 used. Prefix rows never count.
    Total,
}

impl Default for GenerationSettings {
    fn default() -> Self {
        Self {
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            bad_words_ids: Vec::new(),
            bad_words: Vec::new(),
            forced_bos_token_id: None,
            forced_eos_token_id: None,
            renormalize_logits: false,
            min_new_tokens: 0,
            max_new_tokens: 100,
            num_beams: 1,
            length_penalty: 1.0,
            length_norm: LengthNorm::Generated,
            early_stopping: EarlyStopping::WhenUnlikely,
            stop_strings: Vec::new(),
            seed: 0,
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum SettingsError {
    /// A value outside its range.
    #[error("`{setting}` is {got}, expected {expected}")]
    OutOfRange {
        /// The setting.
        setting: &'static str,
        /// Its value.
        got: String,
        /// What would do.
        expected: &'static str,
    },
    /// Both ways of choosing tokens at once.
    #[error("`do_sample` with `num_beams` = {num_beams}: choose one of sampling and beam search")]
    SampledBeams {
        /// The beams.
        num_beams: usize,
    },
    /// A minimum above the maximum.
    #[error("`min_new_tokens` is {min_new_tokens}, more than `max_new_tokens` = {max_new_tokens}")]
    MinimumAboveMaximum {
        /// The minimum.
        min_new_tokens: usize,
        /// The maximum.
        max_new_tokens: usize,
    },
}

impl GenerationSettings {
    /// Checks every setting, and those that exclude each other.
    ///
    /// # Errors
    /// [`SettingsError`] naming the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let require = |holds: bool, setting, got: &dyn std::fmt::Debug, expected| {
            let got = || format!("{got:?}");
            if holds { Ok(()) } else { Err(SettingsError::OutOfRange { setting, got: got(), expected }) }
        };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        if self.do_sample {
            let expected = "a number above 0 (for the best token every time, leave out `do_sample`)";
            require(positive(self.temperature), "temperature", &self.temperature, expected)?;
        }
        require(
            share(self.top_p) && self.top_p > 0.0,
            "top_p",
            &self.top_p,
            "a number above 0, at most 1 (off)",
        )?;
        require(share(self.min_p), "min_p", &self.min_p, "a number from 0 (off) to 1")?;
        let expected = "a number above 0 (1 is off)";
        require(positive(self.repetition_penalty), "repetition_penalty", &self.repetition_penalty, expected)?;
        let full = |words: &[Vec<u32>]| words.iter().all(|word| !word.is_empty());
        require(
            full(&self.bad_words_ids),
            "bad_words_ids",
            &self.bad_words_ids,
            "at least one token in each",
        )?;
        let full = |texts: &[String]| texts.iter().all(|text| !text.is_empty());
        require(full(&self.bad_words), "bad_words", &self.bad_words, "texts that are not empty")?;
        require(full(&self.stop_strings), "stop_strings", &self.stop_strings, "texts that are not empty")?;
        require(self.max_new_tokens > 0, "max_new_tokens", &self.max_new_tokens, "at least 1")?;
        require(self.num_beams > 0, "num_beams", &self.num_beams, "at least 1 (off)")?;
        require(self.length_penalty.is_finite(), "length_penalty", &self.length_penalty, "a finite number")?;
        if self.do_sample && self.num_beams > 1 {
            return Err(SettingsError::SampledBeams { num_beams: self.num_beams });
        }
        if self.min_new_tokens > self.max_new_tokens {
            return Err(SettingsError::MinimumAboveMaximum {
                min_new_tokens: self.min_new_tokens,
                max_new_tokens: self.max_new_tokens,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut GenerationSettings)) -> String {
        let mut settings = GenerationSettings::default();
        change(&mut settings);
        settings.validate().expect_err("should be refused").to_string()
    }

    #[test]
    fn a_senseless_value_is_refused_by_name() {
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = refused(|s| (s.do_sample, s.temperature) = (true, temperature));
            assert!(error.starts_with("`temperature` is ") && error.contains("do_sample"), "{error}");
        }
        for value in [0.0, -0.1, 1.5, f64::NAN] {
            assert!(refused(|s| s.top_p = value).starts_with("`top_p`"));
            let min_p = if value == 0.0 { 2.0 } else { value };
            assert!(refused(|s| s.min_p = min_p).starts_with("`min_p`"));
        }
        assert!(refused(|s| s.repetition_penalty = 0.0).starts_with("`repetition_penalty`"));
        assert!(refused(|s| s.num_beams = 0).starts_with("`num_beams` is 0"));
        assert!(refused(|s| s.max_new_tokens = 0).starts_with("`max_new_tokens` is 0"));
        assert!(refused(|s| s.length_penalty = f64::INFINITY).starts_with("`length_penalty` is inf"));
        assert!(refused(|s| s.bad_words_ids = vec![vec![1], vec![]]).starts_with("`bad_words_ids`"));
        assert!(refused(|s| s.bad_words = vec![String::new()]).starts_with("`bad_words` is"));
        assert!(refused(|s| s.stop_strings = vec![String::new()]).starts_with("`stop_strings`"));
    }

    #[test]
    fn settings_that_exclude_each_other_are_refused() {
        assert!(refused(|s| (s.do_sample, s.num_beams) = (true, 4)).contains("`num_beams` = 4"));
        assert!(refused(|s| s.min_new_tokens = 101).contains("`max_new_tokens` = 100"));
    }

    #[test]
    fn neutral_values_are_accepted_everywhere() {
        let neutral = GenerationSettings {
            temperature: 0.0, // greedy does not look at it
            top_k: 0,
            length_penalty: 0.7,
            early_stopping: EarlyStopping::Never,
            ..GenerationSettings::default()
        };
        assert_eq!(neutral.validate(), Ok(()));
        assert_eq!(GenerationSettings { num_beams: 5, ..neutral }.validate(), Ok(()));
        let sampled = GenerationSettings { do_sample: true, ..GenerationSettings::default() };
        assert_eq!(sampled.validate(), Ok(()));
    }

    #[test]
    fn settings_survive_a_round_trip_and_unknown_names_are_refused() {
        let text = r#"{"num_beams": 5, "early_stopping": "never", "length_norm": "total", "bad_words_ids": [[198]]}"#;
        let settings: GenerationSettings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.num_beams, 5);
        assert_eq!(settings.early_stopping, EarlyStopping::Never);
        assert_eq!(settings.length_norm, LengthNorm::Total);
        assert_eq!(settings.max_new_tokens, GenerationSettings::default().max_new_tokens);
        let again = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
        assert_eq!(settings, again);
        let error = serde_json::from_str::<GenerationSettings>(r#"{"num_beam": 5}"#).unwrap_err().to_string();
        assert!(error.contains("num_beam") && error.contains("num_beams"), "{error}");
    }
}
