//! Every method on every family, through the binary: tiny random models with a tokenizer of letters.

use serde_json::{Map, Value, json as value};

use crate::common::*;
use crate::methods::check_method;

/// Every method with settings that suit any model.
const METHODS: [(&str, &[&str]); 8] = [
    ("prefix", &["--set", "encoder_hidden_size=16", "--num-virtual-tokens", "3"]),
    ("infix", &["--set", "encoder_hidden_size=16", "--num-virtual-tokens", "3"]),
    ("prompt-tuning", &["--init-text", "ab"]),
    ("adapter", &["--set", "trainable_share=0.05"]),
    ("lora", &["--set", "r=2", "--set", "lora_dropout=0.1"]),
    ("fine-tune", &[]),
    ("top-layers", &["--set", "top_layers=1"]),
    ("fine-tune", &["--from-scratch"]),
];

/// What each method trains on `pairs` does everything that can be done with it.
pub fn check_every_method(model: &str, pairs: &str) {
    for (method, settings) in METHODS {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "train.jsonl", pairs);
        check_method(folder.path(), model, method, settings, 5);
    }
}

/// A tokenizer of letters and of nameless tokens, which leaves out whatever is neither.
fn tokenizer() -> Value {
    let letters = ('a'..='z').chain('A'..='Z');
    let nameless = |id: usize| (format!("<{id}>"), value!(id));
    let vocab: Map<String, Value> = (0..7)
        .map(nameless)
        .chain((59..61).map(nameless))
        .chain(letters.zip(7..).map(|(letter, id)| (letter.to_string(), value!(id))))
        .collect();
    value!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<6>"},
    })
}

fn check(golden: &str) {
    let folder = tempfile::tempdir().unwrap();
    let from = repository().join("tests/golden").join(golden);
    for name in ["config.json", "model.safetensors", "generation_config.json"] {
        if from.join(name).exists() {
            fs_err::copy(from.join(name), folder.path().join(name)).unwrap();
        }
    }
    write(folder.path(), "tokenizer.json", tokenizer().to_string());
    let pairs = [("abc", "cba"), ("Hello", "olleH"), ("x", "x"), ("world", "dlrow")];
    let pairs = pairs
        .map(|(prompt, completion)| format!("{}\n", value!({"prompt": prompt, "completion": completion})));
    check_every_method(folder.path().to_str().unwrap(), &pairs.concat());
}

#[test]
fn every_method_on_gpt2() {
    check("tiny_gpt2/model");
}

#[test]
fn every_method_on_bart_and_mbart() {
    check("encoder_decoder/bart");
    check("encoder_decoder/mbart");
}

#[test]
fn every_method_on_marian() {
    check("encoder_decoder/marian");
}

#[test]
fn every_method_on_both_kinds_of_t5() {
    check("encoder_decoder/t5");
    check("encoder_decoder/t5_v1_1");
}
