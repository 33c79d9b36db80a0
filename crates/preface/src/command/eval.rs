//! `preface eval`: answers to the inputs of a data file, scored against its references, and the likelihood of these.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use preface_cpu::CpuBackend;
use preface_data::{Dataset, Example, Form, ReadOptions};
use preface_generate::Generation;
use preface_metrics::slice::{Slice, by_value, webnlg};
use preface_metrics::{Metric, MetricOptions, References, Score};
use preface_model::{Attachments, Model};
use preface_train::{EvalLoss, TokenPair, evaluate_loss};
use preface_tune::artefact::replace_files;
use serde_json::{Value, json};

use crate::adapter::{Adapter, TextForm};
use crate::answers::{Answer, Answerer, Scores, score};
use crate::args::EvalArgs;
use crate::config::AnswerConfig;
use crate::engine::{self, Source};
use crate::exit::WrongUse;
use crate::measure::peak_memory_bytes;
use crate::pairs::{Encoder, prompts_of};
use crate::training::folder;
use crate::ui::{self, Align, Output, Table};

/// The metric that needs no answers, and is always there.
const PERPLEXITY: &str = "perplexity";
/// Tokens that are run at once for the likelihoods.
const TOKENS_PER_BATCH: usize = 4096;

/// The files that are written.
const HYPOTHESES: &str = "hypotheses.txt";
const PREDICTIONS: &str = "predictions.jsonl";
const RESULT: &str = "result.json";

/// Runs the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    let typed = args.settings.typed()?;
    let metrics = metrics(args)?;
    check_out(args)?;
    let source = Source::open(&args.model.model)?;
    let adapter =
        Adapter::open(args.model.adapter.as_deref(), &source, args.model.raw, args.model.other_weights)?;
    let text = adapter.text.clone().unwrap_or_default();
    let mut config = AnswerConfig::resolve(&typed, &source.facts()?, &text.format, adapter.taken().decoder)?;
    let data = read(&args.data, &mut config, &text)?;
    let slices = slices(args, &data)?;
    let encoder = Encoder::new(&source, &config.text, adapter.taken(), &config.data);
    let prompts = match metrics.is_empty() {
        true => Vec::new(),
        false => {
            encoder.prompts(prompts_of(&data.path, &data.examples), config.generation.max_new_tokens)?.inputs
        }
    };
    let encoded = encoder.pairs(&data)?;
    let mut model = engine::load(&source.files, &config.compute)?;
    ui::fact("model", &format!("{}: {}", source.name, engine::shapes(&source.files)));
    ui::fact(
        "data",
        &format!("{}: {} inputs, {}", data.path.display(), data.examples.len(), encoded.counts()),
    );
    ui::fact("compute", &engine::described(&model));
    config.from_files.announce();

    let start = Instant::now();
    let (attachments, segment) = adapter.attach(&mut model)?;
    let losses = losses(&model, &attachments, segment, &data, encoded.pairs, &slices)?;
    let answerer = Answerer {
        model: &model,
        attachments: &attachments,
        segment,
        tokenizer: &source.tokenizer,
        special: &source.special,
        settings: &config.generation,
        batch_size: config.batch_size,
    };
    let answers = answerer.answer_with_progress(prompts)?;
    let hypotheses: Vec<String> = answers.iter().map(|answer| answer.text.trim().to_owned()).collect();
    let mut scores = match metrics.is_empty() {
        true => Scores { all: Vec::new(), slices: vec![Vec::new(); slices.len()] },
        false => {
            let references = data.examples.iter().map(|example| example.references.clone()).collect();
            score(&metrics, &hypotheses, &References::new(references)?, &slices)?
        }
    };
    scores.all.push(perplexity(&losses.all));
    for (slice, loss) in scores.slices.iter_mut().zip(&losses.slices) {
        slice.push(perplexity(loss));
    }

    let result =
        Evaluation { args, source: &source, data: &data, config: &config, slices: &slices, scores: &scores };
    let n_generated: usize = answers.iter().map(|answer| answer.generation.token_ids.len()).sum();
    let mut json = result.json(&adapter, &losses.all);
    json["truncated"] = encoded.n_truncated.into();
    json["sources_truncated"] = encoded.sources_cut.into();
    json["generated_tokens"] = n_generated.into();
    json["seconds"] = start.elapsed().as_secs_f64().into();
    json["peak_memory_bytes"] = peak_memory_bytes().into();
    json["compute"] = engine::described(&model).into();
    if let Some(folder) = &args.out {
        write(folder, &data.examples, &answers, &hypotheses, &json)?;
        ui::note(&format!("written to {}", folder.display()));
    }
    result.print(&json)
}

/// The metrics that need answers.
fn metrics(args: &EvalArgs) -> Result<Vec<Box<dyn Metric>>> {
    let names: Vec<&str> =
        args.metrics.split(',').map(str::trim).filter(|name| !matches!(*name, PERPLEXITY | "")).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    super::metrics(&names.join(","), &MetricOptions { lowercase: args.lowercase, ..MetricOptions::default() })
}

/// Refuses a folder whose files would be lost.
fn check_out(args: &EvalArgs) -> Result<()> {
    let Some(folder) = &args.out else { return Ok(()) };
    if folder.join(folder::RUN).exists() {
        bail!(
            "{}: is the folder of a training run, whose {RESULT} would be lost; name another",
            folder.display()
        );
    }
    if folder.exists() && !folder.is_dir() {
        bail!("{}: exists and is no folder", folder.display());
    }
    let is_used = folder.is_dir() && fs_err::read_dir(folder)?.next().is_some();
    if is_used && !args.force {
        bail!("{}: exists already; --force replaces the evaluation in it", folder.display());
    }
    Ok(())
}

/// The inputs, one for each prompt.
fn read(path: &Path, config: &mut AnswerConfig, text: &TextForm) -> Result<Dataset> {
    let asked = config.data.linearisation;
    config.data.linearisation = asked.or(text.linearisation);
    let options = ReadOptions {
        form: config.data.data_format,
        linearisation: config.data.linearisation,
        lexicalisations: config.data.lexicalisations.unwrap_or_default(),
    };
    let data = Dataset::load(path, &options)?;
    config.data.linearisation = data.linearisation;
    let data = Dataset { examples: data.grouped(), ..data };
    Ok(match config.data.max_eval_samples {
        Some(count) => data.take(count, config.generation.seed),
        None => data,
    })
}

fn slices(args: &EvalArgs, data: &Dataset) -> Result<Vec<Slice>> {
    let values = |field: &str| -> Option<Vec<String>> {
        data.examples.iter().map(|example| example.fields.get(field).cloned()).collect()
    };
    if let Some(field) = &args.slice_by {
        let Some(values) = values(field) else {
            let mut known: Vec<&str> =
                data.examples.iter().flat_map(|example| example.fields.keys().map(String::as_str)).collect();
            known.sort_unstable();
            known.dedup();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(WrongUse(format!(
                "--slice-by {field}: not every line of {} has such a field (fields: {known})",
                data.path.display()
            ))
            .into());
        };
        return Ok(by_value(&values));
    }
    let is_webnlg = matches!(data.form, Form::WebnlgJsonl | Form::WebnlgJson | Form::WebnlgXml);
    let categories = values("category").filter(|_| is_webnlg);
    // One slice would be the whole.
    Ok(categories.map(|categories| webnlg(&categories)).filter(|slices| slices.len() > 1).unwrap_or_default())
}

/// Likelihoods of the completions.
struct Losses {
    all: EvalLoss,
    slices: Vec<EvalLoss>,
}

/// Each pair is run once: slices part the data, so the whole is their sum.
fn losses(
    model: &Model<CpuBackend>,
    attachments: &Attachments<CpuBackend>,
    segment: Option<usize>,
    data: &Dataset,
    pairs: Vec<TokenPair>,
    slices: &[Slice],
) -> Result<Losses> {
    let of = |pairs: &[TokenPair]| {
        let longest = pairs.iter().map(TokenPair::n_token).max().unwrap_or(0);
        evaluate_loss(model, attachments, segment, pairs, TOKENS_PER_BATCH.max(longest))
    };
    if slices.is_empty() {
        return Ok(Losses { all: of(&pairs)?, slices: Vec::new() });
    }
    let mut pairs_of: Vec<Vec<TokenPair>> = vec![Vec::new(); data.examples.len()];
    for (pair, source) in pairs.into_iter().zip(data.pairs()) {
        pairs_of[source.example].push(pair);
    }
    let slices = slices
        .iter()
        .map(|slice| {
            let pairs: Vec<TokenPair> =
                slice.segments.iter().flat_map(|&segment| std::mem::take(&mut pairs_of[segment])).collect();
            of(&pairs)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let all = EvalLoss {
        sum_nll: slices.iter().map(|loss| loss.sum_nll).sum(),
        n_token: slices.iter().map(|loss| loss.n_token).sum(),
    };
    Ok(Losses { all, slices })
}

fn perplexity(loss: &EvalLoss) -> Score {
    Score {
        name: PERPLEXITY.into(),
        score: loss.perplexity(),
        signature: format!("completions|tokens:{}", loss.n_token),
        confidence: None,
    }
}

/// What came out.
struct Evaluation<'a> {
    args: &'a EvalArgs,
    source: &'a Source,
    data: &'a Dataset,
    config: &'a AnswerConfig,
    slices: &'a [Slice],
    scores: &'a Scores,
}

impl Evaluation<'_> {
    fn json(&self, adapter: &Adapter, loss: &EvalLoss) -> Value {
        let slices: Vec<Value> = self
            .slices
            .iter()
            .zip(&self.scores.slices)
            .map(|(slice, scores)| json!({"name": slice.name, "inputs": slice.segments.len(), "scores": scores}))
            .collect();
        json!({
            "scores": self.scores.all,
            "slices": slices,
            "eval_loss": loss.mean(),
            "perplexity": loss.perplexity(),
            "model": self.source.name,
            "adapter": self.args.model.adapter,
            "prefix_sha256": adapter.content_hash(),
            "data": self.data.path,
            "data_sha256": self.data.sha256,
            "inputs": self.data.examples.len(),
            "references": self.data.n_pair(),
            "settings": self.config,
        })
    }

    fn print(&self, json: &Value) -> Result<()> {
        let mut out = Output::stdout();
        if self.args.json {
            out.line(&json.to_string())?;
            return out.finish();
        }
        let names = self.slices.iter().map(|slice| (slice.name.as_str(), Align::Right));
        let columns: Vec<_> = [("metric", Align::Left)]
            .into_iter()
            .chain(names)
            .chain([("all", Align::Right), ("signature", Align::Left)])
            .collect();
        let mut table = Table::new(&columns);
        for (i, score) in self.scores.all.iter().enumerate() {
            let slices = self.scores.slices.iter().map(|scores| ui::score(scores[i].score));
            let cells = std::iter::once(score.name.clone()).chain(slices);
            table.row(cells.chain([ui::score(score.score), score.signature.clone()]).collect());
        }
        for line in table.lines(ui::width()) {
            out.line(&line)?;
        }
        out.finish()
    }
}

/// Writes the files, all or none; without answers the result alone.
fn write(
    folder: &Path,
    examples: &[Example],
    answers: &[Answer],
    hypotheses: &[String],
    result: &Value,
) -> Result<()> {
    let mut lines = String::new();
    for hypothesis in hypotheses {
        lines.push_str(&ui::one_line(hypothesis));
        lines.push('\n');
    }
    let mut predictions = String::new();
    for ((example, answer), hypothesis) in examples.iter().zip(answers).zip(hypotheses) {
        let Generation { token_ids, logprob, .. } = &answer.generation;
        let line = json!({
            "prompt": example.prompt,
            "prediction": hypothesis,
            "references": example.references,
            "fields": example.fields,
            "token_ids": token_ids,
            "logprob": logprob,
        });
        predictions.push_str(&line.to_string());
        predictions.push('\n');
    }
    let mut json = serde_json::to_string_pretty(result)?;
    json.push('\n');
    let mut files = vec![(RESULT, json.into_bytes())];
    if !answers.is_empty() {
        files.extend([(HYPOTHESES, lines.into_bytes()), (PREDICTIONS, predictions.into_bytes())]);
    }
    Ok(replace_files(folder, &files)?)
}
