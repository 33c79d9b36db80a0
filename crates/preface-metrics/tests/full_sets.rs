//! Scores of whole data sets against those of the official scripts. Needs `../shared/data` beside the repository.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use preface_metrics::metric::Metric;
use preface_metrics::prepare::Preparation;
use preface_metrics::read::{read_hypotheses, read_lines, read_references, records};
use preface_metrics::{MetricOptions, References, evaluate, registry};

/// The folder of shared data, or `None` after saying that the test is skipped.
fn shared_data(test: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {test} needs ../shared/data");
    None
}

fn metrics(names: &str) -> Vec<Box<dyn Metric>> {
    registry::build(names, &MetricOptions::default()).unwrap()
}

#[test]
fn e2e_challenge_systems_score_as_mteval_and_its_python_twin() {
    let Some(data) = shared_data("e2e_challenge_systems") else { return };
    let folder = data.join("metrics/e2e");
    let scores = fs_err::read_to_string(folder.join("primary-scores.jsonl")).unwrap();
    for line in scores.lines() {
        let expected: serde_json::Value = serde_json::from_str(line).unwrap();
        let system = expected["system"].as_str().unwrap();
        let path = folder.join("primary").join(format!("{system}.tsv"));
        let hypotheses = read_hypotheses(&path).unwrap();
        let references =
            read_references(&[folder.join("testset_w_refs.csv")], hypotheses.texts.len()).unwrap();
        preface_metrics::read::check_inputs(&path, &hypotheses, &references).unwrap();
        let metrics = metrics("mteval-bleu,mteval-nist,e2e-bleu,e2e-nist");
        let scores = evaluate(&metrics, &hypotheses.texts, &references.references).unwrap();
        // The Perl script prints four digits.
        for (score, (key, within)) in scores.iter().zip([
            ("BLEU_perl", 5.1e-5),
            ("NIST_perl", 5.1e-5),
            ("BLEU_py", 1e-9),
            ("NIST_py", 1e-9),
        ]) {
            let want = expected[key].as_f64().unwrap();
            assert!((score.score - want).abs() <= within, "{system} {key}: {} for {want}", score.score);
        }
    }
}

#[test]
fn bart_large_on_dart_scores_as_multi_bleu_and_tercom() {
    let Some(data) = shared_data("bart_large_on_dart") else { return };
    let folder = data.join("metrics/dart");
    let hypotheses = read_lines(&folder.join("bart-large.hyp.txt")).unwrap();
    let files: Vec<_> = (0..3).map(|n| read_lines(&folder.join(format!("ref{n}.txt"))).unwrap()).collect();
    let padded = (0..hypotheses.len()).map(|at| files.iter().map(|lines| lines[at].clone()).collect());
    let padded = References::new(padded.collect()).unwrap();
    let bleu = &evaluate(&metrics("multi-bleu"), &hypotheses, &padded).unwrap()[0];
    assert_eq!(format!("{:.2}", bleu.score), "48.56");

    let identified = folder.join("relexicalised_predictions-ter.txt");
    let hypotheses = read_hypotheses(&identified).unwrap().texts;
    let references = read_references(&[folder.join("all-notdelex-refs-ter.txt")], hypotheses.len()).unwrap();
    let ter = &evaluate(&metrics("tercom"), &hypotheses, &references.references).unwrap()[0];
    assert!((ter.score - 0.446_964_626_760_908).abs() < 1e-5, "{}", ter.score);
}

#[test]
fn dart_preparation_rebuilds_the_official_reference_files() {
    let Some(data) = shared_data("dart_preparation") else { return };
    let segments = records::read_references(&data.join("dart/test.jsonl")).unwrap();
    let mut equal = 0;
    let mut other = Vec::new();
    let files: Vec<_> =
        (0..3).map(|n| read_lines(&data.join(format!("metrics/dart/ref{n}.txt"))).unwrap()).collect();
    for (at, segment) in segments.iter().enumerate() {
        for (prepared, lines) in Preparation::Dart.references(segment, 3).iter().zip(&files) {
            match (prepared == &lines[at], prepared.is_empty() && lines[at].is_empty()) {
                (true, false) => equal += 1,
                (true, true) => {}
                (false, _) => other.push(prepared.clone()),
            }
        }
    }
    assert_eq!(equal, 11_243);
    assert_eq!(other.len(), 2);
    assert!(other.iter().all(|text| text.contains('\u{307}')), "{other:?}");
}
