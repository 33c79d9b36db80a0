//! `preface demo` and `preface bench` through the binary.

use crate::common::*;

#[test]
fn the_demo_shows_a_plain_difference_and_replaces_only_its_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ran = done(folder, &["demo"]);
    for part in ["bare model", "with the prefix", "loss of a token", "Try next:", "preface eval"] {
        assert!(ran.stdout.contains(part), "no `{part}` in\n{}", ran.stdout);
    }
    let row = |name: &str| -> Vec<f64> {
        let line = ran.stdout.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    let [bare, with] = row("loss of a token")[..] else { panic!("two losses") };
    assert!(with < 0.5 * bare, "{bare} {with}");
    let [bare, with] = row("has all four words")[..] else { panic!("two counts") };
    assert!(bare < 6.0 && with > 20.0, "{bare} {with}");
    for file in ["adapter_model.safetensors", "README.md", "loss.svg", "run.toml", "valid.jsonl"] {
        assert!(folder.join("preface-demo").join(file).exists(), "{file}");
    }
    // The commands that it prints work.
    let commands = ran.stdout.lines().skip_while(|line| *line != "Try next:").skip(1);
    for command in commands.filter(|command| !command.contains("--help")) {
        let shell = command.trim().replacen("preface", env!("CARGO_BIN_EXE_preface"), 1);
        let status =
            std::process::Command::new("sh").args(["-c", &shell]).current_dir(folder).output().unwrap();
        assert!(status.status.success(), "{command}: {}", String::from_utf8_lossy(&status.stderr));
    }
    write(&folder.join("preface-demo"), "mine.txt", "mine");
    done(folder, &["demo"]);
    assert_eq!(read(&folder.join("preface-demo"), "mine.txt"), "mine");
    fs_err::create_dir(folder.join("other")).unwrap();
    write(&folder.join("other"), "mine.txt", "mine");
    refused(folder, &["demo", "--out", "other"], 1, &["other: exists and is not from a demo"]);
    assert_eq!(names(&folder.join("other")), ["mine.txt"]);
}

#[test]
fn benches_print_one_object_with_the_promised_keys() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pair = |i: usize| format!("[[{}, 5, 6, 7], [8, {}, 2]]", 3 + i, 9 + i);
    let batch = |i: usize| format!("[{}, {}]", pair(i), pair(i + 20));
    let workload: Vec<String> = (0..12).map(batch).collect();
    write(folder, "w.json", format!("[{}]", workload.join(",")));
    let train = ["bench", "train", "--model", MODEL, "--workload", "w.json", "--json"];
    let generate = ["bench", "generate", "--model", MODEL, "--batch-size", "3", "--num-beams", "2", "--json"];
    let generate =
        [&generate[..], &["--max-new-tokens", "8", "--precision", "f32", "--threads", "1"]].concat();
    for (args, more) in [
        (&train[..], &["pairs_per_second"][..]),
        (&generate, &["prefill_tokens_per_second", "end_to_end_tokens_per_second"]),
    ] {
        let report = json(done(folder, args).stdout.lines().last().unwrap());
        let keys = ["tokens_per_second", "share_of_peak"].iter().chain(more);
        for key in keys {
            assert!(report[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {report}");
        }
        for key in ["precision", "tier", "threads"] {
            assert!(report.get(key).is_some(), "{key}: {report}");
        }
        if cfg!(target_os = "linux") {
            assert!(report["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{report}");
        }
    }
    let memory = json(done(folder, &["bench", "memory", "--json"]).stdout.lines().last().unwrap());
    for key in ["read_gigabytes_per_second", "read_gigabytes_per_second_1_thread", "peak_gflops_per_second"] {
        assert!(memory[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {memory}");
    }
    for weights in ["bf16", "int8", "q4"] {
        let short = ["bench", "generate", "--model", MODEL, "--max-new-tokens", "2", "--weights", weights];
        done(folder, &short);
    }
    write(folder, "short.json", format!("[{}]", batch(0)));
    let short = ["bench", "train", "--model", MODEL, "--workload", "short.json"];
    refused(folder, &short, 1, &["short.json", "1 batches", "12"]);
    let golden = repository().join("tests/golden/tiny_gpt2/model");
    done(folder, &["bench", "train", "--model", golden.to_str().unwrap(), "--workload", "w.json"]);
}

/// Batches of changing length, so that memory that is given up and asked for again would show.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs smollm2: cargo xtask fetch smollm2"]
fn smollm2_needs_the_memory_that_was_planned() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let tokens = |seed: usize, n: usize| -> Vec<usize> {
        (0..n).map(|i| 3 + (seed * 977 + i * 31) % 40_000).collect()
    };
    let pair = |seed: usize, n: usize| (tokens(seed, n), tokens(seed + 1, n / 2));
    let lengths = [50, 20, 60, 30, 70, 25, 40, 65, 35, 70, 20, 55];
    let workload: Vec<Vec<_>> =
        lengths.iter().map(|&n| (0..6).map(|i| pair(1000 * n + 2 * i, n)).collect()).collect();
    write(folder, "w.json", serde_json::to_string(&workload).unwrap());
    let model = repository().join("fetched/smollm2.gguf");
    for more in [&[][..], &["--recompute"]] {
        let args = ["bench", "train", "--model", model.to_str().unwrap(), "--workload", "w.json", "--json"];
        let report = json(done(folder, &[&args[..], more].concat()).stdout.lines().last().unwrap());
        let [planned, peak] =
            ["planned_memory_bytes", "peak_memory_bytes"].map(|key| report[key].as_f64().unwrap());
        assert!((planned - peak).abs() <= 0.1 * peak, "{more:?}: planned {planned}, needed {peak}");
    }
}
