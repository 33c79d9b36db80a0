//! Prefix-tuning: rows of keys and values ahead of the text in every layer.
//!
//! The prefix is `[frozen rows; P_base + R]`, where `R` is trained directly or through the MLP, the base is zero or the
//! rows of a text, and the first `num_frozen_tokens` rows of the start stay what they are (an attention sink that
//! training must not spoil; PEFT's CARTRIDGE has the same option).

use preface_backend::Backend;
use preface_model::{Attachments, AttachmentsGrad, Model, ModelSpec};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::mlp::{self, MlpShape};
use super::reparametrised::Reparametrised;
use super::{Gradient, Method, Parameters, Trained};
use crate::init::{Init, MlpTextInit, fit_mlp, normal};

/// Rows of a prefix, as they are saved and attached.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixRows {
    /// Number of rows.
    pub prefix_len: usize,
    /// Layers of the model.
    pub n_layer: usize,
    /// Key/value heads of the model.
    pub n_kv_head: usize,
    /// Columns of one head.
    pub head_dim: usize,
    /// `[prefix_len, 2 * n_layer * n_kv_head * head_dim]`, row-major.
    pub values: Vec<f32>,
}

impl PrefixRows {
    /// Rows for a model of the given shape.
    ///
    /// # Panics
    /// If `values` is no whole number of rows.
    pub fn new(spec: &ModelSpec, values: Vec<f32>) -> Self {
        assert_eq!(values.len() % spec.prefix_row_width(), 0, "whole rows");
        Self {
            prefix_len: values.len() / spec.prefix_row_width(),
            n_layer: spec.n_layer,
            n_kv_head: spec.n_kv_head,
            head_dim: spec.head_dim,
            values,
        }
    }
}

/// How the rows are made from what is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reparametrisation {
    /// The rows themselves are trained.
    Direct,
    /// Through the paper's MLP.
    Mlp {
        /// Its hidden width (`encoder_hidden_size`).
        mid: usize,
        /// How it is made to start from a text.
        text_init: MlpTextInit,
    },
}

/// Settings that do not fit each other.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PrefixError {
    /// Nothing left to train.
    #[error("num_frozen_tokens = {num_frozen_tokens} leaves nothing to train of {prefix_len} prefix rows")]
    AllFrozen {
        /// Rows that stay.
        num_frozen_tokens: usize,
        /// All rows.
        prefix_len: usize,
    },
    /// Under the MLP, only a text gives rows that can be kept.
    #[error("num_frozen_tokens with prefix_projection = true needs init = \"text\"")]
    FrozenNeedsText,
}

/// A prefix under training.
pub struct Prefix {
    spec: ModelSpec,
    rows: Reparametrised,
}

impl Prefix {
    /// A prefix that starts from random values or zeros.
    ///
    /// # Errors
    /// See [`PrefixError`].
    pub fn new(
        spec: &ModelSpec,
        prefix_len: usize,
        reparametrisation: Reparametrisation,
        init: Init,
        num_frozen_tokens: usize,
        seed: u64,
    ) -> Result<Self, PrefixError> {
        let (d_model, row_width) = (spec.d_model, spec.prefix_row_width());
        let shape = MlpShape { n_row: prefix_len, d_model, mid: 0, row_width };
        let rows = random_start(shape, reparametrisation, init, num_frozen_tokens, seed)?;
        Ok(Self { spec: spec.clone(), rows })
    }

    /// A prefix that starts from the rows of a text (see [`crate::init::text_rows`]).
    ///
    /// # Errors
    /// See [`PrefixError`].
    pub fn from_rows(
        spec: &ModelSpec,
        rows: PrefixRows,
        reparametrisation: Reparametrisation,
        num_frozen_tokens: usize,
        seed: u64,
    ) -> Result<Self, PrefixError> {
        let (d_model, row_width) = (spec.d_model, spec.prefix_row_width());
        let shape = MlpShape { n_row: rows.prefix_len, d_model, mid: 0, row_width };
        let rows = rows_start(shape, rows.values, reparametrisation, num_frozen_tokens, seed)?;
        Ok(Self { spec: spec.clone(), rows })
    }

    /// The prefix as it stands.
    pub fn rows(&self) -> PrefixRows {
        PrefixRows::new(&self.spec, self.rows.rows())
    }
}

impl<B: Backend> Method<B> for Prefix {
    fn parameters(&self) -> &Parameters {
        &self.rows.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.rows.parameters
    }

    fn constants(&self) -> Vec<f32> {
        self.rows.constants()
    }

    fn set_constants(&mut self, constants: &[f32]) {
        self.rows.set_constants(constants);
    }

    fn n_stored(&self) -> usize {
        self.rows.frozen.len() + self.rows.n_row() * self.spec.prefix_row_width()
    }

    fn segment(&self) -> Option<usize> {
        Some(0)
    }

    fn attach(&mut self, model: &mut Model<B>) -> Attachments<B> {
        Attachments::prefix(model.backend(), &self.rows.attach(), &self.spec)
    }

    fn gradient(&self, model: &Model<B>, grads: AttachmentsGrad<B>) -> Gradient<B> {
        Gradient::Computed(self.rows.gradient(model.backend().read(&grads.segments[0].decoder)))
    }

    fn trained(&self) -> Trained {
        Trained::Prefix(self.rows())
    }
}

/// Rows that start from random values or zeros. `shape` says how many and how wide they are; its `mid` is that of the
/// reparametrisation.
pub(super) fn random_start(
    shape: MlpShape,
    reparametrisation: Reparametrisation,
    init: Init,
    num_frozen_tokens: usize,
    seed: u64,
) -> Result<Reparametrised, PrefixError> {
    let MlpShape { n_row, row_width, .. } = shape;
    check_frozen(num_frozen_tokens, n_row)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    match reparametrisation {
        Reparametrisation::Direct => {
            let rows = match init {
                Init::Zeros => vec![0.0; n_row * row_width],
                Init::Random | Init::Text => normal(n_row * row_width, &mut rng),
            };
            Ok(Reparametrised::direct(rows, row_width, num_frozen_tokens))
        }
        Reparametrisation::Mlp { .. } if num_frozen_tokens > 0 => Err(PrefixError::FrozenNeedsText),
        Reparametrisation::Mlp { mid, .. } => {
            let shape = MlpShape { mid, ..shape };
            let mut parameters = mlp::random(shape, &mut rng);
            if init == Init::Zeros {
                mlp::zero_last_layer(&mut parameters);
            }
            Ok(Reparametrised::new(Vec::new(), Vec::new(), Some(shape), parameters))
        }
    }
}

/// Rows that start from given ones.
pub(super) fn rows_start(
    shape: MlpShape,
    rows: Vec<f32>,
    reparametrisation: Reparametrisation,
    num_frozen_tokens: usize,
    seed: u64,
) -> Result<Reparametrised, PrefixError> {
    check_frozen(num_frozen_tokens, shape.n_row)?;
    let Reparametrisation::Mlp { mid, text_init } = reparametrisation else {
        return Ok(Reparametrised::direct(rows, shape.row_width, num_frozen_tokens));
    };
    let mut frozen = rows;
    let trained = frozen.split_off(num_frozen_tokens * shape.row_width);
    let shape = MlpShape { n_row: shape.n_row - num_frozen_tokens, mid, ..shape };
    let mut parameters = mlp::random(shape, &mut ChaCha8Rng::seed_from_u64(seed));
    let base = match text_init {
        MlpTextInit::Exact => {
            mlp::zero_last_layer(&mut parameters);
            trained
        }
        MlpTextInit::Fit => {
            fit_mlp(shape, &mut parameters, &trained);
            Vec::new()
        }
    };
    Ok(Reparametrised::new(frozen, base, Some(shape), parameters))
}

fn check_frozen(num_frozen_tokens: usize, prefix_len: usize) -> Result<(), PrefixError> {
    if num_frozen_tokens >= prefix_len {
        return Err(PrefixError::AllFrozen { num_frozen_tokens, prefix_len });
    }
    Ok(())
}
