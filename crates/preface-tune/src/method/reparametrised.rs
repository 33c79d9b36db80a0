//! Rows that are trained directly or through the MLP: `[frozen rows; base + R]`, `R` the parameters themselves or what the
//! MLP makes of them. Prefixes and soft prompts are such rows of different widths.

use super::Parameters;
use super::mlp::{self, MlpShape};

/// Rows under training.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reparametrised {
    /// Rows that are never trained, ahead of the others.
    pub frozen: Vec<f32>,
    /// Added to what the parameters give; empty for none.
    pub base: Vec<f32>,
    pub mlp: Option<MlpShape>,
    pub parameters: Parameters,
    /// The MLP's hidden activations of the last [`Self::attach`].
    hidden: Vec<f32>,
}

impl Reparametrised {
    pub fn new(frozen: Vec<f32>, base: Vec<f32>, mlp: Option<MlpShape>, parameters: Parameters) -> Self {
        Self { frozen, base, mlp, parameters, hidden: Vec::new() }
    }

    /// Rows trained directly; the first `num_frozen_tokens` stay.
    pub fn direct(rows: Vec<f32>, row_width: usize, num_frozen_tokens: usize) -> Self {
        let mut frozen = rows;
        let trained = frozen.split_off(num_frozen_tokens * row_width);
        let mut parameters = Parameters::default();
        parameters.push("prompt_embeddings", &[trained.len() / row_width, row_width], trained);
        Self::new(frozen, Vec::new(), None, parameters)
    }

    /// Trained rows.
    pub fn n_row(&self) -> usize {
        self.mlp.map_or(self.parameters.ranges()[0].shape[0], |shape| shape.n_row)
    }

    /// The rows as they stand.
    pub fn rows(&self) -> Vec<f32> {
        self.evaluate().0
    }

    /// The same, keeping what the gradient needs.
    pub fn attach(&mut self) -> Vec<f32> {
        let (rows, hidden) = self.evaluate();
        self.hidden = hidden;
        rows
    }

    /// The gradient of the parameters from that of the rows that the last [`Self::attach`] gave.
    pub fn gradient(&self, mut d_rows: Vec<f32>) -> Vec<f32> {
        let d_trained = d_rows.split_off(self.frozen.len());
        match self.mlp {
            None => d_trained,
            Some(shape) => mlp::backward(shape, &self.parameters, &self.hidden, &d_trained),
        }
    }

    pub fn constants(&self) -> Vec<f32> {
        [self.frozen.as_slice(), &self.base].concat()
    }

    pub fn set_constants(&mut self, constants: &[f32]) {
        let (frozen, base) = constants.split_at(self.frozen.len());
        self.frozen.copy_from_slice(frozen);
        self.base.copy_from_slice(base);
    }

    fn evaluate(&self) -> (Vec<f32>, Vec<f32>) {
        let (mut rows, hidden) = match self.mlp {
            None => (self.parameters.values().to_vec(), Vec::new()),
            Some(shape) => mlp::forward(shape, &self.parameters),
        };
        for (row, base) in rows.iter_mut().zip(&self.base) {
            *row += base;
        }
        ([self.frozen.as_slice(), &rows].concat(), hidden)
    }
}
