//! All that the model knows of a trained method.
//!
//! A *segment* is a prefix: for each layer some rows of keys and values that every query of the sequences which name it
//! sees, ahead of the text. An encoder-decoder has three places for such rows: beside the encoder's text, beside the
//! decoder's, and beside the encoder's output in cross-attention. Rows of a place are laid out as in the artefact: row
//! `i` holds, one after the other, K of layer 0, V of layer 0, K of layer 1, ... each `n_kv_head * head_dim` wide, K rows
//! after rotary embedding. They are not copied per sequence, so a batch may mix sequences with different prefixes.
//!
//! Everything else acts on all sequences: low-rank deltas at a [`Site`], bottlenecks behind a block, rows of a soft prompt,
//! and the model's own weights where they are trained. Gradients of these lie in one flat buffer, each from a place on that
//! the method chose; what is not named here gets none, and the backward stops below the lowest thing that is.

use std::collections::BTreeMap;
use std::fmt;

use preface_backend::{Backend, KeyStore, Norm, Place, Storage};
use serde::{Deserialize, Serialize};

use crate::{ModelSpec, Part, Site, Stack};

/// Which attention prefix rows stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrefixPlace {
    /// Self-attention of the encoder.
    Encoder,
    /// Self-attention of the decoder; the only one of a decoder-only model.
    Decoder,
    /// The decoder's attention to the encoder's output.
    Cross,
}

impl PrefixPlace {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Encoder, Self::Decoder, Self::Cross];

    /// The stack whose attention it is.
    pub fn stack(self) -> Stack {
        match self {
            Self::Encoder => Stack::Encoder,
            Self::Decoder | Self::Cross => Stack::Decoder,
        }
    }

    /// The word for it in settings and tensor names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Cross => "cross",
        }
    }
}

impl fmt::Display for PrefixPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something for each place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerPlace<T> {
    /// For the encoder's self-attention.
    pub encoder: T,
    /// For the decoder's self-attention.
    pub decoder: T,
    /// For cross-attention.
    pub cross: T,
}

impl<T> PerPlace<T> {
    /// Made place by place.
    pub fn new(mut make: impl FnMut(PrefixPlace) -> T) -> Self {
        Self {
            encoder: make(PrefixPlace::Encoder),
            decoder: make(PrefixPlace::Decoder),
            cross: make(PrefixPlace::Cross),
        }
    }

    /// What there is for a place.
    pub fn get(&self, place: PrefixPlace) -> &T {
        match place {
            PrefixPlace::Encoder => &self.encoder,
            PrefixPlace::Decoder => &self.decoder,
            PrefixPlace::Cross => &self.cross,
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, place: PrefixPlace) -> &mut T {
        match place {
            PrefixPlace::Encoder => &mut self.encoder,
            PrefixPlace::Decoder => &mut self.decoder,
            PrefixPlace::Cross => &mut self.cross,
        }
    }
}

/// What a method attaches to the model.
pub struct Attachments<B: Backend> {
    /// Prefixes, named by their index.
    pub segments: Vec<Segment<B>>,
    /// Low-rank deltas of linear modules.
    pub low_rank: BTreeMap<Site, LowRank<B>>,
    /// Bottlenecks behind blocks.
    pub bottlenecks: BTreeMap<(Stack, usize), Bottleneck<B>>,
    /// Trained rows in the place of embeddings, ahead of every text or behind it.
    pub soft_prompt: Option<SoftPrompt<B>>,
    /// The model's own modules that are trained.
    pub trained: BTreeMap<Site, ParameterGrad>,
    /// Length of the flat gradient.
    pub n_gradient: usize,
    /// Probabilities of dropout on the model itself, for sequences that name a mask.
    pub dropout: ModelDropout,
}

/// Where the gradients of a module's parameters begin in the flat gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterGrad {
    /// Of the weight.
    pub weight: usize,
    /// Of the bias, if the module has one.
    pub bias: Option<usize>,
}

/// A delta `x A^T B^T` of a linear module's output.
pub struct LowRank<B: Backend> {
    /// `A`: `[rank, n_in]`
    pub down: B::Weight,
    /// `B`, with the method's scale in it: `[n_out, rank]`
    pub up: B::Weight,
    /// Probability of dropout on its input, for sequences that name a mask.
    pub dropout: f32,
    /// Where the gradient of `down` begins.
    pub down_grad: usize,
    /// Where the gradient of `up` begins.
    pub up_grad: usize,
}

/// `x + W_up relu(W_down norm(x) + b_down) + b_up` behind a block (Lin et al., 2020).
pub struct Bottleneck<B: Backend> {
    /// Always a layer norm.
    pub norm: Norm<B>,
    /// `[width, d_model]`
    pub down: B::Weight,
    /// `[width]`
    pub down_bias: B::Vector,
    /// `[d_model, width]`
    pub up: B::Weight,
    /// `[d_model]`
    pub up_bias: B::Vector,
    /// Where the gradients begin: norm, down, up.
    pub grads: [ParameterGrad; 3],
}

/// Embeddings of no token, which run through the model as tokens do, at the positions where they stand.
pub struct SoftPrompt<B: Backend> {
    /// Number of rows.
    pub len: usize,
    /// Whose rows they stand among.
    pub stack: Stack,
    /// Where they stand there.
    pub place: SoftPlace,
    /// `[len, d_model]`
    pub rows: B::Rows,
    /// Where their gradient begins.
    pub grad: usize,
    /// What is added to their keys and values, if anything.
    pub added: Option<AddedRows<B>>,
}

/// Where a soft prompt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftPlace {
    /// Ahead of every text.
    Start,
    /// Between prompt and completion; in an encoder behind everything that it reads. In a cache: behind the first tokens that
    /// a sequence is fed.
    BehindPrompt,
}

/// Numbers that are added, layer by layer, to the keys and values that the model computes of a soft prompt's rows, ahead of
/// rotary embedding.
pub struct AddedRows<B: Backend> {
    /// For each layer of the stack `[len, (n_head + 2 * n_kv_head) * head_dim]`: zeros in the queries' columns, then keys and values.
    pub layers: Vec<B::Rows>,
    /// Where the gradient of the first layer's begins; the others follow. What it holds for queries means nothing.
    pub grad: usize,
}

/// Probabilities of the model's own dropout, by what it falls on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ModelDropout {
    /// The embedding's rows, as they enter a stack.
    pub embedding: f32,
    /// What a layer adds to the residual stream.
    pub residual: f32,
    /// The probabilities of attention.
    pub attention: f32,
    /// What stands behind the activation of a feed-forward layer.
    pub activation: f32,
    /// What a stack gives, behind its last norm (T5).
    pub output: f32,
}

/// One prefix.
pub struct Segment<B: Backend> {
    /// Number of rows in each place; 0 where it has none.
    pub prefix_len: PerPlace<usize>,
    /// Where the positions of the decoder's text start.
    pub first_position: usize,
    /// `[prefix_len, 2 * n_layer * n_kv_head * head_dim]` for each place.
    pub rows: PerPlace<B::Rows>,
}

/// Gradient of each segment's rows, in the same layout; sums over everything that was run backward into it.
pub struct AttachmentsGrad<B: Backend> {
    /// One for each segment.
    pub segments: Vec<PerPlace<B::Rows>>,
    /// `[1, n_gradient]`: of everything else.
    pub flat: B::Rows,
}

impl<B: Backend> Attachments<B> {
    /// Nothing attached: the bare model.
    pub fn none() -> Self {
        Self {
            segments: Vec::new(),
            low_rank: BTreeMap::new(),
            bottlenecks: BTreeMap::new(),
            soft_prompt: None,
            trained: BTreeMap::new(),
            n_gradient: 0,
            dropout: ModelDropout::default(),
        }
    }

    /// One prefix of the given rows, in the decoder alone.
    pub fn prefix(backend: &B, rows: &[f32], spec: &ModelSpec) -> Self {
        Self { segments: vec![Segment::new(backend, rows, spec)], ..Self::none() }
    }

    /// A gradient of zeros.
    pub fn zero_grad(&self, backend: &B) -> AttachmentsGrad<B> {
        let zeros = |segment: &Segment<B>| {
            PerPlace::new(|place| {
                let (n_row, width) = backend.shape(segment.rows.get(place));
                let mut rows = backend.rows(n_row, width, Storage::Exact);
                backend.zero(&mut rows);
                rows
            })
        };
        let mut flat = backend.rows(1, self.n_gradient, Storage::Exact);
        backend.zero(&mut flat);
        AttachmentsGrad { segments: self.segments.iter().map(zeros).collect(), flat }
    }

    /// Whether anything is dropped of sequences that name a mask.
    pub fn has_dropout(&self) -> bool {
        let ModelDropout { embedding, residual, attention, activation, output } = self.dropout;
        let deltas = self.low_rank.values().map(|delta| delta.dropout);
        let own = [embedding, residual, attention, activation, output];
        deltas.chain(own).any(|probability| probability > 0.0)
    }

    /// Whether any prefix has rows in a place.
    pub(crate) fn has_rows(&self, place: PrefixPlace) -> bool {
        self.segments.iter().any(|segment| *segment.prefix_len.get(place) > 0)
    }

    /// The soft prompt, if it stands in this stack.
    pub(crate) fn soft_in(&self, stack: Stack) -> Option<&SoftPrompt<B>> {
        self.soft_prompt.as_ref().filter(|prompt| prompt.stack == stack)
    }

    /// Rows of the soft prompt in a stack.
    pub(crate) fn soft_len(&self, stack: Stack) -> usize {
        self.soft_in(stack).map_or(0, |prompt| prompt.len)
    }

    /// Whether the gradient of a linear module's input, or of its parameters, needs the input itself.
    pub(crate) fn wants_input(&self, site: Site) -> bool {
        self.trained.contains_key(&site) || self.low_rank.contains_key(&site)
    }

    /// Blocks of the decoder, counted from the embedding, whose input depends on nothing that is attached or trained.
    pub fn n_frozen_block(&self, n_layer: usize) -> usize {
        self.lowest(Stack::Decoder).map_or(n_layer - 1, |lowest| lowest.first_block(n_layer))
    }

    /// Whether the encoder's output is a function of its text alone.
    pub fn encoder_is_constant(&self) -> bool {
        self.lowest(Stack::Encoder).is_none()
    }

    /// The lowest thing that is trained in a stack: its backward ends there. None if nothing in it is.
    pub(crate) fn lowest(&self, stack: Stack) -> Option<Depth> {
        let sites = self.low_rank.keys().chain(self.trained.keys());
        let sites = sites.filter_map(|&site| Depth::of(site, stack));
        let in_stack = |&&(of, _): &&(Stack, usize)| of == stack;
        let bottlenecks = self.bottlenecks.keys().filter(in_stack);
        let bottlenecks = bottlenecks.map(|&(_, layer)| Depth::block(layer, Step::Bottleneck));
        let segments = PrefixPlace::ALL.into_iter().filter(|&place| self.has_rows(place));
        let segments = segments.filter_map(|place| match (place, stack) {
            (PrefixPlace::Encoder, Stack::Encoder) | (PrefixPlace::Decoder, Stack::Decoder) => {
                Some(Depth::block(0, Step::Attention))
            }
            (PrefixPlace::Cross, Stack::Decoder) => Some(Depth::block(0, Step::Cross)),
            _ => None,
        });
        let soft = self.soft_in(stack).map(|_| Depth::INPUT);
        // Every layer's cross-attention is a way to the encoder.
        let way = match stack {
            Stack::Decoder => self.lowest(Stack::Encoder).map(|_| Depth::block(0, Step::Cross)),
            Stack::Encoder => None,
        };
        sites.chain(bottlenecks).chain(segments).chain(soft).chain(way).min()
    }
}

impl<B: Backend> Segment<B> {
    /// A prefix of the given rows (row-major, [`ModelSpec::prefix_row_width`] wide) in the decoder; the text's positions
    /// start behind them.
    pub fn new(backend: &B, rows: &[f32], spec: &ModelSpec) -> Self {
        let rows = PerPlace { encoder: &[][..], decoder: rows, cross: &[] };
        Self::in_places(backend, rows, rows.decoder.len() / spec.prefix_row_width(), spec)
    }

    /// A prefix with rows (row-major, [`ModelSpec::row_width`] wide) in the places where they are not empty; the
    /// positions of the decoder's text start at `first_position`.
    ///
    /// # Panics
    /// If there are rows in a place that the model lacks.
    pub fn in_places(backend: &B, rows: PerPlace<&[f32]>, first_position: usize, spec: &ModelSpec) -> Self {
        // Where the model lacks a place there are no rows, whatever their width.
        let width = |place| spec.row_width(place).max(1);
        let prefix_len = PerPlace::new(|place| rows.get(place).len() / width(place));
        for place in PrefixPlace::ALL {
            let is_empty = rows.get(place).is_empty();
            assert!(is_empty || spec.stack(place).is_some(), "rows for the {place}, which the model lacks");
        }
        // Not rounded: gradients would turn too far.
        let rows = PerPlace::new(|place| backend.rows_from(rows.get(place), width(place), Storage::Exact));
        Self { prefix_len, first_position, rows }
    }
}

impl<B: Backend> Segment<B> {
    /// The rows as a cache holds those of the text.
    pub(crate) fn compact(&self, backend: &B) -> PerPlace<B::Rows> {
        PerPlace::new(|place| {
            let rows = self.rows.get(place);
            let (n_row, width) = backend.shape(rows);
            let mut compact = backend.rows(n_row, width, Storage::Compact);
            let all: Vec<u32> = (0..n_row as u32).collect();
            backend.gather(rows, 0..width, &backend.index(&all), &mut compact);
            compact
        })
    }
}

/// The steps of a block, in the order of the forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Attention,
    Cross,
    FeedForward,
    Bottleneck,
}

/// How far something is from a stack's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Depth(usize);

impl Depth {
    /// The embedding.
    pub const INPUT: Self = Self(0);
    /// Behind the last block.
    pub const ABOVE: Self = Self(usize::MAX);

    pub fn block(layer: usize, step: Step) -> Self {
        Self(1 + 4 * layer + step as usize)
    }

    /// The lowest of `n_layer` blocks that has to be run with a backward in view: that which this is in, or the one above
    /// the embedding, or the last.
    pub fn first_block(self, n_layer: usize) -> usize {
        (self.0.saturating_sub(1) / 4).min(n_layer - 1)
    }

    /// Of a module in a stack that it belongs to.
    fn of(site: Site, in_stack: Stack) -> Option<Self> {
        let is_here = match site {
            Site::Embedding => true,
            Site::Head => in_stack == Stack::Decoder,
            other => other.stack() == Some(in_stack),
        };
        let depth = match site {
            Site::Embedding | Site::Positions(_) | Site::EmbeddingNorm(_) => Self::INPUT,
            Site::RelativeBias(_) => Self::block(0, Step::Attention),
            Site::FinalNorm(_) | Site::Head => Self::ABOVE,
            Site::Block { layer, part, .. } => match part {
                Part::AttentionNorm | Part::Qkv | Part::AttentionOutput => {
                    Self::block(layer, Step::Attention)
                }
                Part::CrossNorm | Part::CrossQuery | Part::CrossKeys | Part::CrossOutput => {
                    Self::block(layer, Step::Cross)
                }
                Part::FeedForwardNorm | Part::Up | Part::Down => Self::block(layer, Step::FeedForward),
            },
        };
        is_here.then_some(depth)
    }
}

/// Where a layer's keys and values stand in a matrix of prefix rows that is buffer number `buffer` of a call.
pub(crate) fn layer_store(kv_width: usize, layer: usize, buffer: usize) -> KeyStore {
    KeyStore {
        keys: Place { buffer, column: 2 * layer * kv_width },
        values: Place { buffer, column: (2 * layer + 1) * kv_width },
    }
}
