//! One file for each command.

mod assets;
mod bench;
mod demo;
mod eval;
mod export;
mod generate;
mod inspect;
mod score;
mod train;

use anyhow::Result;
use preface_metrics::{Metric, MetricError, MetricOptions, registry};

use crate::args::{AssetsCommand, BenchCommand, Cli, Command};
use crate::exit::WrongUse;

/// Runs what was asked for.
///
/// # Errors
/// Whatever went wrong; [`crate::exit::code`] tells wrong use from failure.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Assets(AssetsCommand::Add(args)) => assets::add(&args),
        Command::Bench(BenchCommand::Train(args)) => bench::train(&args),
        Command::Bench(BenchCommand::Generate(args)) => bench::generate(&args),
        Command::Bench(BenchCommand::Matmul(args)) => bench::matmul(&args),
        Command::Bench(BenchCommand::Memory(args)) => bench::memory(&args),
    }
}

/// The metrics of a list of names. A name that is not known is wrong use.
fn metrics(names: &str, options: &MetricOptions) -> Result<Vec<Box<dyn Metric>>> {
    let options = MetricOptions { meteor_data: assets::meteor(), ..options.clone() };
    registry::build(names, &options).map_err(|error| match error {
        MetricError::UnknownMetric { .. } => {
            let known: Vec<&str> = registry::ENTRIES.iter().map(|entry| entry.name).collect();
            WrongUse(format!("{error} (known: {})", known.join(", "))).into()
        }
        error => error.into(),
    })
}
