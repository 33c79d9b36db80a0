//! Every format on every tier: what is decoded has the bits of the file's values, and sums of products are those of
//! eight-bit activations; groups and activations flush against a page without access.

use half::f16;
use preface_backend::{BlockFormat, BlockMatrix};

use super::dots::{KEPT, Operands, eight_bits};
use super::layout::with_layout;
use super::tile::{Decode, Tile};
use super::{GROUP, Packed, STEP};
use crate::guard::Guarded;
use crate::simd::{Kernel, Simd};
use crate::tier::Tier;

/// Blocks of arbitrary bits with scales that are numbers.
fn matrix(format: BlockFormat, n_row: usize, n_in: usize) -> BlockMatrix {
    let n_byte = n_row * n_in / format.block_len() * format.block_bytes();
    let mut bytes: Vec<u8> = (0..n_byte).map(|i| ((i * i + 7 * i + 11 * n_row) % 251) as u8).collect();
    let places: &[usize] = match format {
        BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 => &[0],
        BlockFormat::Q4_1 | BlockFormat::Q4_K => &[0, 2],
        BlockFormat::Q6_K => &[208],
    };
    for (number, block) in bytes.chunks_exact_mut(format.block_bytes()).enumerate() {
        for place in places {
            let half = f16::from_f32(((number * 13 + place) % 29) as f32 / 31.0 - 0.4);
            block[*place..place + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
    BlockMatrix::new(format, n_row, n_in, bytes)
}

#[test]
fn decoded_elements_have_the_bits_of_the_file_s_values() {
    for tier in Tier::available() {
        for format in BlockFormat::ALL {
            for (n_row, n_block) in [(1, 1), (15, 2), (16, 1), (17, 3)] {
                let n_in = n_block * format.block_len();
                let matrix = matrix(format, n_row, n_in);
                let (packed, want) = (Packed::new(&matrix, None), matrix.decode());
                for group in 0..n_row.div_ceil(GROUP) {
                    let blocks = Guarded::new(packed.group(group));
                    for step in 0..n_in / STEP {
                        let mut tile = Tile([f32::NAN; STEP * GROUP]);
                        tier.run(Decode { format, group: &blocks, step, words: 0..8, to: &mut tile });
                        for (i, got) in tile.0.iter().enumerate() {
                            let (k, row) = (step * STEP + i / GROUP, group * GROUP + i % GROUP);
                            let want = if row < n_row { want[row * n_in + k] } else { 0.0 };
                            assert!(*got == want, "{tier:?} {format:?}: ({row}, {k}) is {got}, not {want}");
                        }
                    }
                }
            }
        }
    }
}

struct Sums<'a> {
    format: BlockFormat,
    operands: Operands<'a>,
    n_row: usize,
}

impl Kernel for Sums<'_> {
    type Output = [[f32; GROUP]; 8];
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> [[f32; GROUP]; 8] {
        let mut sums = [[f32::NAN; GROUP]; 8];
        with_layout!(self.format, L => {
            let operands = self.operands;
            let _ = match self.n_row {
                1 => operands.sums::<S, L, 1>(simd, 0, &mut sums),
                2 => operands.sums::<S, L, 2>(simd, 0, &mut sums),
                4 => operands.sums::<S, L, 4>(simd, 0, &mut sums),
                _ => operands.sums::<S, L, 8>(simd, 0, &mut sums),
            };
        });
        sums
    }
}

#[test]
fn sums_are_those_of_activations_in_eight_bits() {
    for tier in Tier::available() {
        for format in BlockFormat::ALL {
            for (n_row, n_block) in [(1, 1), (2, 3), (4, 2), (8, 5)] {
                let n_in = n_block * format.block_len();
                let matrix = matrix(format, GROUP, n_in);
                let (packed, weight) = (Packed::new(&matrix, None), matrix.decode());
                let x: Vec<f32> = (0..n_row * n_in).map(|i| ((i * 29) % 83) as f32 / 40.0 - 1.0).collect();
                let quantised: Vec<_> = x.as_chunks::<STEP>().0.iter().map(eight_bits).collect();
                let words: Vec<u32> =
                    quantised.iter().flat_map(|(words, _)| words.map(f32::to_bits)).collect();
                let kept: Vec<f32> = quantised.iter().flat_map(|(_, kept)| *kept).collect();
                let (group, words, steps) =
                    (Guarded::new(packed.group(0)), Guarded::new(&words), Guarded::new(&kept));
                let operands =
                    Operands { group: &group, words: &words, steps: &steps, n_step: n_in / STEP, ask: true };
                let got = tier.run(Sums { format, operands, n_row });
                let activation = |row: usize, k: usize| {
                    let at = row * n_in + k;
                    let byte = words[at / 4].to_le_bytes()[at % 4] as i8;
                    f64::from(byte) * f64::from(steps[at / STEP * KEPT])
                };
                for (row, got) in got.iter().enumerate().take(n_row) {
                    for lane in 0..GROUP {
                        let products =
                            (0..n_in).map(|k| activation(row, k) * f64::from(weight[lane * n_in + k]));
                        let (sum, size) =
                            products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
                        let error = (f64::from(got[lane]) - sum).abs();
                        // Offsets of up to 128 are added and taken away again in `f32`.
                        assert!(
                            error <= 2e-5 * size,
                            "{tier:?} {format:?} {n_row} rows: off by {error} of {size}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn eight_bits_are_the_nearest_and_zero_and_nan_are_told() {
    let x: [f32; STEP] = std::array::from_fn(|i| i as f32 * 0.37 - 4.0);
    let (words, kept) = eight_bits(&x);
    let bytes: [i8; STEP] = bytemuck::cast(words);
    let scale = kept[0];
    for (byte, x) in bytes.iter().zip(x) {
        assert!((f32::from(*byte) * scale - x).abs() <= 0.5001 * scale);
    }
    let sum: f32 = bytes.iter().map(|byte| f32::from(*byte)).sum::<f32>() * scale;
    assert!((kept[1] + kept[2] - sum).abs() < 1e-4 && kept[3] == kept[1] + kept[2]);
    assert_eq!(eight_bits(&[0.0; STEP]).1, [0.0; 4]);
    let mut with_nan = x;
    with_nan[7] = f32::NAN;
    assert!(eight_bits(&with_nan).1[0].is_nan());
    assert!(eight_bits(&[f32::INFINITY; STEP]).1[0].is_infinite());
}
