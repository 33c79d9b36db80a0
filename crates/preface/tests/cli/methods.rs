//! `train --method ...` and what the other commands make of its folders.

use std::path::Path;

use crate::common::*;

/// Every method with settings that suit the embedded model.
const METHODS: [(&str, &[&str]); 8] = [
    ("prefix", &["--set", "encoder_hidden_size=16"]),
    ("infix", &["--set", "encoder_hidden_size=16", "--num-virtual-tokens", "3"]),
    ("prompt-tuning", &["--num-virtual-tokens", "3"]),
    ("adapter", &["--set", "trainable_share=0.05"]),
    (
        "lora",
        &["--set", "r=2", "--set", "lora_dropout=0.1", "--set", "target_modules=[\"q_proj\", \"down_proj\"]"],
    ),
    ("fine-tune", &[]),
    ("top-layers", &["--set", "top_layers=1"]),
    ("fine-tune", &["--from-scratch"]),
];

fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["train", "--model", MODEL, "--train", "train.jsonl", "--precision", "f32", "--out", out];
    let short = ["--set", "warmup_steps=1", "--per-device-train-batch-size", "4"];
    [&fixed[..], &short, more].concat()
}

/// The file that a method's numbers are in.
fn tensors(folder: &Path, out: &str) -> Vec<u8> {
    let of_model = folder.join(out).join("model.safetensors");
    let path = if of_model.exists() { of_model } else { folder.join(out).join("adapter_model.safetensors") };
    fs_err::read(path).unwrap()
}

#[test]
fn every_method_trains_resumes_to_the_bit_generates_evaluates_and_is_inspected() {
    for (method, settings) in METHODS {
        let folder = tempfile::tempdir().unwrap();
        write_pairs(folder.path(), "train.jsonl", 20);
        check_method(folder.path(), MODEL, method, settings, 8);
    }
}

/// Trains on `train.jsonl`, then does with the result whatever can be done with one.
pub fn check_method(folder: &Path, model: &str, method: &str, settings: &[&str], n_step: usize) {
    let case = format!("{model} {method} {settings:?}");
    let (max_steps, save_steps) = (n_step.to_string(), format!("save_steps={}", n_step.div_ceil(3)));
    let last_saved = (n_step - 1) / n_step.div_ceil(3) * n_step.div_ceil(3);
    let of_model = |arg| if arg == MODEL { model } else { arg };
    let mut args: Vec<&str> = train("run", settings).into_iter().map(of_model).collect();
    args.extend(["--method", method, "--max-steps", &max_steps, "--set", &save_steps]);
    let ran = done(folder, &args);
    // Lines are as wide as a terminal.
    let announced = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(announced.contains("parameters trained, "), "{case}: {}", ran.stderr);
    assert!(announced.contains(" stored ("), "{case}: {}", ran.stderr);

    // As if it had been killed behind its last checkpoint.
    let unbroken = tensors(folder, "run");
    for file in ["result.json", "adapter_model.safetensors", "adapter_config.json", "model.safetensors"] {
        let path = folder.join("run").join(file);
        if path.exists() {
            fs_err::remove_file(path).unwrap();
        }
    }
    let resumed = done(folder, &["train", "--out", "run", "--resume"]);
    let going_on = format!("going on after step {last_saved}");
    assert!(resumed.stderr.contains(&going_on), "{case}: {}", resumed.stderr);
    assert!(tensors(folder, "run") == unbroken, "{case}: other bytes");

    let from_scratch = settings.contains(&"--from-scratch");
    let with: &[&str] = match from_scratch {
        true => &["--model", "run"],
        false => &["--model", model, "--adapter", "run"],
    };
    let generate = ["generate", "--prompt", "A", "--max-new-tokens", "4", "--json"];
    let answer = done(folder, &[&generate[..], with].concat()).stdout;
    if method == "fine-tune" && !from_scratch {
        // It is also a model of its own.
        let own = done(folder, &[&generate[..], &["--model", "run"]].concat()).stdout;
        assert_eq!(json(own.trim())["token_ids"], json(answer.trim())["token_ids"], "{case}");
    }
    let eval = ["eval", "--data", "train.jsonl", "--max-samples", "2", "--metrics", "perplexity", "--json"];
    let result = done(folder, &[&eval[..], with].concat()).stdout;
    assert!(json(result.trim())["scores"][0]["score"].as_f64().unwrap().is_finite(), "{case}");
    let inspected = done(folder, &["inspect", "run", "--json"]).stdout;
    let checks = json(inspected.trim())["checks"].clone();
    assert!(checks.as_array().unwrap().iter().all(|check| check["ok"] == true), "{case}: {checks}");
}

#[test]
fn training_lowers_the_loss_whatever_the_method() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 4);
    for (number, (method, settings)) in METHODS.into_iter().enumerate() {
        let out = format!("run{number}");
        let mut args = train(&out, settings);
        // The same four pairs at every step, and the rate that a method is quick with.
        let rate = if matches!(method, "prefix" | "infix" | "prompt-tuning") { "5e-2" } else { "1e-2" };
        args.extend(["--method", method, "--max-steps", "30", "--learning-rate", rate]);
        done(folder, &args);
        let metrics = read(&folder.join(&out), "metrics.jsonl");
        let losses: Vec<f64> = metrics.lines().filter_map(|line| json(line)["loss"].as_f64()).collect();
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(last < 0.9 * first, "{method} {settings:?}: {first} -> {last}");
    }
}

#[test]
fn settings_that_cannot_be_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 4);
    let refuse = |more: &[&str], code: i32, parts: &[&str]| {
        refused(folder, &train("run", more), code, parts);
        assert_eq!(names(folder), ["train.jsonl"], "{more:?}: nothing was written");
    };
    // The smallest share is said.
    refuse(
        &["--method", "adapter", "--set", "trainable_share=0.00001"],
        1,
        &["trainable_share", "width 1 has", "a share of 0.0"],
    );
    // The modules that there are are listed.
    refuse(
        &["--method", "lora", "--set", "target_modules=c_attn"],
        1,
        &["`c_attn`", "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"],
    );
    refuse(&["--method", "lora", "--set", "r=1000"], 1, &["r = 1000", "expected 1 to"]);
    refuse(
        &["--method", "top-layers", "--set", "top_layers=6"],
        1,
        &["top_layers = 6", "5 blocks", "1 to 5"],
    );
    refuse(&["--method", "top-layers", "--set", "top_layers=0"], 2, &["top_layers", "at least 1"]);
    refuse(&["--method", "lora", "--set", "top_layers=2"], 2, &["`top_layers`", "lora"]);
    refuse(&["--method", "infix", "--set", "num_frozen_tokens=1"], 2, &["`num_frozen_tokens`", "infix"]);
    refuse(&["--method", "prompt-tuning", "--set", "prefix_dropout=0.1"], 2, &["`prefix_dropout`"]);
    refuse(&["--method", "lora", "--from-scratch"], 2, &["`from_scratch`", "lora"]);
    let gguf = repository().join("tests/golden/gguf_tiny/llama.gguf");
    let gguf = ["--max-length", "60", "--model", gguf.to_str().unwrap()];
    let on_gguf = |more: &[&'static str]| -> Vec<String> {
        let args = train("run", more).into_iter().filter(|arg| *arg != MODEL && *arg != "--model");
        args.map(str::to_owned).chain(gguf.map(str::to_owned)).collect()
    };
    for (more, parts) in [
        (&["--method", "fine-tune"][..], &["GGUF", "Hugging Face folder"][..]),
        (&["--from-scratch"], &["config.json and a tokenizer"]),
    ] {
        let args = on_gguf(more);
        refused(folder, &args.iter().map(String::as_str).collect::<Vec<_>>(), 1, parts);
    }
}

#[test]
fn a_folder_of_one_method_is_not_taken_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 4);
    for (method, settings) in [("lora", METHODS[4].1), ("adapter", METHODS[3].1), ("infix", METHODS[1].1)] {
        let mut args = train(method, settings);
        args.extend(["--method", method, "--max-steps", "2"]);
        done(folder, &args);
    }
    let config = |method: &str| read(&folder.join(method), "adapter_config.json");
    let (lora, infix) = (config("lora"), config("infix"));
    // The config of one beside the tensors of another.
    write(&folder.join("adapter"), "adapter_config.json", &lora);
    write(&folder.join("lora"), "adapter_config.json", &infix);
    write(&folder.join("infix"), "adapter_config.json", config("adapter").replace("LORA", "PREFIX_TUNING"));
    for (method, parts) in [
        ("adapter", &["adapter", "lora"][..]),
        ("lora", &["lora", "infix"]),
        ("infix", &["num_virtual_tokens"]),
    ] {
        let args = ["generate", "--model", MODEL, "--adapter", method, "--prompt", "A"];
        refused(folder, &args, 1, parts);
        assert_eq!(run(folder, &["inspect", method]).code, 1, "{method}");
    }
}

#[test]
fn what_would_not_fit_into_memory_is_refused_with_the_figure() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 2);
    fs_err::create_dir(folder.join("large")).unwrap();
    let assets = repository().join("assets/stories260k");
    fs_err::copy(assets.join("tokenizer.json"), folder.join("large/tokenizer.json")).unwrap();
    let mut config = json(&fs_err::read_to_string(assets.join("config.json")).unwrap());
    for (key, value) in [("hidden_size", 2048), ("intermediate_size", 8192), ("num_hidden_layers", 2000)] {
        config[key] = value.into();
    }
    config["head_dim"] = 256.into();
    write(&folder.join("large"), "config.json", config.to_string());
    let args = ["train", "--from-scratch", "--model", "large", "--train", "train.jsonl", "--out", "run"];
    refused(folder, &args, 1, &["needs about", "TB", "are available", "no setting makes it fit"]);
    assert!(!folder.join("run").exists());
}
