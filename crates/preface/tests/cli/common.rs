//! Running the real binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub const MODEL: &str = "builtin:stories260k";

/// What a run of the binary gave.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The binary with these arguments, in this folder.
pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_preface"));
    command.args(args).current_dir(folder).env("COLUMNS", "100").env_remove("RUST_BACKTRACE");
    command
}

/// Runs it to its end.
pub fn run(folder: &Path, args: &[&str]) -> Ran {
    ran(command(folder, args).output().unwrap())
}

pub fn ran(Output { status, stdout, stderr }: Output) -> Ran {
    Ran {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// Runs it and expects success.
#[track_caller]
pub fn done(folder: &Path, args: &[&str]) -> Ran {
    let ran = run(folder, args);
    assert_eq!(ran.code, 0, "{args:?}\n{}{}", ran.stdout, ran.stderr);
    ran
}

/// Runs it and expects a failure of this code whose message has all of these parts.
#[track_caller]
pub fn refused(folder: &Path, args: &[&str], code: i32, parts: &[&str]) {
    let ran = run(folder, args);
    assert_eq!(ran.code, code, "{args:?}\n{}{}", ran.stdout, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{args:?}\n{}", ran.stderr);
    for part in parts {
        assert!(ran.stderr.contains(part), "{args:?}: no `{part}` in\n{}", ran.stderr);
    }
}

/// Writes a file and returns its name.
pub fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    fs_err::write(folder.join(name), text).unwrap();
    name.to_owned()
}

/// Some pairs of the demo's data under this name.
pub fn write_pairs(folder: &Path, name: &str, n: usize) -> String {
    let text = include_str!("../../../../assets/demo/train.jsonl");
    write(folder, name, text.lines().take(n).map(|line| format!("{line}\n")).collect::<String>())
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub fn read(folder: &Path, name: &str) -> String {
    fs_err::read_to_string(folder.join(name)).unwrap()
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
