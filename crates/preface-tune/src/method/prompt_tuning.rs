//! Prompt tuning (Lester et al., 2021; "embedding-only" in the paper): rows in the place of embeddings, ahead of every text.
//!
//! They run through the model as tokens do: positions `0..len`, the text behind them. In an encoder-decoder they stand ahead of
//! what the encoder reads, as PEFT has them: the text sees them and they the text, and the decoder's cross-attention sees both.
//! A factor that the model has on its embeddings is not put on them. Trained directly or through the paper's MLP, `len` rows of
//! `d_model` numbers.

use preface_backend::Backend;
use preface_model::{Attachments, AttachmentsGrad, Model, ModelSpec, Site, SoftPlace, SoftPrompt, Stack};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::mlp::{self, MlpShape};
use super::reparametrised::Reparametrised;
use super::{Gradient, Method, Parameters, Trained};
use crate::init::{Init, normal};

/// A soft prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptTuning {
    d_model: usize,
    /// Whose text they stand ahead of.
    stack: Stack,
    rows: Reparametrised,
}

impl PromptTuning {
    /// `n_row` rows, random (standard normal, as PEFT starts them) or zero; through an MLP of width `mid`, if any.
    pub fn new(spec: &ModelSpec, n_row: usize, mid: Option<usize>, init: Init, seed: u64) -> Self {
        let (d_model, stack) = (spec.d_model, spec.prompt_place().stack());
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rows = match mid {
            None => {
                let rows = match init {
                    Init::Zeros => vec![0.0; n_row * d_model],
                    Init::Random | Init::Text => normal(n_row * d_model, &mut rng),
                };
                Reparametrised::direct(rows, d_model, 0)
            }
            Some(mid) => {
                let shape = MlpShape { n_row, d_model, mid, row_width: d_model };
                let mut parameters = mlp::random(shape, &mut rng);
                if init == Init::Zeros {
                    mlp::zero_last_layer(&mut parameters);
                }
                Reparametrised::new(Vec::new(), Vec::new(), Some(shape), parameters)
            }
        };
        Self { d_model, stack, rows }
    }

    /// Rows that start from given ones (the embeddings of a text); under the MLP they are added to what it gives, which is
    /// zero at first.
    pub fn from_rows(spec: &ModelSpec, rows: Vec<f32>, mid: Option<usize>, seed: u64) -> Self {
        let (d_model, stack) = (spec.d_model, spec.prompt_place().stack());
        let rows = match mid {
            None => Reparametrised::direct(rows, d_model, 0),
            Some(mid) => {
                let shape = MlpShape { n_row: rows.len() / d_model, d_model, mid, row_width: d_model };
                let mut parameters = mlp::random(shape, &mut ChaCha8Rng::seed_from_u64(seed));
                mlp::zero_last_layer(&mut parameters);
                Reparametrised::new(Vec::new(), rows, Some(shape), parameters)
            }
        };
        Self { d_model, stack, rows }
    }

    /// The embeddings of some tokens, with the factor that the model puts on them, to start from.
    pub fn embeddings_of<B: Backend>(model: &Model<B>, tokens: &[u32]) -> Vec<f32> {
        let (table, _) = model.read_parameters(Site::Embedding);
        let &ModelSpec { d_model, embedding_scale, .. } = model.spec();
        let row = |&token: &u32| &table[token as usize * d_model..][..d_model];
        tokens.iter().flat_map(row).map(|value| embedding_scale * value).collect()
    }

    /// `[len, d_model]`, row-major, as they stand.
    pub fn rows(&self) -> Vec<f32> {
        self.rows.rows()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.n_row()
    }

    /// Never: there is at least one row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns of a row.
    pub fn d_model(&self) -> usize {
        self.d_model
    }
}

impl<B: Backend> Method<B> for PromptTuning {
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
        self.len() * self.d_model
    }

    fn attach(&mut self, model: &mut Model<B>) -> Attachments<B> {
        let rows = self.rows.attach();
        let storage = preface_backend::Storage::Exact;
        let prompt = SoftPrompt {
            len: self.len(),
            stack: self.stack,
            place: SoftPlace::Start,
            rows: model.backend().rows_from(&rows, self.d_model, storage),
            grad: 0,
            added: None,
        };
        Attachments { soft_prompt: Some(prompt), n_gradient: rows.len(), ..Attachments::none() }
    }

    fn gradient(&self, model: &Model<B>, grads: AttachmentsGrad<B>) -> Gradient<B> {
        Gradient::Computed(self.rows.gradient(model.backend().read(&grads.flat)))
    }

    fn trained(&self) -> Trained {
        // The MLP is evaluated once and dropped.
        let rows = Reparametrised::direct(self.rows(), self.d_model, 0);
        Trained::PromptTuning(Self { rows, ..*self })
    }
}
