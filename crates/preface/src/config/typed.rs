//! What was typed: flags, `--set` and the configuration file, as one flat table.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use toml::Value;

use super::setting::{self, Table};
use crate::exit::WrongUse;

/// Values under the names of settings, each of its setting's kind.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// Flags and `--set`.
    command_line: toml::Table,
    /// The configuration file, if there is one.
    file: Option<(PathBuf, toml::Table)>,
}

/// A key of `run.toml` that is no setting: what a run found out.
pub const RECORDED: &str = "recorded";

impl Typed {
    /// Takes what stood on the command line.
    pub fn new(command_line: toml::Table) -> Self {
        Self { command_line, file: None }
    }

    /// Adds a configuration file, under the command line.
    ///
    /// # Errors
    /// A file that cannot be read, is no TOML, or has an unknown key or a value of another kind: each names the file.
    pub fn with_file(mut self, path: &Path, tables: &[Table]) -> Result<Self> {
        let text = fs_err::read_to_string(path)?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            anyhow!("{}, line {line}: {}", path.display(), error.message())
        })?;
        let mut values = toml::Table::new();
        for (name, value) in table {
            if name == RECORDED {
                continue;
            }
            let setting = setting::find(tables, &name)
                .ok_or_else(|| anyhow!("{}: {}", path.display(), setting::unknown(tables, &name)))?;
            let value = setting
                .kind
                .check(value)
                .map_err(|reason| anyhow!("{}: `{name}`: {reason}", path.display()))?;
            values.insert(name, value);
        }
        self.file = Some((path.to_owned(), values));
        Ok(self)
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.command_line.get(name).or_else(|| self.file.as_ref()?.1.get(name))
    }

    /// Whether a setting was typed.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Everything that was typed; the command line wins.
    pub fn all(&self) -> toml::Table {
        let file = self.file.iter().flat_map(|(_, values)| values.clone());
        file.chain(self.command_line.clone()).collect()
    }

    /// These values with others in their place.
    #[must_use]
    pub fn over(mut self, others: toml::Table) -> Self {
        self.command_line.extend(others);
        self
    }

    /// The value of a setting of text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// The seed; 0 if none was typed.
    pub fn seed(&self) -> u64 {
        let seed = self.get("seed").and_then(Value::as_integer).unwrap_or(0);
        u64::try_from(seed).expect("checked to be at least 0")
    }

    /// The value of a setting of text that has no default.
    ///
    /// # Errors
    /// If it was not typed.
    pub fn required(&self, name: &'static str, what: &str) -> Result<String> {
        match self.text(name) {
            Some(text) => Ok(text.to_owned()),
            None => Err(WrongUse(format!("--{name} is missing: {what}")).into()),
        }
    }

    /// An error of values that do not fit: wrong use where they stood on the command line alone, else of the file.
    pub fn wrong(&self, reason: String) -> anyhow::Error {
        match &self.file {
            None => WrongUse(reason).into(),
            Some((path, _)) => anyhow!("{}: {reason}", path.display()),
        }
    }
}
