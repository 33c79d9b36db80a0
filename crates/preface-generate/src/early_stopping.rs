//! `early_stopping`, which is a boolean or the word `never`.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// When beam search stops looking for better hypotheses than the `num_beams` best ones that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// `false`: when the best running hypothesis, scored as if it ended now, is no better than the worst of them.
    #[default]
    WhenUnlikely,
    /// `true`: as soon as there are so many.
    WhenFull,
    /// `"never"`: when no running hypothesis can become better than the worst of them. (Exactly so for a
    /// `length_penalty` of at least 0, where the greatest allowed length is the most favourable.)
    Never,
}

impl Serialize for EarlyStopping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::WhenUnlikely => serializer.serialize_bool(false),
            Self::WhenFull => serializer.serialize_bool(true),
            Self::Never => serializer.serialize_str("never"),
        }
    }
}

impl std::str::FromStr for EarlyStopping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "false" => Ok(Self::WhenUnlikely),
            "true" => Ok(Self::WhenFull),
            "never" => Ok(Self::Never),
            _ => Err(format!("`{text}`, expected {EXPECTED}")),
        }
    }
}

const EXPECTED: &str = "false, true or \"never\"";

impl<'de> Deserialize<'de> for EarlyStopping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoolOrNever;
        impl Visitor<'_> for BoolOrNever {
            type Value = EarlyStopping;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<EarlyStopping, E> {
                Ok(if value { EarlyStopping::WhenFull } else { EarlyStopping::WhenUnlikely })
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<EarlyStopping, E> {
                value.parse().map_err(|_| E::invalid_value(Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(BoolOrNever)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boolean_or_never_and_nothing_else() {
        for (text, value) in [
            ("false", EarlyStopping::WhenUnlikely),
            ("true", EarlyStopping::WhenFull),
            ("\"never\"", EarlyStopping::Never),
        ] {
            assert_eq!(serde_json::from_str::<EarlyStopping>(text).unwrap(), value);
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
            assert_eq!(text.trim_matches('"').parse(), Ok(value));
        }
        for text in ["\"always\"", "1", "null"] {
            let error = serde_json::from_str::<EarlyStopping>(text).unwrap_err().to_string();
            assert!(error.contains("false, true or \"never\""), "{error}");
        }
    }
}
