//! How a byte-level BPE tokenizer cuts a text before it merges: what `tokenizer.ggml.pre` names.
//!
//! A GGUF file names the way, and the reader must know it. The names and what belongs to them are those of llama.cpp
//! (`src/llama-vocab.cpp`); the pieces are put together as in the `tokenizer.json` files of the models themselves, which
//! is what `transformers` runs.

use serde_json::{Value, json};

/// A way to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PreTokenizer {
    /// GPT-2: contractions, words, numbers, other characters, each with a blank before it.
    Gpt2,
    /// Every digit alone, the rest as GPT-2 does.
    DigitsThenGpt2,
    /// Llama 3: numbers in threes, line breaks apart; a word that is in the vocabulary is taken whole.
    Llama3,
    /// Qwen 2: as Llama 3 with every digit alone, on text in Unicode's composed form.
    Qwen2,
}

/// The names in GGUF files.
const NAMES: [(&str, PreTokenizer); 13] = [
    ("default", PreTokenizer::Gpt2),
    ("gpt-2", PreTokenizer::Gpt2),
    ("phi-2", PreTokenizer::Gpt2),
    ("smollm", PreTokenizer::DigitsThenGpt2),
    ("starcoder", PreTokenizer::DigitsThenGpt2),
    ("refact", PreTokenizer::DigitsThenGpt2),
    ("codeshell", PreTokenizer::DigitsThenGpt2),
    ("llama-bpe", PreTokenizer::Llama3),
    ("llama3", PreTokenizer::Llama3),
    ("llama-v3", PreTokenizer::Llama3),
    ("falcon3", PreTokenizer::Llama3),
    ("qwen2", PreTokenizer::Qwen2),
    ("deepseek-r1-qwen", PreTokenizer::Qwen2),
];

impl PreTokenizer {
    /// The way of that name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(NAMES.iter().find(|(known, _)| *known == name)?.1)
    }

    /// All names, for messages.
    pub(super) fn known() -> String {
        NAMES.map(|(name, _)| name).join(", ")
    }

    /// Whether a piece that is a token is taken as it is, even where the merges would not lead there.
    pub(super) fn ignores_merges(self) -> bool {
        self == Self::Llama3
    }

    /// Whether BOS is put in front when the file does not say.
    pub(super) fn adds_bos(self) -> bool {
        self == Self::Llama3
    }

    /// The normaliser, as `tokenizer.json` writes it.
    pub(super) fn normalizer(self) -> Value {
        if self == Self::Qwen2 { json!({"type": "NFC"}) } else { Value::Null }
    }

    /// The pre-tokenizer, as `tokenizer.json` writes it.
    pub(super) fn pre_tokenizer(self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let split = |digits: &str| {
            let regex = format!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            );
            let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
            json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
        };
        match self {
            Self::Gpt2 => byte_level(true),
            Self::DigitsThenGpt2 => {
                let digits = json!({"type": "Digits", "individual_digits": true});
                json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]})
            }
            Self::Llama3 => split(r"\p{N}{1,3}"),
            Self::Qwen2 => split(r"\p{N}"),
        }
    }
}
