//! preface against llama.cpp, and against transformers with PEFT, in generation: in turn on the same machine and the same
//! weights.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run::{output, root, run};

/// Sequences side by side, as bench/llama_speed.py runs them.
const SEQUENCES: [usize; 3] = [1, 8, 40];

/// How each side is told to keep the weights: `--weights` of ours, the type that llama_speed.py rewrites the file to.
const FORMATS: [(&str, &str, Option<&str>); 4] = [
    ("the file's own", "auto", None),
    ("bf16", "bf16", Some("bf16")),
    ("int8 / Q8_0", "int8", Some("q8_0")),
    // The best of ours against the best of theirs.
    ("the file's own / Q4_0", "auto", Some("q4_0")),
];

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
        let measures = ["1 sequence", "8 sequences", "40 sequences", "prefill of 512"];
        print_rows(name, &measures, &mine, &llama);
    }
    println!("\n| weights | measure | preface, tokens/s | transformers + PEFT, tokens/s | ratio |");
    println!("|---|---|---|---|---|");
    let (mut mine, mut peft) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("transformers + PEFT: round {round} of {rounds}");
        mine.push(run_end_to_end(&work)?);
        peft.push(run_peft(&work)?);
    }
    print_rows("bf16", &["1 prompt", "8 prompts", "8 prompts, 5 beams"], &mine, &peft);
    Ok(())
}

fn print_rows<const N: usize>(name: &str, measures: &[&str; N], mine: &[[f64; N]], other: &[[f64; N]]) {
    for (number, measure) in measures.iter().enumerate() {
        let column = |all: &[[f64; N]]| all.iter().map(|speeds| speeds[number]).collect::<Vec<f64>>();
        let (mine, other) = (column(mine), column(other));
        let ratios: Vec<f64> = mine.iter().zip(&other).map(|(a, b)| a / b).collect();
        println!(
            "| {name} | {measure} | {} | {} | {:.2} |",
            spread(&mine),
            spread(&other),
            super::bench::median(&ratios)
        );
    }
}

fn spread(values: &[f64]) -> String {
    let (low, high) = values.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), &v| (l.min(v), h.max(v)));
    format!("{:.0} ({low:.0} - {high:.0})", super::bench::median(values))
}

fn run_preface(work: &Path, weights: &str) -> anyhow::Result<Speeds> {
    let mut speeds = [0.0; 4];
    for (place, sequences) in SEQUENCES.map(|n| n.to_string()).iter().enumerate() {
        let json = bench(work, &["--weights", weights, "--batch-size", sequences])?;
        speeds[place] = number(&json, "tokens_per_second")?;
        speeds[SEQUENCES.len()] = number(&json, "prefill_tokens_per_second")?;
    }
    Ok(speeds)
}

/// Prompts and beams as bench/peft_generate.py has them, prefill included.
fn run_end_to_end(work: &Path) -> anyhow::Result<[f64; 3]> {
    let mut speeds = [0.0; 3];
    for (speed, (batch_size, num_beams)) in speeds.iter_mut().zip([("1", "1"), ("8", "1"), ("8", "5")]) {
        let json = bench(work, &["--weights", "bf16", "--batch-size", batch_size, "--num-beams", num_beams])?;
        *speed = number(&json, "end_to_end_tokens_per_second")?;
    }
    Ok(speeds)
}

fn bench(work: &Path, more: &[&str]) -> anyhow::Result<Value> {
    let (binary, model) = (root().join("target/release/preface"), work.join("smollm2.gguf"));
    let model = model.to_string_lossy();
    let args = [&["bench", "generate", "--model", &*model, "--json"], more].concat();
    let text = output(&binary, &args, &[])?;
    let line = text.lines().last().context("preface bench printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))
}

fn number(json: &Value, key: &str) -> anyhow::Result<f64> {
    json[key].as_f64().with_context(|| format!("`{key}` is missing in {json}"))
}

/// `peft bf16, batch 8, beams 5: 54.1 tokens/s` for each number.
fn run_peft(work: &Path) -> anyhow::Result<[f64; 3]> {
    let python = work.join("venv/bin/python");
    speeds_in(&output(&python, &["bench/peft_generate.py", &*work.to_string_lossy(), "bf16"], &[])?)
}

/// `decode, 8 sequences: 251.3 tokens/s` for each number, then `prefill of 512: 341.0 tokens/s`.
fn run_llama(work: &Path, rewritten: Option<&str>) -> anyhow::Result<Speeds> {
    let (python, model) = (work.join("venv/bin/python"), work.join("smollm2.gguf"));
    let model = model.to_string_lossy();
    let args: Vec<&str> = ["bench/llama_speed.py", &model].into_iter().chain(rewritten).collect();
    let text = output(&python, &args, &[])?;
    speeds_in(&text)
}

fn speeds_in<const N: usize>(text: &str) -> anyhow::Result<[f64; N]> {
    let speed = |line: &str| line.strip_suffix(" tokens/s")?.rsplit_once(": ")?.1.parse().ok();
    let found: Vec<f64> = text.lines().filter_map(speed).collect();
    match found.try_into() {
        Ok(speeds) => Ok(speeds),
        Err(found) => bail!("{} speeds, expected {N}, in: {text}", found.len()),
    }
}
