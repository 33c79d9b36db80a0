//! The project's own tasks: `cargo xtask check | fetch | golden | sanitize | neon | bench`.
#![forbid(unsafe_code)]

mod bench;
mod bench_generate;
mod check;
mod fetch;
mod golden;
mod neon;
mod run;
mod sanitize;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Checks, downloads, fixtures and benches of the project")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// What CI runs, cheapest first: format, lints, documentation, tests.
    Check,
    /// Downloads what the tests on real models need into `fetched/`.
    Fetch {
        /// What to fetch.
        what: fetch::What,
    },
    /// Makes golden files again: runs `tests/golden/NAME/make.py` in a Python environment with pinned packages.
    Golden {
        /// Folders of tests/golden; all of them if none is named.
        names: Vec<String>,
    },
    /// Runs preface-cpu's tests, on every tier, under AddressSanitizer.
    Sanitize,
    /// Runs preface-cpu's tests on the NEON tier, on an emulated 64-bit ARM.
    Neon,
    /// Measures against what a user would pick instead.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
enum Bench {
    /// Trains workload W1 with preface and with PEFT in turn and prints the ratios. `bench/setup.sh WORK` first.
    Compare {
        #[command(flatten)]
        how: bench::Sides,
        /// Runs this program in turn too: `BINARY WORK PRECISION 12`, which prints `tok/s` and its figure.
        #[arg(long)]
        prototype: Option<PathBuf>,
    },
    /// Trains workload S1 on an encoder-decoder with preface and with PEFT in turn and prints the ratios.
    /// `bench/setup.sh WORK` and `bench/make_seq2seq.py WORK` first.
    CompareSeq2seq(bench::Sides),
    /// Generates with preface and with llama.cpp in turn and prints the ratios. `bench/setup.sh WORK` first, then
    /// `WORK/venv/bin/pip install llama-cpp-python`.
    CompareGeneration {
        /// The folder that `bench/setup.sh` prepared.
        work: PathBuf,
        /// How often each side runs.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::Check => check::check(),
        Task::Fetch { what } => fetch::fetch(what),
        Task::Golden { names } => golden::make(&names),
        Task::Neon => neon::run_tests(),
        Task::Sanitize => sanitize::run_tests(),
        Task::Bench(Bench::CompareGeneration { work, rounds }) => bench_generate::compare(&work, rounds),
        Task::Bench(Bench::Compare { how, prototype }) => bench::compare(&how, prototype.as_deref()),
        Task::Bench(Bench::CompareSeq2seq(how)) => bench::compare_seq2seq(&how),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_has_no_contradictions() {
        super::Args::command().debug_assert();
    }
}
