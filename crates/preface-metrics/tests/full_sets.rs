//! Scores of whole data sets against those of the official scripts. Needs `../shared/data` beside the repository.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use preface_metrics::metric::Metric;
use preface_metrics::prepare::Preparation;
use preface_metrics::read::{read_hypotheses, read_lines, read_references, records};
use preface_metrics::report::{Report, ReportOptions, System};
use preface_metrics::slice;
use preface_metrics::{MetricOptions, References, StatisticsTable, evaluate, registry};

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
        // The Perl script prints four digits. The twin's figures were made from references read as CSV, where
        // e2e-metrics' own reader takes the quotation mark off "'The Phoenix' is": NIST moves by a millionth.
        let within = [("BLEU_perl", 5.1e-5), ("NIST_perl", 5.1e-5), ("BLEU_py", 1e-9), ("NIST_py", 1e-5)];
        for (score, (key, within)) in scores.iter().zip(within) {
            let want = expected[key].as_f64().unwrap();
            assert!((score.score - want).abs() <= within, "{system} {key}: {} for {want}", score.score);
        }
    }
}

#[test]
fn references_between_blank_lines_score_as_e2e_metrics() {
    let Some(data) = shared_data("references_between_blank_lines") else { return };
    let folder = data.join("metrics/e2e");
    let hypotheses = read_hypotheses(&folder.join("example-baseline-output.txt")).unwrap().texts;
    let references = read_references(&[folder.join("example-devel-conc.txt")], hypotheses.len()).unwrap();
    let scores = evaluate(&metrics("e2e-bleu,e2e-nist"), &hypotheses, &references.references).unwrap();
    assert_eq!(format!("{:.4} {:.4}", scores[0].score, scores[1].score), "0.7203 7.7889");
}

#[test]
fn webnlg_slices_by_seen_and_unseen_categories() {
    let Some(data) = shared_data("webnlg_slices") else { return };
    let path = data.join("webnlg/test.jsonl");
    let slices = slice::webnlg(&records::read_field(&path, "category").unwrap());
    let sizes: Vec<_> = slices.iter().map(|slice| (slice.name.as_str(), slice.segments.len())).collect();
    assert_eq!(sizes, [("seen", 971), ("unseen", 891)]);
    // Every reference as hypothesis among its siblings: a slice is the score of its segments alone.
    let references = References::new(records::read_references(&path).unwrap()).unwrap();
    let first = references.segments().iter().map(|segment| segment[0].clone()).collect();
    let system = System { name: "first".into(), hypotheses: first };
    let options = ReportOptions { slices: slices.clone(), ..ReportOptions::default() };
    let report = Report::new(&metrics("bleu,rouge"), &[system], &references, &options).unwrap();
    assert_eq!(report.rows.len(), 3);
    for (row, slice) in report.rows[1..].iter().zip(&slices) {
        let pick = |at: &usize| references.segments()[*at].clone();
        let subset = References::new(slice.segments.iter().map(pick).collect()).unwrap();
        let hypotheses: Vec<String> = subset.segments().iter().map(|segment| segment[0].clone()).collect();
        let alone = evaluate(&metrics("bleu,rouge"), &hypotheses, &subset).unwrap();
        for (sliced, alone) in row.scores.iter().zip(&alone) {
            assert!((sliced.score.score - alone.score).abs() < 1e-9, "{} {}", slice.name, alone.name);
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
    assert!((ter.score - 0.446_964_626_760_908).abs() < 1e-12, "{}", ter.score);
    let metrics = metrics("tercom");
    let scorer = metrics[0].fit(&references.references).unwrap();
    let table = StatisticsTable::new(scorer.as_ref(), &hypotheses, &references.references).unwrap();
    assert_eq!(table.total()[0], 54_763.0);
}

#[test]
fn dart_preparation_rebuilds_the_official_reference_files() {
    let Some(data) = shared_data("dart_preparation") else { return };
    let segments = records::read_references(&data.join("dart/test.jsonl")).unwrap();
    let files: Vec<_> =
        (0..3).map(|n| read_lines(&data.join(format!("metrics/dart/ref{n}.txt"))).unwrap()).collect();
    let mut compared = 0;
    for (at, segment) in segments.iter().enumerate() {
        for (prepared, lines) in Preparation::Dart.references(segment, 3).iter().zip(&files) {
            assert_eq!(*prepared, lines[at], "line {at}");
            compared += usize::from(!prepared.is_empty());
        }
    }
    assert_eq!(compared, 11_245);
}

#[test]
fn the_set_of_dart_scores_raw_references_as_the_paper() {
    let Some(data) = shared_data("the_set_of_dart") else { return };
    let hypotheses = read_lines(&data.join("metrics/dart/bart-large.hyp.txt")).unwrap();
    let references =
        References::new(records::read_references(&data.join("dart/test.jsonl")).unwrap()).unwrap();
    let dart: Vec<_> = metrics("dart").into_iter().filter(|metric| metric.name() != "meteor").collect();
    let scores = evaluate(&dart, &hypotheses, &references).unwrap();
    assert_eq!(format!("{} {:.2}", scores[0].name, scores[0].score), "multi-bleu 48.56");
    assert_eq!(scores[1].name, "tercom");
    assert!((scores[1].score - 0.44696).abs() < 1e-5, "{}", scores[1].score);
    assert!(scores[1].signature.contains("|prep:dart|refs:first-3|"), "{}", scores[1].signature);
}
