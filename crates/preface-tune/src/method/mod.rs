//! What can be trained beside a frozen model.
//!
//! A [`Method`] is one flat `f32` vector with named ranges. From it the method makes [`Attachments`], the only thing
//! that the model knows of it; from their gradient it makes the gradient of its vector. The optimizer, the checkpoint
//! and (later) a sum over machines see nothing but that vector.

mod adapter;
mod fine_tune;
mod gradient;
mod infix;
mod lora;
pub(crate) mod mlp;
mod parameters;
mod placed_prefix;
mod prefix;
mod prompt_tuning;
mod reparametrised;

use preface_backend::Backend;
use preface_model::{Attachments, AttachmentsGrad, Model};

pub use adapter::{Adapter, AdapterError};
pub use fine_tune::{FineTune, FineTuneError, Tuned};
pub use gradient::Gradient;
pub use infix::Infix;
pub use lora::{Lora, LoraError, LoraSettings};
pub use mlp::MlpShape;
pub use parameters::{ParameterRange, Parameters};
pub use placed_prefix::{DecoderPositions, PlaceStart, PlacedPrefix, PlacedRows, PlacesError};
pub use prefix::{Prefix, PrefixError, PrefixRows, Reparametrisation};
pub use prompt_tuning::PromptTuning;

/// A method under training, over models on backend `B`.
pub trait Method<B: Backend>: Send {
    /// What is trained.
    fn parameters(&self) -> &Parameters;

    /// The same, to be changed by the optimizer or a checkpoint.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// Numbers that training never changes but a checkpoint must keep, such as the rows of a text.
    fn constants(&self) -> Vec<f32> {
        Vec::new()
    }

    /// Puts back what [`Method::constants`] gave.
    ///
    /// # Panics
    /// If there are more or fewer.
    fn set_constants(&mut self, constants: &[f32]) {
        assert!(constants.is_empty(), "{} constants for a method without any", constants.len());
    }

    /// Numbers that the artefact stores.
    fn n_stored(&self) -> usize {
        self.parameters().n_number()
    }

    /// The segment that training sequences stand behind.
    fn segment(&self) -> Option<usize> {
        None
    }

    /// What the current parameters attach to the model. Where the model's own weights are trained, they are put into it.
    fn attach(&mut self, model: &mut Model<B>) -> Attachments<B>;

    /// Whether [`Method::attach`] leaves the numbers to `model`, which then holds their only copy until
    /// [`Method::detach`]: in between [`Method::parameters`] has none.
    fn lends(&self, _model: &Model<B>) -> bool {
        false
    }

    /// Lets `change` have all parameters, wherever they are: pieces of the vector, each with the place of its first number.
    fn update(&mut self, _model: &mut Model<B>, change: &mut dyn FnMut(usize, &mut [f32])) {
        change(0, self.parameters_mut().values_mut());
    }

    /// Takes back what [`Method::attach`] lent.
    fn detach(&mut self, _model: &Model<B>) {}

    /// The gradient of the parameters, in their order, from that of what the last [`Method::attach`] gave.
    fn gradient(&self, model: &Model<B>, grads: AttachmentsGrad<B>) -> Gradient<B>;

    /// What is kept after training.
    fn trained(&self) -> Trained;
}

/// The result of a method, as it is saved.
#[derive(Clone, Debug, PartialEq)]
pub enum Trained {
    /// Key/value rows.
    Prefix(PrefixRows),
    /// Key/value rows in the places of an encoder-decoder.
    PlacedPrefix(PlacedRows),
    /// Rows in the place of embeddings.
    PromptTuning(PromptTuning),
    /// Rows between prompt and completion.
    Infix(Infix),
    /// Low-rank deltas.
    Lora(Lora),
    /// Bottlenecks.
    Adapter(Adapter),
    /// Weights of the model itself.
    Weights(FineTune),
}
