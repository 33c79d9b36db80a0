//! The forms that a data file can have, and how one is recognised: by the name's ending where that says it, otherwise
//! by the first character, the first line and its keys.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{DataError, Fault, Place, UnknownName, shortened};
use crate::linearise::Linearisation;
use crate::reader::jsonl;

/// The form of a data file. In configuration it goes by its [`name`](Form::name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Form {
    /// JSONL of `prompt` and `completion`.
    PromptCompletion,
    /// JSONL of `prompt` and a list of `references`.
    PromptReferences,
    /// JSONL of `instruction`, `input` (may be absent or empty) and `output`, as Stanford Alpaca has it.
    Instruction,
    /// JSONL of `text`: documents without a prompt.
    Text,
    /// JSONL of a meaning representation `mr` and `references`.
    E2eJsonl,
    /// JSONL of `category`, `triples` and `references`.
    WebnlgJsonl,
    /// JSONL of `triples`, `references` and `sources`.
    DartJsonl,
    /// JSONL of `document` and `references` or `summary`, as XSum, SciTLDR and DialogSum have it.
    Summary,
    /// The published CSV of E2E: columns `mr` and `ref`.
    E2eCsv,
    /// The published XML of WebNLG 2017, a file or the release's folder.
    WebnlgXml,
    /// WebNLG 2017 as JSON: `{"entries": [{"1": {...}}, ...]}`.
    WebnlgJson,
    /// The published JSON of DART v1.1.1: a list of `tripleset` and `annotations`.
    DartJson,
}

impl Form {
    /// Every form, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::PromptCompletion,
        Self::PromptReferences,
        Self::Instruction,
        Self::Text,
        Self::E2eJsonl,
        Self::WebnlgJsonl,
        Self::DartJsonl,
        Self::Summary,
        Self::E2eCsv,
        Self::WebnlgXml,
        Self::WebnlgJson,
        Self::DartJson,
    ];

    /// Its name in configuration, and what such a file looks like.
    const fn description(self) -> (&'static str, &'static str) {
        match self {
            Self::PromptCompletion => ("prompt-completion", r#"JSONL {"prompt", "completion"}"#),
            Self::PromptReferences => ("prompt-references", r#"JSONL {"prompt", "references": [...]}"#),
            Self::Instruction => ("instruction", r#"JSONL {"instruction", "input", "output"}"#),
            Self::Text => ("text", r#"JSONL {"text"}"#),
            Self::E2eJsonl => ("e2e-jsonl", r#"JSONL {"mr", "references": [...]}"#),
            Self::WebnlgJsonl => {
                ("webnlg-jsonl", r#"JSONL {"category", "triples": [...], "references": [...]}"#)
            }
            Self::DartJsonl => {
                ("dart-jsonl", r#"JSONL {"triples": [...], "references": [...], "sources": [...]}"#)
            }
            Self::Summary => ("summary", r#"JSONL {"document", "references": [...] or "summary"}"#),
            Self::E2eCsv => ("e2e-csv", "CSV with the columns mr,ref (E2E)"),
            Self::WebnlgXml => ("webnlg-xml", "XML <benchmark><entries><entry> (WebNLG 2017)"),
            Self::WebnlgJson => ("webnlg-json", r#"JSON {"entries": [{"1": {...}}, ...]} (WebNLG 2017)"#),
            Self::DartJson => ("dart-json", r#"JSON [{"tripleset", "annotations"}, ...] (DART v1.1.1)"#),
        }
    }

    /// Its name in configuration.
    pub const fn name(self) -> &'static str {
        self.description().0
    }

    /// The linearisation of its inputs where none is asked for; nothing for forms whose prompt is text already.
    pub const fn default_linearisation(self) -> Option<Linearisation> {
        match self {
            Self::E2eJsonl | Self::E2eCsv => Some(Linearisation::E2e),
            Self::WebnlgJsonl | Self::WebnlgXml | Self::WebnlgJson => Some(Linearisation::Webnlg),
            Self::DartJsonl | Self::DartJson => Some(Linearisation::Dart),
            Self::PromptCompletion
            | Self::PromptReferences
            | Self::Instruction
            | Self::Text
            | Self::Summary => None,
        }
    }

    /// Name and look of every form, one a line, for messages.
    pub(crate) fn table() -> String {
        let lines = Self::ALL.map(|form| format!("  {:<18} {}", form.name(), form.description().1));
        lines.join("\n")
    }

    /// The form of a file by its name and text. `text` has a visible character.
    pub(crate) fn recognise(path: &Path, text: &str) -> Result<Self, DataError> {
        let unrecognised = |found: String| DataError::UnrecognisedForm { path: path.to_owned(), found };
        let ending =
            path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "csv" => return Ok(Self::E2eCsv),
            "xml" => return Ok(Self::WebnlgXml),
            _ => {}
        }
        let Some((line, first)) = jsonl::lines(text).next() else {
            return Err(DataError::Empty { path: path.to_owned() });
        };
        match first.trim_start().chars().next() {
            Some('<') => Ok(Self::WebnlgXml),
            Some('[') if ending != "jsonl" => Ok(Self::DartJson),
            // A pretty-printed object opens on a line of its own; no line of JSONL does.
            Some('{') if ending != "jsonl" && first.trim() == "{" => Ok(Self::WebnlgJson),
            Some('{') => {
                let at = |fault| DataError::At { path: path.to_owned(), place: Place::Line(line), fault };
                let object = jsonl::object(first).map_err(at)?;
                if object.contains_key("messages") {
                    return Err(at(Fault::Chat));
                }
                Self::of_keys(&object).ok_or_else(|| {
                    let keys: Vec<String> =
                        object.keys().take(8).map(|key| format!("`{}`", shortened(key))).collect();
                    unrecognised(format!("line {line} is an object with the keys {}", keys.join(", ")))
                })
            }
            _ if ending == "jsonl" => {
                let fault = jsonl::object(first).err().unwrap_or(Fault::Json("no object".to_owned()));
                Err(DataError::At { path: path.to_owned(), place: Place::Line(line), fault })
            }
            _ if first.split(',').any(|column| column.trim().trim_matches('"') == "mr") => Ok(Self::E2eCsv),
            _ => Err(unrecognised(format!("it begins with `{}`", shortened(first.trim())))),
        }
    }

    /// The form of an object by its keys; where several fit, the one that says more.
    fn of_keys(object: &Map<String, Value>) -> Option<Self> {
        let has = |key| object.contains_key(key);
        Some(match () {
            () if has("entries") => Self::WebnlgJson,
            () if has("mr") => Self::E2eJsonl,
            () if has("triples") && has("sources") => Self::DartJsonl,
            () if has("triples") => Self::WebnlgJsonl,
            () if has("prompt") && has("references") => Self::PromptReferences,
            () if has("prompt") => Self::PromptCompletion,
            () if has("instruction") => Self::Instruction,
            () if has("document") => Self::Summary,
            () if has("text") => Self::Text,
            () => return None,
        })
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Form {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|form| form.name() == name).ok_or_else(|| UnknownName {
            what: "form of data",
            got: name.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

impl TryFrom<String> for Form {
    type Error = UnknownName;

    fn try_from(name: String) -> Result<Self, UnknownName> {
        name.parse()
    }
}

impl From<Form> for String {
    fn from(form: Form) -> Self {
        form.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(path: &str, text: &str) -> Form {
        Form::recognise(Path::new(path), text).unwrap()
    }

    #[test]
    fn names_parse_back_and_an_unknown_one_lists_the_known() {
        for form in Form::ALL {
            assert_eq!(form.name().parse::<Form>().unwrap(), form);
            assert_eq!(serde_json::to_string(&form).unwrap(), format!("\"{}\"", form.name()));
        }
        let message = "e2e".parse::<Form>().unwrap_err().to_string();
        assert!(message.contains("`e2e`") && message.contains("e2e-csv") && message.contains("dart-json"));
    }

    #[test]
    fn a_form_is_recognised_by_its_keys() {
        for (line, form) in [
            (r#"{"prompt":"a","completion":"b"}"#, Form::PromptCompletion),
            (r#"{"prompt":"a","references":["b"]}"#, Form::PromptReferences),
            (r#"{"instruction":"a","input":"","output":"b"}"#, Form::Instruction),
            (r#"{"text":"a"}"#, Form::Text),
            (r#"{"mr":"a[b]","references":["b"]}"#, Form::E2eJsonl),
            (r#"{"category":"c","triples":[],"references":["b"]}"#, Form::WebnlgJsonl),
            (r#"{"triples":[],"references":["b"],"sources":[]}"#, Form::DartJsonl),
            (r#"{"id":null,"document":"a","summary":"b"}"#, Form::Summary),
            (r#"{"id":"x","document":"a","summary":"b","references":["b"]}"#, Form::Summary),
        ] {
            assert_eq!(recognised("x.jsonl", line), form, "{line}");
            assert_eq!(recognised("x.json", line), form, "{line}");
            assert_eq!(recognised("x", &format!("\n{line}\n")), form, "{line}");
        }
    }

    #[test]
    fn published_files_are_recognised_with_and_without_their_ending() {
        assert_eq!(recognised("devset.csv", "mr,ref\na[b],c\n"), Form::E2eCsv);
        assert_eq!(recognised("devset", "\"mr\",\"ref\"\na[b],c\n"), Form::E2eCsv);
        assert_eq!(recognised("x.xml", "<benchmark/>"), Form::WebnlgXml);
        assert_eq!(recognised("x.dat", "\n<benchmark/>"), Form::WebnlgXml);
        assert_eq!(recognised("x.json", "{\n \"entries\": []\n}"), Form::WebnlgJson);
        assert_eq!(recognised("x.json", "{\"entries\": []}"), Form::WebnlgJson);
        assert_eq!(recognised("x.json", "[{}]"), Form::DartJson);
    }

    #[test]
    fn what_is_not_recognised_says_what_it_is_and_lists_the_forms() {
        let message = Form::recognise(Path::new("x.txt"), "Once upon a time").unwrap_err().to_string();
        assert!(message.contains("x.txt") && message.contains("Once upon") && message.contains("webnlg-xml"));
        let message = Form::recognise(Path::new("x.jsonl"), "{\"question\":1}").unwrap_err().to_string();
        assert!(
            message.contains("line 1")
                && message.contains("`question`")
                && message.contains("prompt-completion")
        );
        let message = Form::recognise(Path::new("x.jsonl"), "{\"messages\":[]}").unwrap_err().to_string();
        assert!(message.contains("chat data"), "{message}");
        let message = Form::recognise(Path::new("x.jsonl"), "\n[1]").unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("object"), "{message}");
    }
}
