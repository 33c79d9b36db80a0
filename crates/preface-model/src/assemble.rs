//! From named tensors to layers on a backend: parts stacked for fused products, matrices turned, rotary pairs put where the
//! kernels expect them.

use preface_backend::{AttentionShape, Backend, HostMatrix, Norm, NormKind, Storage, WeightPart};

use crate::family::{self, CrossNames, LayerNames, Names, StackNames};
use crate::layer::{
    AttentionLayer, BiasTable, Block, BlockStack, CrossLayer, FeedForward, Linear, Sublayer, rotary_table,
    sinusoidal_table,
};
use crate::load::{LoadError, ModelFiles};
use crate::model::HeadBias;
use crate::weight_format::Keep;
use crate::weights::{TensorSource, Weights};
use crate::{Model, ModelSpec, Part, Positions, PrefixPlace, Site, Stack, StackSpec, WeightFormat};

/// The model of some files. Without numbers matrices have shapes only, and vectors are zeros.
///
/// # Errors
/// A tensor that is missing, has another shape than the config says, or cannot be read.
pub fn model<B: Backend>(
    files: &ModelFiles,
    backend: B,
    format: WeightFormat,
    with_numbers: bool,
) -> Result<Model<B>, LoadError> {
    let (spec, weights) = (files.spec(), files.weights());
    let names = family::names(spec, files.naming());
    let keep = Keep::new(format, weights);
    let loader = Loader { backend: &backend, spec, weights, names: &names, keep, with_numbers };
    let embedding = loader.table(loader.first_of(names.embedding), spec.vocab_size)?;
    let encoder = match (spec.encoder, &names.encoder) {
        (Some(stack), Some(names)) => Some(loader.stack(names, stack, PrefixPlace::Encoder)?),
        _ => None,
    };
    let decoder = loader.stack(&names.decoder, spec.decoder(), PrefixPlace::Decoder)?;
    let own_head = if spec.tied_head { None } else { Some(loader.table(names.head, spec.vocab_size)?) };
    let head_bias = match names.head_bias {
        Some(name) if weights.info(name).is_some() => {
            let values = loader.shaped(name, &[1, spec.vocab_size])?;
            Some(HeadBias { vector: backend.vector(&values), values })
        }
        _ => None,
    };
    let spec = spec.clone();
    Ok(Model {
        backend,
        spec,
        embedding,
        encoder,
        decoder,
        own_head,
        head_bias,
        recompute: false,
        inputs: None,
    })
}

struct Loader<'a, B: Backend> {
    backend: &'a B,
    spec: &'a ModelSpec,
    weights: &'a Weights,
    names: &'a Names,
    keep: Keep,
    with_numbers: bool,
}

impl<B: Backend> Loader<'_, B> {
    fn stack(
        &self,
        names: &StackNames,
        shapes: StackSpec,
        place: PrefixPlace,
    ) -> Result<BlockStack<B>, LoadError> {
        let spec = self.spec;
        let side = if place == PrefixPlace::Encoder { Stack::Encoder } else { Stack::Decoder };
        let mut stack = BlockStack {
            position_embedding: None,
            rotary: None,
            relative_bias: None,
            embedding_norm: names.embedding_norm.map(|name| self.norm(name)).transpose()?,
            blocks: (0..shapes.n_layer)
                .map(|n| {
                    self.block(&(names.layer)(n), shapes, |part| Site::Block { stack: side, layer: n, part })
                })
                .collect::<Result<_, _>>()?,
            final_norm: if spec.final_norm { Some(self.norm(names.final_norm)?) } else { None },
        };
        match (&spec.positions, names.position_embedding, names.relative_bias) {
            (Positions::Learned { offset }, Some(name), _) => {
                stack.position_embedding = Some(self.table(name, spec.max_positions + offset)?);
            }
            (Positions::Sinusoidal, Some(name), _) if self.has_weight(name) => {
                stack.position_embedding = Some(self.table(name, spec.max_positions)?);
            }
            (Positions::Sinusoidal, ..) => {
                let values = match self.with_numbers {
                    true => sinusoidal_table(spec.max_positions, spec.d_model),
                    false => Vec::new(),
                };
                let table = HostMatrix { n_row: spec.max_positions, n_column: spec.d_model, values };
                stack.position_embedding = Some(self.backend.weight(vec![table]));
            }
            (Positions::Rotary(rotary), ..) => {
                let table = rotary_table(rotary, spec.head_dim, spec.max_positions);
                stack.rotary = Some(self.backend.rows_from(&table, spec.head_dim, Storage::Exact));
            }
            (&Positions::Relative { n_bucket, max_distance }, _, Some(name)) => {
                let both_directions = place == PrefixPlace::Encoder;
                let table = self.shaped(&format!("{name}.weight"), &[n_bucket, shapes.n_head])?;
                stack.relative_bias = Some(BiasTable::new(
                    self.backend,
                    table,
                    n_bucket,
                    shapes.n_head,
                    max_distance,
                    both_directions,
                ));
            }
            _ => unreachable!("a family names the tables that its positions need"),
        }
        Ok(stack)
    }

    fn block(
        &self,
        names: &LayerNames,
        stack: StackSpec,
        site: impl Fn(Part) -> Site,
    ) -> Result<Block<B>, LoadError> {
        let spec = self.spec;
        let shape = AttentionShape {
            n_head: stack.n_head,
            n_kv_head: stack.n_kv_head,
            head_dim: stack.head_dim,
            scale: spec.attention_scale_of(stack),
        };
        let (query_width, kv_width) = (shape.query_width(), shape.kv_width());
        let qkv_rows = split(&names.qkv, &[query_width, kv_width, kv_width]);
        let up_rows = match spec.activation.gated {
            true => split(&names.up, &[stack.d_ff, stack.d_ff]),
            false => vec![stack.d_ff],
        };
        let interleaved = self.names.interleaved_rotary;
        Ok(Block {
            attention: AttentionLayer {
                norm: self.sublayer(&names.attention_norm)?,
                shape,
                qkv: self.linear(site(Part::Qkv), &names.qkv, &qkv_rows, spec.d_model, interleaved)?,
                output: self.one(
                    site(Part::AttentionOutput),
                    &names.attention_output,
                    spec.d_model,
                    query_width,
                )?,
            },
            cross: names.cross.as_ref().map(|names| self.cross(names, shape, &site)).transpose()?,
            feed_forward: FeedForward {
                norm: self.sublayer(&names.feed_forward_norm)?,
                up: self.linear(site(Part::Up), &names.up, &up_rows, spec.d_model, false)?,
                activation: spec.activation,
                down: self.one(site(Part::Down), &names.down, spec.d_model, stack.d_ff)?,
                d_ff: stack.d_ff,
            },
        })
    }

    fn cross(
        &self,
        names: &CrossNames,
        shape: AttentionShape,
        site: &impl Fn(Part) -> Site,
    ) -> Result<CrossLayer<B>, LoadError> {
        let d_model = self.spec.d_model;
        let (query_width, kv_width) = (shape.query_width(), shape.kv_width());
        Ok(CrossLayer {
            attention: AttentionLayer {
                norm: self.sublayer(&names.norm)?,
                shape,
                qkv: self.one(site(Part::CrossQuery), &names.query, query_width, d_model)?,
                output: self.one(site(Part::CrossOutput), &names.output, d_model, query_width)?,
            },
            keys: self.linear(site(Part::CrossKeys), &names.keys, &[kv_width, kv_width], d_model, false)?,
        })
    }

    fn sublayer(&self, name: &str) -> Result<Sublayer<B>, LoadError> {
        Ok(Sublayer { norm: self.norm(name)?, place: self.spec.norm_place })
    }

    fn one(&self, site: Site, name: &str, n_row: usize, n_column: usize) -> Result<Linear<B>, LoadError> {
        self.linear(site, std::slice::from_ref(&name.to_owned()), &[n_row], n_column, false)
    }

    /// The first of some names that the file has; the first of all if it has none, for the message.
    fn first_of(&self, names: &'static [&'static str]) -> &'static str {
        names.iter().find(|name| self.has_weight(name)).unwrap_or(&names[0])
    }

    fn has_weight(&self, name: &str) -> bool {
        let weights = self.weights;
        weights.info(&self.names.resolve(weights, &format!("{name}.weight"))).is_some()
    }

    /// Stacks the named parts. With `interleaved_rotary` the first two (queries and keys) come with their rotary pairs
    /// side by side and are put half a head apart.
    fn linear(
        &self,
        site: Site,
        names: &[String],
        n_rows: &[usize],
        n_column: usize,
        interleaved_rotary: bool,
    ) -> Result<Linear<B>, LoadError> {
        let (mut parts, mut biases) = (Vec::new(), Vec::new());
        for (part, (name, &n_row)) in names.iter().zip(n_rows).enumerate() {
            let mut matrix = self.matrix(name, n_row, n_column)?;
            let mut bias = self.bias(name, n_row)?;
            if interleaved_rotary && part < 2 {
                let head_dim = self.spec.head_dim;
                if self.with_numbers {
                    matrix = rows_from_pairs(matrix, head_dim);
                }
                bias = bias.map(|bias| halves_from_pairs(&bias, head_dim, 1));
            }
            parts.push(matrix);
            biases.push(bias);
        }
        // All or nothing: a stack of which only some parts have a bias gets zeros for the others.
        let bias = biases.iter().any(Option::is_some).then(|| {
            let zeros = biases.into_iter().zip(n_rows).map(|(b, &n)| b.unwrap_or_else(|| vec![0.0; n]));
            self.backend.vector(&zeros.flatten().collect::<Vec<f32>>())
        });
        Ok(Linear { site, weight: self.backend.stored_weight(parts), bias })
    }

    fn norm(&self, name: &str) -> Result<Norm<B>, LoadError> {
        let spec = self.spec;
        let weight = self.vector(&format!("{name}.weight"), spec.d_model)?;
        let bias = match spec.norm {
            NormKind::Rms => None,
            NormKind::Layer => {
                Some(self.backend.vector(&self.vector(&format!("{name}.bias"), spec.d_model)?))
            }
        };
        let weight = self.backend.vector(&weight);
        Ok(Norm { kind: spec.norm, epsilon: spec.norm_epsilon, weight, bias })
    }

    /// A matrix of which every row belongs to a token or position: never stored transposed.
    fn table(&self, name: &str, n_row: usize) -> Result<B::Weight, LoadError> {
        let n_column = self.spec.d_model;
        if !self.with_numbers {
            return Ok(self.backend.stored_weight(vec![self.outlined(name, n_row, n_column)]));
        }
        let tensor = self
            .weights
            .read_shaped(&self.names.resolve(self.weights, &format!("{name}.weight")), &[n_row, n_column])?;
        Ok(self.backend.stored_weight(vec![self.keep.stored(tensor, n_row, n_column)]))
    }

    fn matrix(&self, name: &str, n_row: usize, n_column: usize) -> Result<WeightPart, LoadError> {
        if !self.with_numbers {
            return Ok(self.outlined(name, n_row, n_column));
        }
        let name = self.names.resolve(self.weights, &format!("{name}.weight"));
        if !self.names.transposed {
            let tensor = self.weights.read_shaped(&name, &[n_row, n_column])?;
            return Ok(self.keep.stored(tensor, n_row, n_column));
        }
        let stored = self.weights.read_shaped(&name, &[n_column, n_row])?.to_f32();
        let values = (0..n_row).flat_map(|row| stored[row..].iter().step_by(n_row).copied()).collect();
        Ok(self.keep.values(HostMatrix { n_row, n_column, values }))
    }

    /// A matrix of which the shape and the way it will be kept are known.
    fn outlined(&self, name: &str, n_row: usize, n_column: usize) -> WeightPart {
        let name = self.names.resolve(self.weights, &format!("{name}.weight"));
        // A matrix that has to be turned is decoded first.
        let stored = self.weights.info(&name).filter(|_| !self.names.transposed);
        self.keep.outline(stored.and_then(|info| info.dtype().block_format()), n_row, n_column)
    }

    fn bias(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, LoadError> {
        let name = format!("{name}.bias");
        let exists = self.weights.info(&self.names.resolve(self.weights, &name)).is_some();
        exists.then(|| self.vector(&name, len)).transpose()
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        self.shaped(name, &[len])
    }

    /// A small tensor; zeros where numbers are not wanted.
    fn shaped(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        if !self.with_numbers {
            return Ok(vec![0.0; shape.iter().product()]);
        }
        Ok(self.weights.read_shaped(&self.names.resolve(self.weights, name), shape)?.to_f32())
    }
}

/// Rows of each named part: the parts themselves, or all of them in one.
fn split(names: &[String], parts: &[usize]) -> Vec<usize> {
    if names.len() == parts.len() { parts.to_vec() } else { vec![parts.iter().sum()] }
}

/// [`halves_from_pairs`] for a matrix.
fn rows_from_pairs(matrix: WeightPart, head_dim: usize) -> WeightPart {
    match matrix {
        WeightPart::Values(matrix) => {
            let values = halves_from_pairs(&matrix.values, head_dim, matrix.n_column);
            WeightPart::Values(HostMatrix { values, ..matrix })
        }
        WeightPart::Blocks(matrix) => {
            let order: Vec<usize> = halves_from_pairs(&(0..matrix.n_row()).collect::<Vec<_>>(), head_dim, 1);
            WeightPart::Blocks(matrix.reordered(|row| order[row]))
        }
    }
}

/// Reorders the rows of each head from `(a0 b0 a1 b1 ...)` to `(a0 a1 ... b0 b1 ...)`.
fn halves_from_pairs<T: Copy>(values: &[T], head_dim: usize, n_column: usize) -> Vec<T> {
    values
        .chunks_exact(head_dim * n_column)
        .flat_map(|head| {
            let row = |i: usize| &head[i * n_column..(i + 1) * n_column];
            (0..head_dim).step_by(2).chain((1..head_dim).step_by(2)).flat_map(row).copied()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_are_put_half_a_head_apart() {
        // Two heads of 4 rows and 1 column.
        let values = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
        let want = [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0];
        assert_eq!(halves_from_pairs(&values, 4, 1), want);
    }
}
