//! Bottleneck adapters (Lin et al., 2020; the ADAPTER of the paper's tables): behind each block
//! `x + W_up relu(W_down norm(x) + b_down) + b_up`, with the up-projection starting at zero, so that training starts from the
//! bare model.
//!
//! An encoder-decoder has one behind each block of either stack. With width `r` there are `n_layer (2 d r + r + 3 d)` parameters, biases and the norm's included; `r` follows from the wanted
//! share of the model's own.

use preface_backend::{Backend, HostMatrix, Norm, NormKind};
use preface_model::{
    Attachments, AttachmentsGrad, Bottleneck, Model, ModelDropout, ModelSpec, ParameterGrad, Stack,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::{Gradient, Method, Parameters, Trained};
use crate::init::uniform_fan_in;

/// A share that no width has.
#[derive(Debug, Error, PartialEq)]
pub enum AdapterError {
    /// Less than half of what width 1 has.
    #[error(
        "trainable_share = {share} is too small for an adapter: width 1 has {n_smallest} parameters, a share of {smallest:.6}"
    )]
    TooSmall {
        /// What was asked for.
        share: f64,
        /// Parameters of width 1.
        n_smallest: usize,
        /// Their share.
        smallest: f64,
    },
}

/// Epsilon of the adapters' norms: PyTorch's default.
const EPSILON: f32 = 1e-5;

/// Parts of a block's parameters.
const N_PART: usize = 6;

/// Adapters under training.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    width: usize,
    d_model: usize,
    /// Where they stand.
    blocks: Vec<(Stack, usize)>,
    dropout: ModelDropout,
    /// For each block: norm weight and bias, down weight and bias, up weight and bias.
    parameters: Parameters,
}

impl Adapter {
    /// Parameters of adapters of this width.
    pub fn n_parameter(spec: &ModelSpec, width: usize) -> usize {
        blocks(spec).len() * (2 * spec.d_model * width + width + 3 * spec.d_model)
    }

    /// The width whose share of the model's `n_model` parameters is nearest to `share`.
    ///
    /// # Errors
    /// If that would be 0.
    pub fn width_of_share(spec: &ModelSpec, share: f64, n_model: usize) -> Result<usize, AdapterError> {
        let d = spec.d_model as f64;
        let per_block = share * n_model as f64 / blocks(spec).len() as f64;
        let width = ((per_block - 3.0 * d) / (2.0 * d + 1.0)).round();
        if width < 1.0 {
            let n_smallest = Self::n_parameter(spec, 1);
            let smallest = n_smallest as f64 / n_model as f64;
            return Err(AdapterError::TooSmall { share, n_smallest, smallest });
        }
        Ok(width as usize)
    }

    /// Adapters that give what they get. `dropout` is that of the model, which training leaves on.
    pub fn new(spec: &ModelSpec, width: usize, dropout: ModelDropout, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let d_model = spec.d_model;
        Self::assemble(spec, width, dropout, |part, shape| {
            let n = shape.iter().product();
            match part {
                0 => vec![1.0; n],
                2 => uniform_fan_in(n, d_model, &mut rng),
                3 => uniform_fan_in(n, d_model, &mut rng),
                _ => vec![0.0; n],
            }
        })
    }

    /// Adapters whose parameters are given part by part (0 to 5 for each block).
    pub(crate) fn assemble(
        spec: &ModelSpec,
        width: usize,
        dropout: ModelDropout,
        mut values: impl FnMut(usize, &[usize]) -> Vec<f32>,
    ) -> Self {
        let (d_model, blocks) = (spec.d_model, blocks(spec));
        let mut parameters = Parameters::default();
        for (stack, layer) in &blocks {
            let side = if spec.encoder.is_some() { format!("{stack}.") } else { String::new() };
            for (part, (name, shape)) in Self::parts(d_model, width).into_iter().enumerate() {
                parameters.push(&format!("{side}layers.{layer}.{name}"), &shape, values(part, &shape));
            }
        }
        Self { width, d_model, blocks, dropout, parameters }
    }

    fn parts(d_model: usize, width: usize) -> [(&'static str, Vec<usize>); N_PART] {
        [
            ("norm.weight", vec![d_model]),
            ("norm.bias", vec![d_model]),
            ("down.weight", vec![width, d_model]),
            ("down.bias", vec![width]),
            ("up.weight", vec![d_model, width]),
            ("up.bias", vec![d_model]),
        ]
    }

    /// Width of the bottleneck.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Name, shape and values of each part.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.parameters.tensors()
    }
}

/// All blocks of a model.
fn blocks(spec: &ModelSpec) -> Vec<(Stack, usize)> {
    let encoder = spec.encoder.map_or(0, |encoder| encoder.n_layer);
    let encoder = (0..encoder).map(|layer| (Stack::Encoder, layer));
    encoder.chain((0..spec.n_layer).map(|layer| (Stack::Decoder, layer))).collect()
}

impl<B: Backend> Method<B> for Adapter {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn attach(&mut self, model: &mut Model<B>) -> Attachments<B> {
        let backend = model.backend();
        let bottleneck = |number: usize| {
            let part = |i: usize| self.parameters.part(N_PART * number + i);
            let first = |i: usize| self.parameters.ranges()[N_PART * number + i].range.start;
            let matrix = |n_row, n_column, i| {
                backend.weight(vec![HostMatrix { n_row, n_column, values: part(i).to_vec() }])
            };
            Bottleneck {
                norm: Norm {
                    kind: NormKind::Layer,
                    epsilon: EPSILON,
                    weight: backend.vector(part(0)),
                    bias: Some(backend.vector(part(1))),
                },
                down: matrix(self.width, self.d_model, 2),
                down_bias: backend.vector(part(3)),
                up: matrix(self.d_model, self.width, 4),
                up_bias: backend.vector(part(5)),
                grads: [0, 2, 4].map(|i| ParameterGrad { weight: first(i), bias: Some(first(i + 1)) }),
            }
        };
        Attachments {
            bottlenecks: self
                .blocks
                .iter()
                .enumerate()
                .map(|(number, &block)| (block, bottleneck(number)))
                .collect(),
            n_gradient: self.parameters.values().len(),
            dropout: self.dropout,
            ..Attachments::none()
        }
    }

    fn gradient(&self, model: &Model<B>, grads: AttachmentsGrad<B>) -> Gradient<B> {
        Gradient::Moved(model.backend().to_host(grads.flat))
    }

    fn trained(&self) -> Trained {
        Trained::Adapter(self.clone())
    }
}
