//! Infix-tuning (Li and Liang, 2021, section 7.3; as their code does it): `[x; INFIX; y]`.
//!
//! Between prompt and completion stand `len` rows. Trained embeddings run through the model as tokens do, so an infix row
//! sees the prompt; and in each layer trained rows are added to the keys and values that the model computes of them. The
//! prompt does not see the infix, the completion sees both. Positions go on: the prompt at `0..n`, the infix at
//! `n..n + len`, the completion from `n + len` on. The separator is part of the completion, so it stands behind the infix; a
//! BOS token as separator ends the prompt, so it stands ahead of it.
//!
//! In an encoder-decoder, of which the paper says nothing, `[x; INFIX]` is what the encoder reads: the source at positions `0..n`,
//! the infix at `n..n + len`, behind the tokenizer's end of the source; the decoder's positions start at 0. An encoder sees in
//! both directions, so here the prompt sees the infix as it sees all that the encoder reads; cross-attention sees both.
//!
//! Added rows come ahead of rotary embedding, so they mean the same wherever the prompt ends. They are trained directly or
//! through the MLP, as a prefix's rows; with embeddings of a text and nothing added, the infix is that text.

use preface_backend::{Backend, Storage};
use preface_model::{
    AddedRows, Attachments, AttachmentsGrad, Model, ModelSpec, SoftPlace, SoftPrompt, Stack,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::mlp::{self, MlpShape};
use super::reparametrised::Reparametrised;
use super::{Gradient, Method, Parameters, Trained};
use crate::init::{Init, normal};

/// An infix.
#[derive(Clone, Debug, PartialEq)]
pub struct Infix {
    sizes: Sizes,
    /// What is added, on a copy of its part of the parameters.
    added: Reparametrised,
    /// Embeddings `[len, d_model]`, then those of what is added.
    parameters: Parameters,
}

/// What it needs to know of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    d_model: usize,
    /// The stack that reads the prompt; what follows is its own.
    stack: Stack,
    n_layer: usize,
    /// Columns of a layer's queries.
    query: usize,
    /// Columns of its keys and values.
    key_value: usize,
}

impl Sizes {
    fn of(spec: &ModelSpec) -> Self {
        let of = spec.prompt_stack();
        Self {
            d_model: spec.d_model,
            stack: spec.prompt_place().stack(),
            n_layer: of.n_layer,
            query: of.n_head * of.head_dim,
            key_value: 2 * of.kv_width(),
        }
    }

    fn row_width(self) -> usize {
        self.n_layer * self.key_value
    }
}

impl Infix {
    /// `n_row` rows with random embeddings (standard normal); what is added is random or zero, through an MLP of width `mid`
    /// if there is one.
    pub fn new(spec: &ModelSpec, n_row: usize, mid: Option<usize>, init: Init, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let embeddings = normal(n_row * spec.d_model, &mut rng);
        let width = Sizes::of(spec).row_width();
        let added = match (mid, init) {
            (None, Init::Zeros) => Reparametrised::direct(vec![0.0; n_row * width], width, 0),
            (None, Init::Random | Init::Text) => {
                Reparametrised::direct(normal(n_row * width, &mut rng), width, 0)
            }
            (Some(mid), init) => {
                let mut parameters = mlp::random(shape(spec, n_row, mid), &mut rng);
                if init == Init::Zeros {
                    mlp::zero_last_layer(&mut parameters);
                }
                Reparametrised::new(Vec::new(), Vec::new(), Some(shape(spec, n_row, mid)), parameters)
            }
        };
        Self::assemble(Sizes::of(spec), embeddings, added)
    }

    /// Starts as a text with these embeddings: nothing is added at first.
    pub fn from_embeddings(spec: &ModelSpec, embeddings: Vec<f32>, mid: Option<usize>, seed: u64) -> Self {
        let n_row = embeddings.len() / spec.d_model;
        let added = match mid {
            None => {
                let width = Sizes::of(spec).row_width();
                Reparametrised::direct(vec![0.0; n_row * width], width, 0)
            }
            Some(mid) => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let mut parameters = mlp::random(shape(spec, n_row, mid), &mut rng);
                mlp::zero_last_layer(&mut parameters);
                Reparametrised::new(Vec::new(), Vec::new(), Some(shape(spec, n_row, mid)), parameters)
            }
        };
        Self::assemble(Sizes::of(spec), embeddings, added)
    }

    /// From what a folder holds: embeddings `[len, d_model]` and added rows `[len, 2 * n_layer * n_kv_head * head_dim]`.
    pub fn from_rows(spec: &ModelSpec, embeddings: Vec<f32>, added: Vec<f32>) -> Self {
        Self::direct(Sizes::of(spec), embeddings, added)
    }

    fn direct(sizes: Sizes, embeddings: Vec<f32>, added: Vec<f32>) -> Self {
        Self::assemble(sizes, embeddings, Reparametrised::direct(added, sizes.row_width(), 0))
    }

    fn assemble(sizes: Sizes, embeddings: Vec<f32>, added: Reparametrised) -> Self {
        let mut parameters = Parameters::default();
        let n_row = embeddings.len() / sizes.d_model;
        parameters.push("infix_embeddings", &[n_row, sizes.d_model], embeddings);
        for (i, part) in added.parameters.ranges().iter().enumerate() {
            let values = added.parameters.part(i).to_vec();
            parameters.push(&format!("added.{}", part.name), &part.shape, values);
        }
        Self { sizes, added, parameters }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.parameters.ranges()[0].shape[0]
    }

    /// Never: there is at least one row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[len, d_model]`, as they stand.
    pub fn embeddings(&self) -> &[f32] {
        self.parameters.part(0)
    }

    /// `[len, 2 * n_layer * n_kv_head * head_dim]`, as they stand: what is added, in the layout of a prefix's rows.
    pub fn added(&self) -> Vec<f32> {
        let mut added = self.added.clone();
        added.parameters.values_mut().copy_from_slice(self.added_parameters());
        added.rows()
    }

    fn added_parameters(&self) -> &[f32] {
        &self.parameters.values()[self.parameters.ranges()[0].range.end..]
    }
}

fn shape(spec: &ModelSpec, n_row: usize, mid: usize) -> MlpShape {
    MlpShape { n_row, d_model: spec.d_model, mid, row_width: Sizes::of(spec).row_width() }
}

impl<B: Backend> Method<B> for Infix {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn n_stored(&self) -> usize {
        self.len() * (self.sizes.d_model + self.sizes.row_width())
    }

    fn attach(&mut self, model: &mut Model<B>) -> Attachments<B> {
        let own = self.added_parameters().to_vec();
        self.added.parameters.values_mut().copy_from_slice(&own);
        let added = self.added.attach();
        let Sizes { d_model, stack, n_layer, query, key_value: kv } = self.sizes;
        let backend = model.backend();
        // A layer's keys and values lie side by side in a prefix's row.
        let layer = |layer: usize| {
            let rows = added.chunks_exact(self.sizes.row_width());
            let values: Vec<f32> = rows
                .flat_map(|row| {
                    std::iter::repeat_n(0.0, query).chain(row[layer * kv..(layer + 1) * kv].iter().copied())
                })
                .collect();
            backend.rows_from(&values, query + kv, Storage::Exact)
        };
        let n_embedding = self.embeddings().len();
        let layers: Vec<B::Rows> = (0..n_layer).map(layer).collect();
        let n_gradient = n_embedding + layers.len() * self.len() * (query + kv);
        let prompt = SoftPrompt {
            len: self.len(),
            stack,
            place: SoftPlace::BehindPrompt,
            rows: backend.rows_from(self.embeddings(), d_model, Storage::Exact),
            grad: 0,
            added: Some(AddedRows { layers, grad: n_embedding }),
        };
        Attachments { soft_prompt: Some(prompt), n_gradient, ..Attachments::none() }
    }

    fn gradient(&self, model: &Model<B>, grads: AttachmentsGrad<B>) -> Gradient<B> {
        let flat = model.backend().read(&grads.flat);
        let (embeddings, layers) = flat.split_at(self.embeddings().len());
        let Sizes { query, key_value: kv, .. } = self.sizes;
        let (len, width) = (self.len(), self.sizes.row_width());
        let mut d_added = vec![0.0; len * width];
        for (layer, rows) in layers.chunks_exact(len * (query + kv)).enumerate() {
            for (row, own) in d_added.chunks_exact_mut(width).zip(rows.chunks_exact(query + kv)) {
                row[layer * kv..(layer + 1) * kv].copy_from_slice(&own[query..]);
            }
        }
        Gradient::Computed([embeddings, &self.added.gradient(d_added)].concat())
    }

    fn trained(&self) -> Trained {
        // The MLP is evaluated once and dropped.
        Trained::Infix(Self::direct(self.sizes, self.embeddings().to_vec(), self.added()))
    }
}
