//! A disk that is full in the middle of a checkpoint: a small `tmpfs` in a namespace of its own.

#![cfg(target_os = "linux")]

use std::process::Command;

use crate::common::*;

/// The first checkpoint (160 kB) fits, the second beside it does not.
const SCRIPT: &str = r#"
mount -t tmpfs -o size=256k tmpfs small || exit 77
"$PREFACE" train --model builtin:stories260k --train train.jsonl --out small/run --precision f32 \
    --set encoder_hidden_size=32 --save-steps 5 --max-steps 20 --per-device-train-batch-size 4
code=$?
cp -r small/run kept
exit $code
"#;

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_checkpoint_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, "train.jsonl", 80);
    fs_err::create_dir(folder.join("small")).unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .current_dir(folder)
        .env("PREFACE", env!("CARGO_BIN_EXE_preface"))
        .output();
    let ran = match output.map(ran) {
        Ok(ran) if folder.join("kept").exists() => ran,
        other => {
            let why = other.map_or_else(|error| error.to_string(), |ran| ran.stderr);
            eprintln!("skipped: no file system of our own can be mounted here ({})", why.trim());
            return;
        }
    };
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    assert!(ran.stderr.contains("checkpoint"), "the message names the file: {}", ran.stderr);
    assert!(names(&folder.join("kept")).contains(&"checkpoint-5".to_owned()));
    let found = done(folder, &["inspect", "kept", "--json"]);
    assert_eq!(json(found.stdout.trim())["facts"]["step"], 5);
    // With room again the run goes on where the checkpoint stands.
    let resumed = done(folder, &["train", "--out", "kept", "--resume"]);
    assert!(resumed.stderr.contains("going on after step 5"), "{}", resumed.stderr);
}
