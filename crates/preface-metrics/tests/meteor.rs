//! METEOR equals its Java program, for sets and segments. `golden/meteor/make.py` and `golden/coco/make.py` made the
//! expectations.
//!
//! METEOR's tables are not in the repository: `cargo xtask fetch meteor` brings them to `fetched/meteor`, or the variable
//! `PREFACE_METEOR_DATA` names their folder; without them these tests print that they are skipped.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use preface_metrics::metric::meteor::{Meteor, MeteorText};
use preface_metrics::read::{read_hypotheses, read_references};
use preface_metrics::{Metric, MetricError, References, StatisticsTable};
use serde_json::Value;

fn tables(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PREFACE_METEOR_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fetched/meteor"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {test} needs METEOR's tables (cargo xtask fetch meteor)");
    None
}

fn golden(name: &str) -> String {
    fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

fn segments(set: &str) -> (Vec<String>, References) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let records: Vec<Value> = golden(&format!("official/{set}.jsonl"))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let hypotheses = records.iter().map(|record| text(&record["hypothesis"])).collect();
    let references = records
        .iter()
        .map(|record| record["references"].as_array().unwrap().iter().map(text).collect())
        .collect();
    (hypotheses, References::new(references).unwrap())
}

fn check(metric: &Meteor, set: &str, expected: &Value) {
    let (hypotheses, references) = segments(set);
    let scorer = metric.fit(&references).unwrap();
    let table = StatisticsTable::new(scorer.as_ref(), &hypotheses, &references).unwrap();
    let score = scorer.score(&table.total());
    let case = format!("{} on {set}", metric.signature());
    assert!((score - expected["score"].as_f64().unwrap()).abs() < 1e-12, "{case}: {score}");
    let sentences = expected["sentences"].as_array().unwrap();
    for (segment, (ours, theirs)) in table.sentence_scores(scorer.as_ref()).iter().zip(sentences).enumerate()
    {
        let theirs = theirs.as_f64().unwrap();
        assert!((ours - theirs).abs() < 1e-12, "{case}, segment {segment}: {ours}, expected {theirs}");
    }
}

#[test]
fn every_segment_scores_as_the_java_program_says() {
    let Some(folder) = tables("every_segment") else { return };
    let scores: Value = serde_json::from_str(&golden("meteor/scores.json")).unwrap();
    for (text, key) in [(MeteorText::AsIs, "as-is"), (MeteorText::Normalized, "normalized")] {
        let metric = Meteor::new(Some(folder.clone()), text);
        for set in ["e2e", "dart", "degenerate", "random"] {
            check(&metric, set, &scores[set][key]);
        }
    }
    let scores: Value = serde_json::from_str(&golden("coco/scores.json")).unwrap();
    let metric = Meteor::new(Some(folder), MeteorText::Captions);
    for set in ["e2e", "dart", "degenerate"] {
        check(&metric, set, &scores[set]["meteor"]);
    }
}

#[test]
fn without_its_tables_meteor_is_refused_with_the_way_to_get_them() {
    let empty = tempfile::tempdir().unwrap();
    let references = References::new(vec![vec!["a".into()]]).unwrap();
    for folder in [None, Some(empty.path().to_owned()), Some(empty.path().join("absent"))] {
        let refused = Meteor::new(folder, MeteorText::Normalized).fit(&references).err().unwrap();
        assert!(matches!(refused, MetricError::MissingData { metric: "meteor", .. }));
        assert!(refused.to_string().contains("preface assets add meteor PATH"), "{refused}");
    }
}

#[test]
fn e2e_challenge_systems_score_as_e2e_metrics_says() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/metrics/e2e");
    let Some(folder) = tables("e2e_challenge_systems") else { return };
    if !shared.is_dir() {
        eprintln!("skipped: e2e_challenge_systems needs ../shared/data");
        return;
    }
    let metric = Meteor::new(Some(folder), MeteorText::Captions);
    for line in fs_err::read_to_string(shared.join("primary-scores.jsonl")).unwrap().lines() {
        let expected: Value = serde_json::from_str(line).unwrap();
        let system = expected["system"].as_str().unwrap();
        let hypotheses = read_hypotheses(&shared.join("primary").join(format!("{system}.tsv"))).unwrap();
        let references =
            read_references(&[shared.join("testset_w_refs.csv")], hypotheses.texts.len()).unwrap();
        let scorer = metric.fit(&references.references).unwrap();
        let table = StatisticsTable::new(scorer.as_ref(), &hypotheses.texts, &references.references).unwrap();
        let score = scorer.score(&table.total());
        assert!((score - expected["METEOR"].as_f64().unwrap()).abs() < 1e-12, "{system}: {score}");
    }
}

#[test]
fn bart_large_on_dart_scores_as_recorded() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/metrics/dart");
    let Some(folder) = tables("bart_large") else { return };
    if !shared.is_dir() {
        eprintln!("skipped: bart_large needs ../shared/data");
        return;
    }
    let lines = |name: &str| -> Vec<String> {
        fs_err::read_to_string(shared.join(name)).unwrap().lines().map(str::to_owned).collect()
    };
    let hypotheses = lines("bart-large.hyp.txt");
    // Eight lines a segment, empty ones where there are fewer references.
    let references = lines("all-notdelex-refs-meteor.txt").chunks(8).map(<[String]>::to_vec).collect();
    let references = References::new(references).unwrap();
    let metric = Meteor::new(Some(folder), MeteorText::Normalized);
    let scorer = metric.fit(&references).unwrap();
    let table = StatisticsTable::new(scorer.as_ref(), &hypotheses, &references).unwrap();
    assert!((scorer.score(&table.total()) - 0.392_233_003_744_379_4).abs() < 1e-12);
}
