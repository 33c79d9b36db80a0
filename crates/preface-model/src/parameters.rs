//! The model's own parameters by [`Site`]: which there are, their numbers, and other numbers in their place.

use preface_backend::{Backend, Norm};

use crate::layer::{BiasTable, Block, BlockStack, Linear};
use crate::{Model, Part, Site, Stack};

/// What a site holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterShape {
    /// Which module.
    pub site: Site,
    /// `[n_out, n_in]` of a matrix; `[width, 1]` of a norm's weight.
    pub weight: [usize; 2],
    /// Length of the bias, if there is one.
    pub bias: Option<usize>,
}

impl ParameterShape {
    /// Numbers of the weight.
    pub fn n_weight(&self) -> usize {
        self.weight[0] * self.weight[1]
    }

    /// Numbers of weight and bias.
    pub fn n_parameter(&self) -> usize {
        self.n_weight() + self.bias.unwrap_or(0)
    }
}

/// A module's parameters, borrowed.
enum Module<'a, B: Backend> {
    Matrix(&'a B::Weight, Option<&'a B::Vector>),
    Norm(&'a Norm<B>),
    Bias(&'a BiasTable<B>),
}

/// The same, to be changed.
enum ModuleMut<'a, B: Backend> {
    Matrix(&'a mut B::Weight, Option<&'a mut B::Vector>),
    Norm(&'a mut Norm<B>),
    Bias(&'a mut BiasTable<B>),
}

impl<B: Backend> Model<B> {
    /// All modules with parameters, from the embedding to the head.
    pub fn parameter_shapes(&self) -> Vec<ParameterShape> {
        self.spec.sites().into_iter().map(|site| self.parameter_shape(site)).collect()
    }

    /// The numbers of a module's weight and bias.
    ///
    /// # Panics
    /// If the model has no such module.
    pub fn read_parameters(&self, site: Site) -> (Vec<f32>, Option<Vec<f32>>) {
        let read = |vector: &B::Vector| self.backend.read_vector(vector);
        match self.module(site) {
            Module::Matrix(weight, bias) => (self.backend.read_weight(weight), bias.map(read)),
            Module::Norm(norm) => (read(&norm.weight), norm.bias.as_ref().map(read)),
            Module::Bias(bias) => (bias.table().to_vec(), None),
        }
    }

    /// Puts other numbers in the place of a module's. Nothing that was computed with the old ones may be used any more.
    ///
    /// # Panics
    /// If the model has no such module, or it has other shapes.
    pub fn update_parameters(&mut self, site: Site, weight: &[f32], bias: Option<&[f32]>) {
        // The backend is borrowed beside the module that it changes.
        let Self { backend, embedding, encoder, decoder, own_head, .. } = self;
        let module = match (site, site.stack()) {
            (Site::Head, _) => ModuleMut::Matrix(present(own_head.as_mut(), site), None),
            (_, None) => ModuleMut::Matrix(embedding, None),
            (_, Some(Stack::Encoder)) => module_mut(present(encoder.as_mut(), site), site),
            (_, Some(Stack::Decoder)) => module_mut(decoder, site),
        };
        let own_bias = match module {
            ModuleMut::Matrix(own, own_bias) => {
                backend.update(weight, own);
                own_bias
            }
            ModuleMut::Norm(norm) => {
                backend.update_vector(weight, &mut norm.weight);
                norm.bias.as_mut()
            }
            ModuleMut::Bias(own) => {
                own.update(backend, weight);
                None
            }
        };
        assert_eq!(own_bias.is_some(), bias.is_some(), "{site}: bias");
        if let (Some(own), Some(bias)) = (own_bias, bias) {
            backend.update_vector(bias, own);
        }
    }

    fn parameter_shape(&self, site: Site) -> ParameterShape {
        match self.module(site) {
            Module::Matrix(weight, bias) => {
                let (n_out, n_in) = self.backend.weight_shape(weight);
                ParameterShape { site, weight: [n_out, n_in], bias: bias.map(|_| n_out) }
            }
            Module::Norm(norm) => {
                let width = self.spec.d_model;
                ParameterShape { site, weight: [width, 1], bias: norm.bias.as_ref().map(|_| width) }
            }
            Module::Bias(bias) => ParameterShape { site, weight: bias.shape(), bias: None },
        }
    }

    fn module(&self, site: Site) -> Module<'_, B> {
        match (site, site.stack()) {
            (Site::Head, _) => Module::Matrix(present(self.own_head.as_ref(), site), None),
            (_, None) => Module::Matrix(&self.embedding, None),
            (_, Some(Stack::Encoder)) => module(present(self.encoder.as_ref(), site), site),
            (_, Some(Stack::Decoder)) => module(&self.decoder, site),
        }
    }
}

fn module<B: Backend>(stack: &BlockStack<B>, site: Site) -> Module<'_, B> {
    let Site::Block { layer, part, .. } = site else {
        return match site {
            Site::EmbeddingNorm(_) => Module::Norm(present(stack.embedding_norm.as_ref(), site)),
            Site::FinalNorm(_) => Module::Norm(present(stack.final_norm.as_ref(), site)),
            Site::RelativeBias(_) => Module::Bias(present(stack.relative_bias.as_ref(), site)),
            _ => Module::Matrix(present(stack.position_embedding.as_ref(), site), None),
        };
    };
    let block = present(stack.blocks.get(layer), site);
    let cross = || present(block.cross.as_ref(), site);
    match part {
        Part::AttentionNorm => Module::Norm(&block.attention.norm.norm),
        Part::Qkv => matrix(&block.attention.qkv),
        Part::AttentionOutput => matrix(&block.attention.output),
        Part::CrossNorm => Module::Norm(&cross().attention.norm.norm),
        Part::CrossQuery => matrix(&cross().attention.qkv),
        Part::CrossKeys => matrix(&cross().keys),
        Part::CrossOutput => matrix(&cross().attention.output),
        Part::FeedForwardNorm => Module::Norm(&block.feed_forward.norm.norm),
        Part::Up => matrix(&block.feed_forward.up),
        Part::Down => matrix(&block.feed_forward.down),
    }
}

fn module_mut<B: Backend>(stack: &mut BlockStack<B>, site: Site) -> ModuleMut<'_, B> {
    let Site::Block { layer, part, .. } = site else {
        return match site {
            Site::EmbeddingNorm(_) => ModuleMut::Norm(present(stack.embedding_norm.as_mut(), site)),
            Site::FinalNorm(_) => ModuleMut::Norm(present(stack.final_norm.as_mut(), site)),
            Site::RelativeBias(_) => ModuleMut::Bias(present(stack.relative_bias.as_mut(), site)),
            _ => ModuleMut::Matrix(present(stack.position_embedding.as_mut(), site), None),
        };
    };
    let Block { attention, cross, feed_forward } = present(stack.blocks.get_mut(layer), site);
    match part {
        Part::AttentionNorm => ModuleMut::Norm(&mut attention.norm.norm),
        Part::Qkv => matrix_mut(&mut attention.qkv),
        Part::AttentionOutput => matrix_mut(&mut attention.output),
        Part::CrossNorm => ModuleMut::Norm(&mut present(cross.as_mut(), site).attention.norm.norm),
        Part::CrossQuery => matrix_mut(&mut present(cross.as_mut(), site).attention.qkv),
        Part::CrossKeys => matrix_mut(&mut present(cross.as_mut(), site).keys),
        Part::CrossOutput => matrix_mut(&mut present(cross.as_mut(), site).attention.output),
        Part::FeedForwardNorm => ModuleMut::Norm(&mut feed_forward.norm.norm),
        Part::Up => matrix_mut(&mut feed_forward.up),
        Part::Down => matrix_mut(&mut feed_forward.down),
    }
}

fn matrix<B: Backend>(linear: &Linear<B>) -> Module<'_, B> {
    Module::Matrix(&linear.weight, linear.bias.as_ref())
}

fn matrix_mut<B: Backend>(linear: &mut Linear<B>) -> ModuleMut<'_, B> {
    ModuleMut::Matrix(&mut linear.weight, linear.bias.as_mut())
}

fn present<T>(module: Option<T>, site: Site) -> T {
    module.unwrap_or_else(|| panic!("the model has no {site}"))
}
