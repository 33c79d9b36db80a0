//! `preface generate`: one prompt, streamed, or a file of prompts.

use std::io::Write;

use anyhow::Result;
use preface_backend::Backend;
use preface_data::read_prompts;
use preface_generate::{Generation, Observer};
use preface_model::tokenizer::{DecodeStream, Input, Separator, TextFormat, TokenizerError};
use serde_json::json;

use crate::adapter::Adapter;
use crate::answers::{Answer, Answerer};
use crate::args::GenerateArgs;
use crate::config::AnswerConfig;
use crate::engine::{self, Source};
use crate::pairs::{Encoder, Prompts};
use crate::ui::{self, Output};

/// Runs the command.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let typed = args.settings.typed()?;
    let source = Source::open(&args.model.model)?;
    let adapter =
        Adapter::open(args.model.adapter.as_deref(), &source, args.model.raw, args.model.other_weights)?;
    let format = adapter.text.as_ref().map_or_else(TextFormat::raw, |text| text.format.clone());
    let config = AnswerConfig::resolve(&typed, &source.facts()?, &format, adapter.taken().decoder)?;

    let prompts = match (&args.prompt, &args.input) {
        (Some(prompt), _) => vec![prompt.clone()],
        (None, Some(path)) => read_prompts(path)?,
        (None, None) => unreachable!("clap asks for one of them"),
    };
    let encoder = Encoder::new(&source, &config.text, adapter.taken(), &config.data);
    let place = |number: usize| match &args.input {
        Some(path) => format!("{}, prompt {}", path.display(), number + 1),
        None => "the prompt".into(),
    };
    let places = prompts.iter().enumerate().map(|(number, prompt)| (prompt.as_str(), place(number)));
    let Prompts { inputs, sources_cut } = encoder.prompts(places, config.generation.max_new_tokens)?;
    config.from_files.announce();
    if sources_cut > 0 {
        ui::note(&format!("{sources_cut} of {} inputs cut by max_source_tokens", inputs.len()));
    }

    let mut output = match &args.output {
        Some(path) => Output::file(path)?,
        None => Output::stdout(),
    };
    let mut model = engine::load(&source.files, &config.compute)?;
    let (attachments, segment) = adapter.attach(&mut model)?;
    let answerer = Answerer {
        model: &model,
        attachments: &attachments,
        segment,
        tokenizer: &source.tokenizer,
        special: &source.special,
        settings: &config.generation,
        batch_size: config.batch_size,
    };
    if args.prompt.is_some() && !args.json {
        stream(&answerer, inputs, &config.text, &mut output)?;
        return output.finish();
    }
    let as_json =
        args.json || args.output.as_ref().is_some_and(|path| path.extension() == Some("jsonl".as_ref()));
    let n_prompt = prompts.len();
    for (prompt, answer) in prompts.iter().zip(answerer.answer_with_progress(inputs)?) {
        output.line(&line(prompt, &answer, &config.text, as_json))?;
    }
    if let Some(path) = &args.output {
        ui::note(&format!("{n_prompt} answers in {}", path.display()));
    }
    output.finish()
}

/// One answer as it is printed.
fn line(prompt: &str, answer: &Answer, format: &TextFormat, as_json: bool) -> String {
    let completion = format.strip_separator(&answer.text);
    if !as_json {
        return ui::one_line(completion);
    }
    let Generation { token_ids, logprob, .. } = &answer.generation;
    json!({"prompt": prompt, "completion": completion, "token_ids": token_ids, "logprob": logprob})
        .to_string()
}

/// Writes the answer while it comes.
fn stream<'a, B: Backend>(
    answerer: &Answerer<'a, B>,
    inputs: Vec<Input>,
    format: &'a TextFormat,
    output: &mut Output,
) -> Result<()> {
    let mut stream = Stream {
        decoder: answerer.tokenizer.decode_stream(true),
        format,
        output,
        raw: String::new(),
        n_shown: 0,
        failed: None,
    };
    let answers = answerer.answer(inputs, &mut stream);
    let Stream { decoder, n_shown, failed, .. } = stream;
    if let Some(error) = failed {
        return Err(error);
    }
    let rest = match n_shown {
        // Beams tell nothing until the end.
        0 => answers?.first().map(|answer| format.strip_separator(&answer.text).to_owned()),
        _ => decoder.finish()?,
    };
    output.line(&rest.unwrap_or_default())
}

/// Shows tokens as text.
struct Stream<'a, 'o> {
    decoder: DecodeStream<'a>,
    format: &'a TextFormat,
    output: &'o mut Output,
    /// What has come, with the separator.
    raw: String,
    /// Bytes of it, without the separator, that were shown.
    n_shown: usize,
    failed: Option<anyhow::Error>,
}

impl Stream<'_, '_> {
    fn show(&mut self, piece: Result<Option<String>, TokenizerError>) -> Result<()> {
        let Some(piece) = piece? else { return Ok(()) };
        self.raw.push_str(&piece);
        let is_partial_separator = match &self.format.separator {
            Separator::Text(text) => text.len() > self.raw.len() && text.starts_with(&self.raw),
            Separator::Blank | Separator::None | Separator::Bos => false,
        };
        if !is_partial_separator {
            let text = self.format.strip_separator(&self.raw);
            self.output.write_all(&text.as_bytes()[self.n_shown..])?;
            self.output.flush()?;
            self.n_shown = text.len();
        }
        Ok(())
    }
}

impl Observer for Stream<'_, '_> {
    fn token(&mut self, _request: usize, token: u32) {
        let piece = self.decoder.push(token);
        if let Err(error) = self.show(piece) {
            self.failed.get_or_insert(error);
        }
    }

    fn should_stop(&mut self) -> bool {
        self.failed.is_some()
    }
}
