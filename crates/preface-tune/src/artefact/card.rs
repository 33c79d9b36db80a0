//! `README.md`: the model card, as the hub shows it.

use std::fmt::Write as _;

use serde_json::Value;

use super::adapter_config::Task;
use super::{CONFIG, Description, MANIFEST, TENSORS};
use crate::PrefixRows;
use preface_model::BUILTIN_SCHEME;

/// What the card is about.
pub(super) struct Subject {
    /// Such as `A prefix`.
    pub title: &'static str,
    /// A sentence or two.
    pub introduction: String,
    /// For the hub.
    pub tag: &'static str,
    /// Who else loads the folder.
    pub also: Also,
    /// The kind of model.
    pub task: Task,
}

/// Who loads a folder beside preface.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Also {
    /// PEFT, as an adapter.
    Peft,
    /// `transformers`, as a model.
    Transformers,
    /// Nobody.
    Nobody,
}

impl Subject {
    pub fn prefix(rows: &PrefixRows) -> Self {
        Self {
            title: "A prefix",
            introduction: format!(
                "{prefix_len} rows of keys and values for each of {n_layer} layers ({n_number} numbers) that steer the \
                 frozen model to a task. Trained with [Prefix-Tuning](https://aclanthology.org/2021.acl-long.353/)",
                prefix_len = rows.prefix_len,
                n_layer = rows.n_layer,
                n_number = rows.values.len(),
            ),
            tag: "prefix-tuning",
            also: Also::Peft,
            task: Task::Causal,
        }
    }
}

/// The bytes of the file.
pub(super) fn write(subject: &Subject, description: &Description) -> Vec<u8> {
    let mut card = String::new();
    header(&mut card, subject, description);
    introduction(&mut card, subject, description);
    usage(&mut card, subject, description);
    scores(&mut card, description);
    settings(&mut card, description);
    card.into_bytes()
}

/// What the hub reads. A built-in model is not on the hub, so it is not named there.
fn header(card: &mut String, subject: &Subject, description: &Description) {
    let library = match subject.also {
        Also::Peft => "library_name: peft\n",
        Also::Transformers => "library_name: transformers\n",
        Also::Nobody => "",
    };
    write_to(card, format_args!("---\n{library}pipeline_tag: {}\n", subject.task.pipeline()));
    if let Some(name) = hub_id(description) {
        write_to(card, format_args!("base_model: {name}\n"));
    }
    write_to(card, format_args!("tags:\n- preface\n- {}\n", subject.tag));
    if let Some(name) = hub_id(description) {
        let relation = if subject.also == Also::Transformers { "finetune" } else { "adapter" };
        write_to(card, format_args!("- base_model:{relation}:{name}\n"));
    }
    card.push_str("---\n\n");
}

fn introduction(card: &mut String, subject: &Subject, description: &Description) {
    let base = description.base_model.as_deref().unwrap_or("a model without a public name");
    let Subject { title, introduction, .. } = subject;
    write_to(
        card,
        format_args!(
            "# {title} for {base}\n\n{introduction} by preface {version}.\n\nBase model: {shapes}.\n\n",
            version = env!("CARGO_PKG_VERSION"),
            shapes = description.fingerprint.shapes,
        ),
    );
}

fn usage(card: &mut String, subject: &Subject, description: &Description) {
    let base = description.base_model.as_deref().unwrap_or("BASE_MODEL");
    let hub = hub_id(description).unwrap_or("BASE_MODEL");
    let class = subject.task.model_class();
    write_to(
        card,
        format_args!(
            "## Use\n\n\
             With preface, which checks that the model is the one it was trained on and puts prompts in the form of the \
             training data:\n\n\
             ```sh\npreface generate --model {base} --adapter . --prompt \"...\"\n```\n\n"
        ),
    );
    match subject.also {
        Also::Peft => write_to(
            card,
            format_args!(
                "With PEFT, which reads `{CONFIG}` and `{TENSORS}` and takes prompts as they are (`{MANIFEST}` says under \
                 `text` what form they had):\n\n\
                 ```python\n\
                 from peft import PeftModel\n\
                 from transformers import {class}\n\n\
                 base = {class}.from_pretrained(\"{hub}\")\n\
                 model = PeftModel.from_pretrained(base, \".\")\n\
                 ```\n\n"
            ),
        ),
        Also::Transformers => write_to(
            card,
            format_args!(
                "With transformers, which takes prompts as they are (`{MANIFEST}` says under `text` what form they had):\n\n\
                 ```python\n\
                 from transformers import {class}\n\n\
                 model = {class}.from_pretrained(\".\")\n\
                 ```\n\n"
            ),
        ),
        Also::Nobody => {}
    }
}

fn scores(card: &mut String, description: &Description) {
    if description.scores.is_empty() {
        return;
    }
    card.push_str("## Scores\n\n| metric | score | signature |\n|---|---|---|\n");
    for score in &description.scores {
        let (name, signature) = (cell(&score.name), code(&score.signature));
        write_to(card, format_args!("| {name} | {} | {signature} |\n", score.score));
    }
    card.push('\n');
}

fn settings(card: &mut String, description: &Description) {
    card.push_str("## Settings\n\n| setting | value |\n|---|---|\n");
    let mut rows = Vec::new();
    flatten("", &description.recipe, &mut rows);
    flatten("text", &description.text, &mut rows);
    rows.push(("precision".into(), description.trained_with.precision.clone()));
    rows.push(("tier".into(), description.trained_with.tier.clone()));
    rows.extend(description.data_hash.iter().map(|hash| ("data".into(), hash.clone())));
    for (name, value) in rows {
        write_to(card, format_args!("| {} | {} |\n", cell(&name), code(&value)));
    }
}

/// The leaves of a JSON value under dotted names.
fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(&format!("{name}{dot}{key}"), member, rows);
            }
        }
        Value::Null => {}
        leaf => rows.push((name.into(), leaf.to_string())),
    }
}

fn hub_id(description: &Description) -> Option<&str> {
    description.base_model.as_deref().filter(|name| !name.starts_with(BUILTIN_SCHEME))
}

/// A table cell of any text.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}

/// A table cell of any text in code type; nothing for nothing.
fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("`{}`", text.replace('`', "'").replace('|', "\\|").replace(['\n', '\r'], " "))
}

fn write_to(card: &mut String, text: std::fmt::Arguments<'_>) {
    card.write_fmt(text).expect("writing to a string cannot fail");
}
