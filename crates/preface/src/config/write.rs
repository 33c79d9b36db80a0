//! `run.toml`: every setting under its heading, and what the run found out.

use serde::Serialize;

use super::RunConfig;
use super::typed::RECORDED;

/// What belongs to a run but is no setting: a resumed run must find the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Recorded {
    /// Version that began the run.
    pub preface_version: String,
    /// SHA-256 of the training data.
    pub train_sha256: String,
    /// SHA-256 of the validation data.
    pub valid_sha256: Option<String>,
    /// Of the model's weights and tokenizer.
    pub model_fingerprint: String,
    /// Precision that was used.
    pub precision: String,
    /// Instruction-set tier that was used.
    pub tier: String,
}

impl RunConfig {
    /// All settings as one flat table; those that are absent are left out.
    pub fn to_table(&self) -> toml::Table {
        self.sections().into_iter().flat_map(|(_, table)| table).collect()
    }

    /// The text of `run.toml`.
    pub fn to_toml(&self, recorded: &Recorded) -> String {
        let mut text =
            String::from("# Every setting of this run; `preface train --config` takes this file.\n");
        for (heading, section) in self.sections().into_iter().filter(|(_, section)| !section.is_empty()) {
            text.push_str(&format!("\n# {heading}\n{section}"));
        }
        let recorded = table(recorded);
        text.push_str(&format!("\n# What the run found out; no settings.\n[{RECORDED}]\n{recorded}"));
        text
    }

    /// Of a section, the settings that the method has.
    fn of_method(&self, section: &impl Serialize) -> toml::Table {
        table(section).into_iter().filter(|(name, _)| self.run.method.has_setting(name)).collect()
    }

    fn sections(&self) -> Vec<(&'static str, toml::Table)> {
        let mut generation = table(&self.generation);
        generation.remove("seed");
        let mut run = table(&self.run);
        run.insert("seed".into(), toml::Value::Integer(self.seed as i64));
        vec![
            ("Run", run),
            ("Training", table(&self.training)),
            ("Prefix", self.of_method(&self.prefix)),
            ("Prefix of an encoder-decoder", table(&self.places)),
            ("Other methods", self.of_method(&self.method)),
            (
                "Data",
                table(&self.data)
                    .into_iter()
                    .chain(table(&self.train_data))
                    .chain(table(&self.text))
                    .collect(),
            ),
            ("Generation", generation),
            ("Computing", table(&self.compute)),
        ]
    }
}

/// A section as a table; what is absent is left out.
pub(super) fn table(section: &impl Serialize) -> toml::Table {
    toml::Table::try_from(section).expect("a section is a table of values")
}
