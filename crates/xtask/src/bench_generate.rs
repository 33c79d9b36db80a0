//! preface against llama.cpp in generation, in turn on the same machine and the same weights.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run::{output, root, run};

/// Sequences side by side, as bench/llama_speed.py runs them.
const SEQUENCES: [usize; 3] = [1, 8, 40];

/// How each side is told to keep the weights: `--weights` of ours, the type that llama_speed.py rewrites the file to.
const FORMATS: [(&str, &str, Option<&str>); 3] =
    [("the file's own", "auto", None), ("bf16", "bf16", Some("bf16")), ("int8 / Q8_0", "int8", Some("q8_0"))];

/// What one side reached on one format: decoding for each of [`SEQUENCES`], then prefill, in tokens a second.
type Speeds = [f64; 4];

/// Runs both sides `rounds` times each, alternating, and prints medians, spreads and ratios.
pub fn compare(work: &Path, rounds: usize) -> anyhow::Result<()> {
    let work = fs_err::canonicalize(work)?;
    run("cargo", &["build", "--release", "--quiet", "--package", "preface"])?;
    println!("| weights | measure | preface, tokens/s | llama.cpp, tokens/s | ratio |");
    println!("|---|---|---|---|---|");
    for (name, ours, theirs) in FORMATS {
        let (mut mine, mut llama): (Vec<Speeds>, Vec<Speeds>) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            eprintln!("{name}: round {round} of {rounds}");
            mine.push(run_preface(&work, ours)?);
            llama.push(run_llama(&work, theirs)?);
        }
        for (number, measure) in
            ["1 sequence", "8 sequences", "40 sequences", "prefill of 512"].iter().enumerate()
        {
            let column = |all: &[Speeds]| all.iter().map(|speeds| speeds[number]).collect::<Vec<f64>>();
            let (mine, llama) = (column(&mine), column(&llama));
            let ratios: Vec<f64> = mine.iter().zip(&llama).map(|(a, b)| a / b).collect();
            println!(
                "| {name} | {measure} | {} | {} | {:.2} |",
                spread(&mine),
                spread(&llama),
                super::bench::median(&ratios)
            );
        }
    }
    Ok(())
}

fn spread(values: &[f64]) -> String {
    let (low, high) = values.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), &v| (l.min(v), h.max(v)));
    format!("{:.0} ({low:.0} - {high:.0})", super::bench::median(values))
}

fn run_preface(work: &Path, weights: &str) -> anyhow::Result<Speeds> {
    let (binary, model) = (root().join("target/release/preface"), work.join("smollm2.gguf"));
    let model = model.to_string_lossy();
    let mut speeds = [0.0; 4];
    for (place, sequences) in SEQUENCES.map(|n| n.to_string()).iter().enumerate() {
        let args = [
            "bench",
            "generate",
            "--model",
            &model,
            "--weights",
            weights,
            "--batch-size",
            sequences,
            "--json",
        ];
        let text = output(&binary, &args, &[])?;
        let line = text.lines().last().context("preface bench printed nothing")?;
        let json: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let number = |key: &str| json[key].as_f64().with_context(|| format!("`{key}` is missing in {line}"));
        speeds[place] = number("tokens_per_second")?;
        speeds[SEQUENCES.len()] = number("prefill_tokens_per_second")?;
    }
    Ok(speeds)
}

/// `decode, 8 sequences: 251.3 tokens/s` for each number, then `prefill of 512: 341.0 tokens/s`.
fn run_llama(work: &Path, rewritten: Option<&str>) -> anyhow::Result<Speeds> {
    let (python, model) = (work.join("venv/bin/python"), work.join("smollm2.gguf"));
    let model = model.to_string_lossy();
    let args: Vec<&str> = ["bench/llama_speed.py", &model].into_iter().chain(rewritten).collect();
    let text = output(&python, &args, &[])?;
    let found: Vec<f64> = text
        .lines()
        .filter_map(|line| line.strip_suffix(" tokens/s")?.rsplit_once(": ")?.1.parse().ok())
        .collect();
    match found.try_into() {
        Ok(speeds) => Ok(speeds),
        Err(found) => bail!("llama_speed.py printed {} speeds, expected 4: {text}", found.len()),
    }
}
