//! The rules of "From text to tokens" on a tokenizer that puts a blank before a text and on ones that do not.

use proptest::prelude::*;

use super::*;
use crate::tokenizer::tests::{LLAMA_BPE, QWEN2, STORIES_TOKENIZER};

fn special() -> SpecialTokens {
    SpecialTokens { bos: Some(0), end: vec![1, 7], target: None }
}

fn with(separator: Separator) -> TextFormat {
    TextFormat { separator, template: None }
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, Special::Without).unwrap()
}

fn pair(format: &TextFormat, tokenizer: &Tokenizer, prompt: &str, completion: &str) -> Pair {
    format.encode_pair(tokenizer, &special(), prompt, completion).unwrap()
}

/// The completion that the text `separated` gives: its ids and the first end token.
fn completion(tokenizer: &Tokenizer, separated: &str) -> Vec<u32> {
    [ids(tokenizer, separated), vec![1]].concat()
}

#[test]
fn by_default_one_blank_belongs_to_the_completion() {
    let got = pair(&TextFormat::default(), &QWEN2, "The prefix", "stands here");
    assert_eq!(got.prompt, ids(&QWEN2, "The prefix"));
    assert_eq!(got.completion, completion(&QWEN2, " stands here"));
}

#[test]
fn no_blank_goes_before_white_space() {
    for text in [" stands", "\nstands", "\u{3000}stands"] {
        let got = pair(&TextFormat::default(), &QWEN2, "The", text);
        assert_eq!(got.completion, completion(&QWEN2, text));
    }
}

#[test]
fn no_blank_where_the_tokenizer_puts_one_itself() {
    let tokenizer = &STORIES_TOKENIZER;
    let got = pair(&TextFormat::default(), tokenizer, "Once upon a time", "there was");
    assert_eq!(got.completion, completion(tokenizer, "there was"));
    assert_eq!(got.prompt[0], 1, "the tokenizer's BOS");
    assert_eq!(
        tokenizer.decode(&[got.prompt, got.completion].concat(), true).unwrap(),
        "Once upon a time there was"
    );
}

#[test]
fn an_appended_special_token_stands_on_neither_side() {
    let got = pair(&TextFormat::default(), &LLAMA_BPE, "The prefix", "stands");
    assert_eq!(got.prompt, [vec![0], ids(&LLAMA_BPE, "The prefix")].concat());
    assert_eq!(got.completion, completion(&LLAMA_BPE, " stands"), "one end token, the model's");
}

#[test]
fn a_text_as_separator_is_written_by_the_model() {
    let got = pair(&with(Separator::Text(" => ".into())), &QWEN2, "rows", "text");
    assert_eq!(got.prompt, ids(&QWEN2, "rows"));
    assert_eq!(got.completion, completion(&QWEN2, " => text"));
    assert_eq!(pair(&with(Separator::None), &QWEN2, "rows", "text").completion, completion(&QWEN2, "text"));
}

#[test]
fn the_bos_separator_stands_in_the_prompt_in_generation_too() {
    let format = with(Separator::Bos);
    let got = pair(&format, &QWEN2, "rows", "text");
    assert_eq!(got.prompt, [ids(&QWEN2, "rows"), vec![0]].concat());
    assert_eq!(got.completion, completion(&QWEN2, "text"));
    assert_eq!(format.encode_input(&QWEN2, &special(), "rows").unwrap().prompt, got.prompt);
    let no_bos = SpecialTokens { bos: None, ..special() };
    assert_eq!(format.encode_input(&QWEN2, &no_bos, "").unwrap().prompt, [1], "the end token in its place");
    let neither = SpecialTokens::default();
    assert!(matches!(format.encode_input(&QWEN2, &neither, "a"), Err(TokenizerError::NoEndToken { .. })));
}

#[test]
fn the_template_stands_around_the_prompt() {
    let format =
        TextFormat { template: Some("Describe: {prompt} ->".parse().unwrap()), ..TextFormat::default() };
    let got = pair(&format, &QWEN2, "the rows", "text");
    assert_eq!(got.prompt, ids(&QWEN2, "Describe: the rows ->"));
    assert_eq!(
        TextFormat::raw().encode_input(&QWEN2, &special(), "the rows").unwrap().prompt,
        ids(&QWEN2, "the rows")
    );
}

#[test]
fn an_empty_completion_is_an_error_whatever_the_separator() {
    for separator in [Separator::Blank, Separator::None, Separator::Bos, Separator::Text(" =>".into())] {
        for tokenizer in [&*QWEN2, &*STORIES_TOKENIZER] {
            let error = with(separator.clone()).encode_pair(tokenizer, &special(), "rows", "").unwrap_err();
            assert!(matches!(error, TokenizerError::EmptyCompletion { .. }), "{separator}: {error}");
        }
    }
    // Spaces are tokens here, so they are a completion.
    assert_eq!(pair(&TextFormat::default(), &QWEN2, "rows", " ").completion, completion(&QWEN2, " "));
}

#[test]
fn a_model_without_end_token_cannot_close_a_completion() {
    let special = SpecialTokens { bos: Some(0), end: vec![], target: None };
    let error = TextFormat::default().encode_pair(&QWEN2, &special, "a", "b").unwrap_err();
    assert!(matches!(error, TokenizerError::NoEndToken { .. }), "{error}");
}

#[test]
fn an_empty_prompt_is_allowed() {
    let got = pair(&TextFormat::default(), &QWEN2, "", "text");
    assert!(got.prompt.is_empty());
    assert_eq!(pair(&TextFormat::default(), &STORIES_TOKENIZER, "", "text").prompt, [1]);
}

#[test]
fn the_separator_is_taken_off_what_the_model_wrote() {
    assert_eq!(TextFormat::default().strip_separator("  text"), " text");
    assert_eq!(TextFormat::default().strip_separator("text"), "text");
    assert_eq!(with(Separator::Text(" =>".into())).strip_separator(" => text"), " text");
    assert_eq!(TextFormat::raw().strip_separator(" text"), " text");
}

proptest! {
    #[test]
    fn training_and_generation_begin_alike(prompt in "\\PC{0,20}", completion in "\\PC{1,20}") {
        for separator in [Separator::Blank, Separator::None, Separator::Bos, Separator::Text("\n".into())] {
            let format = with(separator);
            for tokenizer in [&*QWEN2, &*LLAMA_BPE, &*STORIES_TOKENIZER] {
                let pair = pair(&format, tokenizer, &prompt, &completion);
                prop_assert_eq!(&pair.prompt, &format.encode_input(tokenizer, &special(), &prompt).unwrap().prompt);
                prop_assert!(pair.completion.len() >= 2 && pair.completion.ends_with(&[1]));
            }
        }
    }
}

#[test]
fn a_document_without_a_prompt_begins_as_it_stands() {
    for separator in [Separator::Blank, Separator::Text(" ->".into()), Separator::None] {
        let got = pair(&with(separator), &QWEN2, "", "The prefix stands");
        assert!(got.prompt.is_empty());
        assert_eq!(got.completion, completion(&QWEN2, "The prefix stands"));
    }
}
