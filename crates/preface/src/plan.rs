//! What training will need of memory, counted before a weight is read.
//!
//! ```text
//! what the process has now + weights + vectors as long as the parameters + the most rows of a step + 5 %
//! ```
//!
//! The last share is for what nobody counts: scratch memory of kernels, and gaps between buffers. It was measured on
//! workloads W1 to W3 (docs/benchmarks.md).
//!
//! Rows are counted by running a step over a backend that only counts, so the plan cannot forget what the layers keep.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use anyhow::Result;
use preface_backend::Counting;
use preface_cpu::CpuBackend;
use preface_model::{Attachments, Model, ModelFiles};
use preface_train::{GradientSum, TokenPair, accumulate};
use preface_tune::Method;

use crate::config::sections::Compute;
use crate::engine;
use crate::measure;
use crate::ui;

/// The most that is kept of inputs of the lowest trained layer.
pub const INPUT_CACHE_BYTES: usize = 1 << 30;
/// What is added for what is not counted.
const UNCOUNTED: f64 = 0.05;

/// Bytes, by what needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The process as it is: program, tokenizer, data.
    pub program: usize,
    /// The model's weights as they will be stored.
    pub weights: usize,
    /// What is trained, and what the optimizer keeps.
    pub parameters: usize,
    /// The most rows that are alive at once.
    pub step: usize,
    /// Inputs of the lowest trained block, kept from epoch to epoch.
    pub inputs: usize,
}

impl MemoryPlan {
    /// All of it.
    pub fn total(&self) -> usize {
        let counted = self.weights + self.parameters + self.step;
        self.program + counted + (UNCOUNTED * counted as f64) as usize + self.inputs
    }

    /// Whether what is still to come fits into so many bytes.
    pub fn fits(&self, available: usize) -> bool {
        self.total() - self.program <= available
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "needs about {} (weights {}, step {}, parameters {}, ",
            ui::bytes(self.total()),
            ui::bytes(self.weights),
            ui::bytes(self.step),
            ui::bytes(self.parameters),
        )?;
        if self.inputs > 0 {
            write!(f, "inputs of the lowest trained layer {}, ", ui::bytes(self.inputs))?;
        }
        write!(f, "program and data {})", ui::bytes(self.program))
    }
}

/// A model without numbers, and what was counted on it.
pub struct Planner {
    /// Shapes only.
    pub model: Model<Counting>,
    counting: Counting,
    /// Of what products take.
    bytes_per_number: usize,
}

impl Planner {
    /// For a model that will be loaded and trained like this.
    ///
    /// # Errors
    /// Files or settings that could not be loaded either.
    pub fn new(files: &ModelFiles, compute: &Compute, recompute: bool) -> Result<Self> {
        let options = engine::options(compute)?;
        let precision = options.precision;
        // A method may compute with all of rayon's threads before there is a backend.
        engine::start_threads(options.threads.max(1))?;
        let size_of = move |n_row, width, storage| CpuBackend::row_bytes(precision, n_row, width, storage);
        let counting = Counting::new(Arc::new(size_of), precision.bytes());
        let mut model = files.outline(counting.clone(), engine::training_format(compute)?)?;
        model.set_recompute(recompute);
        Ok(Self { model, counting, bytes_per_number: precision.bytes() })
    }

    /// Counts a step over `pairs`.
    ///
    /// # Errors
    /// Pairs that could not be run.
    pub fn step(
        &mut self,
        method: &mut dyn Method<Counting>,
        pairs: &[&TokenPair],
        max_tokens_per_batch: usize,
        wanted: GradientSum<'_, Counting>,
    ) -> Result<()> {
        let attachments = method.attach(&mut self.model);
        let mut grads = attachments.zero_grad(&self.counting);
        let wanted = GradientSum { grads: Some(&mut grads), ..wanted };
        accumulate(&self.model, &attachments, method.segment(), pairs, max_tokens_per_batch, wanted)?;
        Ok(())
    }

    /// Bytes of the inputs that are kept of all pairs, where `attachments` leave something below them as it is: the
    /// encoder's output for each source, or the input of the lowest trained block for each sequence.
    pub fn kept_inputs<'a>(
        &self,
        attachments: &Attachments<Counting>,
        pairs: impl Iterator<Item = &'a TokenPair>,
    ) -> usize {
        let spec = self.model.spec();
        let n_token: usize = match spec.encoder {
            Some(_) if attachments.encoder_is_constant() => {
                let sources: HashSet<&[u32]> = pairs.map(|pair| pair.source.as_slice()).collect();
                sources.iter().map(|source| source.len()).sum()
            }
            None if attachments.n_frozen_block(spec.n_layer) > 0 => pairs.map(TokenPair::n_token).sum(),
            _ => 0,
        };
        (n_token * spec.d_model * self.bytes_per_number).min(INPUT_CACHE_BYTES)
    }

    /// What was counted, with the parameters of the method, their two moments, and `n_more` vectors of the same length.
    pub fn plan(&self, method: &dyn Method<Counting>, n_more: usize) -> MemoryPlan {
        let vector = method.parameters().n_number() * size_of::<f32>();
        // Parameters that the model holds are a vector of their own only when the step's rows are gone.
        let n_vector = if method.lends(&self.model) { 2 + n_more } else { 3 + n_more };
        MemoryPlan {
            program: measure::resident_memory_bytes().unwrap_or(0) as usize,
            weights: self.counting.weight_total(),
            parameters: n_vector * vector,
            step: self.counting.rows_peak(),
            inputs: 0,
        }
    }
}
