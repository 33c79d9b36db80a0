//! `preface inspect` through the binary.

use crate::common::*;

#[test]
fn models_of_every_source_are_shown_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let golden = repository().join("tests/golden");
    for (path, whole, parts) in [
        (MODEL.to_owned(), true, &["llama of 5 layers", "260,0", "512"][..]),
        (golden.join("gguf_tiny/llama.gguf").display().to_string(), true, &["llama"]),
        (golden.join("gguf_tiny/gpt2.gguf").display().to_string(), true, &["gpt2"]),
        // Without a tokenizer: that check fails, the others are shown.
        (
            golden.join("transliteration/model").display().to_string(),
            true,
            &["pegasus", "encoder of 6 layers", "decoder start", "<s>target", "text </s>target"],
        ),
        (golden.join("tiny_llama/model").display().to_string(), false, &["tokenizer", "FAILED"]),
        (golden.join("tiny_gpt2/model/model.safetensors").display().to_string(), true, &["weights"]),
    ] {
        let ran = run(folder.path(), &["inspect", &path]);
        assert_eq!(ran.code, i32::from(!whole), "{path}\n{}{}", ran.stdout, ran.stderr);
        for part in parts {
            assert!(ran.stdout.contains(part), "{path}: no `{part}` in\n{}", ran.stdout);
        }
        let report = json(run(folder.path(), &["inspect", &path, "--json", "--tensors"]).stdout.trim());
        assert!(report["tensors"][0]["shape"].is_array(), "{report}");
        let all_ok = report["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true);
        assert_eq!(all_ok, whole, "{report}");
    }
    refused(folder.path(), &["inspect", "nowhere"], 1, &["nowhere: no such file"]);
}

#[test]
fn artefacts_checkpoints_and_run_folders_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 8);
    let train = ["train", "--model", MODEL, "--train", "train.jsonl", "--out", "run", "--max-steps", "3"];
    done(folder, &[&train[..], &["--save-steps", "2"]].concat());
    let kind = |path: &str| json(done(folder, &["inspect", path, "--json"]).stdout.trim());
    let run_report = kind("run");
    assert_eq!(run_report["kind"], "run folder");
    assert_eq!(run_report["facts"]["finished"], true);
    assert_eq!(run_report["facts"]["step"], 2, "its checkpoint");
    assert_eq!(kind("run/checkpoint-2")["kind"], "checkpoint");
    let peft = repository().join("tests/golden/peft_artefact/tiny_llama/adapter");
    let report = kind(peft.to_str().unwrap());
    assert_eq!(report["kind"], "artefact");
    assert!(report["facts"]["provenance"].as_str().unwrap().contains("PEFT"), "{report}");

    // A value that is not finite is found.
    let path = folder.join("run/adapter_model.safetensors");
    let mut bytes = fs_err::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs_err::write(&path, bytes).unwrap();
    let ran = run(folder, &["inspect", "run"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("NaN") || ran.stdout.contains("NaN"), "{}{}", ran.stdout, ran.stderr);
}
