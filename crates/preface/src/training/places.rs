//! The prefix of an encoder-decoder before there is a model: its places, their lengths, the texts that they start from.

use anyhow::{Context, Result};
use preface_backend::Backend;
use preface_model::tokenizer::Special;
use preface_model::{Model, PerPlace, PrefixPlace};
use preface_tune::init::{Init, InitTextError, SeqToSeqText, placed_text_rows};
use preface_tune::{PlaceStart, PlacedPrefix, Reparametrisation};

use crate::config::RunConfig;
use crate::engine::Source;

/// Where rows are trained, and how many.
pub struct PlacedPlan {
    places: Vec<PrefixPlace>,
    lens: PerPlace<usize>,
    /// What the encoder reads of the init text.
    source: Vec<u32>,
    /// What the decoder reads of it.
    target: Vec<u32>,
}

impl PlacedPlan {
    /// As the settings say.
    ///
    /// # Errors
    /// A text that cannot be encoded or is too short for its rows.
    pub fn new(config: &RunConfig, source: &Source) -> Result<Self> {
        let (prefix, settings) = (&config.prefix, &config.places);
        let places = settings.places.clone().context("the places of an encoder-decoder were settled")?;
        let mut plan = Self { places, lens: PerPlace::default(), source: Vec::new(), target: Vec::new() };
        if let Some(text) = &prefix.init_text {
            let target = source.special.target.as_ref().context("an encoder-decoder has target tokens")?;
            plan.source = source.tokenizer.encode(text, Special::AsTokenizer)?;
            plan.target = vec![target.start];
            let text = settings.init_text_decoder.as_ref().unwrap_or(text);
            plan.target.extend(source.tokenizer.encode(text, Special::Without)?);
        }
        for &place in &plan.places {
            let n_token = plan.text().of(place).len();
            let len = settings.own_len(place).or(prefix.num_virtual_tokens).unwrap_or(n_token);
            if prefix.init == Init::Text && n_token < len {
                return Err(InitTextError::TooShort { n_token, prefix_len: len }).context(place);
            }
            *plan.lens.get_mut(place) = len;
        }
        Ok(plan)
    }

    /// Rows in the decoder.
    pub fn decoder_len(&self) -> usize {
        self.lens.decoder
    }

    /// The prefix at its start.
    ///
    /// # Errors
    /// Settings or a text that the model cannot follow.
    pub fn prefix<B: Backend>(
        &self,
        config: &RunConfig,
        model: &Model<B>,
        reparametrisation: Reparametrisation,
    ) -> Result<PlacedPrefix> {
        let (prefix, seed) = (&config.prefix, config.seed);
        let start = |&place: &PrefixPlace| -> Result<(PrefixPlace, PlaceStart)> {
            let prefix_len = *self.lens.get(place);
            let start = match prefix.init {
                Init::Text => {
                    let rows = placed_text_rows(model, place, self.text(), Some(prefix_len));
                    PlaceStart::Rows(rows.context(place)?)
                }
                init => PlaceStart::Drawn { prefix_len, init },
            };
            Ok((place, start))
        };
        let starts = self.places.iter().map(start).collect::<Result<_>>()?;
        let positions = config.places.decoder_positions.unwrap_or_default();
        let frozen = prefix.num_frozen_tokens;
        Ok(PlacedPrefix::new(model.spec(), starts, reparametrisation, frozen, positions, seed)?)
    }

    fn text(&self) -> SeqToSeqText<'_> {
        SeqToSeqText { source: &self.source, target: &self.target }
    }

    /// Such as `10 rows each in encoder, decoder, cross`.
    pub fn in_words(&self) -> String {
        let lens: Vec<usize> = self.places.iter().map(|place| *self.lens.get(*place)).collect();
        let names: Vec<&str> = self.places.iter().map(|place| place.name()).collect();
        match lens.as_slice() {
            [len, others @ ..] if others.iter().all(|other| other == len) => {
                let each = if others.is_empty() { "" } else { " each" };
                format!("{len} rows{each} in {}", names.join(", "))
            }
            _ => {
                let parts = names.iter().zip(&lens).map(|(name, len)| format!("{len} rows in {name}"));
                parts.collect::<Vec<_>>().join(", ")
            }
        }
    }
}
