//! The `preface` command.
#![forbid(unsafe_code)]

mod adapter;
mod answers;
mod args;
mod command;
mod config;
mod engine;
mod exit;
mod interrupt;
mod measure;
mod pairs;
mod plan;
mod training;
mod ui;

fn main() -> std::process::ExitCode {
    exit::code(command::run(args::parse()))
}
