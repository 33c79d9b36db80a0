//! What stands in front of the model: nothing, or a trained prefix with the text form that it was trained on.

use std::path::Path;

use anyhow::{Context, Result};
use preface_cpu::CpuBackend;
use preface_data::Linearisation;
use preface_model::tokenizer::TextFormat;
use preface_model::{Attachments, Model};
use preface_tune::artefact::{Artefact, OtherWeights};
use serde::{Deserialize, Serialize};

use crate::engine::Source;
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

/// A trained prefix, or none.
pub struct Adapter {
    artefact: Option<Artefact>,
    /// The text form that it was trained on; nothing without a prefix, without `preface.json`, and with `--raw`.
    pub text: Option<TextForm>,
}

impl Adapter {
    /// The bare model.
    pub fn none() -> Self {
        Self { artefact: None, text: None }
    }

    /// Reads the folder and checks that it belongs to the model.
    ///
    /// # Errors
    /// A folder that is no artefact, or one of another model.
    pub fn open(folder: Option<&Path>, source: &Source, raw: bool, insists: bool) -> Result<Self> {
        let Some(folder) = folder else { return Ok(Self::none()) };
        let artefact = Artefact::open(folder)?;
        let allowed = if insists { OtherWeights::Allowed } else { OtherWeights::Refused };
        if let Some(warning) = artefact.check_base(&source.name, &source.fingerprint()?, allowed)? {
            ui::note(&format!("warning: {warning}"));
        }
        let text = match &artefact.description {
            Some(description) if !raw => {
                let form = TextForm::deserialize(&description.text);
                Some(form.with_context(|| format!("{}: `text` of preface.json", folder.display()))?)
            }
            _ => None,
        };
        Ok(Self { artefact: Some(artefact), text })
    }

    /// The artefact, if there is one.
    pub fn artefact(&self) -> Option<&Artefact> {
        self.artefact.as_ref()
    }

    /// Rows in front of every text.
    pub fn prefix_len(&self) -> usize {
        self.artefact.as_ref().map_or(0, |artefact| artefact.rows.prefix_len)
    }

    /// The prefix that prompts stand behind, by its number among the attachments.
    pub fn segment(&self) -> Option<usize> {
        self.artefact.as_ref().map(|_| 0)
    }

    /// What is attached to the model.
    pub fn attach(&self, model: &Model<CpuBackend>) -> Attachments<CpuBackend> {
        match &self.artefact {
            None => Attachments::none(),
            Some(artefact) => Attachments::prefix(model.backend(), &artefact.rows.values, model.spec()),
        }
    }
}
