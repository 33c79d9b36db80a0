//! Flags made from the tables of settings, and the three ways to give one: `--learning-rate 1e-3`,
//! `--set learning_rate=1e-3`, and a line of `--config run.toml`.

use std::marker::PhantomData;
use std::path::PathBuf;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use toml::Value;

use crate::config::setting::{self, Kind, Setting, Table};
use crate::config::{self, Typed};

/// Which tables a command takes its settings from.
pub trait Tables {
    /// In the order of the help text.
    const TABLES: &'static [Table];
}

/// The settings that were typed.
#[derive(Clone, Debug)]
pub struct Settings<T> {
    values: toml::Table,
    file: Option<PathBuf>,
    tables: PhantomData<T>,
}

const SET: &str = "set";
const CONFIG_FILE: &str = "config";

impl<T: Tables> Settings<T> {
    /// What was typed, with the configuration file read.
    ///
    /// # Errors
    /// As [`Typed::with_file`].
    pub fn typed(&self) -> Result<Typed> {
        let typed = Typed::new(self.values.clone());
        match &self.file {
            Some(path) => typed.with_file(path, T::TABLES),
            None => Ok(typed),
        }
    }
}

impl<T: Tables> Args for Settings<T> {
    fn augment_args(command: Command) -> Command {
        let about = "One setting under its name in configuration files, such as learning_rate=1e-3";
        let set = Arg::new(SET).long(SET).value_name("KEY=VALUE").action(ArgAction::Append).help(about);
        let about = "TOML file of settings; flags and --set win over it";
        let parser = ValueParser::path_buf();
        let config =
            Arg::new(CONFIG_FILE).long(CONFIG_FILE).value_name("FILE").value_parser(parser).help(about);
        let defaults = config::defaults();
        T::TABLES.iter().fold(command.arg(config).arg(set), |command, table| {
            table.settings.iter().fold(command, |command, setting| {
                command.arg(flag(setting, table.heading, defaults.get(setting.name)))
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Tables> FromArgMatches for Settings<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut values = toml::Table::new();
        for setting in T::TABLES.iter().flat_map(|table| table.settings) {
            let Some(typed) = matches.get_many::<Value>(setting.name) else { continue };
            // Only lists can be given more than once; their parts are joined.
            let parts = typed.cloned().reduce(|all, more| match (all, more) {
                (Value::Array(all), Value::Array(more)) => Value::Array([all, more].concat()),
                (_, last) => last,
            });
            values.extend(parts.map(|value| (setting.name.to_owned(), value)));
        }
        for assignment in matches.get_many::<String>(SET).into_iter().flatten() {
            let (name, value) = assigned(assignment, T::TABLES).map_err(wrong)?;
            match values.insert(name.clone(), value.clone()) {
                Some(other) if other != value => {
                    return Err(wrong(format!("`{name}` is given twice: {other} and {value}")));
                }
                _ => {}
            }
        }
        Ok(Self { values, file: matches.get_one(CONFIG_FILE).cloned(), tables: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flag of a setting: its name with dashes.
fn flag(setting: &Setting, heading: &'static str, default: Option<&Value>) -> Arg {
    let about = match default {
        // What is an empty list, or says its default itself.
        Some(Value::Array(_)) | None => setting.about.to_owned(),
        Some(_) if setting.about.contains("[default:") => setting.about.to_owned(),
        Some(Value::Float(number)) => format!("{} [default: {number:?}]", setting.about),
        Some(Value::String(text)) => format!("{} [default: {text}]", setting.about),
        Some(value) => format!("{} [default: {value}]", setting.about),
    };
    let kind = setting.kind;
    let (parser, value_name): (ValueParser, _) = match kind {
        Kind::Choice(words) => {
            let words = PossibleValuesParser::new(words.iter().copied());
            (words.map(Value::String).into(), "WORD")
        }
        kind => {
            let parser = move |text: &str| kind.parse(text);
            let name = match kind {
                Kind::Integer => "N",
                Kind::Number => "NUMBER",
                Kind::Switch => "BOOL",
                Kind::TokenLists => "LISTS",
                Kind::Words(_) => "WORDS",
                Kind::Text | Kind::Texts | Kind::Choice(_) => "TEXT",
            };
            (ValueParser::new(parser), name)
        }
    };
    let arg = Arg::new(setting.name)
        .long(setting.name.replace('_', "-"))
        .value_name(value_name)
        .value_parser(parser)
        .help(about)
        .help_heading(heading)
        .hide_short_help(!setting.frequent)
        .allow_negative_numbers(true)
        .visible_aliases(setting.alias);
    match kind {
        Kind::Switch => arg.num_args(0..=1).default_missing_value("true").require_equals(true),
        Kind::Texts | Kind::Words(_) | Kind::TokenLists => arg.action(ArgAction::Append),
        _ => arg,
    }
}

/// `key=value`.
fn assigned(assignment: &str, tables: &[Table]) -> Result<(String, Value), String> {
    let Some((name, text)) = assignment.split_once('=') else {
        return Err(format!("`--set {assignment}`: expected key=value"));
    };
    let name = name.trim();
    let setting = setting::find(tables, name).ok_or_else(|| setting::unknown(tables, name))?;
    // A text may be quoted as in TOML, and must be where it begins or ends with white space.
    let text = match setting.kind {
        Kind::Text if text.len() > 1 && text.starts_with('"') && text.ends_with('"') => {
            let quoted = toml::from_str::<toml::Table>(&format!("value = {text}"));
            quoted.ok().and_then(|table| Some(table["value"].as_str()?.to_owned())).unwrap_or(text.into())
        }
        _ => text.to_owned(),
    };
    let value = setting.kind.parse(&text).map_err(|reason| format!("`--set {assignment}`: {reason}"))?;
    Ok((name.to_owned(), value))
}

fn wrong(reason: String) -> Error {
    Error::raw(ErrorKind::InvalidValue, format!("{reason}\n"))
}
