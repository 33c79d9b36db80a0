//! The PTB tokenizer and coco-caption's ROUGE-L and CIDEr equal their Java and Python originals. `golden/coco/make.py`
//! made the expectations, from texts in `golden/official`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use preface_metrics::metric::cider::Cider;
use preface_metrics::metric::coco_rouge::CocoRouge;
use preface_metrics::read::{read_hypotheses, read_references};
use preface_metrics::tokenizer::ptb::tokenize_lines;
use preface_metrics::{Metric, References, StatisticsTable};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read(name: &str) -> String {
    fs_err::read_to_string(golden(name)).unwrap()
}

#[test]
fn the_ptb_tokenizer_equals_core_nlp_line_by_line() {
    let text = read("coco/ptb.txt");
    let expected = read("coco/ptb.tokens");
    let lines: Vec<&str> = text.split_terminator('\n').collect();
    let expected: Vec<&str> = expected.split_terminator('\n').collect();
    let tokens = tokenize_lines(&lines);
    assert_eq!(tokens.len(), expected.len());
    for ((line, tokens), expected) in lines.iter().zip(tokens).zip(expected) {
        assert_eq!(tokens.join(" "), expected, "{line:?}");
    }
}

#[test]
fn rouge_l_and_cider_equal_coco_caption_for_sets_and_segments() {
    let scores: Value = serde_json::from_str(&read("coco/scores.json")).unwrap();
    for set in ["e2e", "dart", "degenerate"] {
        let (hypotheses, references) = segments(set);
        for metric in [&CocoRouge as &dyn Metric, &Cider] {
            let expected = &scores[set][metric.name()];
            let scorer = metric.fit(&references).unwrap();
            let table = StatisticsTable::new(scorer.as_ref(), &hypotheses, &references).unwrap();
            let score = scorer.score(&table.total());
            let case = format!("{} on {set}", metric.name());
            assert!((score - expected["score"].as_f64().unwrap()).abs() < 1e-9, "{case}: {score}");
            let sentences = expected["sentences"].as_array().unwrap();
            for (segment, (ours, theirs)) in
                table.sentence_scores(scorer.as_ref()).iter().zip(sentences).enumerate()
            {
                let theirs = theirs.as_f64().unwrap();
                assert!((ours - theirs).abs() < 1e-9, "{case}, segment {segment}: {ours}, expected {theirs}");
            }
        }
    }
}

fn shared_data(test: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {test} needs ../shared/data");
    None
}

#[test]
fn the_ptb_tokenizer_equals_core_nlp_on_every_text_of_the_shared_data() {
    let Some(shared) = shared_data("the_ptb_tokenizer") else { return };
    let digests: serde_json::Map<String, Value> = serde_json::from_str(&read("coco/shared.json")).unwrap();
    for (name, expected) in digests {
        let file = fs_err::read_to_string(shared.join(&name)).unwrap();
        let lines = file.strip_suffix('\n').unwrap_or(&file).split('\n');
        let texts: Vec<String> = if name.ends_with(".jsonl") {
            let mut texts = Vec::new();
            lines.for_each(|line| push_strings(&serde_json::from_str(line).unwrap(), &mut texts));
            texts
        } else {
            lines.map(str::to_owned).collect()
        };
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut digest = Sha256::new();
        for tokens in tokenize_lines(&texts) {
            digest.update(tokens.join(" "));
            digest.update("\n");
        }
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, expected.as_str().unwrap(), "{name}");
    }
}

fn push_strings(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| push_strings(item, texts)),
        Value::Object(fields) => fields.values().for_each(|item| push_strings(item, texts)),
        _ => {}
    }
}

#[test]
fn e2e_challenge_systems_score_as_e2e_metrics_says() {
    let Some(shared) = shared_data("e2e_challenge_systems") else { return };
    let folder = shared.join("metrics/e2e");
    for line in fs_err::read_to_string(folder.join("primary-scores.jsonl")).unwrap().lines() {
        let expected: Value = serde_json::from_str(line).unwrap();
        let system = expected["system"].as_str().unwrap();
        let hypotheses = read_hypotheses(&folder.join("primary").join(format!("{system}.tsv"))).unwrap();
        let references =
            read_references(&[folder.join("testset_w_refs.csv")], hypotheses.texts.len()).unwrap();
        for (metric, key) in [(&CocoRouge as &dyn Metric, "ROUGE_L"), (&Cider, "CIDEr")] {
            let scorer = metric.fit(&references.references).unwrap();
            let table =
                StatisticsTable::new(scorer.as_ref(), &hypotheses.texts, &references.references).unwrap();
            let score = scorer.score(&table.total());
            assert!((score - expected[key].as_f64().unwrap()).abs() < 1e-9, "{system} {key}: {score}");
        }
    }
}

fn segments(set: &str) -> (Vec<String>, References) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let records: Vec<Value> = read(&format!("official/{set}.jsonl"))
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
