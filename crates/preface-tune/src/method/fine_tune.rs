//! Fine-tuning: the model's own weights, all of them or those of the top blocks with the final norm.
//!
//! The vector holds `f32` masters in the model's own order, which is that of the flat gradient: nothing is moved between the
//! backward and the optimizer. [`Method::attach`] puts the masters into the model, rounded to what its products take; a model
//! that rounds nothing has the only copy until [`Method::detach`], so that training in `f32` needs the weights once. A head
//! that is the embedding is one matrix with one gradient.

use preface_backend::Backend;
use preface_model::{
    Attachments, AttachmentsGrad, Model, ModelDropout, ParameterGrad, ParameterShape, Site, Stack,
};
use thiserror::Error;

use super::{Gradient, Method, Parameters, Trained};

/// Which weights are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuned {
    /// All.
    All,
    /// Those of so many blocks from the top (of the decoder, where there are two stacks), and of the final norm if the model
    /// has one. (The authors' code also trains the tied embedding.)
    Top(usize),
}

/// Settings that do not fit the model.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FineTuneError {
    /// More blocks than there are, or none.
    #[error("top_layers = {top_layers}, but the model has {n_layer} blocks: expected 1 to {n_layer}")]
    Layers {
        /// What was asked for.
        top_layers: usize,
        /// What there is.
        n_layer: usize,
    },
}

/// Weights under training.
#[derive(Clone, Debug, PartialEq)]
pub struct FineTune {
    tuned: Tuned,
    shapes: Vec<ParameterShape>,
    dropout: ModelDropout,
    /// For each module its weight, and its bias if it has one.
    parameters: Parameters,
}

impl FineTune {
    /// Masters of the weights of `model`: one that holds them exactly, whatever the model that is trained stores.
    /// `dropout` is that of the model, which training leaves on.
    ///
    /// # Errors
    /// See [`FineTuneError`].
    pub fn new<B: Backend>(
        model: &Model<B>,
        tuned: Tuned,
        dropout: ModelDropout,
    ) -> Result<Self, FineTuneError> {
        Self::assemble(model, tuned, dropout, |shape| model.read_parameters(shape.site))
    }

    /// The same shapes without numbers, to plan with: it attaches nothing to the model but what is trained.
    ///
    /// # Errors
    /// See [`FineTuneError`].
    pub fn outline<B: Backend>(
        model: &Model<B>,
        tuned: Tuned,
        dropout: ModelDropout,
    ) -> Result<Self, FineTuneError> {
        let shapes = trained_shapes(model, tuned)?;
        let mut parameters = Parameters::default();
        for shape in &shapes {
            parameters.outline(&format!("{}.weight", shape.site), &shape.weight);
            if let Some(len) = shape.bias {
                parameters.outline(&format!("{}.bias", shape.site), &[len]);
            }
        }
        Ok(Self { tuned, shapes, dropout, parameters })
    }

    /// Weights that are given module by module.
    pub(crate) fn assemble<B: Backend>(
        model: &Model<B>,
        tuned: Tuned,
        dropout: ModelDropout,
        mut values: impl FnMut(&ParameterShape) -> (Vec<f32>, Option<Vec<f32>>),
    ) -> Result<Self, FineTuneError> {
        let shapes = trained_shapes(model, tuned)?;
        let mut parameters = Parameters::default();
        parameters.reserve(shapes.iter().map(ParameterShape::n_parameter).sum());
        for shape in &shapes {
            let (weight, bias) = values(shape);
            parameters.push(&format!("{}.weight", shape.site), &shape.weight, weight);
            if let Some(bias) = bias {
                parameters.push(&format!("{}.bias", shape.site), &[bias.len()], bias);
            }
        }
        Ok(Self { tuned, shapes, dropout, parameters })
    }

    /// Which weights these are.
    pub fn tuned(&self) -> Tuned {
        self.tuned
    }

    /// Each module's weight and bias.
    pub fn modules(&self) -> impl Iterator<Item = (&ParameterShape, &[f32], Option<&[f32]>)> {
        let mut part = 0;
        self.shapes.iter().map(move |shape| {
            let weight = self.parameters.part(part);
            let bias = shape.bias.map(|_| self.parameters.part(part + 1));
            part += 1 + usize::from(bias.is_some());
            (shape, weight, bias)
        })
    }

    fn places(&self) -> impl Iterator<Item = (Site, ParameterGrad)> {
        let mut part = 0;
        self.shapes.iter().map(move |shape| {
            let first = |i: usize| self.parameters.ranges()[i].range.start;
            let place = ParameterGrad { weight: first(part), bias: shape.bias.map(|_| first(part + 1)) };
            part += 1 + usize::from(place.bias.is_some());
            (shape.site, place)
        })
    }
}

/// The modules that are trained, if the model has them.
fn trained_shapes<B: Backend>(model: &Model<B>, tuned: Tuned) -> Result<Vec<ParameterShape>, FineTuneError> {
    let n_layer = model.spec().n_layer;
    if let Tuned::Top(top_layers) = tuned
        && !(1..=n_layer).contains(&top_layers)
    {
        return Err(FineTuneError::Layers { top_layers, n_layer });
    }
    let is_trained = |shape: &ParameterShape| match (tuned, shape.site) {
        (Tuned::All, _) => true,
        (Tuned::Top(top), Site::Block { stack: Stack::Decoder, layer, .. }) => layer + top >= n_layer,
        (Tuned::Top(_), site) => site == Site::FinalNorm(Stack::Decoder),
    };
    Ok(model.parameter_shapes().into_iter().filter(is_trained).collect())
}

impl<B: Backend> Method<B> for FineTune {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn attach(&mut self, model: &mut Model<B>) -> Attachments<B> {
        let is_outline = self.parameters.values().is_empty();
        if !is_outline {
            for (shape, weight, bias) in self.modules() {
                model.update_parameters(shape.site, weight, bias);
            }
            if self.lends(model) {
                self.parameters.release();
            }
        }
        Attachments {
            trained: self.places().collect(),
            n_gradient: self.parameters.n_number(),
            dropout: self.dropout,
            ..Attachments::none()
        }
    }

    fn lends(&self, model: &Model<B>) -> bool {
        model.backend().weights_are_exact()
    }

    fn update(&mut self, model: &mut Model<B>, change: &mut dyn FnMut(usize, &mut [f32])) {
        if !self.parameters.values().is_empty() {
            return change(0, self.parameters.values_mut());
        }
        for (site, place) in self.places() {
            let (mut weight, mut bias) = model.read_parameters(site);
            change(place.weight, &mut weight);
            if let (Some(first), Some(bias)) = (place.bias, &mut bias) {
                change(first, bias);
            }
            model.update_parameters(site, &weight, bias.as_deref());
        }
    }

    fn detach(&mut self, model: &Model<B>) {
        if !self.parameters.values().is_empty() {
            return;
        }
        // What a step needed, and the next one will ask for again.
        model.backend().give_back();
        let Self { shapes, parameters, .. } = self;
        parameters.restore(shapes.iter().map(ParameterShape::n_parameter), |module, values| {
            let (weight, bias) = model.read_parameters(shapes[module].site);
            let (to_weight, to_bias) = values.split_at_mut(weight.len());
            to_weight.copy_from_slice(&weight);
            to_bias.copy_from_slice(&bias.unwrap_or_default());
        });
    }

    fn gradient(&self, model: &Model<B>, grads: AttachmentsGrad<B>) -> Gradient<B> {
        Gradient::Moved(model.backend().to_host(grads.flat))
    }

    fn trained(&self) -> Trained {
        Trained::Weights(self.clone())
    }
}
