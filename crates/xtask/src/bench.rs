//! preface against PEFT on a workload, in turn on the same machine, so that a drifting clock hits both sides.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run::{output, root, run};

/// What one run measured.
#[derive(Clone, Copy, Debug)]
struct Measured {
    tokens_per_second: f64,
    peak_bytes: f64,
}

/// A side of a comparison with all its runs.
struct Side {
    name: &'static str,
    runs: Vec<Measured>,
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

/// W1: runs both sides `rounds` times each, alternating, and prints medians and ratios.
pub fn compare(work: &Path, precision: &str, rounds: usize, batches: usize) -> anyhow::Result<()> {
    W1.compare(work, precision, rounds, batches)
}

/// The same on an encoder-decoder, after `bench/make_seq2seq.py`.
pub fn compare_seq2seq(work: &Path, precision: &str, rounds: usize, batches: usize) -> anyhow::Result<()> {
    S1.compare(work, precision, rounds, batches)
}

impl Workload {
    fn compare(&self, work: &Path, precision: &str, rounds: usize, batches: usize) -> anyhow::Result<()> {
        let work = fs_err::canonicalize(work)?;
        run("cargo", &["build", "--release", "--quiet", "--package", "preface"])?;
        let side = |name| Side { name, runs: Vec::new() };
        let mut ours: Vec<Side> = self.ours.iter().map(|(name, _)| side(*name)).collect();
        let mut peft = [side("PEFT"), side("PEFT, malloc settings")];
        for round in 1..=rounds {
            eprintln!("round {round} of {rounds}");
            for (side, (_, more)) in ours.iter_mut().zip(self.ours) {
                side.runs.push(self.run_preface(&work, precision, more)?);
            }
            for (side, env) in peft.iter_mut().zip([&[][..], &MALLOC]) {
                side.runs.push(self.run_peft(&work, precision, batches, env)?);
            }
        }
        println!("| {} {precision} | tokens/s, median (min - max) | peak memory, GB |", self.name);
        println!("|---|---|---|");
        for Side { name, runs } in ours.iter().chain(&peft) {
            let speed: Vec<f64> = runs.iter().map(|m| m.tokens_per_second).collect();
            let memory: Vec<f64> = runs.iter().map(|m| m.peak_bytes / 1e9).collect();
            let (low, high) = speed.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), &s| (l.min(s), h.max(s)));
            println!("| {name} | {:.0} ({low:.0} - {high:.0}) | {:.2} |", median(&speed), median(&memory));
        }
        for ours in &ours {
            for other in &peft {
                let pairs = || ours.runs.iter().zip(&other.runs);
                let speed: Vec<f64> =
                    pairs().map(|(a, b)| a.tokens_per_second / b.tokens_per_second).collect();
                let memory: Vec<f64> = pairs().map(|(a, b)| a.peak_bytes / b.peak_bytes).collect();
                println!(
                    "{} against {}: {:.2}x the speed, {:.2} of the memory",
                    ours.name,
                    other.name,
                    median(&speed),
                    median(&memory)
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
            peak_bytes: number("peak_memory_bytes")?,
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
                Ok(Measured { tokens_per_second, peak_bytes: megabytes * 1024.0 * 1024.0 })
            }
            _ => bail!("{} ended with {last:?}", self.script),
        }
    }
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
