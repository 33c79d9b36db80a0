//! `preface bench memory`: what limits everything else, the speed of reading memory and of multiplying.

use anyhow::Result;
use preface_backend::Backend;

use super::{Report, peak};
use crate::args::BenchMachineArgs;
use crate::config::AnswerConfig;
use crate::{engine, ui};

/// Runs the command.
pub fn run(args: &BenchMachineArgs) -> Result<()> {
    let backend = engine::backend(&AnswerConfig::compute_of(&args.settings.typed()?)?)?;
    ui::fact("compute", &engine::described_backend(&backend));
    let threads = backend.describe().threads;
    let mut report = Report::of_machine("memory", &backend);
    report.add("read_gigabytes_per_second_1_thread", peak::read_bandwidth(1)? / 1e9);
    report.add("read_gigabytes_per_second", peak::read_bandwidth(threads)? / 1e9);
    report.add("peak_gflops_per_second", peak::product(&backend, threads) / 1e9);
    report.print(args.json)
}
