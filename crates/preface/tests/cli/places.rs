//! Prefixes of an encoder-decoder: the transliteration model learns another romanisation.

use std::path::{Path, PathBuf};

use crate::common::{command, done, json, names, ran, read, refused, repository, write};

fn model() -> String {
    repository().join("tests/golden/transliteration/model").to_str().unwrap().to_owned()
}

/// Names in another convention than the model's.
fn write_names(folder: &Path, name: &str) -> String {
    let names = [
        ("دمشق", "demschk"),
        ("خالد", "chald"),
        ("بغداد", "bagdad"),
        ("نجيب", "nadschib"),
        ("غسان", "gussan"),
        ("يوسف", "josf"),
        ("محمد", "mahmad"),
        ("فاطمة", "fatma"),
    ];
    let line = |(prompt, completion): (&str, &str)| {
        format!("{}\n", serde_json::json!({"prompt": prompt, "completion": completion}))
    };
    write(folder, name, names.map(line).concat())
}

fn train<'a>(model: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = [
        "train",
        "--model",
        model,
        "--train",
        "names.jsonl",
        "--out",
        out,
        "--precision",
        "f32",
        "--set",
        "encoder_hidden_size=16",
        "--num-virtual-tokens",
        "3",
        "--per-device-train-batch-size",
        "4",
    ];
    [&base[..], more].concat()
}

fn artefact(folder: &Path, run: &str) -> Vec<Vec<u8>> {
    let files = ["adapter_model.safetensors", "adapter_config.json", "preface.json", "README.md"];
    files.map(|file| fs_err::read(folder.join(run).join(file)).unwrap()).into()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    write_names(folder.path(), "names.jsonl");
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn every_subset_of_places_trains_and_its_artefact_answers() {
    let (_folder, folder) = folder();
    let model = model();
    // Rows of 3 tokens: encoder 6 layers, decoder 6 layers, each 2 x 32 numbers; the file has a pair of zeros more.
    for (places, n_stored, want) in [
        ("encoder", 3 * 6 * 64, "3 rows in encoder,"),
        ("decoder", 3 * 6 * 64, "3 rows in decoder,"),
        ("cross", 3 * 6 * 64, "3 rows in cross,"),
        ("encoder,decoder,cross", 3 * 3 * 6 * 64, "3 rows each in encoder, decoder, cross,"),
    ] {
        let run = places.replace(',', "-");
        let places = ["--places", places, "--max-steps", "2", "--json"];
        let ran = done(&folder, &train(&model, &run, &places));
        assert!(ran.stderr.contains(want), "{}", ran.stderr);
        assert!(ran.stderr.contains("needs about"), "planned memory\n{}", ran.stderr);
        let result = json(ran.stdout.trim());
        assert_eq!(result["stored_parameters"], n_stored, "{want}");
        assert!(ran.stderr.contains("parameters trained"), "{}", ran.stderr);
        let generate =
            ["generate", "--model", &model, "--adapter", &run, "--prompt", "دمشق", "--max-new-tokens", "12"];
        assert!(!done(&folder, &generate).stdout.trim().is_empty());
        let inspected = done(&folder, &["inspect", &run]).stdout;
        assert!(inspected.contains("rows: 3 in"), "{inspected}");
    }
}

#[test]
fn a_prefix_in_all_places_learns_the_names_it_is_shown() {
    let (_folder, folder) = folder();
    let model = model();
    let more =
        ["--max-steps", "150", "--learning-rate", "1e-2", "--valid", "names.jsonl", "--set", "eval_steps=50"];
    let by_match = ["--set", "metric_for_best_model=exact-match", "--max-new-tokens", "12"];
    done(&folder, &train(&model, "run", &[&more[..], &by_match].concat()));
    let score = |more: &[&str]| {
        let eval = ["eval", "--model", &model, "--data", "names.jsonl", "--metrics", "exact-match", "--json"];
        let shared = ["--max-new-tokens", "12", "--precision", "f32"];
        let ran = done(&folder, &[&eval[..], &shared, more].concat());
        json(ran.stdout.trim())["scores"][0]["score"].as_f64().unwrap()
    };
    let (bare, taught) = (score(&[]), score(&["--adapter", "run"]));
    assert!(bare < 0.4 && taught >= 0.9, "{bare} to {taught}");
    let result = json(&read(&folder.join("run"), "result.json"));
    assert_eq!(result["best"]["metric"], "exact-match");
    let manifest = json(&read(&folder.join("run"), "preface.json"));
    assert_eq!(manifest["places"]["names"], serde_json::json!(["encoder", "decoder", "cross"]));
    assert_eq!(manifest["places"]["num_virtual_tokens"], 3);
}

#[test]
fn a_resumed_run_equals_the_unbroken_one_to_the_bit_in_all_places() {
    let (_folder, folder) = folder();
    let model = model();
    for (name, form) in
        [("mlp", ["--set", "prefix_dropout=0.1"]), ("direct", ["--set", "prefix_projection=false"])]
    {
        let (whole, broken) = (format!("{name}-whole"), format!("{name}-broken"));
        let more = ["--max-steps", "8", "--set", "save_steps=3", "--set", "num_virtual_tokens_cross=2"];
        let more = [&more[..], &form].concat();
        done(&folder, &train(&model, &whole, &more));
        done(&folder, &train(&model, &broken, &more));
        assert_eq!(artefact(&folder, &whole), artefact(&folder, &broken), "equal runs, equal bytes");
        // As if it had ended before its last steps.
        for file in ["result.json", "adapter_model.safetensors", "adapter_config.json", "preface.json"] {
            fs_err::remove_file(folder.join(&broken).join(file)).unwrap();
        }
        assert!(names(&folder.join(&broken)).iter().any(|name| name.starts_with("checkpoint-")));
        let resumed = done(&folder, &["train", "--out", &broken, "--resume"]);
        assert!(resumed.stderr.contains("going on after step"), "{}", resumed.stderr);
        assert_eq!(artefact(&folder, &whole), artefact(&folder, &broken), "{name}");
    }
}

#[test]
fn starts_from_text_take_the_place_s_own_side_and_bring_their_lengths() {
    let (_folder, folder) = folder();
    let model = model();
    let start = ["--max-steps", "1", "--learning-rate", "1e-9", "--set", "prefix_projection=false"];
    let text = ["--init-text", "دمشق", "--set", "init_text_decoder=damas"];
    let base = ["train", "--model", &model, "--train", "names.jsonl", "--precision", "f32", "--out", "run"];
    let ran = done(&folder, &[&base[..], &start, &text].concat());
    // Four letters without an end token; the decoder's start token and five letters.
    assert!(ran.stderr.contains("4 rows in encoder, 6 rows in decoder, 4 rows in cross"), "{}", ran.stderr);
    let manifest = json(&read(&folder.join("run"), "preface.json"));
    let lens = serde_json::json!({"encoder": 4, "decoder": 6, "cross": 4});
    assert_eq!(manifest["places"]["num_virtual_tokens"], lens);
    let more = ["--set", "num_virtual_tokens_decoder=7", "--force"];
    let args = [&base[..], &start, &text, &more].concat();
    refused(&folder, &args, 1, &["decoder", "6 tokens", "7 rows"]);
    let alone = ["--set", "init_text_decoder=damas", "--force"];
    refused(&folder, &[&base[..], &start, &alone].concat(), 2, &["init_text_decoder", "init_text"]);
}

#[test]
fn where_the_decoder_starts_is_kept_and_changes_the_answer_s_likelihood() {
    let (_folder, folder) = folder();
    let model = model();
    let same = ["--max-steps", "1", "--places", "decoder", "--set", "prefix_projection=false"];
    let loss = |positions: &str| {
        let setting = format!("decoder_positions={positions}");
        done(&folder, &train(&model, positions, &[&same[..], &["--set", &setting]].concat()));
        let manifest = json(&read(&folder.join(positions), "preface.json"));
        assert_eq!(manifest["places"]["decoder_positions"], positions);
        let eval = ["eval", "--model", &model, "--adapter", positions, "--data", "names.jsonl", "--json"];
        let ran = done(&folder, &[&eval[..], &["--metrics", "perplexity", "--precision", "f32"]].concat());
        json(ran.stdout.trim())["perplexity"].as_f64().unwrap()
    };
    assert_ne!(loss("after_prefix"), loss("from_zero"));
}

#[test]
fn settings_that_do_not_fit_the_model_are_refused_by_name() {
    let (_folder, folder) = folder();
    let model = model();
    let causal = "builtin:stories260k";
    for (model, more, code, parts) in [
        (causal, ["--places", "decoder,encoder"], 2, ["`places` names the encoder", "decoder-only"]),
        (causal, ["--set", "decoder_positions=from_zero"], 2, ["`decoder_positions`", "decoder-only"]),
        (model.as_str(), ["--places", "middle"], 2, ["middle", "some of encoder, decoder, cross"]),
        (model.as_str(), ["--set", "places=[]"], 2, ["`places` is empty", "encoder, decoder, cross"]),
        (
            model.as_str(),
            ["--set", "num_virtual_tokens_decoder=0"],
            2,
            ["`num_virtual_tokens_decoder`", "at least 1"],
        ),
    ] {
        let more: Vec<&str> = more.into();
        refused(&folder, &train(model, "run", &more), code, &parts);
    }
    // An artefact of one kind of model before the other.
    done(&folder, &train(&model, "placed", &["--max-steps", "1"]));
    let generate = ["generate", "--model", causal, "--adapter", "placed", "--prompt", "a"];
    refused(&folder, &generate, 1, &["placed", "was trained on"]);
    // Without its manifest nothing but the config is known.
    fs_err::remove_file(folder.join("placed/preface.json")).unwrap();
    refused(&folder, &generate, 1, &["`task_type` = SEQ_2_SEQ_LM", "decoder-only"]);
    let peft = repository().join("tests/golden/peft_artefact/tiny_gpt2/adapter");
    let generate = ["generate", "--model", &model, "--adapter", peft.to_str().unwrap(), "--prompt", "خالد"];
    refused(&folder, &generate, 1, &["`task_type` = CAUSAL_LM", "encoder-decoder"]);
}

#[cfg(unix)]
#[test]
fn early_stopping_ends_a_run_that_gains_nothing() {
    let (_folder, folder) = folder();
    let model = model();
    let more = [
        "--max-steps",
        "40",
        "--valid",
        "names.jsonl",
        "--set",
        "eval_steps=2",
        "--set",
        "early_stopping_patience=2",
        "--set",
        "metric_for_best_model=exact-match",
        "--max-new-tokens",
        "12",
        "--learning-rate",
        "1e-9",
        "--json",
    ];
    let ran = ran(command(&folder, &train(&model, "run", &more)).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let result = json(ran.stdout.trim());
    assert_eq!(result["end"], "early_stopped");
    assert_eq!(result["steps"], 6);
}
