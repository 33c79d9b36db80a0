//! The commands that run a model, on a trained encoder-decoder: Arabic letters to Latin ones.

use std::path::{Path, PathBuf};

use serde_json::{Value, json as value};

use crate::common::*;
use crate::families::check_every_method;

fn model() -> PathBuf {
    repository().join("tests/golden/transliteration/model")
}

/// Words with what `transformers` makes of them.
fn words() -> Vec<Value> {
    let case = fs_err::read_to_string(repository().join("tests/golden/transliteration/case.json")).unwrap();
    json(&case)["words"].as_array().unwrap().clone()
}

fn text(word: &Value, key: &str) -> String {
    word[key].as_str().unwrap().to_owned()
}

/// A line for each word.
fn lines(of: impl Fn(&Value) -> Value) -> String {
    words().iter().map(|word| format!("{}\n", of(word))).collect()
}

/// The model in a folder of its own, with this as its `generation_config.json`.
fn with_generation_config(folder: &Path, config: &Value) -> String {
    let copy = folder.join("copy");
    fs_err::create_dir_all(&copy).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs_err::copy(model().join(name), copy.join(name)).unwrap();
    }
    write(&copy, "generation_config.json", config.to_string());
    "copy".into()
}

fn generate<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "--model", model, "--precision", "f32"][..], more].concat()
}

#[test]
fn answers_are_those_of_transformers_whatever_the_search_and_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model().display().to_string();
    write(folder, "p.jsonl", lines(|word| value!({"prompt": word["word"]})));
    for (way, num_beams) in [("greedy", "1"), ("beams", "4")] {
        for batch_size in ["1", "4", "50"] {
            let more = ["--input", "p.jsonl", "--json", "--num-beams", num_beams, "--batch-size", batch_size];
            let out = done(folder, &generate(&model, &more)).stdout;
            let answers: Vec<Value> = out.lines().map(json).collect();
            let words = words();
            assert_eq!(answers.len(), words.len());
            for (answer, word) in answers.iter().zip(&words) {
                assert_eq!(answer["completion"], word[format!("{way}_text")], "{word}");
                assert_eq!(answer["token_ids"], word[way], "{word}");
                assert_eq!(answer["prompt"], word["word"]);
            }
        }
    }
}

#[test]
fn a_streamed_answer_says_the_same_and_samples_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model().display().to_string();
    let prompt = text(&words()[0], "word");
    assert_eq!(done(folder, &generate(&model, &["--prompt", &prompt])).stdout, "atzmon\n");
    assert_eq!(
        done(folder, &generate(&model, &["--prompt", &prompt, "--num-beams", "4"])).stdout,
        "atzmon\n"
    );
    let drawn = |seed| {
        let more = ["--prompt", &prompt, "--do-sample", "--temperature", "3", "--seed", seed];
        done(folder, &generate(&model, &more)).stdout
    };
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));
    // A template stands around what the encoder reads.
    let halves = (prompt.chars().take(3).collect::<String>(), prompt.chars().skip(3).collect::<String>());
    let template = format!("template={{prompt}}{}", halves.1);
    let templated = generate(&model, &["--prompt", &halves.0, "--set", &template]);
    assert_eq!(done(folder, &templated).stdout, "atzmon\n");
}

#[test]
fn the_models_own_search_applies_where_nothing_is_typed_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let config = value!({"num_beams": 4, "max_length": 3, "do_sample": true, "temperature": 9.0, "eos_token_id": 53,
        "decoder_start_token_id": 52, "num_beam_groups": 2});
    let model = with_generation_config(folder, &config);
    let prompt = text(&words()[0], "word");
    let own = done(folder, &generate(&model, &["--prompt", &prompt, "--json"]));
    let typed = ["--prompt", &prompt, "--json", "--num-beams", "4", "--max-new-tokens", "2"];
    let typed = done(folder, &generate(&model, &typed));
    assert_eq!(own.stdout, typed.stdout);
    assert_eq!(json(&own.stdout)["token_ids"].as_array().unwrap().len(), 2);
    for part in
        ["generation_config.json: num_beams = 4, max_new_tokens = 2 (max_length)", "num_beam_groups = 2"]
    {
        let told = own.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(part), "no `{part}` in\n{told}");
    }
    assert!(!typed.stderr.contains("max_new_tokens"), "{}", typed.stderr);
    // Drawing is for who asks for it, and then there are no beams.
    done(folder, &generate(&model, &["--prompt", &prompt, "--do-sample"]));
    let wrong = with_generation_config(folder, &value!({"num_beams": "four", "eos_token_id": 53}));
    let parts = ["generation_config.json", "`num_beams`", "whole number"];
    refused(folder, &generate(&wrong, &["--prompt", &prompt]), 1, &parts);
}

#[test]
fn evaluation_scores_answers_and_gives_the_likelihood_that_transformers_gives() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model().display().to_string();
    write(
        folder,
        "d.jsonl",
        lines(|word| value!({"document": word["word"], "summary": word["greedy_text"]})),
    );
    let args =
        ["eval", "--model", &model, "--data", "d.jsonl", "--metrics", "chrf,rouge", "--precision", "f32"];
    let result = json(&done(folder, &[&args[..], &["--json", "--out", "e"]].concat()).stdout);
    let score = |name: &str| {
        let scores = result["scores"].as_array().unwrap();
        scores.iter().find(|score| score["name"] == name).unwrap_or_else(|| panic!("{name}"))["score"]
            .as_f64()
            .unwrap()
    };
    assert!((score("rougeL") - 100.0).abs() < 1e-9 || (score("rougeL") - 1.0).abs() < 1e-9);
    let (words, n_token) = (words(), |word: &Value| word["greedy"].as_array().unwrap().len() + 1);
    let sum_nll: f64 = words.iter().map(|word| word["nll"].as_f64().unwrap()).sum();
    let want = (sum_nll / words.iter().map(n_token).sum::<usize>() as f64).exp();
    let got = score("perplexity");
    assert!((got - want).abs() < 1e-4 * want, "{got}, but transformers says {want}");
    let first = json(read(folder, "e/predictions.jsonl").lines().next().unwrap());
    assert_eq!((&first["prediction"], &first["references"]), (&value!("atzmon"), &value!(["atzmon"])));
}

#[test]
fn a_source_is_cut_only_when_asked_and_how_many_were_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model().display().to_string();
    let word = text(&words()[0], "word");
    let line = |word: &str| format!("{}\n", value!({"prompt": word, "references": ["a", "b"]}));
    write(folder, "d.jsonl", line(&word) + &line(&word[..4]));
    let cut = ["--max-source-tokens", "3"];
    let generated = done(folder, &generate(&model, &[&["--input", "d.jsonl"][..], &cut].concat()));
    let short: String = word.chars().take(3).collect();
    let alone = done(folder, &generate(&model, &["--prompt", &short]));
    assert_eq!(generated.stdout.lines().next(), alone.stdout.lines().next());
    assert!(generated.stderr.contains("1 of 2 inputs cut by max_source_tokens"), "{}", generated.stderr);
    let eval = ["eval", "--model", &model, "--data", "d.jsonl", "--json"];
    let result = done(folder, &[&eval[..], &cut].concat());
    assert_eq!(json(&result.stdout)["sources_truncated"], 1, "an input counts once, whatever its references");
    assert!(result.stderr.contains("1 inputs cut"), "{}", result.stderr);
    assert_eq!(json(&done(folder, &eval).stdout)["sources_truncated"], 0);
}

#[test]
fn what_an_encoder_cannot_read_and_settings_of_the_other_kind_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model().display().to_string();
    let long = text(&words()[0], "word").repeat(12);
    let pair = |prompt: &str| format!("{}\n", value!({"prompt": prompt, "completion": "a"}));
    write(folder, "empty.jsonl", pair("ب") + &pair(""));
    write(folder, "long.jsonl", pair("ب") + &pair(&long));
    let eval = |data: &'static str| ["eval", "--model", &model, "--data", data].map(str::to_owned);
    let refused_eval = |data, parts: &[&str]| {
        let args = eval(data);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refused(folder, &args, 1, parts);
    };
    refused_eval("empty.jsonl", &["empty.jsonl, line 2", "no token for the encoder to read"]);
    refused_eval(
        "long.jsonl",
        &["long.jsonl, line 2", "72 tokens", "64 positions", "max_source_tokens = 64"],
    );
    refused(folder, &generate(&model, &["--prompt", ""]), 1, &["the prompt", "no token for the encoder"]);
    let many = generate(&model, &["--prompt", "ب", "--max-new-tokens", "65"]);
    refused(folder, &many, 1, &["65 tokens for the answer (max_new_tokens)", "64 positions"]);
    let separator = generate(&model, &["--prompt", "ب", "--set", "separator=bos"]);
    refused(folder, &separator, 2, &["`separator`", "decoder-only"]);
    let causal = generate(MODEL, &["--prompt", "a", "--max-source-tokens", "5"]);
    refused(folder, &causal, 2, &["`max_source_tokens`", "encoder-decoders", "decoder-only"]);
}

/// Its `final_logits_bias` bars tokens by minus infinity, which nothing trains and everything must carry.
#[test]
fn every_method_trains_resumes_to_the_bit_generates_evaluates_and_is_inspected() {
    let model = model().display().to_string();
    let pairs = lines(|word| value!({"prompt": word["word"], "completion": word["greedy_text"]}));
    check_every_method(&model, &pairs);
}

#[test]
fn rows_among_what_the_encoder_reads_need_room_there_and_a_model_of_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model().display().to_string();
    let word = text(&words()[0], "word");
    let n_token = word.chars().count();
    write(folder, "pair.jsonl", value!({"prompt": word, "completion": "a"}).to_string());
    let train = |rows: usize, out: &str, more: &[&str]| -> Vec<String> {
        let rows = rows.to_string();
        let args = ["train", "--model", &model, "--train", "pair.jsonl", "--max-steps", "1", "--out", out];
        let method = ["--method", "prompt-tuning", "--num-virtual-tokens", &rows, "--precision", "f32"];
        args.iter().chain(&method).chain(more).map(|arg| (*arg).to_owned()).collect()
    };
    let refuse = |args: Vec<String>, parts: &[&str]| {
        refused(folder, &args.iter().map(String::as_str).collect::<Vec<_>>(), 1, parts);
    };
    // The encoder has 64 positions.
    refuse(train(64, "none", &[]), &["64 rows", "64 positions"]);
    let rows = 64 - n_token + 1;
    let room = format!("max_source_tokens = {}", n_token - 1);
    let beside = format!("{n_token} tokens and {rows} trained rows beside them");
    refuse(train(rows, "none", &[]), &["pair.jsonl, line 1", &beside, "64 positions", &room]);
    assert!(!folder.join("none").exists());
    let args = train(rows - 1, "full", &[]);
    done(folder, &args.iter().map(String::as_str).collect::<Vec<_>>());
    // Whatever is generated: the decoder has its positions for itself.
    let answer = generate(&model, &["--adapter", "full", "--prompt", &word, "--max-new-tokens", "64"]);
    done(folder, &answer);
    let longer = format!("{word}{word}");
    refused(folder, &generate(&model, &["--adapter", "full", "--prompt", &longer]), 1, &["trained rows"]);
    let cut = ["--adapter", "full", "--prompt", &longer, "--max-source-tokens", "3"];
    done(folder, &generate(&model, &cut));
    // Before a decoder-only model, with and without the file that says what it was trained on.
    let other = ["generate", "--model", MODEL, "--adapter", "full", "--prompt", "a"];
    refused(folder, &other, 1, &["encoder of 6 layers"]);
    fs_err::remove_file(folder.join("full/preface.json")).unwrap();
    refused(folder, &other, 1, &["`task_type` = SEQ_2_SEQ_LM", "decoder-only"]);
}

#[test]
fn a_step_is_measured_with_rows_in_any_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model().display().to_string();
    let batch: Vec<Value> = words().iter().map(|word| value!([word["ids"], word["greedy"]])).collect();
    write(folder, "s.json", value!(vec![batch; 12]).to_string());
    let n_token: usize = words()
        .iter()
        .map(|word| word["ids"].as_array().unwrap().len() + word["greedy"].as_array().unwrap().len())
        .sum();
    let bench = ["bench", "train", "--model", &model, "--workload", "s.json", "--precision", "f32", "--json"];
    for (more, places) in [
        (&[][..], value!(["decoder"])),
        (&["--second-epoch"], value!(["decoder"])),
        (&["--places", "encoder,cross"], value!(["encoder", "cross"])),
    ] {
        let result = json(done(folder, &[&bench[..], more].concat()).stdout.lines().last().unwrap());
        assert_eq!(result["places"], places);
        assert_eq!(result["tokens"], 10 * n_token, "the decoder's start does not count");
        assert!(result["tokens_per_second"].as_f64().unwrap() > 0.0, "{result}");
    }
    refused(folder, &[&bench[..], &["--places", "middle"]].concat(), 2, &["encoder, decoder or cross"]);
}
