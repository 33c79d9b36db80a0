//! `preface demo`: a prefix trained on the embedded model and data, compared with the bare model, and saved.
//!
//! The task: four words -> a tiny story that has them all. The embedded model writes tiny stories, but makes nothing of
//! such a list; with the prefix it does, for combinations that were not in the training data.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use preface_cpu::CpuBackend;
use preface_data::{Dataset, ReadOptions};
use preface_generate::GenerationSettings;
use preface_model::tokenizer::{Input, TextFormat};
use preface_model::{Attachments, Model};
use preface_train::{EvalLoss, TokenPair, evaluate_loss};
use preface_tune::artefact::replace_files;

use crate::answers::{Answer, Answerer};
use crate::args::DemoArgs;
use crate::config::sections::Data;
use crate::config::{AnswerConfig, RunConfig, Typed};
use crate::engine::Source;
use crate::interrupt;
use crate::pairs::{Encoder, Taken, prompts_of};
use crate::training::folder::{self, RunFolder};
use crate::training::{Finished, Job};
use crate::ui::{self, Align, Output, Table};

const MODEL: &str = "builtin:stories260k";
const TRAIN: (&str, &[u8]) = ("train.jsonl", include_bytes!("../../../../assets/demo/train.jsonl"));
const VALID: (&str, &[u8]) = ("valid.jsonl", include_bytes!("../../../../assets/demo/valid.jsonl"));

/// What differs from the defaults.
const SETTINGS: &str = r#"
    learning_rate = 5e-3
    num_train_epochs = 4.0
    max_new_tokens = 56
    stop_strings = ["The end."]
"#;
/// The embedded model does not know its end token: nothing in its training ended with it.
const STOP: &str = "--stop-strings \"The end.\"";
/// Held-out inputs whose answers are shown.
const N_SHOWN: usize = 3;

/// Runs the command.
pub fn run(args: &DemoArgs) -> Result<()> {
    let start = Instant::now();
    check_folder(&args.out)?;
    let read = |(name, bytes): (&str, &[u8])| {
        Dataset::from_bytes(&args.out.join(name), bytes, &ReadOptions::default())
    };
    let (train, valid) = (read(TRAIN)?, read(VALID)?);
    let source = Source::open(MODEL)?;
    let config = RunConfig::resolve(&settings(args)?, &source.facts()?)?;
    let (format, generation) = (config.text.clone(), config.generation.clone());
    let job = Job::new(config, source, train, Some(valid.clone()))?;

    ui::note(
        "Task: four words -> a tiny story that has them all. The model is frozen; only a prefix is trained.",
    );
    ui::note("");
    interrupt::install()?;
    let Finished { mut model, mut method, result, source } = job.run(&RunFolder::new(&args.out))?;
    replace_files(&args.out, &[TRAIN, VALID].map(|(name, bytes)| (name, bytes.to_vec())))?;

    let prefix_len = result.stored_parameters / model.spec().prefix_row_width();
    let taken = Taken { encoder: 0, decoder: prefix_len };
    let held_out = HeldOut::new(&source, &format, &generation, taken, valid)?;
    let (none, prefix) = (Attachments::none(), method.attach(&mut model));
    let bare = held_out.measure(&model, &none, None)?;
    let with = held_out.measure(&model, &prefix, method.segment())?;
    let mut out = Output::stdout();
    held_out.show(&bare, &with, &mut out)?;
    let size = ui::bytes(result.stored_parameters * size_of::<f32>());
    out.line(&format!(
        "The prefix is {size}; everything took {}. In {}:",
        ui::duration(start.elapsed()),
        args.out.display()
    ))?;
    for line in files_table().lines(ui::width() - 2) {
        out.line(&format!("  {line}"))?;
    }
    next_commands(&args.out, &held_out, &mut out)?;
    out.finish()
}

/// The demo's settings under those of the command line.
fn settings(args: &DemoArgs) -> Result<Typed> {
    let mut settings: toml::Table = toml::from_str(SETTINGS)?;
    let name = |(file, _): (&str, &[u8])| toml::Value::String(args.out.join(file).display().to_string());
    settings.insert("model".into(), MODEL.into());
    settings.insert("train".into(), name(TRAIN));
    settings.insert("valid".into(), name(VALID));
    let typed = args.settings.typed()?;
    Ok(Typed::new(settings).over(typed.all()))
}

/// A folder that is there must be an earlier demo's.
fn check_folder(folder: &Path) -> Result<()> {
    if folder.exists() && !folder.is_dir() {
        bail!("{}: exists and is no folder; --out names another", folder.display());
    }
    let is_used = folder.is_dir() && fs_err::read_dir(folder)?.next().is_some();
    if !is_used {
        return Ok(());
    }
    let run_file = folder.join(folder::RUN);
    let is_demo = run_file.is_file()
        && toml::from_str::<toml::Table>(&fs_err::read_to_string(run_file)?).is_ok_and(|run| {
            run.get("model").and_then(toml::Value::as_str) == Some(MODEL)
                && run
                    .get("train")
                    .and_then(toml::Value::as_str)
                    .is_some_and(|train| train.ends_with(TRAIN.0))
        });
    match is_demo {
        true => Ok(()),
        false => bail!("{}: exists and is not from a demo; --out names another folder", folder.display()),
    }
}

/// The held-out data in token ids.
struct HeldOut<'a> {
    source: &'a Source,
    generation: &'a GenerationSettings,
    data: Dataset,
    prompts: Vec<Input>,
    pairs: Vec<TokenPair>,
}

/// What the held-out data says of a model.
struct Measured {
    answers: Vec<Answer>,
    loss: EvalLoss,
    n_with_all: usize,
}

impl<'a> HeldOut<'a> {
    fn new(
        source: &'a Source,
        format: &TextFormat,
        generation: &'a GenerationSettings,
        taken: Taken,
        data: Dataset,
    ) -> Result<Self> {
        let encoder = Encoder::new(source, format, taken, &Data::default());
        let prompts =
            encoder.prompts(prompts_of(&data.path, &data.examples), generation.max_new_tokens)?.inputs;
        let pairs = encoder.pairs(&data)?.pairs;
        Ok(Self { source, generation, data, prompts, pairs })
    }

    fn measure(
        &self,
        model: &Model<CpuBackend>,
        attachments: &Attachments<CpuBackend>,
        segment: Option<usize>,
    ) -> Result<Measured> {
        let n_token = self.pairs.iter().map(TokenPair::n_token).sum();
        let loss = evaluate_loss(model, attachments, segment, &self.pairs, n_token)?;
        let answerer = Answerer {
            model,
            attachments,
            segment,
            tokenizer: &self.source.tokenizer,
            special: &self.source.special,
            settings: self.generation,
            batch_size: AnswerConfig::BATCH_SIZE,
        };
        let answers = answerer.answer(self.prompts.clone(), &mut ())?;
        let prompts = self.data.examples.iter().map(|example| example.prompt.as_str());
        let n_with_all =
            prompts.zip(&answers).filter(|(prompt, answer)| has_all(prompt, &answer.text)).count();
        Ok(Measured { answers, loss, n_with_all })
    }

    fn show(&self, bare: &Measured, with: &Measured, out: &mut Output) -> Result<()> {
        let width = ui::width();
        for (i, example) in self.data.examples.iter().enumerate().take(N_SHOWN) {
            out.line("")?;
            for line in textwrap::wrap(&format!("> {}", example.prompt), width) {
                out.line(&line)?;
            }
            let text = |measured: &Measured| ui::one_line(&measured.answers[i].text);
            let (left, right) = (text(bare), text(with));
            for line in ui::side_by_side(("bare model", &left), ("with the prefix", &right), width) {
                out.line(&line)?;
            }
        }
        out.line("")?;
        let columns = [
            (&*format!("{} held-out inputs", self.data.examples.len()), Align::Left),
            ("bare", Align::Right),
            ("prefix", Align::Right),
        ];
        let mut table = Table::new(&columns);
        let mut row = |name: &str, value: &dyn Fn(&Measured) -> String| {
            table.row(vec![name.into(), value(bare), value(with)]);
        };
        row("loss of a token", &|measured| format!("{:.3}", measured.loss.mean()));
        row("perplexity", &|measured| format!("{:.2}", measured.loss.perplexity()));
        row("has all four words", &|measured| measured.n_with_all.to_string());
        for line in table.lines(width) {
            out.line(&line)?;
        }
        out.line("")
    }
}

/// Whether a story has every word of `Tim, dog, park, ball`.
fn has_all(prompt: &str, story: &str) -> bool {
    let words: Vec<&str> = story.split(|c: char| !c.is_alphanumeric()).collect();
    prompt.split(", ").all(|word| words.contains(&word))
}

fn files_table() -> Table {
    let mut table = Table::of_facts();
    for (name, about) in [
        ("adapter_model.safetensors", "the prefix, for preface and PEFT"),
        ("README.md", "its card"),
        (folder::CURVE, "the loss curve"),
        (folder::RUN, "every setting"),
        (folder::RESULT, "what came out"),
    ] {
        table.row(vec![name.into(), about.into()]);
    }
    table
}

fn next_commands(folder: &Path, held_out: &HeldOut<'_>, out: &mut Output) -> Result<()> {
    let folder = folder.display();
    let prompt = held_out.data.examples.last().map_or("", |example| &example.prompt);
    out.line("")?;
    out.line("Try next:")?;
    for command in [
        format!("generate --model {MODEL} --adapter {folder} --prompt \"{prompt}\" {STOP}"),
        format!("eval --model {MODEL} --adapter {folder} --data {folder}/{} {STOP}", VALID.0),
        format!("inspect {folder}"),
        "train --help".into(),
    ] {
        out.line(&format!("  preface {command}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_in_a_story_by_itself() {
        let prompt = "Tim, cat";
        assert!(has_all(prompt, "Tim had a cat."));
        assert!(!has_all(prompt, "Tim had cattle."));
        assert!(!has_all(prompt, "Tom had a cat."));
    }

    #[test]
    fn no_combination_of_words_is_both_trained_on_and_held_out() {
        let read = |(name, bytes): (&str, &[u8])| {
            Dataset::from_bytes(name.as_ref(), bytes, &ReadOptions::default()).unwrap()
        };
        let (train, valid) = (read(TRAIN), read(VALID));
        for example in &valid.examples {
            assert!(train.examples.iter().all(|other| other.prompt != example.prompt), "{}", example.prompt);
            assert!(has_all(&example.prompt, &example.references[0]), "{}", example.references[0]);
        }
    }
}
