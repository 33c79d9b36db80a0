//! Prefix-tuning of an encoder-decoder: rows beside the encoder's text, beside the decoder's, and beside the encoder's
//! output in cross-attention, any of the three, each with an embedding and an MLP of its own (or trained directly).
//!
//! The flat vector of parameters holds those of the places one after the other; each place works on a copy of its part.

use preface_backend::Backend;
use preface_model::{Attachments, AttachmentsGrad, Model, ModelSpec, PerPlace, PrefixPlace, Segment};
use thiserror::Error;

use super::mlp::MlpShape;
use super::prefix::{random_start, rows_start};
use super::reparametrised::Reparametrised;
use super::{Gradient, Method, Parameters, PrefixError, Reparametrisation, Trained};
use crate::init::Init;

/// Where the positions of the decoder's text start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderPositions {
    /// Behind the decoder's rows, as PEFT and the caches of `transformers` count.
    #[default]
    AfterPrefix,
    /// At 0, as the authors' BART.
    FromZero,
}

/// How the rows of a place start.
#[derive(Clone, Debug, PartialEq)]
pub enum PlaceStart {
    /// From random values or zeros.
    Drawn {
        /// Number of rows.
        prefix_len: usize,
        /// Which.
        init: Init,
    },
    /// From these rows, `[prefix_len, row_width]`, such as those of a text.
    Rows(Vec<f32>),
}

/// Rows of a prefix in the places of an encoder-decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedRows {
    /// `[prefix_len, row_width]` of each place, row-major; empty where it has none.
    pub values: PerPlace<Vec<f32>>,
    /// Where the decoder's text starts.
    pub decoder_positions: DecoderPositions,
}

impl PlacedRows {
    /// What they attach to the model.
    ///
    /// # Panics
    /// If there are rows in a place that the model lacks.
    pub fn attach<B: Backend>(&self, backend: &B, spec: &ModelSpec) -> Attachments<B> {
        let first_position = match self.decoder_positions {
            DecoderPositions::AfterPrefix => self.values.decoder.len() / spec.prefix_row_width(),
            DecoderPositions::FromZero => 0,
        };
        let rows = PerPlace::new(|place| self.values.get(place).as_slice());
        let segment = Segment::in_places(backend, rows, first_position, spec);
        Attachments { segments: vec![segment], ..Attachments::none() }
    }
}

/// Settings that a model cannot follow.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlacesError {
    /// Rows for what the model has not.
    #[error("`places` names the {place}, but this model is decoder-only; it has one place: decoder")]
    NoSuchPlace {
        /// The place.
        place: PrefixPlace,
    },
    /// No place at all.
    #[error("`places` is empty; name at least one of encoder, decoder, cross")]
    NoPlace,
    /// A place that is named more than once.
    #[error("`places` names the {place} twice")]
    Twice {
        /// The place.
        place: PrefixPlace,
    },
    /// As of any prefix.
    #[error("{place}: {source}")]
    Prefix {
        /// Where.
        place: PrefixPlace,
        /// Why.
        source: PrefixError,
    },
}

/// A prefix in several places under training.
pub struct PlacedPrefix {
    spec: ModelSpec,
    parts: Vec<(PrefixPlace, Reparametrised)>,
    /// Of all parts, in their order.
    parameters: Parameters,
    decoder_positions: DecoderPositions,
}

impl PlacedPrefix {
    /// A prefix in the places that `starts` names.
    ///
    /// # Errors
    /// See [`PlacesError`].
    pub fn new(
        spec: &ModelSpec,
        starts: Vec<(PrefixPlace, PlaceStart)>,
        reparametrisation: Reparametrisation,
        num_frozen_tokens: usize,
        decoder_positions: DecoderPositions,
        seed: u64,
    ) -> Result<Self, PlacesError> {
        if starts.is_empty() {
            return Err(PlacesError::NoPlace);
        }
        let mut parts: Vec<(PrefixPlace, Reparametrised)> = Vec::with_capacity(starts.len());
        for (place, start) in starts {
            let Some(stack) = spec.stack(place) else { return Err(PlacesError::NoSuchPlace { place }) };
            if parts.iter().any(|(known, _)| *known == place) {
                return Err(PlacesError::Twice { place });
            }
            let (d_model, row_width) = (spec.d_model, stack.row_width());
            let shape = |n_row| MlpShape { n_row, d_model, mid: 0, row_width };
            // The places draw different numbers.
            let seed = seed.wrapping_add((place as u64) << 32);
            let part = match start {
                PlaceStart::Drawn { prefix_len, init } => {
                    random_start(shape(prefix_len), reparametrisation, init, num_frozen_tokens, seed)
                }
                PlaceStart::Rows(rows) => {
                    let shape = shape(rows.len() / row_width);
                    rows_start(shape, rows, reparametrisation, num_frozen_tokens, seed)
                }
            };
            parts.push((place, part.map_err(|source| PlacesError::Prefix { place, source })?));
        }
        let mut parameters = Parameters::default();
        for (place, part) in &parts {
            for (i, range) in part.parameters.ranges().iter().enumerate() {
                let values = part.parameters.part(i).to_vec();
                parameters.push(&format!("{place}.{}", range.name), &range.shape, values);
            }
        }
        Ok(Self { spec: spec.clone(), parts, parameters, decoder_positions })
    }

    /// A prefix of rows that were trained.
    ///
    /// # Panics
    /// If there are none, or rows in a place that the model lacks.
    pub fn from_rows(spec: &ModelSpec, rows: PlacedRows) -> Self {
        let PlacedRows { values: PerPlace { encoder, decoder, cross }, decoder_positions } = rows;
        let starts = PrefixPlace::ALL.into_iter().zip([encoder, decoder, cross]);
        let starts = starts.filter(|(_, rows)| !rows.is_empty());
        let starts = starts.map(|(place, rows)| (place, PlaceStart::Rows(rows))).collect();
        Self::new(spec, starts, Reparametrisation::Direct, 0, decoder_positions, 0)
            .expect("rows in places that the model has")
    }

    /// The prefix as it stands.
    pub fn rows(&self) -> PlacedRows {
        let mut values = PerPlace::<Vec<f32>>::default();
        for ((place, part), own) in self.parts.iter().zip(self.own_parameters()) {
            let mut part = part.clone();
            part.parameters.values_mut().copy_from_slice(own);
            *values.get_mut(*place) = part.rows();
        }
        PlacedRows { values, decoder_positions: self.decoder_positions }
    }

    /// The parameters of each part.
    fn own_parameters(&self) -> impl Iterator<Item = &[f32]> {
        let mut rest = self.parameters.values();
        self.parts.iter().map(move |(_, part)| {
            let (own, behind) = rest.split_at(part.parameters.values().len());
            rest = behind;
            own
        })
    }
}

impl<B: Backend> Method<B> for PlacedPrefix {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn constants(&self) -> Vec<f32> {
        self.parts.iter().flat_map(|(_, part)| part.constants()).collect()
    }

    fn set_constants(&mut self, constants: &[f32]) {
        let mut rest = constants;
        for (_, part) in &mut self.parts {
            let (own, behind) = rest.split_at(part.constants().len());
            part.set_constants(own);
            rest = behind;
        }
        assert!(rest.is_empty(), "{} constants too many", rest.len());
    }

    fn n_stored(&self) -> usize {
        let n_stored = |(place, part): &(PrefixPlace, Reparametrised)| {
            part.frozen.len() + part.n_row() * self.spec.row_width(*place)
        };
        self.parts.iter().map(n_stored).sum()
    }

    fn segment(&self) -> Option<usize> {
        Some(0)
    }

    fn attach(&mut self, model: &mut Model<B>) -> Attachments<B> {
        let mut values = PerPlace::<Vec<f32>>::default();
        let mut rest = self.parameters.values();
        for (place, part) in &mut self.parts {
            let (own, behind) = rest.split_at(part.parameters.values().len());
            rest = behind;
            part.parameters.values_mut().copy_from_slice(own);
            *values.get_mut(*place) = part.attach();
        }
        let rows = PlacedRows { values, decoder_positions: self.decoder_positions };
        rows.attach(model.backend(), &self.spec)
    }

    fn gradient(&self, model: &Model<B>, grads: AttachmentsGrad<B>) -> Gradient<B> {
        let len = self.parts.iter().map(|(_, part)| part.parameters.values().len()).sum();
        let mut gradient = Vec::with_capacity(len);
        for (place, part) in &self.parts {
            let d_rows = model.backend().read(grads.segments[0].get(*place));
            gradient.extend_from_slice(&part.gradient(d_rows));
        }
        Gradient::Computed(gradient)
    }

    fn trained(&self) -> Trained {
        Trained::PlacedPrefix(self.rows())
    }
}
