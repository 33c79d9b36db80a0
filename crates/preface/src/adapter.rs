//! What stands in front of the model: nothing, or what a method trained, with the text form that it was trained on.

use std::path::Path;

use anyhow::{Context, Result};
use preface_cpu::CpuBackend;
use preface_data::Linearisation;
use preface_model::tokenizer::TextFormat;
use preface_model::{Attachments, Model, Stack};
use preface_tune::artefact::{Opened, OtherWeights};
use serde::{Deserialize, Serialize};

use crate::engine::Source;
use crate::pairs::Taken;
use crate::ui;

/// How text goes in front of the model: what `preface.json` keeps under `text`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextForm {
    /// Separator and template.
    #[serde(flatten)]
    pub format: TextFormat,
    /// How structured inputs become a prompt.
    pub linearisation: Option<Linearisation>,
}

/// What a method trained, or nothing.
pub struct Adapter {
    opened: Option<Opened>,
    name: String,
    taken: Taken,
    /// The text form that it was trained on; nothing without an adapter, without `preface.json`, and with `--raw`.
    pub text: Option<TextForm>,
}

impl Adapter {
    /// Reads the folder and checks that it belongs to the model.
    ///
    /// # Errors
    /// A folder that is no artefact, or one of another model.
    pub fn open(folder: Option<&Path>, source: &Source, raw: bool, insists: bool) -> Result<Self> {
        let name = source.name.clone();
        let Some(folder) = folder else {
            return Ok(Self { opened: None, name, taken: Taken::default(), text: None });
        };
        let opened = Opened::open(folder)?;
        let allowed = if insists { OtherWeights::Allowed } else { OtherWeights::Refused };
        if let Some(warning) = opened.check_base(&name, &source.fingerprint()?, allowed)? {
            ui::note(&format!("warning: {warning}"));
        }
        let text = match opened.description() {
            Some(description) if !raw => {
                let form = TextForm::deserialize(&description.text);
                Some(form.with_context(|| format!("{}: `text` of preface.json", folder.display()))?)
            }
            _ => None,
        };
        let n_position = |stack| opened.n_position(source.files.spec(), stack);
        let taken = Taken { encoder: n_position(Stack::Encoder), decoder: n_position(Stack::Decoder) };
        Ok(Self { opened: Some(opened), name, taken, text })
    }

    /// Hash of all its numbers, if there is one.
    pub fn content_hash(&self) -> Option<String> {
        self.opened.as_ref().map(Opened::content_hash)
    }

    /// Positions that its rows take.
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// What is attached to the model, and the prefix that prompts stand behind by its number among the attachments. Weights
    /// that were trained are put into the model.
    ///
    /// # Errors
    /// Tensors that do not fit the model.
    pub fn attach(&self, model: &mut Model<CpuBackend>) -> Result<(Attachments<CpuBackend>, Option<usize>)> {
        let Some(opened) = &self.opened else { return Ok((Attachments::none(), None)) };
        let mut method = opened.method(&self.name, model)?;
        Ok((method.attach(model), method.segment()))
    }
}
