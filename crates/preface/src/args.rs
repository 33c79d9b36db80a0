//! The command line: what was typed. Settings become flags by [`flags`]; the rest stands here.

mod flags;
mod score;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use flags::Settings;
pub use score::{PairedKind, ReferencesOf, ScoreArgs, Smooth, Tokenize};

use preface_model::PrefixPlace;

use crate::config::{self, AnswerConfig, setting};

/// Train, evaluate, ship and serve prefixes: small key/value rows that steer a frozen language model to a task.
#[derive(Debug, Parser)]
#[command(name = "preface", version, max_term_width = 110)]
#[command(after_help = "Begin with `preface demo`.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a prefix on the embedded model and data, and show what it does: under a minute, no network
    Demo(DemoArgs),
    /// Train a prefix on pairs of an input and an output
    Train(TrainArgs),
    /// Make an artefact of a checkpoint
    Export(ExportArgs),
    /// Answer one prompt, or a file of prompts
    Generate(GenerateArgs),
    /// Answer the inputs of a data file and score the answers against its references
    Eval(EvalArgs),
    /// Score texts that are there already
    Score(ScoreArgs),
    /// Show and check a model, an artefact, a checkpoint or a run folder
    Inspect(InspectArgs),
    /// Install data that may not be shipped, such as METEOR's
    #[command(subcommand)]
    Assets(AssetsCommand),
    /// Measure speed and memory
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// `assets`
#[derive(Debug, Subcommand)]
pub enum AssetsCommand {
    /// Check an asset and put it into the user's data folder
    Add(AssetsAddArgs),
}

/// `assets add`
#[derive(Debug, Args)]
pub struct AssetsAddArgs {
    /// What it is
    pub asset: Asset,
    /// Where it comes from: for METEOR the wheel of pycocoevalcap 1.2, its jar, or the jar's folder
    pub path: PathBuf,
    /// Put it into this folder instead
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

/// Data that metrics need and that may not be shipped.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Asset {
    /// METEOR 1.5's English synonyms, paraphrases and function words
    Meteor,
}

/// `demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the artefact, the curve and the card go; only what an earlier demo left there is replaced
    #[arg(long, value_name = "DIR", default_value = "preface-demo")]
    pub out: PathBuf,
    #[command(flatten)]
    pub settings: Settings<DemoTables>,
}

/// `train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Run folder; the artefact lies in it when the run is finished
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on from the newest checkpoint of the run folder
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Replace a run that is in the folder already
    #[arg(long)]
    pub force: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings<TrainTables>,
}

/// `export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A checkpoint, or a run folder for its newest one
    pub checkpoint: PathBuf,
    /// Folder of the artefact
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace an artefact that is in the folder already
    #[arg(long)]
    pub force: bool,
}

/// The model and what is attached to it.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Hugging Face folder, .gguf file or builtin:NAME
    #[arg(long)]
    pub model: String,
    /// Folder of a trained prefix, ours or PEFT's
    #[arg(long, alias = "prefix", value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Take prompts as they stand, whatever the prefix was trained with
    #[arg(long)]
    pub raw: bool,
    /// Use the prefix although it was trained on other weights of the same architecture
    #[arg(long)]
    pub other_weights: bool,
}

/// `generate`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// One prompt; the answer is written while it comes
    #[arg(long, value_name = "TEXT", group = "what")]
    pub prompt: Option<String>,
    /// JSONL file of prompts (`{"prompt": ...}`, other keys are ignored)
    #[arg(long, value_name = "FILE", group = "what")]
    pub input: Option<PathBuf>,
    /// Write the answers to this file instead of the terminal
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// One JSON object a line: prompt, completion, token_ids, logprob
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings<AnswerTables>,
}

/// `eval`
#[derive(Debug, Args)]
#[command(after_help = score::metrics())]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Data with references
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Metrics, separated by commas (below); `perplexity` alone generates nothing
    #[arg(long, value_name = "NAMES", default_value = "bleu")]
    pub metrics: String,
    /// Lower-case both sides before scoring
    #[arg(long)]
    pub lowercase: bool,
    /// Scores for each value of a field of the data (WebNLG's seen and unseen categories come by themselves)
    #[arg(long, value_name = "FIELD")]
    pub slice_by: Option<String>,
    /// Write hypotheses.txt, predictions.jsonl and result.json there
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace an evaluation that is in that folder already
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings<AnswerTables>,
}

/// `inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A model (folder, .gguf, builtin:NAME), an artefact, a checkpoint, a run folder or a .safetensors file
    pub path: String,
    /// List every tensor
    #[arg(long)]
    pub tensors: bool,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
}

/// `bench`
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Training steps: two batches to warm up, ten timed
    Train(BenchTrainArgs),
    /// Decoding, prefill, and both together
    Generate(BenchGenerateArgs),
    /// The products of real models, against the peak of the machine
    Matmul(BenchMachineArgs),
    /// Reading memory, and the peak of the products' instruction
    Memory(BenchMachineArgs),
}

/// `bench matmul` and `bench memory`
#[derive(Debug, Args)]
pub struct BenchMachineArgs {
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings<ComputeTables>,
}

/// `bench train`
#[derive(Debug, Args)]
pub struct BenchTrainArgs {
    /// Hugging Face folder, .gguf file or builtin:NAME
    #[arg(long)]
    pub model: String,
    /// JSON: batches of [prompt ids, completion ids]; an encoder-decoder reads the prompt in its encoder
    #[arg(long, value_name = "FILE")]
    pub workload: PathBuf,
    /// What is trained: a prefix of 10 rows through an MLP of width 512, or all weights
    #[arg(long, value_enum, default_value_t)]
    pub method: BenchMethod,
    /// Where an encoder-decoder's prefix has rows: encoder, decoder, cross, separated by commas
    #[arg(long, value_name = "PLACES", value_delimiter = ',', default_value = "decoder", value_parser = place)]
    pub places: Vec<PrefixPlace>,
    /// Run the batches once before, so that what an epoch keeps for the next is there
    #[arg(long)]
    pub second_epoch: bool,
    /// Keep less of the forward and compute it again: less memory, slower
    #[arg(long)]
    pub recompute: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings<ComputeTables>,
}

/// What `bench train` trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BenchMethod {
    /// The prefix of the runs of PEFT that it is compared with.
    #[default]
    Prefix,
    /// All weights, without dropout.
    FineTune,
}

/// `bench generate`
#[derive(Debug, Args)]
pub struct BenchGenerateArgs {
    /// Hugging Face folder, .gguf file or builtin:NAME
    #[arg(long)]
    pub model: String,
    /// Prompts worked on at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_1)]
    pub batch_size: usize,
    /// Beams of each; 1 is off
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = at_least_1)]
    pub num_beams: usize,
    /// Rows of a prefix
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_1)]
    pub prefix_len: usize,
    /// Different prefixes, which the prompts stand behind in turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_1)]
    pub prefixes: usize,
    /// Decode steps of a window
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_1)]
    pub max_new_tokens: usize,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings<ComputeTables>,
}

/// Which settings a command takes.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $tables:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name;

        impl flags::Tables for $name {
            const TABLES: &'static [setting::Table] = $tables;
        }
    )*};
}

tables! {
    /// Of `train`.
    TrainTables = config::TRAIN_TABLES;
    /// Of `generate` and `eval`.
    AnswerTables = AnswerConfig::TABLES;
    /// Of `bench`.
    ComputeTables = &[setting::COMPUTE];
    /// Of `demo`.
    DemoTables = &[setting::CHANCE, setting::COMPUTE];
}

fn place(text: &str) -> Result<PrefixPlace, String> {
    let place = PrefixPlace::ALL.into_iter().find(|place| place.name() == text);
    place.ok_or_else(|| "expected encoder, decoder or cross".into())
}

fn at_least_1(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number, at least 1".into()),
    }
}

/// Reads the command line; help and wrong use end the process here.
pub fn parse() -> Cli {
    Cli::parse()
}
