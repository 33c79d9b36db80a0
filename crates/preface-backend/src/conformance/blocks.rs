//! Weights of quantised blocks: every format, alone and stacked with others, in products, embeddings and the head.

use super::rows::result;
use super::values::{rows, values};
use super::{Case, Output, Suite, Within};
use crate::{
    Activation, Backend, BlockFormat, BlockMatrix, Direction, Epilogue, Function, Head, HostMatrix,
    RowTarget, Storage, Term, WeightPart,
};

pub fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    for format in BlockFormat::ALL {
        for stack in Stack::ALL {
            for direction in [Direction::Plain, Direction::Transposed] {
                for n_row in [0, 1, 3, 14, 64, 65] {
                    suite.compare(Product { format, stack, direction, n_row, gated: false });
                }
            }
            suite.compare(Product { format, stack, direction: Direction::Plain, n_row: 7, gated: true });
            suite.compare(Product { format, stack, direction: Direction::Plain, n_row: 70, gated: true });
            suite.compare(Embedding { format, stack });
            // A vocabulary of one token has a loss of zero, which leaves rounding alone to compare.
            if stack.n_row() > 1 {
                suite.compare(Loss { format, stack });
            }
        }
    }
}

/// Which output features are stored how.
#[derive(Clone, Copy, Debug)]
enum Stack {
    /// One row.
    One,
    /// More rows than a tile has, and no multiple of it.
    Odd,
    /// Two formats that meet inside a tile.
    Two,
    /// Numbers between blocks.
    Mixed,
}

impl Stack {
    const ALL: [Self; 4] = [Self::One, Self::Odd, Self::Two, Self::Mixed];

    fn n_row(self) -> usize {
        match self {
            Self::One => 1,
            Self::Odd => 101,
            Self::Two => 48 + 22,
            Self::Mixed => 19 + 6 + 35,
        }
    }

    /// Input features: whole blocks, and no multiple of a tile's columns.
    fn n_in(format: BlockFormat) -> usize {
        if format.block_len() == 32 { 160 } else { 256 }
    }

    fn weight<B: Backend>(self, backend: &B, format: BlockFormat) -> B::Weight {
        let n_in = Self::n_in(format);
        let blocks = |seed, format, n_row| WeightPart::Blocks(blocks(seed, format, n_row, n_in));
        let parts = match self {
            Self::One => vec![blocks(61, format, 1)],
            Self::Odd => vec![blocks(62, format, 101)],
            Self::Two => vec![blocks(63, format, 48), blocks(64, BlockFormat::Q8_0, 22)],
            Self::Mixed => {
                let plain = HostMatrix { n_row: 6, n_column: n_in, values: values(65, 6 * n_in) };
                vec![blocks(66, format, 19), WeightPart::Values(plain), blocks(67, format, 35)]
            }
        };
        backend.stored_weight(parts)
    }
}

/// Blocks of arbitrary elements, with scales that make numbers of the size of one.
pub fn blocks(seed: u64, format: BlockFormat, n_row: usize, n_in: usize) -> BlockMatrix {
    let n_block = n_row * n_in / format.block_len();
    let n_byte = n_block * format.block_bytes();
    let mut bytes: Vec<u8> = values(seed, n_byte).into_iter().map(|v| (v * 64.0) as i32 as u8).collect();
    // Where halves stand, and their order of size: elements (and scales) of more bits want smaller ones.
    let (places, size): (&[usize], f32) = match format {
        BlockFormat::Q4_0 => (&[0], 0.125),
        BlockFormat::Q4_1 => (&[0, 2], 0.125),
        BlockFormat::Q5_0 => (&[0], 0.0625),
        BlockFormat::Q8_0 => (&[0], 0.0078125),
        BlockFormat::Q4_K => (&[0, 2], 0.002),
        BlockFormat::Q6_K => (&[208], 0.0005),
    };
    let scales = values(seed + 1000, n_block * places.len());
    for (block, scales) in bytes.chunks_exact_mut(format.block_bytes()).zip(scales.chunks_exact(places.len()))
    {
        for (place, scale) in places.iter().zip(scales) {
            let half = half::f16::from_f32(size * (0.5 + scale.abs()));
            block[*place..place + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
    BlockMatrix::new(format, n_row, n_in, bytes)
}

#[derive(Debug)]
struct Product {
    format: BlockFormat,
    stack: Stack,
    direction: Direction,
    n_row: usize,
    gated: bool,
}

impl Case for Product {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { format, stack, direction, n_row, gated } = self;
        if gated && !stack.n_row().is_multiple_of(2) {
            return Vec::new();
        }
        let weight = stack.weight(backend, format);
        let (from, to) = match direction {
            Direction::Plain => (Stack::n_in(format), stack.n_row()),
            Direction::Transposed => (stack.n_row(), Stack::n_in(format)),
        };
        let x = rows(backend, 71, n_row, from, Storage::Compact);
        let (to, epilogue) = if gated {
            let activation = Activation { function: Function::Silu, gated: true };
            (to / 2, Epilogue::Activate { activation, bias: None, keep: None })
        } else {
            (to, Epilogue::Store)
        };
        let mut out = backend.rows(n_row, to, Storage::Exact);
        backend.linear(&[Term { x: &x, weight: &weight, direction }], epilogue, &mut out);
        vec![Output::new("out", backend.read(&out), Within::Blocks)]
    }
}

#[derive(Debug)]
struct Embedding {
    format: BlockFormat,
    stack: Stack,
}

impl Case for Embedding {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let weight = self.stack.weight(backend, self.format);
        let ids: Vec<u32> = (0..self.stack.n_row() as u32).rev().collect();
        let index = backend.index(&ids);
        let mut out = backend.rows(ids.len(), Stack::n_in(self.format), Storage::Exact);
        backend.embed(&weight, &index, 1.0, &mut out);
        let plain = backend.read(&out);
        backend.embed(&weight, &index, 0.5, &mut out);
        backend.embed_add(&weight, &index, &mut out);
        // Numbers beside the blocks are exact in bf16, and blocks decode to the very numbers of the file.
        let output = |name, values| Output::new(name, values, Within::Same);
        vec![output("scale 1", plain), output("scale 0.5 and one more", backend.read(&out))]
    }
}

#[derive(Debug)]
struct Loss {
    format: BlockFormat,
    stack: Stack,
}

impl Case for Loss {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let weight = self.stack.weight(backend, self.format);
        let (vocab, width) = (self.stack.n_row() as u32, Stack::n_in(self.format));
        let targets: Vec<RowTarget> = (0..9).map(|i| RowTarget::token(i * 13 % vocab, 0.1)).collect();
        let x = rows(backend, 72, targets.len(), width, Storage::Compact);
        let mut loss = backend.rows(targets.len(), 1, Storage::Exact);
        let mut d_x = backend.rows(targets.len(), width, Storage::Exact);
        let head = Head { weight: &weight, bias: None, scale: 0.125 };
        backend.head_loss(&head, &x, &backend.targets(&targets), &mut loss, Some(&mut d_x));
        vec![
            Output::new("loss", backend.read(&loss), result(Storage::Compact)),
            Output::new("d_x", backend.read(&d_x), result(Storage::Compact)),
        ]
    }
}
