//! Wrong use ends with code 2 before anything is read or written.

use crate::common::*;

#[test]
fn misspelt_names_suggest_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = ["train", "--model", MODEL, "--train", "t", "--out", "o"];
    let with = |more: &[&'static str]| [&train[..], more].concat();
    refused(folder, &["trian"], 2, &["train"]);
    refused(folder, &with(&["--learning-rat", "1"]), 2, &["--learning-rate"]);
    refused(
        folder,
        &with(&["--set", "learning_rat=1"]),
        2,
        &["learning_rat", "did you mean `learning_rate`"],
    );
    refused(folder, &with(&["--set", "learning-rate"]), 2, &["key=value"]);
    refused(folder, &with(&["--set", "wholly_unknown=1"]), 2, &["unknown setting `wholly_unknown`"]);
    refused(folder, &with(&["--method", "prefics"]), 2, &["prefix"]);
    refused(folder, &with(&["--lr-scheduler-type", "linaer"]), 2, &["linear"]);
    let score = ["score", "--hypotheses", "h", "--references", "r", "--metrics", "bluu"];
    refused(folder, &score, 2, &["unknown metric `bluu`; did you mean `bleu`?", "chrf"]);
    let eval = ["eval", "--model", MODEL, "--data", "d", "--metrics", "rogue"];
    refused(folder, &eval, 2, &["did you mean `rouge`?"]);
    assert!(names(folder).is_empty());
}

#[test]
fn values_that_cannot_be_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = ["train", "--model", MODEL, "--train", "t", "--out", "o"];
    for (setting, parts) in [
        ("max_steps=many", &["max_steps=many", "a whole number"][..]),
        ("max_steps=-1", &["a whole number, at least 0"]),
        ("max_steps=0", &["`max_steps` is 0", "at least 1"]),
        ("learning_rate=fast", &["a number"]),
        ("learning_rate=0", &["`learning_rate` is 0", "above 0"]),
        ("learning_rate=nan", &["a number"]),
        ("prefix_projection=perhaps", &["true or false"]),
        ("prefix_dropout=1", &["`prefix_dropout` is 1"]),
        ("init=text", &["init_text"]),
        ("separator=boss", &["`blank`, `none`, `bos`"]),
        ("template=Describe", &["{prompt}"]),
        ("top_p=2", &["`top_p` is 2"]),
        ("recipe=2022", &["default, 2021, direct"]),
        ("early_stopping_patience=2", &["--valid"]),
        ("bad_words_ids=[1]", &["[[198], [628, 5]]"]),
    ] {
        refused(folder, &[&train[..], &["--set", setting]].concat(), 2, parts);
    }
    refused(folder, &["train", "--out", "o"], 2, &["--model is missing"]);
    refused(folder, &["train", "--out", "o", "--model", MODEL], 2, &["--train is missing"]);
    refused(folder, &["train"], 2, &["--out"]);
    refused(folder, &["generate", "--model", MODEL], 2, &["--prompt", "--input"]);
    let both = ["generate", "--model", MODEL, "--prompt", "a", "--do-sample", "--num-beams", "2"];
    refused(folder, &both, 2, &["choose one of sampling and beam search"]);
    let twice = [&train[..], &["--seed", "1", "--set", "seed=2"]].concat();
    refused(folder, &twice, 2, &["`seed` is given twice"]);
    assert!(names(folder).is_empty());
}

#[test]
fn a_configuration_file_is_named_with_what_is_wrong_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (text, parts) in [
        ("learning_rate = \"fast\"", &["run.toml", "`learning_rate`", "a number"][..]),
        ("lerning_rate = 1e-3", &["run.toml", "did you mean `learning_rate`?"]),
        ("seed = 1\nmax_steps = = 3", &["run.toml, line 2"]),
        ("[training]\nseed = 1", &["run.toml", "unknown setting `training`"]),
        ("warmup_steps = 1.5", &["run.toml", "`warmup_steps`", "1.5"]),
    ] {
        write(folder, "run.toml", text);
        let args = ["train", "--model", MODEL, "--train", "t", "--out", "o", "--config", "run.toml"];
        refused(folder, &args, 1, parts);
    }
    let args = ["train", "--model", MODEL, "--train", "t", "--out", "o", "--config", "none.toml"];
    refused(folder, &args, 1, &["none.toml"]);
    assert_eq!(names(folder), ["run.toml"]);
}
