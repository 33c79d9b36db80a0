//! Broken files: a clear error that names file, line or tensor, code 1, nothing written.

use std::path::Path;

use crate::common::*;
use serde_json::Value;

fn golden(name: &str) -> std::path::PathBuf {
    repository().join("tests/golden").join(name)
}

/// A model folder of the embedded model's files, to be broken.
fn model(folder: &Path) {
    fs_err::create_dir(folder.join("model")).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs_err::copy(repository().join("assets/stories260k").join(file), folder.join("model").join(file))
            .unwrap();
    }
}

/// Every command that opens a model refuses the one in the folder.
#[track_caller]
fn model_refused(folder: &Path, model: &str, parts: &[&str]) {
    write_pairs(folder, "train.jsonl", 2);
    let before = names(folder);
    refused(folder, &["train", "--model", model, "--train", "train.jsonl", "--out", "run"], 1, parts);
    refused(folder, &["generate", "--model", model, "--prompt", "a"], 1, parts);
    refused(folder, &["eval", "--model", model, "--data", "train.jsonl", "--out", "e"], 1, parts);
    let inspected = run(folder, &["inspect", model]);
    assert_eq!(inspected.code, 1, "{}{}", inspected.stdout, inspected.stderr);
    assert_eq!(names(folder), before, "nothing was written");
}

fn edit_config(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("model/config.json");
    let mut config = json(&fs_err::read_to_string(&path).unwrap());
    edit(&mut config);
    fs_err::write(path, config.to_string()).unwrap();
}

#[test]
fn models_that_are_broken() {
    /// What is wrong, how it is done, and what the message says.
    type Case<'a> = (&'a str, &'a dyn Fn(&Path), &'a [&'a str]);
    let cases: [Case<'_>; 8] = [
        (
            "truncated safetensors",
            &|folder| {
                let path = folder.join("model/model.safetensors");
                let bytes = fs_err::read(&path).unwrap();
                fs_err::write(path, &bytes[..bytes.len() / 2]).unwrap();
            },
            &["model.safetensors"],
        ),
        (
            "a header that claims to be enormous",
            &|folder| {
                fs_err::write(folder.join("model/model.safetensors"), u64::MAX.to_le_bytes()).unwrap();
            },
            &["model.safetensors"],
        ),
        (
            "a tensor of another type",
            &|folder| {
                let path = folder.join("model/model.safetensors");
                let mut bytes = fs_err::read(&path).unwrap();
                let at = bytes.windows(7).position(|part| part == b"\"F32\",\"".as_slice()).unwrap();
                bytes[at + 1..at + 4].copy_from_slice(b"I32");
                fs_err::write(path, bytes).unwrap();
            },
            &["model.safetensors"],
        ),
        (
            "a config without a key",
            &|folder| {
                edit_config(folder, |config| {
                    config.as_object_mut().unwrap().remove("hidden_size");
                })
            },
            &["config.json", "hidden_size"],
        ),
        (
            "an unknown architecture",
            &|folder| {
                edit_config(folder, |config| {
                    config["model_type"] = "mamba".into();
                    config["architectures"] = serde_json::json!(["MambaForCausalLM"]);
                })
            },
            &["config.json", "amba", "llama", "gpt2"],
        ),
        (
            "a vocabulary larger than the embedding",
            &|folder| {
                let path = folder.join("model/tokenizer.json");
                let mut tokenizer = json(&fs_err::read_to_string(&path).unwrap());
                tokenizer["model"]["vocab"]["zzz"] = 600.into();
                fs_err::write(path, tokenizer.to_string()).unwrap();
            },
            &["601", "512"],
        ),
        (
            "a config that is no JSON",
            &|folder| {
                fs_err::write(folder.join("model/config.json"), "{").unwrap();
            },
            &["config.json"],
        ),
        (
            "no tokenizer",
            &|folder| fs_err::remove_file(folder.join("model/tokenizer.json")).unwrap(),
            &["tokenizer.json"],
        ),
    ];
    for (case, break_it, parts) in cases {
        println!("{case}");
        let folder = tempfile::tempdir().unwrap();
        model(folder.path());
        break_it(folder.path());
        model_refused(folder.path(), "model", parts);
    }
    let folder = tempfile::tempdir().unwrap();
    model_refused(folder.path(), "nowhere", &["nowhere", "no such file"]);
    model_refused(folder.path(), "builtin:stories", &["builtin:stories260k"]);
}

#[test]
fn a_gguf_that_is_truncated_or_lies() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = fs_err::read(golden("gguf_tiny/llama.gguf")).unwrap();
    for (name, bytes) in [
        ("half.gguf", whole[..whole.len() / 2].to_vec()),
        ("head.gguf", whole[..20].to_vec()),
        ("lies.gguf", {
            let mut bytes = whole.clone();
            bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes()); // the number of tensors
            bytes
        }),
    ] {
        write(folder, name, bytes);
        model_refused(folder, name, &[name]);
        fs_err::remove_file(folder.join(name)).unwrap();
    }
}

#[test]
fn data_that_is_broken() {
    for (name, text, parts) in [
        (
            "a.jsonl",
            "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":",
            &["a.jsonl, line 2", "JSON"][..],
        ),
        ("a.jsonl", "", &["a.jsonl", "empty"]),
        ("a.jsonl", "{\"prompt\":\"a\",\"completion\":\"  \"}\n", &["a.jsonl, line 1"]),
        ("a.jsonl", "{\"prompt\":\"a\"}\n", &["a.jsonl, line 1", "completion"]),
        ("a.jsonl", "{\"messages\":[]}\n", &["a.jsonl, line 1", "chat"]),
        ("a.txt", "Once upon a time", &["a.txt", "prompt-completion"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, name, text);
        refused(folder, &["train", "--model", MODEL, "--train", name, "--out", "run"], 1, parts);
        refused(folder, &["eval", "--model", MODEL, "--data", name, "--out", "e"], 1, parts);
        assert_eq!(names(folder), [name], "nothing was written");
    }
    let folder = tempfile::tempdir().unwrap();
    let train = ["train", "--model", MODEL, "--train", "nowhere.jsonl", "--out", "run"];
    refused(folder.path(), &train, 1, &["nowhere.jsonl"]);
    write(folder.path(), "latin1.jsonl", b"{\"prompt\":\"a\",\"completion\":\"\xe9\"}\n");
    let train = ["train", "--model", MODEL, "--train", "latin1.jsonl", "--out", "run"];
    refused(folder.path(), &train, 1, &["latin1.jsonl, line 1", "UTF-8"]);
}

#[test]
fn a_prefix_of_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let adapter = golden("peft_artefact/tiny_gpt2/adapter");
    let adapter = adapter.to_str().unwrap();
    let args = ["generate", "--model", MODEL, "--adapter", adapter, "--prompt", "a"];
    refused(folder, &args, 1, &["prompt_embeddings", "builtin:stories260k needs"]);
    refused(
        folder,
        &["generate", "--model", MODEL, "--adapter", ".", "--prompt", "a"],
        1,
        &["adapter_config.json"],
    );
}

#[test]
fn other_weights_need_insisting_and_other_rows_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 8);
    let train = ["train", "--model", MODEL, "--train", "train.jsonl", "--out", "run", "--max-steps", "1"];
    done(folder, &train);
    // The same architecture with its weights in reverse order.
    model(folder);
    let path = folder.join("model/model.safetensors");
    let mut bytes = fs_err::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut values: Vec<[u8; 4]> = bytes[header..].as_chunks().0.to_vec();
    values.reverse();
    bytes.truncate(header);
    bytes.extend(values.concat());
    fs_err::write(&path, bytes).unwrap();
    let generate =
        ["generate", "--model", "model", "--adapter", "run", "--prompt", "a", "--max-new-tokens", "2"];
    refused(folder, &generate, 1, &["other weights", "trained on", "model is"]);
    let insisting = done(folder, &[&generate[..], &["--other-weights"]].concat());
    assert!(insisting.stderr.contains("warning"), "{}", insisting.stderr);

    let rows = folder.join("run/adapter_model.safetensors");
    let mut bytes = fs_err::read(&rows).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(&rows, bytes).unwrap();
    let generate = ["generate", "--model", MODEL, "--adapter", "run", "--prompt", "a"];
    refused(folder, &generate, 1, &["preface.json", "hash"]);
    assert_eq!(run(folder, &["inspect", "run"]).code, 1);
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 16);
    let args =
        ["train", "--model", MODEL, "--train", "train.jsonl", "--out", "run", "--learning-rate", "1e38"];
    let more = ["--set", "warmup_steps=0", "--set", "prefix_projection=false", "--max-steps", "9"];
    refused(folder, &[&args[..], &more].concat(), 1, &["step 2", "learning rate 8", "lower learning_rate"]);
    assert!(!folder.join("run/adapter_model.safetensors").exists());
}

#[test]
fn prompts_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let long = "the dog ran to the park and ".repeat(100);
    write(folder, "p.jsonl", format!("{{\"prompt\":\"a\"}}\n{{\"prompt\":\"{long}\"}}\n"));
    let args = ["generate", "--model", MODEL, "--input", "p.jsonl", "--output", "out.jsonl"];
    refused(folder, &args, 1, &["p.jsonl, prompt 2", "512 positions"]);
    write(folder, "q.jsonl", "{\"prompt\":\"a\"}\n{\"question\":\"b\"}\n");
    let args = ["generate", "--model", MODEL, "--input", "q.jsonl", "--output", "out.jsonl"];
    refused(folder, &args, 1, &["q.jsonl, line 2", "prompt"]);
    assert_eq!(names(folder), ["p.jsonl", "q.jsonl"]);
}

#[test]
fn settings_of_computing_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 20);
    let train = |more: &[&'static str], parts: &[&str]| {
        let first = ["train", "--model", MODEL, "--train", "train.jsonl", "--out", "run", "--max-steps", "1"];
        refused(folder, &[first.as_slice(), more].concat(), 1, parts);
        assert_eq!(names(folder), ["train.jsonl"], "{more:?}: nothing was written");
    };
    train(&["--threads", "0"], &["threads", "at least 1", "0"]);
    train(
        &["--set", "max_tokens_per_batch=8"],
        &["`max_tokens_per_batch` is 8", "longest pair needs", "max_length"],
    );
    let tiers = ["neon", "avx2", "avx512", "avx512bf16"];
    let present = preface_cpu::Tier::available();
    for tier in tiers.into_iter().filter(|tier| present.iter().all(|has| has.name() != *tier)) {
        train(&["--set", Box::leak(format!("tier={tier}").into_boxed_str())], &["this CPU has no", tier]);
    }
}

/// A limit on the process's addresses stands for a small machine.
#[test]
#[cfg(target_os = "linux")]
fn a_run_that_does_not_fit_into_memory_is_refused_before_it_starts_with_what_would() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 1000);
    // An MLP that is wide enough to be computed by several threads, before the model is loaded.
    let run = |more: &str| {
        let limited = format!(
            "ulimit -v 400000; exec {} train --model {MODEL} --train train.jsonl --out run --threads 1 --precision f32 \
             --set encoder_hidden_size=512 --set per_device_train_batch_size=400 --max-steps 1 {more}",
            env!("CARGO_BIN_EXE_preface")
        );
        let output =
            std::process::Command::new("sh").args(["-c", &limited]).current_dir(folder).output().unwrap();
        ran(output)
    };
    let whole = run("--set max_tokens_per_batch=100000");
    assert_eq!(whole.code, 1, "{}", whole.stderr);
    for part in ["needs about", "are available", "it fits with --recompute"] {
        assert!(whole.stderr.contains(part), "no `{part}` in\n{}", whole.stderr);
    }
    assert_eq!(names(folder), ["train.jsonl"], "nothing was written");
    let advice =
        whole.stderr.split("it fits with ").nth(1).unwrap().split(", which").next().unwrap().to_owned();
    let followed = run(&format!("--set max_tokens_per_batch=100000 {advice}"));
    assert_eq!(followed.code, 0, "{advice}: {}", followed.stderr);
}
