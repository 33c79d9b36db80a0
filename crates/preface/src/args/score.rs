//! The command line of `score`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use preface_metrics::registry;

/// `score`
#[derive(Debug, Args)]
#[command(after_help = metrics())]
pub struct ScoreArgs {
    /// Texts to be scored, one file for each system; the first is the one that others are compared with
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub hypotheses: Vec<PathBuf>,
    /// References: one file of any form, or several with a line for each segment
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub references: Vec<PathBuf>,
    /// Metrics, separated by commas (below)
    #[arg(long, value_name = "NAMES", default_value = "bleu")]
    pub metrics: String,
    /// Lower-case both sides (BLEU, chrF)
    #[arg(long)]
    pub lowercase: bool,
    /// Tokenizer of BLEU
    #[arg(long, value_enum, default_value_t)]
    pub tokenize: Tokenize,
    /// Smoothing of BLEU
    #[arg(long, value_enum, default_value_t)]
    pub smooth: Smooth,
    /// Value of `--smooth floor` [default: 0.1] and `--smooth add-k` [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub smooth_value: Option<f64>,
    /// BLEU without the orders that the text is too short for
    #[arg(long)]
    pub effective_order: bool,
    /// ROUGE without stemming
    #[arg(long)]
    pub no_stemmer: bool,
    /// How several references make one ROUGE figure
    #[arg(long, value_enum, default_value_t)]
    pub rouge_references: ReferencesOf,
    /// Bootstrap confidence intervals, 95 %
    #[arg(long)]
    pub confidence: bool,
    /// Test every other system against the first
    #[arg(long, value_enum, value_name = "TEST")]
    pub paired: Option<PairedKind>,
    /// Bootstrap samples [default: 1000] or randomisation trials [default: 10000]
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Seed of the resampling, as for NumPy's default_rng
    #[arg(long, value_name = "N", default_value_t = preface_metrics::bootstrap::DEFAULT_SEED)]
    pub seed: u64,
    /// Scores for each value of a field of the (single, JSONL) reference file
    #[arg(long, value_name = "FIELD")]
    pub slice_by: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print a Markdown table
    #[arg(long)]
    pub markdown: bool,
}

/// The names of all metrics, for the end of the help text.
pub fn metrics() -> String {
    let lines = registry::ENTRIES.iter().map(|entry| format!("  {:<14} {}", entry.name, entry.about));
    std::iter::once("Metrics:".to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
}

/// BLEU's tokenizers under sacreBLEU's names.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Tokenize {
    /// mteval-v13a
    #[default]
    #[value(name = "13a")]
    V13a,
    /// White space only
    None,
    /// mteval-v14
    Intl,
    /// Single characters
    Char,
}

/// BLEU's smoothing under sacreBLEU's names.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Smooth {
    /// 1/2, 1/4, ... of a match
    #[default]
    Exp,
    /// A share of a match
    Floor,
    /// Some matches more
    AddK,
    /// The score is 0
    None,
}

/// How several references make one ROUGE figure.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum ReferencesOf {
    /// The best one counts
    #[default]
    Best,
    /// Their mean
    Average,
}

/// How two systems are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PairedKind {
    /// The same resamples for both
    Bootstrap,
    /// Segments swapped at random
    Randomisation,
}
