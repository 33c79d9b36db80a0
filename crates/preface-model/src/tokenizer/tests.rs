//! Three kinds of tokenizer: SentencePiece with byte fallback (stories260K), byte-level BPE from `tokenizer.json`, and
//! byte-level BPE from GGUF metadata, each against the ids that the `tokenizers` Python package gives.

use proptest::prelude::*;
use serde::Deserialize;
use std::sync::LazyLock;

use super::*;
use crate::weights::{GgufFile, WeightsError};

const STORIES: &str = include_str!("../../../../assets/stories260k/tokenizer.json");
const STORIES_CONFIG: &str = include_str!("../../../../assets/stories260k/config.json");

/// The golden files of `tests/golden/gguf_tokenizer`.
macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/golden/gguf_tokenizer/", $name))
    };
}

pub(super) static STORIES_TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::from_json("stories".as_ref(), STORIES.as_bytes()).unwrap());
pub(super) static LLAMA_BPE: LazyLock<Tokenizer> =
    LazyLock::new(|| from_gguf(golden!("llama_bpe.gguf")).unwrap());
pub(super) static QWEN2: LazyLock<Tokenizer> = LazyLock::new(|| from_gguf(golden!("qwen2.gguf")).unwrap());

pub(super) fn from_gguf(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_gguf(GgufFile::from_bytes("case.gguf", bytes.to_vec())?.metadata())
}

#[derive(Deserialize)]
struct Case {
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    without_special: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Cases {
    llama_bpe: Case,
    qwen2: Case,
}

fn cases() -> Cases {
    serde_json::from_slice(golden!("case.json")).unwrap()
}

fn assert_case(tokenizer: &Tokenizer, case: &Case) {
    assert_eq!(case.texts.len(), 9);
    for Text { text, ids, without_special, decoded } in &case.texts {
        assert_eq!(&tokenizer.encode(text, Special::AsTokenizer).unwrap(), ids, "{text:?}");
        assert_eq!(&tokenizer.encode(text, Special::Without).unwrap(), without_special, "{text:?}");
        assert_eq!(&tokenizer.decode(ids, true).unwrap(), decoded, "{text:?}");
    }
}

#[test]
fn a_gguf_tokenizer_gives_the_ids_of_its_tokenizer_json() {
    let Cases { llama_bpe, qwen2 } = cases();
    assert_case(&LLAMA_BPE, &llama_bpe);
    assert_case(&QWEN2, &qwen2);
    let from_json = |json: &[u8]| Tokenizer::from_json("case.json".as_ref(), json).unwrap();
    assert_case(&from_json(golden!("llama_bpe.json")), &llama_bpe);
    assert_case(&from_json(golden!("qwen2.json")), &qwen2);
}

#[test]
fn gpt2_and_smollm_split_digits_as_their_names_say() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf_tiny").join(name);
        fs_err::read(path).unwrap()
    };
    let case: serde_json::Value = serde_json::from_slice(&read("case.json")).unwrap();
    for name in ["llama", "llama_untied", "gpt2"] {
        let tokenizer = from_gguf(&read(&format!("{name}.gguf"))).unwrap();
        let texts = case["models"][name]["texts"].as_array().unwrap();
        assert!(texts.len() >= 5);
        for text in texts {
            let ids: Vec<u32> = serde_json::from_value(text["ids"].clone()).unwrap();
            let text = text["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, Special::AsTokenizer).unwrap(), ids, "{name} {text:?}");
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text, "{name}");
        }
    }
}

#[test]
fn the_same_vocabulary_has_the_same_fingerprint_from_both_sources() {
    let json = |json: &[u8]| Tokenizer::from_json("case.json".as_ref(), json).unwrap().fingerprint();
    assert_eq!(LLAMA_BPE.fingerprint(), json(golden!("llama_bpe.json")));
    assert_eq!(QWEN2.fingerprint(), json(golden!("qwen2.json")));
    assert_ne!(LLAMA_BPE.fingerprint(), QWEN2.fingerprint());
    assert_eq!(LLAMA_BPE.fingerprint().len(), 64);
}

#[test]
fn stories260k_encodes_as_the_python_package_does() {
    let tokenizer = &*STORIES_TOKENIZER;
    let cases: [(&str, &[u32]); 5] = [
        (
            "Once upon a time, there was a little girl.",
            &[403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 426],
        ),
        (" a", &[410, 261]),
        ("Zürich ☕", &[410, 469, 198, 191, 325, 402, 410, 229, 155, 152]),
        ("<s>a</s>", &[1, 261, 2]),
        ("", &[]),
    ];
    for (text, ids) in cases {
        assert_eq!(tokenizer.encode(text, Special::Without).unwrap(), ids, "{text:?}");
        let with_bos = [&[1], ids].concat();
        assert_eq!(tokenizer.encode(text, Special::AsTokenizer).unwrap(), with_bos, "{text:?}");
        assert_eq!(tokenizer.encode_prompt(text).unwrap(), with_bos, "{text:?}");
    }
    assert_eq!(tokenizer.vocab_size(), 512);
    assert_eq!(tokenizer.token_to_id("</s>"), Some(2));
    assert_eq!(tokenizer.id_to_token(2).as_deref(), Some("</s>"));
    assert_eq!((tokenizer.token_to_id("none of ours"), tokenizer.id_to_token(512)), (None, None));
}

#[test]
fn what_a_tokenizer_adds_is_found_from_its_behaviour() {
    assert!(STORIES_TOKENIZER.adds_bos() && STORIES_TOKENIZER.puts_blank_before_text());
    assert!(LLAMA_BPE.adds_bos() && !LLAMA_BPE.puts_blank_before_text());
    assert!(!QWEN2.adds_bos() && !QWEN2.puts_blank_before_text());
}

#[test]
fn an_appended_end_token_is_dropped_from_a_prompt() {
    for text in ["", "the rows", "<|end|>"] {
        let mut ids = LLAMA_BPE.encode(text, Special::AsTokenizer).unwrap();
        assert_eq!(ids.pop(), Some(1));
        assert_eq!(LLAMA_BPE.encode_prompt(text).unwrap(), ids, "{text:?}");
    }
}

#[test]
fn truncation_and_padding_of_the_file_are_switched_off() {
    let mut json: serde_json::Value = serde_json::from_str(STORIES).unwrap();
    json["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"});
    let tokenizer = Tokenizer::from_json("x".as_ref(), json.to_string().as_bytes()).unwrap();
    let text = "Once upon a time, there was a little girl.";
    assert_eq!(tokenizer.encode_prompt(text).unwrap(), STORIES_TOKENIZER.encode_prompt(text).unwrap());
}

#[test]
fn special_tokens_come_from_where_each_format_keeps_them() {
    let from = |json: &str| SpecialTokens::from_config("config.json".as_ref(), json.as_bytes());
    assert_eq!(from(STORIES_CONFIG).unwrap(), SpecialTokens { bos: Some(1), end: vec![2], target: None });
    let several = from(r#"{"eos_token_id": [7, 8], "bos_token_id": null}"#).unwrap();
    assert_eq!(several, SpecialTokens { bos: None, end: vec![7, 8], target: None });
    assert_eq!(from("{}").unwrap(), SpecialTokens::default());
    let error = from(r#"{"eos_token_id": "</s>"}"#).unwrap_err();
    assert!(matches!(error, TokenizerError::Json { .. }), "{error}");

    let gguf = GgufFile::from_bytes("case.gguf", golden!("qwen2.gguf").to_vec()).unwrap();
    let special = SpecialTokens::from_gguf(gguf.metadata()).unwrap();
    assert_eq!(special, SpecialTokens { bos: Some(0), end: vec![1], target: None });
    special.check(&QWEN2, 2).unwrap();
    let error = special.check(&QWEN2, 1).unwrap_err();
    assert!(matches!(error, TokenizerError::SpecialOutOfRange { key: "eos_token_id", id: 1, .. }), "{error}");
}

#[test]
fn generation_config_goes_before_config() {
    let folder = tempfile::tempdir().unwrap();
    let read = || SpecialTokens::from_folder(folder.path()).unwrap();
    assert_eq!(read(), SpecialTokens::default());
    fs_err::write(folder.path().join("config.json"), r#"{"bos_token_id": 1, "eos_token_id": 2}"#).unwrap();
    assert_eq!(read(), SpecialTokens { bos: Some(1), end: vec![2], target: None });
    fs_err::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [3, 2]}"#).unwrap();
    assert_eq!(read(), SpecialTokens { bos: Some(1), end: vec![3, 2], target: None });
}

#[test]
fn files_that_are_no_tokenizer_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::File(WeightsError::Io { .. })), "{error}");
    fs_err::write(folder.path().join("source.spm"), "x").unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::SentencePiece { found: "source.spm", .. }), "{error}");
    for json in ["", "{}", "[]", &STORIES[..STORIES.len() / 2], &STORIES.replace("\"BPE\"", "\"XYZ\"")] {
        fs_err::write(&path, json).unwrap();
        let error = Tokenizer::from_folder(folder.path()).unwrap_err();
        assert!(matches!(error, TokenizerError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}

#[test]
fn what_makes_the_tokenizers_crate_panic_is_an_error_here() {
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json: serde_json::Value = serde_json::from_slice(golden!("llama_bpe.json")).unwrap();
        change(&mut json);
        Tokenizer::from_json("x".as_ref(), json.to_string().as_bytes())
    };
    let decoder = changed(&|json| json["decoder"] = 5.into());
    assert!(matches!(decoder.unwrap_err(), TokenizerError::Malformed { .. }));
    // The merge of two tokens drops as many bytes of the second as the prefix has: here more than there are.
    let prefix = changed(&|json| json["model"]["continuing_subword_prefix"] = "long prefix".into());
    assert!(matches!(prefix.unwrap_err(), TokenizerError::Malformed { .. }));
}

/// A GGUF file with these metadata pairs (key, type, value as stored) and nothing else.
fn gguf(pairs: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend((pairs.len() as u64).to_le_bytes());
    for (key, value_type, value) in pairs {
        bytes.extend(string(key));
        bytes.extend(value_type.to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn strings(texts: &[&str]) -> Vec<u8> {
    let items: Vec<u8> = texts.iter().flat_map(|text| string(text)).collect();
    [8u32.to_le_bytes().to_vec(), (texts.len() as u64).to_le_bytes().to_vec(), items].concat()
}

fn integers(numbers: &[i32]) -> Vec<u8> {
    let items: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    [5u32.to_le_bytes().to_vec(), (numbers.len() as u64).to_le_bytes().to_vec(), items].concat()
}

/// The pairs of a right tokenizer of four tokens; `replace` stands in place of the pair with its key, or beside them.
fn with(replace: (&'static str, u32, Vec<u8>)) -> Result<Tokenizer, TokenizerError> {
    let mut pairs = vec![
        ("tokenizer.ggml.model", 8, string("gpt2")),
        ("tokenizer.ggml.pre", 8, string("gpt-2")),
        ("tokenizer.ggml.tokens", 9, strings(&["<end>", "a", "b", "ab"])),
        ("tokenizer.ggml.merges", 9, strings(&["a b"])),
    ];
    pairs.retain(|(key, ..)| *key != replace.0);
    pairs.push(replace);
    from_gguf(&gguf(&pairs))
}

#[test]
fn a_minimal_gguf_tokenizer_works() {
    let tokenizer = with(("tokenizer.ggml.eos_token_id", 4, 0u32.to_le_bytes().to_vec())).unwrap();
    assert_eq!(tokenizer.encode("aba<end>", Special::AsTokenizer).unwrap(), [3, 1, 0]);
    assert_eq!(tokenizer.decode(&[3, 1, 0], true).unwrap(), "aba");
}

#[test]
fn each_way_in_which_gguf_metadata_can_be_wrong_has_its_error() {
    let error = |replace| with(replace).unwrap_err();
    let unknown = error(("tokenizer.ggml.pre", 8, string("gpt-7")));
    assert!(matches!(&unknown, TokenizerError::UnknownPreTokenizer { name, .. } if name == "gpt-7"));
    assert!(unknown.to_string().contains("smollm") && unknown.to_string().contains("qwen2"), "{unknown}");
    let llama = error(("tokenizer.ggml.model", 8, string("llama")));
    assert!(matches!(&llama, TokenizerError::UnknownModel { model, .. } if model == "llama"));
    assert!(matches!(
        error(("tokenizer.ggml.tokens", 9, strings(&["a", "b", "a"]))),
        TokenizerError::DuplicateToken { first: 0, second: 2, .. }
    ));
    for merge in ["ab", "a  b", " b", "a ", "", "a b c"] {
        let error = error(("tokenizer.ggml.merges", 9, strings(&[merge])));
        assert!(matches!(error, TokenizerError::BadMerge { index: 0, .. }), "{merge:?}: {error}");
    }
    let stranger = error(("tokenizer.ggml.merges", 9, strings(&["a c"])));
    assert!(matches!(stranger, TokenizerError::Malformed { .. }), "{stranger}");
    assert!(matches!(
        error(("tokenizer.ggml.token_type", 9, integers(&[1, 1]))),
        TokenizerError::TypeCount { tokens: 4, types: 2, .. }
    ));
    assert!(matches!(
        error(("tokenizer.ggml.bos_token_id", 4, 4u32.to_le_bytes().to_vec())),
        TokenizerError::SpecialOutOfRange { key: "tokenizer.ggml.bos_token_id", id: 4, vocab_size: 4, .. }
    ));
    assert!(matches!(
        error(("tokenizer.ggml.tokens", 8, string("a"))),
        TokenizerError::File(WeightsError::KeyType { .. })
    ));
    assert!(matches!(error(("tokenizer.ggml.tokens", 9, strings(&[]))), TokenizerError::Malformed { .. }));
    let nothing = from_gguf(&gguf(&[])).unwrap_err();
    assert!(
        matches!(&nothing, TokenizerError::File(WeightsError::MissingKey { key, .. }) if key == "tokenizer.ggml.model")
    );
}

/// What a stream shows of `ids`, piece by piece, with the rest at the end.
fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> (Vec<String>, Option<String>) {
    let mut stream = tokenizer.decode_stream(true);
    let pieces = ids.iter().filter_map(|&id| stream.push(id).unwrap()).collect();
    (pieces, stream.finish().unwrap())
}

#[test]
fn a_stream_shows_whole_characters_only() {
    // Three bytes of ☕, each a token of its own.
    let ids = STORIES_TOKENIZER.encode("Z☕.", Special::Without).unwrap();
    let (pieces, rest) = stream(&STORIES_TOKENIZER, &ids);
    assert_eq!((pieces.concat().as_str(), rest), ("Z☕.", None));
    assert!(pieces.contains(&"☕".to_owned()), "{pieces:?}");
    // The last byte is missing: nothing of it shows until the end.
    let cup = STORIES_TOKENIZER.encode("☕", Special::Without).unwrap();
    let (pieces, rest) = stream(&STORIES_TOKENIZER, &cup[..cup.len() - 1]);
    assert!(!pieces.concat().contains(char::REPLACEMENT_CHARACTER), "{pieces:?}");
    assert!(rest.unwrap().contains(char::REPLACEMENT_CHARACTER));
    assert_eq!(stream(&LLAMA_BPE, &[]), (vec![], None));
    assert_eq!(stream(&LLAMA_BPE, &[0, 1]), (vec![], None), "special tokens are skipped");
}

proptest! {
    #[test]
    fn a_streamed_text_equals_the_text_decoded_at_once(text in "(\\PC|[ \n\t🙂é]){0,40}") {
        for tokenizer in [&*STORIES_TOKENIZER, &*LLAMA_BPE, &*QWEN2] {
            let ids = tokenizer.encode_prompt(&text).unwrap();
            let (pieces, rest) = stream(tokenizer, &ids);
            let streamed = pieces.concat() + rest.as_deref().unwrap_or("");
            prop_assert_eq!(streamed, tokenizer.decode(&ids, true).unwrap());
        }
    }

    #[test]
    fn any_ids_stream_without_panic_or_split_character(ids in prop::collection::vec(0u32..600, 0..40)) {
        for tokenizer in [&*STORIES_TOKENIZER, &*LLAMA_BPE] {
            let (pieces, _) = stream(tokenizer, &ids);
            prop_assert!(pieces.iter().all(|piece| !piece.ends_with(char::REPLACEMENT_CHARACTER)));
        }
    }

    #[test]
    fn byte_level_text_comes_back(text in "(\\PC|[ \n\t🙂é]){0,40}") {
        let ids = LLAMA_BPE.encode(&text, Special::Without).unwrap();
        prop_assert_eq!(LLAMA_BPE.decode(&ids, false).unwrap(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn mutated_tokenizer_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: prop::sample::Index,
        truncated: bool,
        which in 0usize..2,
    ) {
        let mut bytes = [STORIES.as_bytes(), golden!("llama_bpe.json")][which].to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if truncated {
            bytes.truncate(cut.index(bytes.len()));
        }
        use_it(Tokenizer::from_json("x".as_ref(), &bytes));
    }

    #[test]
    fn mutated_gguf_tokenizers_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = golden!("llama_bpe.gguf").to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        use_it(from_gguf(&bytes));
    }
}

/// Encodes and decodes; only the absence of a panic is of interest.
fn use_it(tokenizer: Result<Tokenizer, TokenizerError>) {
    if let Ok(tokenizer) = tokenizer {
        let ids = tokenizer.encode("Once upon a time<s> ☕ 123", Special::AsTokenizer).unwrap_or_default();
        let _ = (tokenizer.decode(&ids, true), tokenizer.fingerprint());
    }
}

/// The whole tokenizer of a real model on all texts of the shared data.
#[test]
#[ignore = "needs smollm2: cargo xtask fetch smollm2"]
fn smollm2_from_gguf_tokenises_all_shared_data_as_the_python_package_does() {
    #[derive(Deserialize)]
    struct File {
        texts: usize,
        tokens: usize,
        sha256: String,
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = GgufFile::open(&root.join("fetched/smollm2.gguf")).expect("run `cargo xtask fetch smollm2`");
    let tokenizer = Tokenizer::from_gguf(file.metadata()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 49152);
    assert!(!tokenizer.adds_bos() && !tokenizer.puts_blank_before_text());
    let data = root.join("../shared/data");
    if !data.exists() {
        println!("skipped: no shared data beside the repository");
        return;
    }
    let cases: std::collections::BTreeMap<String, File> =
        serde_json::from_slice(include_bytes!("../../tests/golden/smollm2_tokens/case.json")).unwrap();
    assert_eq!(cases.len(), 16);
    for (name, expected) in cases {
        let mut texts = vec![];
        for line in
            fs_err::read_to_string(data.join(&name)).unwrap().split('\n').filter(|line| !line.is_empty())
        {
            collect_strings(serde_json::from_str(line).unwrap(), &mut texts);
        }
        assert_eq!(texts.len(), expected.texts, "{name}");
        let (mut hash, mut tokens) = (Sha256::new(), 0);
        for text in &texts {
            let ids = tokenizer.encode(text, Special::Without).unwrap();
            assert_eq!(&tokenizer.decode(&ids, false).unwrap(), text, "{name}");
            tokens += ids.len();
            ids.iter().chain([&u32::MAX]).for_each(|id| hash.update(id.to_le_bytes()));
        }
        assert_eq!(tokens, expected.tokens, "{name}");
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.sha256, "{name}");
    }
}

/// Every string in a JSON value, in its order.
fn collect_strings(value: serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text),
        serde_json::Value::Array(items) => items.into_iter().for_each(|item| collect_strings(item, texts)),
        serde_json::Value::Object(items) => {
            items.into_iter().for_each(|(_, item)| collect_strings(item, texts))
        }
        _ => (),
    }
}
