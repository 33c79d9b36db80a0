//! preface against PEFT on workload W1, in turn on the same machine, so that a drifting clock hits both sides.

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

/// glibc gives PEFT's large buffers back to the system after every batch unless told otherwise; its better figure counts.
const MALLOC: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "1073741824"), ("MALLOC_TRIM_THRESHOLD_", "1073741824")];

/// Runs both sides `rounds` times each, alternating, and prints medians and ratios.
pub fn compare(work: &Path, precision: &str, rounds: usize, batches: usize) -> anyhow::Result<()> {
    let work = fs_err::canonicalize(work)?;
    run("cargo", &["build", "--release", "--quiet", "--package", "preface"])?;
    let (mut ours, mut peft, mut peft_malloc) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        ours.push(run_preface(&work, precision)?);
        peft.push(run_peft(&work, precision, batches, &[])?);
        peft_malloc.push(run_peft(&work, precision, batches, &MALLOC)?);
    }
    let rows = [("preface", &ours), ("PEFT", &peft), ("PEFT, malloc settings", &peft_malloc)];
    println!("| W1 {precision} | tokens/s, median (min - max) | peak memory, GB |");
    println!("|---|---|---|");
    for (name, runs) in rows {
        let speed: Vec<f64> = runs.iter().map(|m| m.tokens_per_second).collect();
        let memory: Vec<f64> = runs.iter().map(|m| m.peak_bytes / 1e9).collect();
        let (low, high) = speed.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), &s| (l.min(s), h.max(s)));
        println!("| {name} | {:.0} ({low:.0} - {high:.0}) | {:.2} |", median(&speed), median(&memory));
    }
    for (name, other) in [("PEFT", &peft), ("PEFT with malloc settings", &peft_malloc)] {
        let speed: Vec<f64> =
            ours.iter().zip(other).map(|(a, b)| a.tokens_per_second / b.tokens_per_second).collect();
        let memory: Vec<f64> = ours.iter().zip(other).map(|(a, b)| a.peak_bytes / b.peak_bytes).collect();
        println!("against {name}: {:.2}x the speed, {:.2} of the memory", median(&speed), median(&memory));
    }
    Ok(())
}

fn run_preface(work: &Path, precision: &str) -> anyhow::Result<Measured> {
    let binary = root().join("target/release/preface");
    let (model, workload) = (work.join("smollm2"), work.join("w1.json"));
    let args = [
        "bench",
        "train",
        "--model",
        &model.to_string_lossy(),
        "--workload",
        &workload.to_string_lossy(),
        "--precision",
        precision,
        "--json",
    ];
    let text = output(&binary, &args, &[])?;
    let line = text.lines().last().context("preface bench printed nothing")?;
    let json: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
    let number = |key: &str| json[key].as_f64().with_context(|| format!("`{key}` is missing in {line}"));
    Ok(Measured { tokens_per_second: number("tokens_per_second")?, peak_bytes: number("peak_memory_bytes")? })
}

fn run_peft(work: &Path, precision: &str, batches: usize, env: &[(&str, &str)]) -> anyhow::Result<Measured> {
    let python = work.join("venv/bin/python");
    let batches = (batches + 2).to_string();
    let args = ["bench/peft_train.py", &work.to_string_lossy(), precision, &batches];
    let text = output(&python, &args, env)?;
    // "peft f32 w1.json: 127.1 tokens/s, 1.51 pairs/s, peak 5700 MB"
    let last = text.lines().last().unwrap_or_default();
    let before =
        |unit: &str| -> Option<f64> { last.split(unit).next()?.split_whitespace().last()?.parse().ok() };
    match (before(" tokens/s"), before(" MB")) {
        (Some(tokens_per_second), Some(megabytes)) => {
            Ok(Measured { tokens_per_second, peak_bytes: megabytes * 1024.0 * 1024.0 })
        }
        _ => bail!("peft_train.py ended with {last:?}"),
    }
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
