//! `preface generate` through the binary.

use std::process::Stdio;

use crate::common::*;

const PROMPT: &str = "Once upon a time";

fn generate<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "--model", MODEL, "--precision", "f32", "--max-new-tokens", "24"][..], more].concat()
}

#[test]
fn one_prompt_is_streamed_and_says_what_the_json_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let streamed = done(folder, &generate(&["--prompt", PROMPT]));
    assert!(streamed.stderr.is_empty(), "{}", streamed.stderr);
    let object = json(&done(folder, &generate(&["--prompt", PROMPT, "--json"])).stdout);
    assert_eq!(streamed.stdout, format!("{}\n", object["completion"].as_str().unwrap()));
    assert_eq!(object["prompt"], PROMPT);
    assert_eq!(object["token_ids"].as_array().unwrap().len(), 24);
    assert!(object["logprob"].as_f64().unwrap() < 0.0);
    let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["prompt", "completion", "token_ids", "logprob"]);
    // Beams tell nothing until the end; the answer is printed all the same.
    let beams = done(folder, &generate(&["--prompt", PROMPT, "--num-beams", "3"])).stdout;
    let object = json(&done(folder, &generate(&["--prompt", PROMPT, "--num-beams", "3", "--json"])).stdout);
    assert_eq!(beams, format!("{}\n", object["completion"].as_str().unwrap()));
}

#[test]
fn answers_to_a_file_come_in_its_order_whatever_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let prompts = [
        "Lily had a",
        "One day, a big bear who lived in the forest found",
        "Tim",
        "Once upon a time, there was",
    ];
    let lines: String = prompts.iter().map(|p| format!("{{\"prompt\":\"{p}\",\"id\":7}}\n")).collect();
    write(folder, "p.jsonl", lines);
    let one = done(folder, &generate(&["--input", "p.jsonl", "--json", "--batch-size", "1"])).stdout;
    let objects: Vec<_> = one.lines().map(json).collect();
    assert_eq!(objects.iter().map(|o| o["prompt"].as_str().unwrap()).collect::<Vec<_>>(), prompts);
    let ids = |text: &str| text.lines().map(|line| json(line)["token_ids"].clone()).collect::<Vec<_>>();
    let all = done(folder, &generate(&["--input", "p.jsonl", "--json", "--batch-size", "4"])).stdout;
    assert_eq!(ids(&one), ids(&all));
    let told = done(folder, &generate(&["--input", "p.jsonl", "--output", "a.jsonl"]));
    assert_eq!(told.stdout, "");
    assert_eq!(ids(&read(folder, "a.jsonl")), ids(&one));
    done(folder, &generate(&["--input", "p.jsonl", "--output", "a.txt"]));
    assert_eq!(read(folder, "a.txt").lines().count(), 4);
}

#[test]
fn settings_are_obeyed_and_neutral_ones_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let plain = done(folder, &generate(&["--prompt", PROMPT])).stdout;
    let neutral = [
        "--no-repeat-ngram-size",
        "0",
        "--length-penalty",
        "0.6",
        "--repetition-penalty",
        "1",
        "--top-k",
        "0",
    ];
    assert_eq!(done(folder, &generate(&[&["--prompt", PROMPT][..], &neutral].concat())).stdout, plain);
    let drawn = |seed| done(folder, &generate(&["--prompt", PROMPT, "--do-sample", "--seed", seed])).stdout;
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));
    let stopped =
        done(folder, &generate(&["--prompt", PROMPT, "--stop-strings", "there", "--stop-strings", "was"]));
    assert!(stopped.stdout.trim_end().ends_with("there") || stopped.stdout.trim_end().ends_with("was"));
    let banned =
        done(folder, &generate(&["--prompt", PROMPT, "--set", "bad_words=[\"there\", \"was\"]"])).stdout;
    assert!(!banned.contains("there") && banned != plain, "{banned}");
    assert_eq!(done(folder, &generate(&["--prompt", PROMPT, "--set", "num_beams=1"])).stdout, plain);
}

#[test]
fn an_adapter_brings_its_template_and_raw_leaves_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 16);
    let train = ["train", "--model", MODEL, "--train", "train.jsonl", "--out", "run", "--max-steps", "2"];
    done(folder, &[&train[..], &["--precision", "f32", "--set", "template=Facts: {prompt} Story:"]].concat());
    let with = |more: &[&str]| {
        let args = generate(&[&["--adapter", "run", "--json"][..], more].concat());
        json(&done(folder, &args).stdout)["token_ids"].clone()
    };
    let templated = with(&["--prompt", "a dog"]);
    assert_eq!(templated, with(&["--raw", "--prompt", "Facts: a dog Story:"]));
    assert_ne!(templated, with(&["--raw", "--prompt", "a dog"]));
    let alias = generate(&["--prefix", "run", "--json", "--prompt", "a dog"]);
    assert_eq!(json(&done(folder, &alias).stdout)["token_ids"], templated);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"prompt\":\"Once\"}\n".repeat(40);
    write(folder.path(), "p.jsonl", lines);
    let mut args = generate(&["--input", "p.jsonl"]);
    args[6] = "4";
    let mut child =
        command(folder.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stderr.contains("error"), "{}", ran.stderr);
}
