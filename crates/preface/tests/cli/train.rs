//! `preface train` through the binary.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::*;

/// A short run; more is added by each test.
fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args =
        vec!["train", "--model", MODEL, "--train", "train.jsonl", "--out", out, "--precision", "f32"];
    args.extend(["--set", "encoder_hidden_size=32", "--set", "warmup_steps=2"]);
    args.extend(["--per-device-train-batch-size", "4"]);
    args.extend(more);
    args
}

fn losses(folder: &Path, out: &str) -> Vec<(u64, f64)> {
    let text = read(&folder.join(out), "metrics.jsonl");
    let lines = text.lines().map(json).filter(|line| line.get("loss").is_some());
    lines.map(|line| (line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap())).collect()
}

fn artefact(folder: &Path, out: &str) -> Vec<u8> {
    fs_err::read(folder.join(out).join("adapter_model.safetensors")).unwrap()
}

#[test]
fn a_run_leaves_everything_that_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 40);
    write_pairs(folder, "valid.jsonl", 8);
    let ran = done(folder, &train("run", &["--valid", "valid.jsonl", "--json", "--learning-rate", "5e-3"]));
    assert_eq!(
        names(&folder.join("run")),
        [
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            "loss.svg",
            "metrics.jsonl",
            "preface.json",
            "result.json",
            "run.toml"
        ]
    );
    let result = json(ran.stdout.trim());
    assert_eq!(result, json(&read(&folder.join("run"), "result.json")), "`--json` ends with the result");
    assert_eq!((result["end"].as_str(), result["steps"].as_u64()), (Some("finished"), Some(10)));
    assert_eq!(result["train"]["pairs"], 40);
    assert!(result["eval_loss"].as_f64().unwrap() > 0.0);
    let metrics = read(&folder.join("run"), "metrics.jsonl");
    let first = json(metrics.lines().next().unwrap());
    for key in ["step", "loss", "learning_rate", "grad_norm", "pairs", "tokens", "seconds"] {
        assert!(first.get(key).is_some(), "{key}: {first}");
    }
    assert!(json(metrics.lines().last().unwrap())["eval_loss"].is_f64());
    for fact in
        ["model", "10 rows through an MLP of width 32", "40 pairs", "none truncated", "f32", "10 of 4 pairs"]
    {
        assert!(ran.stderr.contains(fact), "no `{fact}` in\n{}", ran.stderr);
    }
    assert!(
        !ran.stderr.contains('\u{1b}') && !ran.stdout.contains('\u{1b}'),
        "no escape codes without a terminal"
    );
    // Nothing that is shared names this machine.
    for file in ["preface.json", "README.md", "adapter_config.json"] {
        let text = read(&folder.join("run"), file);
        assert!(
            !text.contains("train.jsonl") && !text.contains(&*folder.to_string_lossy()),
            "{file}: {text}"
        );
    }
}

#[test]
fn a_run_that_was_killed_goes_on_bit_by_bit() {
    for projection in ["true", "false"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_pairs(folder, "train.jsonl", 30);
        write_pairs(folder, "valid.jsonl", 6);
        let projection = format!("prefix_projection={projection}");
        let more = |args: &[&'static str]| -> Vec<String> {
            let fixed =
                ["--valid", "valid.jsonl", "--max-steps", "240", "--save-steps", "25", "--eval-steps", "30"];
            let dropout = ["--set", "prefix_dropout=0.1", "--set", &projection];
            fixed.iter().chain(&dropout).chain(args).map(|arg| (*arg).to_owned()).collect()
        };
        let plain = more(&[]);
        let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
        done(folder, &train("unbroken", &plain));

        let mut child = command(folder, &train("broken", &plain))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        while !folder.join("broken/checkpoint-50").exists() {
            assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
            assert!(Instant::now() < deadline, "no checkpoint came");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!folder.join("broken/result.json").exists(), "it was not finished");
        let resumed = done(folder, &["train", "--out", "broken", "--resume"]);
        // Starting anew would give the same result.
        assert!(resumed.stderr.contains("going on after step"), "{}", resumed.stderr);
        assert_eq!(losses(folder, "broken"), losses(folder, "unbroken"));
        assert_eq!(losses(folder, "broken").len(), 240);
        assert_eq!(artefact(folder, "broken"), artefact(folder, "unbroken"));
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_the_resumed_run_equals_the_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 30);
    let more = ["--max-steps", "240"];
    done(folder, &train("unbroken", &more));
    let child = command(folder, &train("broken", &more))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while fs_err::read_to_string(folder.join("broken/metrics.jsonl")).unwrap_or_default().lines().count() < 5
    {
        assert!(Instant::now() < deadline, "no step came");
        std::thread::sleep(Duration::from_millis(2));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("--resume"), "{}", ran.stderr);
    assert!(!folder.join("broken/result.json").exists());
    assert!(names(&folder.join("broken")).iter().any(|name| name.starts_with("checkpoint-")));
    let resumed = done(folder, &train("broken", &["--max-steps", "240", "--resume"]));
    assert!(resumed.stderr.contains("going on after step"), "{}", resumed.stderr);
    assert_eq!(losses(folder, "broken"), losses(folder, "unbroken"));
    assert_eq!(artefact(folder, "broken"), artefact(folder, "unbroken"));
}

#[test]
fn an_exported_checkpoint_is_what_a_run_that_ends_there_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 40);
    let constant = ["--set", "lr_scheduler_type=constant", "--set", "init=random"];
    let limits = ["--max-steps", "6", "--set", "save_steps=2", "--set", "save_total_limit=2"];
    done(folder, &train("long", &[&constant[..], &limits].concat()));
    done(folder, &train("short", &[&constant[..], &["--max-steps", "4"]].concat()));
    assert!(!folder.join("long/checkpoint-6").exists(), "the last step is in the artefact");
    refused(
        folder,
        &["export", "long/checkpoint-5", "--out", "at-5"],
        1,
        &["checkpoint-5", "no such folder"],
    );
    done(folder, &["export", "long/checkpoint-4", "--out", "at-4"]);
    assert_eq!(artefact(folder, "at-4"), artefact(folder, "short"));
    done(folder, &["export", "long", "--out", "newest"]);
    assert_eq!(artefact(folder, "newest"), artefact(folder, "short"));
    done(folder, &["export", "long/checkpoint-2", "--out", "at-2"]);
    assert_ne!(artefact(folder, "at-2"), artefact(folder, "short"));
    done(
        folder,
        &["generate", "--model", MODEL, "--adapter", "at-4", "--prompt", "A", "--max-new-tokens", "2"],
    );

    refused(folder, &["export", "long", "--out", "at-4"], 1, &["at-4", "exists", "--force"]);
    refused(folder, &["export", "short", "--out", "none"], 1, &["short", "no checkpoint"]);
    fs_err::rename(folder.join("long/checkpoint-4"), folder.join("alone")).unwrap();
    refused(folder, &["export", "alone", "--out", "none"], 1, &["alone", "run.toml"]);
    write_pairs(folder, "train.jsonl", 41);
    refused(folder, &["export", "long", "--out", "none"], 1, &["the training data has changed"]);
    assert!(!folder.join("none").exists());
}

#[test]
fn a_folder_in_use_needs_resume_or_force() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 16);
    done(folder, &train("run", &["--max-steps", "2"]));
    let before = artefact(folder, "run");
    refused(folder, &train("run", &["--max-steps", "3"]), 1, &["run: exists already", "--resume", "--force"]);
    assert_eq!(artefact(folder, "run"), before, "nothing was overwritten");

    let again = run(folder, &["train", "--out", "run", "--resume", "--json"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.contains("finished"), "{}", again.stderr);
    assert_eq!(json(again.stdout.trim())["steps"], 2);
    let other = ["train", "--out", "run", "--resume", "--max-steps", "3"];
    refused(folder, &other, 2, &["max_steps", "2", "3"]);

    // What is not a run's is kept, whatever happens to the run.
    write(&folder.join("run"), "notes.txt", "mine");
    // An error that comes late leaves the old run whole.
    let wrong =
        train("run", &["--force", "--set", "num_frozen_tokens=10", "--set", "init_text=Once upon a time"]);
    assert_eq!(run(folder, &wrong).code, 1);
    assert_eq!(artefact(folder, "run"), before);
    done(folder, &train("run", &["--force", "--max-steps", "3"]));
    assert_ne!(artefact(folder, "run"), before);
    assert_eq!(read(&folder.join("run"), "notes.txt"), "mine");

    fs_err::create_dir(folder.join("other")).unwrap();
    write(&folder.join("other"), "notes.txt", "mine");
    refused(folder, &train("other", &[]), 1, &["other: exists already", "not a run folder"]);
    write(&folder.join("other"), "README.md", "mine");
    refused(folder, &train("other", &["--force"]), 1, &["README.md", "would be lost"]);
    assert_eq!(read(&folder.join("other"), "README.md"), "mine");
    fs_err::remove_file(folder.join("other/README.md")).unwrap();
    done(folder, &train("other", &["--force", "--max-steps", "1"]));
    assert_eq!(read(&folder.join("other"), "notes.txt"), "mine");
    fs_err::create_dir(folder.join("empty")).unwrap();
    done(folder, &train("empty", &["--max-steps", "1"]));
}

#[test]
fn resuming_before_the_first_checkpoint_starts_from_the_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 16);
    done(folder, &train("whole", &["--max-steps", "4"]));
    fs_err::create_dir(folder.join("begun")).unwrap();
    fs_err::copy(folder.join("whole/run.toml"), folder.join("begun/run.toml")).unwrap();
    write(&folder.join("begun"), "metrics.jsonl", "{\"step\":1,\"loss\":1.0}\n");
    let ran = done(folder, &["train", "--out", "begun", "--resume"]);
    assert!(ran.stderr.contains("from the beginning"), "{}", ran.stderr);
    assert_eq!(artefact(folder, "begun"), artefact(folder, "whole"));
    assert_eq!(losses(folder, "begun"), losses(folder, "whole"));
    // And with everything typed again, in a folder that is not there yet.
    done(folder, &train("fresh", &["--max-steps", "4", "--resume"]));
    assert_eq!(artefact(folder, "fresh"), artefact(folder, "whole"));
}

#[test]
fn changed_data_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 16);
    done(folder, &train("run", &["--max-steps", "2"]));
    fs_err::remove_file(folder.join("run/result.json")).unwrap();
    write_pairs(folder, "train.jsonl", 17);
    refused(folder, &["train", "--out", "run", "--resume"], 1, &["training data has changed"]);
}

#[test]
fn run_toml_repeats_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 24);
    let text = "init_text=Tell a story with these words:";
    done(
        folder,
        &train("one", &["--seed", "5", "--set", text, "--set", "separator= ->", "--max-steps", "3"]),
    );
    done(folder, &["train", "--config", "one/run.toml", "--out", "two"]);
    assert_eq!(artefact(folder, "one"), artefact(folder, "two"));
    let settings = |out: &str| {
        let text = read(&folder.join(out), "run.toml");
        text.split("[recorded]").next().unwrap().to_owned()
    };
    assert_eq!(settings("one"), settings("two"));
    // Flags win over the file.
    done(folder, &["train", "--config", "one/run.toml", "--seed", "6", "--out", "three"]);
    assert!(settings("three").contains("seed = 6"));
}

#[test]
fn recipes_set_the_defaults_and_what_is_typed_wins() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 16);
    let base = ["train", "--model", MODEL, "--train", "train.jsonl", "--max-steps", "1", "--out"];
    let with = |out: &'static str, more: &[&'static str]| {
        done(folder, &[&base, &[out][..], more].concat());
        read(&folder.join(out), "run.toml")
    };
    let run = with("paper", &["--recipe", "2021", "--set", "learning_rate=8e-5"]);
    for line in [
        "recipe = \"2021\"",
        "learning_rate = 0.00008",
        "num_virtual_tokens = 5",
        "loss_norm = \"per-sequence\"",
        "per_device_train_batch_size = 5",
        "warmup_steps = 0",
        "num_beams = 5",
        "length_norm = \"total\"",
    ] {
        assert!(run.lines().any(|have| have == line), "no `{line}` in\n{run}");
    }
    let run = with("direct", &["--recipe", "direct", "--init-text", "Tell a story with these facts:"]);
    for line in ["prefix_projection = false", "init = \"text\"", "num_frozen_tokens = 1"] {
        assert!(run.lines().any(|have| have == line), "no `{line}` in\n{run}");
    }
    assert!(!run.contains("num_virtual_tokens"), "a text brings its own number of rows");
    refused(folder, &[&base, &["x", "--recipe", "direct"][..]].concat(), 2, &["init_text"]);
}

#[test]
fn a_long_line_is_named_and_cut_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let long = "the dog ran to the park and ".repeat(200);
    let lines = format!(
        "{{\"prompt\":\"a\",\"completion\":\"b\"}}\n{{\"prompt\":\"{long}\",\"completion\":\"a cat\"}}\n"
    );
    write(folder, "train.jsonl", lines);
    refused(folder, &train("run", &[]), 1, &["train.jsonl, line 2", "512 positions", "max_length"]);
    assert!(!folder.join("run").exists(), "nothing was begun");
    let ran = done(folder, &train("run", &["--max-length", "64", "--max-steps", "1"]));
    assert!(ran.stderr.contains("1 truncated"), "{}", ran.stderr);
}

#[test]
fn a_generated_metric_chooses_the_best() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 24);
    write_pairs(folder, "valid.jsonl", 4);
    let valid = ["--valid", "valid.jsonl", "--max-steps", "4", "--eval-steps", "2", "--max-new-tokens", "12"];
    done(folder, &train("run", &[&valid[..], &["--set", "metric_for_best_model=rougeL"]].concat()));
    let result = json(&read(&folder.join("run"), "result.json"));
    assert_eq!(result["best"]["metric"], "rougeL");
    let metrics = read(&folder.join("run"), "metrics.jsonl");
    assert!(metrics.contains("\"rouge1\"") && metrics.contains("\"rougeL\""), "{metrics}");
    let wrong = train("x", &[&valid[..], &["--set", "metric_for_best_model=bluu"]].concat());
    refused(folder, &wrong, 1, &["bluu", "did you mean `bleu`"]);
    let without = train("x", &["--set", "metric_for_best_model=bleu"]);
    refused(folder, &without, 2, &["metric_for_best_model", "--valid"]);
}
