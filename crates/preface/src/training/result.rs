//! `result.json` and the artefact: what a finished run leaves.

use std::path::Path;

use anyhow::Result;
use preface_backend::Backend;
use preface_cpu::CpuBackend;
use preface_data::Dataset;
use preface_model::Model;
use preface_train::{Best, End, EvaluationLog, Outcome};
use preface_tune::Trained;
use preface_tune::artefact::{self, Description, Score, TrainedWith, public_name};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Job, folder};
use crate::measure::peak_memory_bytes;
use crate::pairs::PairCounts;
use crate::ui::{self, Output, Table};

/// What came out of a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunResult {
    /// `finished` or `early_stopped`.
    pub end: End,
    /// Steps done.
    pub steps: u64,
    /// Loss of the last step.
    pub final_loss: Option<f64>,
    /// Mean loss of a validation token under the prefix that was kept.
    pub eval_loss: Option<f64>,
    /// `exp` of it.
    pub eval_perplexity: Option<f64>,
    /// Generated metrics of the last evaluation.
    pub eval_scores: Map<String, Value>,
    /// The best evaluation.
    pub best: Option<Best>,
    /// Pairs of all steps.
    pub pairs: u64,
    /// Tokens of all steps.
    pub tokens: u64,
    /// Seconds spent in steps.
    pub seconds: f64,
    /// Their quotient.
    pub tokens_per_second: f64,
    /// Largest resident memory of the process.
    pub peak_memory_bytes: Option<u64>,
    /// Parameters that were trained.
    pub trained_parameters: usize,
    /// Numbers in the artefact.
    pub stored_parameters: usize,
    /// Hash of the artefact's numbers.
    pub prefix_sha256: String,
    /// Pairs, tokens and cuts of the training data.
    pub train: DataResult,
    /// Of the validation data.
    pub valid: Option<DataResult>,
    /// How it was computed.
    pub precision: String,
    /// Instruction-set tier.
    pub tier: String,
    /// Threads.
    pub threads: usize,
    /// Every setting.
    pub settings: toml::Table,
}

/// What a data file gave.
#[derive(Clone, Debug, Serialize)]
pub struct DataResult {
    #[serde(flatten)]
    counts: PairCounts,
    references_left_out: usize,
    sha256: String,
}

impl DataResult {
    fn new(data: &Dataset, counts: PairCounts) -> Self {
        Self { counts, references_left_out: data.dropped_references, sha256: data.sha256.clone() }
    }
}

impl RunResult {
    /// Gathers everything.
    pub fn new(
        job: &Job,
        model: &Model<CpuBackend>,
        outcome: &Outcome,
        evaluation: Option<EvaluationLog>,
        trained_parameters: usize,
        stored_parameters: usize,
    ) -> Self {
        let described = model.backend().describe();
        let Outcome { end, step, final_loss, best, pairs, tokens, seconds } = outcome.clone();
        // Kept is the best prefix if the settings say so; its loss is known if that is what it is best by.
        let keeps_best = job.config.training.load_best_model_at_end;
        let eval_loss = match &best {
            Some(best) if keeps_best && best.metric == preface_train::EVAL_LOSS => Some(best.value),
            Some(best) if keeps_best => {
                evaluation.as_ref().filter(|log| log.step == best.step).map(|log| log.eval_loss)
            }
            _ => evaluation.as_ref().map(|log| log.eval_loss),
        };
        Self {
            end,
            steps: step,
            final_loss,
            eval_loss,
            eval_perplexity: eval_loss.map(f64::exp),
            eval_scores: evaluation.map(|log| log.scores).unwrap_or_default(),
            best,
            pairs,
            tokens,
            seconds,
            tokens_per_second: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
            peak_memory_bytes: peak_memory_bytes(),
            trained_parameters,
            stored_parameters,
            prefix_sha256: String::new(),
            train: DataResult::new(&job.train, job.train_counts),
            valid: job.valid.as_ref().map(|valid| DataResult::new(valid, job.valid_counts)),
            precision: described.precision.into(),
            tier: described.tier,
            threads: described.threads,
            settings: job.config.to_table(),
        }
    }

    /// Writes the artefact, then `result.json`.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn write(&mut self, job: &Job, folder: &Path, trained: &Trained) -> Result<()> {
        let spec = job.source.files.spec();
        let model = job.model_folder()?;
        let trained_with = TrainedWith { precision: self.precision.clone(), tier: self.tier.clone() };
        let description = job.description(self.scores(job), trained_with)?;
        self.prefix_sha256 = artefact::write_trained(folder, trained, spec, &description, model.as_ref())?;
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        Ok(artefact::replace_files(folder, &[(folder::RESULT, json.into_bytes())])?)
    }

    /// On the validation data.
    fn scores(&self, job: &Job) -> Vec<Score> {
        let pairs = format!("validation|pairs:{}", job.valid_counts.pairs);
        let score = |name: &str, score: f64| Score { name: name.into(), score, signature: pairs.clone() };
        let mut scores: Vec<Score> = self.eval_loss.iter().map(|loss| score("eval_loss", *loss)).collect();
        let generated = self.best.iter().filter(|best| best.metric != preface_train::EVAL_LOSS);
        scores.extend(generated.map(|best| score(&best.metric, best.value)));
        scores
    }

    /// Prints the result.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print(&self, folder: &Path, as_json: bool) -> Result<()> {
        let mut out = Output::stdout();
        if as_json {
            out.line(&json!(self).to_string())?;
            return out.finish();
        }
        let mut table = Table::of_facts();
        let mut row = |name: &str, text: String| table.row(vec![name.into(), text]);
        row(
            "artefact",
            format!("{} ({})", folder.display(), ui::bytes(self.stored_parameters * size_of::<f32>())),
        );
        if let Some(loss) = self.final_loss {
            row("last loss", format!("{loss:.4}"));
        }
        if let Some(loss) = self.eval_loss {
            row("eval loss", format!("{loss:.4} (perplexity {:.2})", loss.exp()));
        }
        if let Some(best) = &self.best {
            row("best", format!("{} {} after step {}", best.metric, ui::score(best.value), best.step));
        }
        let time = ui::duration(std::time::Duration::from_secs_f64(self.seconds.max(0.0)));
        row("time", format!("{} steps in {time}, {} tokens/s", self.steps, ui::rate(self.tokens_per_second)));
        for line in table.lines(ui::width()) {
            out.line(&line)?;
        }
        out.finish()
    }
}

impl Job {
    /// What is shared of a run: nothing of this machine.
    pub(super) fn description(&self, scores: Vec<Score>, trained_with: TrainedWith) -> Result<Description> {
        let mut recipe = serde_json::to_value(self.config.to_table())?;
        if let Some(settings) = recipe.as_object_mut() {
            for of_this_machine in ["model", "train", "valid", "threads", "tier"] {
                settings.remove(of_this_machine);
            }
        }
        Ok(Description {
            base_model: public_name(&self.source.name).map(Into::into),
            fingerprint: self.fingerprint.clone(),
            text: serde_json::to_value(self.text_form())?,
            recipe,
            data_hash: Some(self.train.sha256.clone()),
            scores,
            trained_with,
        })
    }
}
