//! `preface bench matmul`: the products of real models, each against the least time that it could take.
//!
//! That is the longer of two: its operations at the peak of the multiply-add instruction, and reading its weight once at
//! the speed of the memory. Rows are those of a training batch, of decoding, and between. A product of many rows is
//! measured in both directions, as training uses it.

use anyhow::{Result, ensure};
use preface_backend::{
    Backend, BlockFormat, BlockMatrix, Direction, Epilogue, HostMatrix, Storage, Term, WeightPart,
};
use preface_cpu::{CpuBackend, CpuWeight};
use preface_model::WeightFormat;
use serde_json::{Value, json};

use super::{Report, peak};
use crate::args::BenchMachineArgs;
use crate::config::AnswerConfig;
use crate::{engine, ui};

/// Input and output features: SmolLM2-135M's four, and one of Gemma 3 270M, Qwen2 0.5B and Qwen3 0.6B each.
const SHAPES: [(usize, usize); 7] =
    [(576, 960), (576, 576), (576, 3072), (1536, 576), (640, 4096), (896, 9728), (1024, 6144)];
const ROWS: [usize; 5] = [1, 8, 40, 128, 672];
/// From so many rows on both directions are measured.
const MANY: usize = 128;
/// Weights of one shape that take turns, so that none is in a cache when its turn comes: as in a model.
const TURN_BYTES: usize = 128 << 20;

/// Runs the command.
pub fn run(args: &BenchMachineArgs) -> Result<()> {
    let compute = AnswerConfig::compute_of(&args.settings.typed()?)?;
    let backend = engine::backend(&compute)?;
    let format = compute.weights.as_deref().and_then(WeightFormat::named).unwrap_or_default();
    ui::fact("compute", &engine::described_backend(&backend));
    let threads = backend.describe().threads;
    let ceiling =
        Ceiling { operations: peak::product(&backend, threads), bytes: peak::read_bandwidth(threads)? };
    let mut report = Report::of_machine("matmul", &backend);
    report.add("peak_gflops_per_second", ceiling.operations / 1e9);
    report.add("read_gigabytes_per_second", ceiling.bytes / 1e9);
    let (mut products, mut shares) = (Vec::new(), Vec::new());
    for (n_in, n_out) in SHAPES {
        let matrix = HostMatrix { n_row: n_out, n_column: n_in, values: numbers(n_in * n_out) };
        let one = weight(&backend, format, &matrix);
        let n_turn = (TURN_BYTES / backend.weight_bytes(&one)).clamp(2, 64);
        let weights: Vec<CpuWeight> = (0..n_turn).map(|_| weight(&backend, format, &matrix)).collect();
        for n_row in ROWS {
            let directions = [Direction::Plain, Direction::Transposed];
            for direction in directions.into_iter().take(if n_row >= MANY { 2 } else { 1 }) {
                let product = Product { matrix: &matrix, weights: &weights, n_row, direction };
                product.check(&backend, format)?;
                let seconds = product.seconds(&backend);
                let operations = 2.0 * (n_row * n_in * n_out) as f64;
                let least = (operations / ceiling.operations)
                    .max(backend.weight_bytes(&weights[0]) as f64 / ceiling.bytes);
                let share = least / seconds;
                let line = format!(
                    "{n_row:4} rows, {n_in:4} -> {n_out:4}{}: {:6.1} GFLOP/s, {:5.1} GB/s of weights, {:3.0} % of the ceiling",
                    if direction == Direction::Plain { "          " } else { " backwards" },
                    operations / seconds / 1e9,
                    backend.weight_bytes(&weights[0]) as f64 / seconds / 1e9,
                    100.0 * share
                );
                ui::note(&line);
                products.push(json!({
                    "rows": n_row, "inputs": n_in, "outputs": n_out,
                    "backwards": direction == Direction::Transposed,
                    "gflops_per_second": operations / seconds / 1e9,
                    "share_of_peak": share,
                }));
                shares.push((n_row, share));
            }
        }
    }
    for n_row in ROWS {
        let of_rows = shares.iter().filter(|(rows, _)| *rows == n_row);
        let lowest = of_rows.fold(f64::INFINITY, |lowest, (_, share)| lowest.min(*share));
        report.add(&format!("lowest_share_of_peak_{n_row}_rows"), lowest);
    }
    if args.json {
        report.add("products", Value::Array(products));
    }
    report.print(args.json)
}

struct Ceiling {
    operations: f64,
    bytes: f64,
}

/// As a model's loader would keep it.
fn weight(backend: &CpuBackend, format: WeightFormat, matrix: &HostMatrix) -> CpuWeight {
    let block_format = match format {
        WeightFormat::Int8 => Some(BlockFormat::Q8_0),
        WeightFormat::Q4 => Some(BlockFormat::Q4_0),
        WeightFormat::Auto | WeightFormat::Bf16 => None,
    };
    let part = match block_format {
        Some(format) => WeightPart::Blocks(BlockMatrix::quantise(format, matrix)),
        None => WeightPart::Values(matrix.clone()),
    };
    backend.stored_weight(vec![part])
}

struct Product<'a> {
    matrix: &'a HostMatrix,
    weights: &'a [CpuWeight],
    n_row: usize,
    direction: Direction,
}

impl Product<'_> {
    fn widths(&self) -> (usize, usize) {
        match self.direction {
            Direction::Plain => (self.matrix.n_column, self.matrix.n_row),
            Direction::Transposed => (self.matrix.n_row, self.matrix.n_column),
        }
    }

    fn seconds(&self, backend: &CpuBackend) -> f64 {
        let (from, to) = self.widths();
        let x = backend.rows_from(&numbers(self.n_row * from), from, Storage::Compact);
        let mut out = backend.rows(self.n_row, to, Storage::Compact);
        let n_run = self.weights.len().min(4000 / self.n_row.max(60));
        let mut turn = self.weights.iter().cycle();
        let all = peak::best(|| {
            for weight in turn.by_ref().take(n_run) {
                let term = Term { x: &x, weight, direction: self.direction };
                backend.linear(&[term], Epilogue::Store, &mut out);
            }
        });
        all / n_run as f64
    }

    /// Some elements against sums in `f64`.
    fn check(&self, backend: &CpuBackend, format: WeightFormat) -> Result<()> {
        let (from, to) = self.widths();
        let values = numbers(self.n_row * from);
        let x = backend.rows_from(&values, from, Storage::Compact);
        let mut out = backend.rows(self.n_row, to, Storage::Exact);
        let term = Term { x: &x, weight: &self.weights[0], direction: self.direction };
        backend.linear(&[term], Epilogue::Store, &mut out);
        let got = backend.read(&out);
        let at = |o: usize, k: usize| match self.direction {
            Direction::Plain => self.matrix.values[o * self.matrix.n_column + k],
            Direction::Transposed => self.matrix.values[k * self.matrix.n_column + o],
        };
        let allowed = match format {
            WeightFormat::Q4 => 0.25,
            _ => 0.03,
        };
        let rms = (got.iter().map(|v| f64::from(v * v)).sum::<f64>() / got.len() as f64).sqrt();
        for i in 0..200 {
            let (row, o) = (i * 37 % self.n_row, i * 7919 % to);
            let want: f64 = (0..from).map(|k| f64::from(values[row * from + k]) * f64::from(at(o, k))).sum();
            let got = f64::from(got[row * to + o]);
            // Of the usual size of an element; four bits leave a twelfth of it, and the tail of 200 draws.
            ensure!(
                (got - want).abs() <= allowed * (rms + want.abs()),
                "{} rows, {from} -> {to}: element ({row}, {o}) is {got}, expected {want}",
                self.n_row
            );
        }
        Ok(())
    }
}

/// Numbers without a pattern that products would see, of the size of a half.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        // Xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    std::iter::repeat_with(next).take(n).collect()
}
