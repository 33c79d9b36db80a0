//! What the settings that are given as text need of a tokenizer.

use preface_model::tokenizer::{Special, Tokenizer};

use crate::GenerateError;

/// Text to tokens and back, for `bad_words` and `stop_strings`.
pub trait TextCodec: Sync {
    /// Token sequences that write `text` inside another text, with and without a blank before it. No special tokens.
    ///
    /// # Errors
    /// [`GenerateError::Codec`] if the tokenizer fails.
    fn spellings(&self, text: &str) -> Result<Vec<Vec<u32>>, GenerateError>;

    /// The text of some tokens, special ones left out.
    ///
    /// # Errors
    /// [`GenerateError::Codec`] if the tokenizer fails.
    fn decode(&self, tokens: &[u32]) -> Result<String, GenerateError>;
}

impl TextCodec for Tokenizer {
    fn spellings(&self, text: &str) -> Result<Vec<Vec<u32>>, GenerateError> {
        /// Something that no token joins with a following word.
        const BEFORE: &str = "\n";
        let encode = |text: &str| self.encode(text, Special::Without).map_err(failed);
        let mut spellings = vec![encode(text)?, encode(&format!(" {text}"))?];
        if self.puts_blank_before_text() {
            // Both of these begin with a blank; without one the text stands only behind another.
            let behind = encode(&format!("{BEFORE}{text}"))?;
            spellings.extend(behind.strip_prefix(encode(BEFORE)?.as_slice()).map(<[u32]>::to_vec));
        }
        spellings.retain(|spelling| !spelling.is_empty());
        Ok(spellings)
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, GenerateError> {
        self.decode(tokens, true).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> GenerateError {
    GenerateError::Codec { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use preface_model::ModelFiles;

    use super::*;

    #[test]
    fn a_text_is_spelled_with_and_without_a_blank_before_it() {
        let byte_level = testkit::golden_folder().join("gguf_tiny/gpt2.gguf");
        for (model, puts_blank) in [("builtin:stories260k", true), (&*byte_level.to_string_lossy(), false)] {
            let tokenizer = ModelFiles::open(model).unwrap().tokenizer().unwrap().0;
            assert_eq!(tokenizer.puts_blank_before_text(), puts_blank);
            // Behind a token of its own, so that nothing is dropped at the start of a text.
            let before = tokenizer.encode("x", Special::Without).unwrap();
            for text in ["once", "\n", "é", "Tom and"] {
                let spellings = tokenizer.spellings(text).unwrap();
                let decode =
                    |tokens: &[u32]| TextCodec::decode(&tokenizer, &[&before[..], tokens].concat()).unwrap();
                let texts: Vec<String> = spellings.iter().map(|tokens| decode(tokens)).collect();
                assert!(texts.contains(&format!("x{text}")), "{texts:?}");
                assert!(texts.contains(&format!("x {text}")), "{texts:?}");
            }
        }
    }
}
