//! Vectors and tiles on every tier, over every length around their own, operands flush against a page without access.

use half::bf16;

use super::{
    ComputeTile, DotRows, Dots, Kernel, Simd, Tile, Words, combine, dot, exp_sum, largest, map, narrow,
    update, widen,
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

#[test]
fn products_of_rows_as_they_lie_are_right_for_every_number_of_rows_and_length() {
    for tier in Tier::available() {
        for kind in [Words::Floats, Words::Pairs] {
            for (n_left, n_right) in [(1, 1), (1, 4), (2, 3), (3, 5), (4, 4), (5, 9), (7, 2)] {
                for depth in (0..36).chain([63, 64, 65]) {
                    let left = Guarded::new(&words(kind, 1, n_left * depth));
                    let right = Guarded::new(&words(kind, 2, n_right * depth));
                    let start = numbers(3, n_left * n_right);
                    let mut out = Guarded::new(&start);
                    let dots = DotRows {
                        left: left.as_ptr(),
                        left_row: depth,
                        n_left,
                        right: right.as_ptr(),
                        right_row: depth,
                        n_right,
                        depth,
                        out: out.as_mut_ptr(),
                        out_row: n_right,
                        add: depth % 2 == 0,
                    };
                    // SAFETY: the operands have exactly these rows and words.
                    tier.run(unsafe { Dots::new(kind, dots) });
                    for (i, got) in out.iter().enumerate() {
                        let row = |rows: &[u32], i: usize| rows[i * depth..(i + 1) * depth].to_vec();
                        let sum = word_dot(kind, &row(&left, i / n_right), &row(&right, i % n_right));
                        let want = sum + if dots.add { start[i] } else { 0.0 };
                        assert_eq!(*got, want, "{tier:?} {kind:?} {n_left}x{depth}x{n_right}, element {i}");
                    }
                }
            }
        }
    }
}

struct TileOf {
    kind: Words,
    rows: usize,
    depth: usize,
}

impl Kernel for TileOf {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { kind, rows, depth } = self;
        if rows > S::PANEL_ROWS {
            return;
        }
        let left = Guarded::new(&words(kind, 1, rows * depth));
        let right = Guarded::new(&words(kind, 2, depth * S::PANEL_COLUMNS));
        let start = numbers(3, rows * S::PANEL_COLUMNS);
        let mut out = Guarded::new(&start);
        let tile = Tile {
            rows,
            depth,
            left: left.as_ptr(),
            left_row: depth,
            right: right.as_ptr(),
            out: out.as_mut_ptr(),
            out_row: S::PANEL_COLUMNS,
            add: depth % 2 == 0,
        };
        // SAFETY: the operands have exactly these rows, words and columns.
        simd.enter(unsafe { ComputeTile::new(kind, tile) });
        for (i, got) in out.iter().enumerate() {
            let (row, column) = (i / S::PANEL_COLUMNS, i % S::PANEL_COLUMNS);
            let right: Vec<u32> = (0..depth).map(|k| right[k * S::PANEL_COLUMNS + column]).collect();
            let sum = word_dot(kind, &left[row * depth..(row + 1) * depth], &right);
            let want = sum + if tile.add { start[i] } else { 0.0 };
            assert_eq!(*got, want, "{kind:?} {rows} rows, depth {depth}, element {i}");
        }
    }
}

#[test]
fn tiles_are_right_for_every_number_of_rows_and_depth() {
    for tier in Tier::available() {
        for kind in [Words::Floats, Words::Pairs] {
            for rows in 1..=9 {
                for depth in [0, 1, 2, 3, 7, 16, 33] {
                    tier.run(TileOf { kind, rows, depth });
                }
            }
        }
    }
}
