//! Stop strings: an answer ends with the token that completes one of them.
//!
//! Only the end of the answer is decoded at each step. A token writes at least one byte, and a stop string that is
//! complete now was not so a token ago, so it lies within as many of the last tokens as it has bytes. A few more are
//! decoded because the first tokens of a cut-out piece may decode differently: a blank at the start of a text is
//! dropped by some tokenizers, and the first byte of a character may lie before the cut.

use crate::{GenerateError, TextCodec};

/// Tokens decoded before those that can belong to a stop string.
const MARGIN: usize = 4;

pub(crate) struct StopStrings<'a> {
    texts: &'a [String],
    codec: Option<&'a dyn TextCodec>,
    n_token: usize,
}

impl<'a> StopStrings<'a> {
    /// Without a codec there must be no texts.
    pub(crate) fn new(texts: &'a [String], codec: Option<&'a dyn TextCodec>) -> Self {
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        Self { texts, codec, n_token: longest + MARGIN }
    }

    /// Whether the last token of the answer completes a stop string.
    pub(crate) fn end(&self, answer: &[u32]) -> Result<bool, GenerateError> {
        let Some(codec) = self.codec.filter(|_| !self.texts.is_empty()) else { return Ok(false) };
        let text = codec.decode(&answer[answer.len().saturating_sub(self.n_token)..])?;
        Ok(self.texts.iter().any(|stop| text.contains(stop)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Token = byte.
    struct Bytes;

    impl TextCodec for Bytes {
        fn spellings(&self, text: &str) -> Result<Vec<Vec<u32>>, GenerateError> {
            Ok(vec![text.bytes().map(u32::from).collect()])
        }

        fn decode(&self, tokens: &[u32]) -> Result<String, GenerateError> {
            let bytes: Vec<u8> = tokens.iter().map(|&token| token as u8).collect();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
    }

    #[test]
    fn the_token_that_completes_a_stop_string_ends_the_answer() {
        let texts = ["\n\n".to_owned(), "é!".to_owned()];
        let stop = StopStrings::new(&texts, Some(&Bytes));
        for (answer, at) in [("a\n\nb", 3), ("\n\n", 2), ("a long answer with é!", 22), ("é!", 3)] {
            let tokens = Bytes.spellings(answer).unwrap().remove(0);
            let first = (1..=tokens.len()).find(|&n| stop.end(&tokens[..n]).unwrap());
            assert_eq!(first, Some(at), "{answer:?}");
        }
        let none = Bytes.spellings("a\nb\né ! \n").unwrap().remove(0);
        assert!((0..=none.len()).all(|n| !stop.end(&none[..n]).unwrap()));
    }

    #[test]
    fn without_stop_strings_nothing_is_decoded() {
        assert!(!StopStrings::new(&[], None).end(&[1, 2, 3]).unwrap());
        assert!(!StopStrings::new(&[], Some(&Bytes)).end(&[]).unwrap());
    }
}
