//! The help texts, as files: `PREFACE_UPDATE_SNAPSHOTS=1 cargo test -p preface --test cli help` writes them anew.

use crate::common::*;

#[test]
fn help_texts_are_those_of_the_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 11] = [
        &["--help"],
        &["demo", "--help"],
        &["train", "-h"],
        &["train", "--help"],
        &["export", "--help"],
        &["generate", "--help"],
        &["eval", "--help"],
        &["score", "--help"],
        &["inspect", "--help"],
        &["bench", "train", "--help"],
        &["bench", "generate", "--help"],
    ];
    let snapshots = repository().join("crates/preface/tests/cli/snapshots");
    for args in commands {
        let name =
            args.join(" ").replace(" --help", "").replace("--help", "preface").replace([' ', '-'], "_");
        let path = snapshots.join(format!("{name}.txt"));
        let text = done(folder.path(), args).stdout;
        if std::env::var_os("PREFACE_UPDATE_SNAPSHOTS").is_some() {
            fs_err::create_dir_all(&snapshots).unwrap();
            fs_err::write(&path, &text).unwrap();
        }
        let want = fs_err::read_to_string(&path).unwrap();
        assert_eq!(text, want, "{args:?} has changed; see the head of this file");
    }
}
