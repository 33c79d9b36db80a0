//! Vectors and tiles on every tier, over every length around their own, operands flush against a page without access.

use half::bf16;

use super::{
    ComputeTile, Kernel, SQUARE, Simd, Tile, Words, combine, dot, exp_sum, largest, map, most_rows, narrow,
    pair_floats, pair_halves, update, widen,
};
use crate::guard::Guarded;
use crate::tier::Tier;

fn numbers(seed: usize, n: usize) -> Vec<f32> {
    // Multiples of 1/16: exact in bf16, and so are sums of some hundred products in f32.
    (0..n).map(|i| (((i + seed) * 37 + seed * 11) % 61) as f32 / 16.0 - 1.875).collect()
}

struct Slices {
    n: usize,
}

impl Kernel for Slices {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let n = self.n;
        let (a, b) = (Guarded::new(&numbers(1, n)), Guarded::new(&numbers(2, n)));
        let mut out = Guarded::new(&numbers(3, n));
        map(
            simd,
            &a,
            &mut out,
            #[inline(always)]
            |a| simd.add(a, a),
        );
        assert!(out.iter().zip(&*a).all(|(out, a)| *out == 2.0 * a));
        update(
            simd,
            &mut out,
            &b,
            #[inline(always)]
            |out, b| simd.sub(out, b),
        );
        assert!(out.iter().zip(a.iter().zip(&*b)).all(|(out, (a, b))| *out == 2.0 * a - b));
        combine(
            simd,
            &a,
            &b,
            &mut out,
            #[inline(always)]
            |a, b| simd.mul(a, b),
        );
        assert!(out.iter().zip(a.iter().zip(&*b)).all(|(out, (a, b))| *out == a * b));
        assert_eq!(dot(simd, &a, &b), a.iter().zip(&*b).map(|(a, b)| a * b).sum::<f32>());
        assert_eq!(largest(simd, &a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let mut halves = Guarded::new(&vec![bf16::ZERO; n]);
        narrow(simd, &a, &mut halves);
        assert!(halves.iter().zip(&*a).all(|(half, a)| half.to_f32() == *a));
        widen(simd, &halves, &mut out);
        assert!(*out == *a);
        if n.is_multiple_of(S::LANES) {
            let mut others = Guarded::new(&vec![bf16::ZERO; n]);
            narrow(simd, &b, &mut others);
            let mut pairs = Guarded::new(&vec![7; n]);
            let word = |i: usize, second: f32| {
                let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
                bits(a[i]) | bits(second) << 16
            };
            pair_halves(simd, &halves, Some(&others), &mut pairs);
            assert!((0..n).all(|i| pairs[i] == word(i, b[i])));
            pair_floats(simd, &a, None, &mut pairs);
            assert!((0..n).all(|i| pairs[i] == word(i, 0.0)));
            pair_floats(simd, &a, Some(&b), &mut pairs);
            assert!((0..n).all(|i| pairs[i] == word(i, b[i])));
            pair_halves(simd, &halves, None, &mut pairs);
            assert!((0..n).all(|i| pairs[i] == word(i, 0.0)));
        }
        let sum = exp_sum(simd, &mut out, 0.5, 1.0);
        let want: f64 = a.iter().map(|a| (0.5 * f64::from(*a) - 1.0).exp()).sum();
        assert!((f64::from(sum) - want).abs() <= 1e-6 * want, "{n}: {sum} and {want}");
    }
}

#[test]
fn slices_of_every_length_are_neither_left_nor_missed() {
    for tier in Tier::available() {
        for n in 0..70 {
            tier.run(Slices { n });
        }
    }
}

/// Products of the words of two rows.
fn word_dot(words: Words, left: &[u32], right: &[u32]) -> f32 {
    let product = |l: u32, r: u32| f32::from_bits(l) * f32::from_bits(r);
    let pair = |l: u32, r: u32| product(l << 16, r << 16) + product(l & 0xffff_0000, r & 0xffff_0000);
    left.iter()
        .zip(right)
        .map(|(l, r)| if words == Words::Floats { product(*l, *r) } else { pair(*l, *r) })
        .sum()
}

fn words(kind: Words, seed: usize, n: usize) -> Vec<u32> {
    match kind {
        Words::Floats => bytemuck::cast_slice(&numbers(seed, n)).to_vec(),
        Words::Pairs => {
            let halves: Vec<bf16> = numbers(seed, 2 * n).into_iter().map(bf16::from_f32).collect();
            let bits = |half: bf16| u32::from(half.to_bits());
            halves.chunks_exact(2).map(|pair| bits(pair[0]) | bits(pair[1]) << 16).collect()
        }
    }
}

struct TileOf {
    kind: Words,
    rows: usize,
    vectors: usize,
    depth: usize,
}

impl Kernel for TileOf {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { kind, rows, vectors, depth } = self;
        if rows > most_rows::<S>(vectors) {
            return;
        }
        let n_column = vectors * S::LANES;
        let left = Guarded::new(&words(kind, 1, rows * depth));
        let start = numbers(3, rows * n_column);
        // Vectors side by side, or each a piece of memory of its own.
        for (right_vector, right_step) in [(S::LANES, n_column), (depth * S::LANES, S::LANES)] {
            let right = Guarded::new(&words(kind, 2, depth * n_column));
            let mut out = Guarded::new(&start);
            let tile = Tile {
                rows,
                vectors,
                depth,
                left: left.as_ptr(),
                left_row: depth,
                right: right.as_ptr(),
                right_vector,
                right_step,
                out: out.as_mut_ptr(),
                out_row: n_column,
                add: depth.is_multiple_of(2),
            };
            // SAFETY: the operands have exactly these rows, words and columns.
            simd.enter(unsafe { ComputeTile::new(kind, tile) });
            for (i, got) in out.iter().enumerate() {
                let (row, column) = (i / n_column, i % n_column);
                let at = |k: usize| k * right_step + column / S::LANES * right_vector + column % S::LANES;
                let right: Vec<u32> = (0..depth).map(|k| right[at(k)]).collect();
                let sum = word_dot(kind, &left[row * depth..(row + 1) * depth], &right);
                let want = sum + if tile.add { start[i] } else { 0.0 };
                assert_eq!(*got, want, "{kind:?} {rows} rows, depth {depth}, element {i}");
            }
        }
    }
}

#[test]
fn tiles_are_right_for_every_number_of_rows_and_depth() {
    for tier in Tier::available() {
        for kind in [Words::Floats, Words::Pairs] {
            for rows in 1..=16 {
                for depth in [0, 1, 2, 3, 7, 16, 33] {
                    for vectors in 1..=4 {
                        tier.run(TileOf { kind, rows, vectors, depth });
                    }
                }
            }
        }
    }
}

struct Turned;

impl Kernel for Turned {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        const PAIRS: usize = SQUARE / 2;
        for (from_word, to_row) in [(SQUARE, 2 * SQUARE), (SQUARE + 3, 2 * SQUARE + 5)] {
            let words: Vec<u32> =
                (0..(SQUARE - 1) * from_word + SQUARE).map(|i| i as u32 * 0x1_0003).collect();
            let from = Guarded::new(&words);
            let mut to = Guarded::new(&vec![0; (PAIRS - 1) * to_row + 2 * SQUARE]);
            // SAFETY: both sides end with the last word that belongs to them.
            unsafe { simd.turn_pairs(from.as_ptr(), from_word, to.as_mut_ptr(), to_row) };
            for pair in 0..PAIRS {
                for column in 0..2 * SQUARE {
                    let half =
                        |row: usize| from[column / 2 * from_word + row] >> (16 * (column % 2)) & 0xffff;
                    let want = half(2 * pair) | half(2 * pair + 1) << 16;
                    assert_eq!(to[pair * to_row + column], want, "pair {pair}, column {column}");
                }
            }
        }
    }
}

#[test]
fn squares_of_pairs_are_turned() {
    for tier in Tier::available() {
        tier.run(Turned);
    }
}
