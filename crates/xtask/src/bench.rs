//! preface against PEFT on a workload, in turn on the same machine, so that a drifting clock hits both sides.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run::{output, root, run};

/// What one run measured.
#[derive(Clone, Copy, Debug)]
struct Measured {
    tokens_per_second: f64,
    /// Where the program tells it.
    peak_bytes: Option<f64>,
}

/// A side of a comparison with all its runs.
struct Side<'a> {
    name: &'static str,
    run: Box<dyn Fn() -> anyhow::Result<Measured> + 'a>,
    runs: Vec<Measured>,
}

impl<'a> Side<'a> {
    fn new(name: &'static str, run: impl Fn() -> anyhow::Result<Measured> + 'a) -> Self {
        Self { name, run: Box::new(run), runs: Vec::new() }
    }
}

/// glibc gives PEFT's large buffers back to the system after every batch unless told otherwise; its better figure counts.
const MALLOC: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "1073741824"), ("MALLOC_TRIM_THRESHOLD_", "1073741824")];

/// Model and workload of a comparison, in the folder of the benches.
struct Workload {
    name: &'static str,
    model: &'static str,
    file: &'static str,
    /// Ours, by name and options of `bench train`.
    ours: &'static [(&'static str, &'static [&'static str])],
    /// PEFT's script.
    script: &'static str,
}

const W1: Workload = Workload {
    name: "W1",
    model: "smollm2",
    file: "w1.json",
    ours: &[("preface", &[])],
    script: "bench/peft_train.py",
};

/// PEFT has rows in the decoder alone.
const S1: Workload = Workload {
    name: "S1",
    model: "bart_base",
    file: "s1.json",
    ours: &[
        ("preface, decoder rows", &[]),
        ("preface, decoder rows, second epoch", &["--second-epoch"]),
        ("preface, all three places", &["--places", "encoder,decoder,cross"]),
    ],
    script: "bench/peft_seq2seq.py",
};

/// How the sides of a comparison run.
#[derive(clap::Args)]
pub struct Sides {
    /// The folder that was prepared.
    work: PathBuf,
    /// `f32` or `bf16`, on both sides.
    #[arg(long, default_value = "bf16")]
    precision: String,
    /// How often each side runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Batches that each run of PEFT times, after two of warm-up.
    #[arg(long, default_value_t = 10)]
    batches: usize,
}

/// W1: runs all sides in turn and prints medians and ratios.
pub fn compare(how: &Sides, prototype: Option<&Path>) -> anyhow::Result<()> {
    W1.compare(how, prototype)
}

/// The same on an encoder-decoder, after `bench/make_seq2seq.py`.
pub fn compare_seq2seq(how: &Sides) -> anyhow::Result<()> {
    S1.compare(how, None)
}

impl Workload {
    fn compare(&self, how: &Sides, prototype: Option<&Path>) -> anyhow::Result<()> {
        let (work, precision) = (fs_err::canonicalize(&how.work)?, how.precision.as_str());
        run("cargo", &["build", "--release", "--quiet", "--package", "preface"])?;
        let work = work.as_path();
        let mut ours: Vec<Side<'_>> = self
            .ours
            .iter()
            .map(|(name, more)| Side::new(name, || self.run_preface(work, precision, more)))
            .collect();
        let mut others = vec![
            Side::new("PEFT", || self.run_peft(work, precision, how.batches, &[])),
            Side::new("PEFT, malloc settings", || self.run_peft(work, precision, how.batches, &MALLOC)),
        ];
        if let Some(binary) = prototype {
            others.push(Side::new("prototype, without an MLP", || run_prototype(binary, work, precision)));
        }
        for round in 1..=how.rounds {
            eprintln!("round {round} of {}", how.rounds);
            for side in ours.iter_mut().chain(&mut others) {
                side.runs.push((side.run)()?);
            }
        }
        println!("| {} {precision} | tokens/s, median (min - max) | peak memory, GB |", self.name);
        println!("|---|---|---|");
        for Side { name, runs, .. } in ours.iter().chain(&others) {
            let speed: Vec<f64> = runs.iter().map(|m| m.tokens_per_second).collect();
            let memory: Option<Vec<f64>> = runs.iter().map(|m| Some(m.peak_bytes? / 1e9)).collect();
            let memory = memory.map_or(String::new(), |memory| format!("{:.2}", median(&memory)));
            let (low, high) = speed.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), &s| (l.min(s), h.max(s)));
            println!("| {name} | {:.0} ({low:.0} - {high:.0}) | {memory} |", median(&speed));
        }
        for ours in &ours {
            for other in &others {
                let pairs = || ours.runs.iter().zip(&other.runs);
                let speed: Vec<f64> =
                    pairs().map(|(a, b)| a.tokens_per_second / b.tokens_per_second).collect();
                let memory: Option<Vec<f64>> =
                    pairs().map(|(a, b)| Some(a.peak_bytes? / b.peak_bytes?)).collect();
                let memory = memory.map(|memory| format!(", {:.2} of the memory", median(&memory)));
                println!(
                    "{} against {}: {:.2}x the speed{}",
                    ours.name,
                    other.name,
                    median(&speed),
                    memory.unwrap_or_default()
                );
            }
        }
        Ok(())
    }

    fn run_preface(&self, work: &Path, precision: &str, more: &[&str]) -> anyhow::Result<Measured> {
        let binary = root().join("target/release/preface");
        let (model, workload) = (work.join(self.model), work.join(self.file));
        let (model, workload) = (model.to_string_lossy(), workload.to_string_lossy());
        let args = [
            "bench",
            "train",
            "--model",
            &model,
            "--workload",
            &workload,
            "--precision",
            precision,
            "--json",
        ];
        let text = output(&binary, &[&args[..], more].concat(), &[])?;
        let line = text.lines().last().context("preface bench printed nothing")?;
        let json: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let number = |key: &str| json[key].as_f64().with_context(|| format!("`{key}` is missing in {line}"));
        Ok(Measured {
            tokens_per_second: number("tokens_per_second")?,
            peak_bytes: Some(number("peak_memory_bytes")?),
        })
    }

    fn run_peft(
        &self,
        work: &Path,
        precision: &str,
        batches: usize,
        env: &[(&str, &str)],
    ) -> anyhow::Result<Measured> {
        let python = work.join("venv/bin/python");
        let batches = (batches + 2).to_string();
        let args = [self.script, &work.to_string_lossy(), precision, &batches];
        let text = output(&python, &args, env)?;
        // "peft f32 w1.json: 127.1 tokens/s, 1.51 pairs/s, peak 5700 MB"
        let last = text.lines().last().unwrap_or_default();
        let before =
            |unit: &str| -> Option<f64> { last.split(unit).next()?.split_whitespace().last()?.parse().ok() };
        match (before(" tokens/s"), before(" MB")) {
            (Some(tokens_per_second), Some(megabytes)) => {
                Ok(Measured { tokens_per_second, peak_bytes: Some(megabytes * 1024.0 * 1024.0) })
            }
            _ => bail!("{} ended with {last:?}", self.script),
        }
    }
}

/// A program that prints `tok/s` and the figure at last, for 12 batches of W1.
fn run_prototype(binary: &Path, work: &Path, precision: &str) -> anyhow::Result<Measured> {
    let text = output(binary, &[&work.to_string_lossy(), precision, "12"], &[])?;
    let figure = text.rsplit("tok/s").next().and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let tokens_per_second =
        figure.with_context(|| format!("{}: no `tok/s` in {text:?}", binary.display()))?;
    Ok(Measured { tokens_per_second, peak_bytes: None })
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
