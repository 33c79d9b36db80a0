//! `preface inspect`: what a path holds, and whether it is whole.

use std::path::Path;

use anyhow::{Context, Result, bail};
use preface_cpu::{CpuBackend, CpuOptions};
use preface_model::tokenizer::{TargetTokens, Tokenizer};
use preface_model::weights::{TensorSource, Weights};
use preface_model::{BUILTIN_SCHEME, Fingerprint, ModelFiles, Positions, UNLIMITED_POSITIONS};
use preface_train::{Checkpoint, read_metrics};
use preface_tune::artefact::{self, Opened};
use serde_json::{Map, Value, json};

use crate::args::InspectArgs;
use crate::config::RECORDED;
use crate::engine;
use crate::exit::Reported;
use crate::training::folder;
use crate::ui::{self, Align, Output, Table};

/// What was found.
struct Report {
    kind: &'static str,
    facts: Vec<(&'static str, Value)>,
    checks: Vec<(&'static str, Result<String, String>)>,
    tensors: Vec<Tensor>,
}

struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: usize,
}

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<()> {
    let report = inspect(&args.path)?;
    report.print(args)?;
    match report.checks.iter().all(|(_, outcome)| outcome.is_ok()) {
        true => Ok(()),
        false => Err(Reported.into()),
    }
}

fn inspect(name: &str) -> Result<Report> {
    let path = Path::new(name);
    if name.starts_with(BUILTIN_SCHEME) {
        return model(name);
    }
    if !path.exists() {
        bail!("{name}: no such file or folder");
    }
    let has = |file: &str| path.join(file).exists();
    if has(folder::RUN) {
        return run_folder(path);
    }
    if has(artefact::CONFIG) || has(artefact::TENSORS) || (has(artefact::MODEL) && has(artefact::MANIFEST)) {
        return artefact(path);
    }
    if has(CHECKPOINT_STATE) {
        return checkpoint(path);
    }
    if path.extension().is_some_and(|ending| ending == "safetensors") {
        return weights(path);
    }
    model(name)
}

/// The file that only a checkpoint has.
const CHECKPOINT_STATE: &str = "state.json";

impl Report {
    fn new(kind: &'static str) -> Self {
        Self { kind, facts: Vec::new(), checks: Vec::new(), tensors: Vec::new() }
    }

    fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push((name, value.into()));
    }

    fn check(&mut self, name: &'static str, outcome: Result<String>) {
        self.checks.push((name, outcome.map_err(|error| format!("{error:#}"))));
    }

    fn add_tensors(&mut self, source: &dyn TensorSource) {
        let infos = source.names().into_iter().filter_map(|name| source.info(name));
        self.tensors = infos
            .map(|info| Tensor {
                name: info.name().to_owned(),
                dtype: info.dtype().to_string(),
                shape: info.shape().to_vec(),
                bytes: info.n_bytes(),
            })
            .collect();
        self.fact("tensors", self.tensors.len());
        self.fact("bytes", self.tensors.iter().map(|tensor| tensor.bytes).sum::<usize>());
        let mut dtypes: Vec<(String, usize)> = Vec::new();
        for tensor in &self.tensors {
            match dtypes.iter_mut().find(|(dtype, _)| *dtype == tensor.dtype) {
                Some((_, n)) => *n += 1,
                None => dtypes.push((tensor.dtype.clone(), 1)),
            }
        }
        let dtypes: Vec<String> = dtypes.into_iter().map(|(dtype, n)| format!("{n} {dtype}")).collect();
        self.fact("stored as", dtypes.join(", "));
    }

    fn print(&self, args: &InspectArgs) -> Result<()> {
        let mut out = Output::stdout();
        if args.json {
            out.line(&self.json(args).to_string())?;
            return out.finish();
        }
        out.line(&format!("{}: {}", args.path, self.kind))?;
        let mut table = Table::of_facts();
        for (name, value) in &self.facts {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) if *name == "bytes" => {
                    ui::bytes(number.as_u64().map_or(0, |bytes| bytes as usize))
                }
                Value::Number(number) => {
                    number.as_u64().map_or_else(|| number.to_string(), |number| ui::count(number as usize))
                }
                Value::Object(members) => {
                    let members = members.iter().filter(|(_, value)| !value.is_null());
                    members.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
                }
                Value::Null => "none".into(),
                other => other.to_string(),
            };
            table.row(vec![(*name).into(), text]);
        }
        for line in table.lines(ui::width()) {
            out.line(&line)?;
        }
        if args.tensors {
            let columns = [
                ("tensor", Align::Left),
                ("type", Align::Left),
                ("bytes", Align::Right),
                ("shape", Align::Left),
            ];
            let mut table = Table::new(&columns);
            for Tensor { name, dtype, shape, bytes } in &self.tensors {
                table.row(vec![name.clone(), dtype.clone(), ui::count(*bytes), format!("{shape:?}")]);
            }
            out.line("")?;
            for line in table.lines(ui::width()) {
                out.line(&line)?;
            }
        }
        out.line("")?;
        let mut table = Table::new(&[("check", Align::Left), ("", Align::Left), ("", Align::Left)]);
        for (name, outcome) in &self.checks {
            let (word, detail) = match outcome {
                Ok(detail) => ("ok", detail),
                Err(detail) => ("FAILED", detail),
            };
            table.row(vec![(*name).into(), word.into(), detail.clone()]);
        }
        for line in table.lines(ui::width()) {
            out.line(&line)?;
        }
        out.finish()
    }

    fn json(&self, args: &InspectArgs) -> Value {
        let facts: Map<String, Value> =
            self.facts.iter().map(|(name, value)| (name.replace(' ', "_"), value.clone())).collect();
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|(name, outcome)| {
                let (Ok(detail) | Err(detail)) = outcome;
                json!({"check": name, "ok": outcome.is_ok(), "detail": detail})
            })
            .collect();
        let mut report = json!({"path": args.path, "kind": self.kind, "facts": facts, "checks": checks});
        if args.tensors {
            let tensors = self.tensors.iter().map(|Tensor { name, dtype, shape, bytes }| {
                json!({"name": name, "dtype": dtype, "shape": shape, "bytes": bytes})
            });
            report["tensors"] = tensors.collect();
        }
        report
    }
}

/// A model: every tensor is read and the whole is loaded once.
fn model(name: &str) -> Result<Report> {
    let mut report = Report::new("model");
    let files = ModelFiles::open(name)?;
    let spec = files.spec();
    report.fact("layers", engine::shapes(&files));
    let positions = match spec.positions {
        Positions::Learned { .. } => "learned",
        Positions::Sinusoidal => "sinusoidal",
        Positions::Relative { .. } => "by distance",
        Positions::Rotary(_) => "rotary",
    };
    let n_position = match spec.max_positions {
        UNLIMITED_POSITIONS => "any number".to_owned(),
        n_position => ui::count(n_position),
    };
    report.fact("positions", format!("{n_position}, {positions}"));
    report.fact("head", if spec.tied_head { "the embedding" } else { "its own" });
    report.fact("prefix row", format!("{} numbers", ui::count(spec.prefix_row_width())));
    report.add_tensors(files.weights());
    report.check("headers", Ok(format!("{} tensors lie inside their files", report.tensors.len())));
    report.check("values", finite(files.weights()));
    report.check("layers", load(&files));
    match files.tokenizer() {
        Ok((tokenizer, special)) => {
            report.fact("vocabulary", tokenizer.vocab_size());
            report.fact("bos token", special.bos);
            report.fact("end tokens", special.end.clone());
            if let Some(TargetTokens { start, front, back }) = &special.target {
                report.fact("encoder reads", around(&tokenizer, tokenizer.front(), tokenizer.back()));
                report.fact("labels", around(&tokenizer, front, back));
                report.fact("decoder start", tokens(&tokenizer, &[*start]));
            }
            let fingerprint = Fingerprint::new(spec, files.weights(), tokenizer.fingerprint());
            match fingerprint {
                Ok(fingerprint) => report.fact("fingerprint", fingerprint.to_string()),
                Err(error) => report.check("fingerprint", Err(error.into())),
            }
            let end = special.end.first().context("the model names no end token: it cannot be trained on");
            report.check("tokenizer", end.map(|end| format!("end token {end}")));
        }
        Err(error) => report.check("tokenizer", Err(error.into())),
    }
    match engine::file_defaults(&files) {
        Ok(defaults) if !defaults.values.is_empty() => {
            let values = defaults.values.iter().map(|d| (d.setting.to_owned(), d.value.clone()));
            report.fact("generation", Value::Object(values.collect()));
        }
        Ok(_) => {}
        Err(error) => report.check("generation", Err(error)),
    }
    Ok(report)
}

/// A text between these tokens.
fn around(tokenizer: &Tokenizer, front: &[u32], back: &[u32]) -> String {
    let sides = [tokens(tokenizer, front), "text".into(), tokens(tokenizer, back)];
    sides.iter().filter(|side| !side.is_empty()).cloned().collect::<Vec<_>>().join(" ")
}

/// Tokens as the vocabulary writes them.
fn tokens(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let written = |&id: &u32| tokenizer.id_to_token(id).unwrap_or_else(|| id.to_string());
    ids.iter().map(written).collect::<Vec<_>>().join(" ")
}

/// Weights without a config.
fn weights(path: &Path) -> Result<Report> {
    let mut report = Report::new("weights");
    let weights = Weights::open(path)?;
    report.add_tensors(&weights);
    report.check("headers", Ok(format!("{} tensors lie inside the file", report.tensors.len())));
    report.check("values", finite(&weights));
    Ok(report)
}

/// What encoder-decoders of Hugging Face call the bias on their logits.
const HEAD_BIAS: &str = "final_logits_bias";

/// Reads every tensor that is a weight.
fn finite(source: &dyn TensorSource) -> Result<String> {
    let (mut n_value, mut n_other) = (0, 0);
    for name in source.names() {
        let Some(info) = source.info(name) else { continue };
        if !info.dtype().is_decodable() {
            n_other += 1;
            continue;
        }
        let values = source.read(name)?.to_f32();
        // There a token that can never come has minus infinity.
        let is_valid = |value: f32| value.is_finite() || name == HEAD_BIAS && value == f32::NEG_INFINITY;
        if let Some(at) = values.iter().position(|value| !is_valid(*value)) {
            bail!("{}: tensor `{name}` holds {} at element {at}", source.path().display(), values[at]);
        }
        n_value += values.len();
    }
    let others = if n_other > 0 { format!("; {n_other} tensors are no weights") } else { String::new() };
    Ok(format!("{} numbers, all finite{others}", ui::count(n_value)))
}

fn load(files: &ModelFiles) -> Result<String> {
    let backend = CpuBackend::new(CpuOptions::default())?;
    let model = files.load(backend)?;
    Ok(format!("every tensor has the shape that the config says; {} loaded", ui::bytes(model.weight_bytes())))
}

fn artefact(path: &Path) -> Result<Report> {
    let mut report = Report::new("artefact");
    add_artefact(&mut report, path)?;
    Ok(report)
}

fn add_artefact(report: &mut Report, path: &Path) -> Result<()> {
    let opened = Opened::open(path)?;
    report.fact("method", opened.method_name());
    if let Opened::Prefix(artefact::Artefact { rows, .. }) = &opened {
        report.fact(
            "prefix",
            format!(
                "{} rows for {} layers of {} kv heads of {}",
                rows.prefix_len, rows.n_layer, rows.n_kv_head, rows.head_dim
            ),
        );
    }
    if let Some(places) = opened.places_in_words() {
        report.fact("prefix", places);
    }
    let of_model = path.join(artefact::MODEL);
    let tensors = if of_model.exists() { of_model } else { path.join(artefact::TENSORS) };
    report.add_tensors(&Weights::open(&tensors)?);
    report.fact("hash", opened.content_hash());
    report.fact("base model", opened.base_model());
    let n_value = ui::count(opened.n_number());
    match &opened {
        Opened::Prefix(_) => report.check(
            "rows",
            Ok(format!("the shape that {} says; {n_value} numbers, all finite", artefact::CONFIG)),
        ),
        Opened::Tensors(_) => report.check("values", Ok(format!("{n_value} numbers, all finite"))),
    }
    match opened.description().cloned() {
        None => report.fact("provenance", format!("none: no {}; PEFT's own folder", artefact::MANIFEST)),
        Some(description) => {
            report.fact("trained on", description.fingerprint.to_string());
            let with = description.trained_with;
            report.fact("trained with", format!("{}, {}", with.precision, with.tier));
            report.fact("text", description.text);
            report.fact("recipe", description.recipe);
            report.fact("data", description.data_hash);
            let scores = description.scores.iter();
            report.fact(
                "scores",
                scores.map(|s| format!("{} {}", s.name, ui::score(s.score))).collect::<Vec<_>>().join(", "),
            );
            report.check("manifest", Ok(format!("{} belongs to these rows", artefact::MANIFEST)));
        }
    }
    Ok(())
}

fn checkpoint(path: &Path) -> Result<Report> {
    let mut report = Report::new("checkpoint");
    add_checkpoint(&mut report, path)?;
    Ok(report)
}

fn add_checkpoint(report: &mut Report, path: &Path) -> Result<()> {
    let checkpoint = Checkpoint::read(path)?;
    report.fact("step", checkpoint.state.step);
    report.fact("parameters", checkpoint.parameters.len());
    report.fact(
        "position",
        format!("epoch {}, pair {}", checkpoint.state.position.epoch, checkpoint.state.position.index),
    );
    report.fact("last loss", checkpoint.state.last_loss);
    let vectors = [&checkpoint.parameters, &checkpoint.first_moments, &checkpoint.second_moments];
    let is_finite = vectors.iter().all(|vector| vector.iter().all(|value| value.is_finite()));
    let outcome = if is_finite {
        Ok("all numbers are finite".into())
    } else {
        Err(anyhow::anyhow!("a number is not finite"))
    };
    report.check("checkpoint", outcome);
    Ok(())
}

fn run_folder(path: &Path) -> Result<Report> {
    let mut report = Report::new("run folder");
    let mut settings: toml::Table = toml::from_str(&fs_err::read_to_string(path.join(folder::RUN))?)
        .with_context(|| path.join(folder::RUN).display().to_string())?;
    settings.remove(RECORDED);
    report.fact("settings", serde_json::to_value(&settings)?);
    let result = path.join(folder::RESULT);
    report.fact("finished", result.exists());
    let metrics = path.join(folder::METRICS);
    if metrics.exists() {
        match read_metrics(&metrics) {
            Ok(lines) => {
                report.fact("last logged", lines.last().cloned().unwrap_or_default());
                report.check("metrics", Ok(format!("{} lines", lines.len())));
            }
            Err(error) => report.check("metrics", Err(error.into())),
        }
    }
    if Checkpoint::newest(path)?.is_some() {
        for entry in fs_err::read_dir(path)? {
            let path = entry?.path();
            if path.join(CHECKPOINT_STATE).exists() {
                add_checkpoint(&mut report, &path)?;
            }
        }
    }
    if path.join(artefact::CONFIG).exists() || path.join(artefact::MODEL).exists() {
        add_artefact(&mut report, path)?;
    } else if result.exists() {
        report.check(
            "artefact",
            Err(anyhow::anyhow!("the run is finished, but the folder has no {}", artefact::CONFIG)),
        );
    }
    Ok(report)
}
