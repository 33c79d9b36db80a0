//! Every figure equals the official tool's, for the corpus and for each segment, on excerpts of real sets, on degenerate
//! and on random text. `golden/official/make.py` made the expectations.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use preface_metrics::bootstrap::{self, PairedTest, Resampling};
use preface_metrics::metric::bleu::{BleuTokenizer, Smoothing};
use preface_metrics::metric::rouge::ReferenceChoice;
use preface_metrics::{MetricOptions, References, StatisticsTable, registry};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/official").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_str(&fs_err::read_to_string(golden(name)).unwrap()).unwrap()
}

struct Segments {
    hypotheses: Vec<String>,
    others: Vec<String>,
    references: Vec<Vec<String>>,
}

fn segments(name: &str) -> Segments {
    let mut segments = Segments { hypotheses: Vec::new(), others: Vec::new(), references: Vec::new() };
    for line in fs_err::read_to_string(golden(name)).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        segments.hypotheses.push(record["hypothesis"].as_str().unwrap().to_owned());
        segments.others.push(record["other"].as_str().unwrap_or_default().to_owned());
        let references = record["references"].as_array().unwrap();
        segments.references.push(references.iter().map(|text| text.as_str().unwrap().to_owned()).collect());
    }
    segments
}

fn options(options: &Value) -> MetricOptions {
    let value = options["smoothing_value"].as_f64();
    MetricOptions {
        lowercase: options["lowercase"].as_bool().unwrap_or_default(),
        effective_order: options["effective_order"].as_bool().unwrap_or_default(),
        tokenizer: match options["tokenizer"].as_str() {
            None | Some("13a") => BleuTokenizer::V13a,
            Some("none") => BleuTokenizer::None,
            Some("intl") => BleuTokenizer::International,
            Some("char") => BleuTokenizer::Char,
            Some(other) => panic!("{other}"),
        },
        smoothing: match options["smoothing"].as_str() {
            None => Smoothing::Exp,
            Some("none") => Smoothing::None,
            Some("floor") => Smoothing::Floor(value.unwrap()),
            Some("add-k") => Smoothing::AddK(value.unwrap()),
            Some(other) => panic!("{other}"),
        },
        rouge_unstemmed: options["stemmer"] == Value::Bool(false),
        rouge_references: match options["references"].as_str() {
            Some("average") => ReferenceChoice::Average,
            _ => ReferenceChoice::Best,
        },
        ..MetricOptions::default()
    }
}

/// All entries of a set; the number of figures compared.
fn check(set: &str) -> usize {
    let segments = segments(&format!("{set}.jsonl"));
    let mut compared = 0;
    for entry in json(&format!("{set}.scores.json")).as_array().unwrap() {
        let mut references = segments.references.clone();
        if let Some(first) = entry["first_references"].as_u64() {
            references.iter_mut().for_each(|segment| segment.truncate(first as usize));
        }
        let references = References::new(references).unwrap();
        let metrics =
            registry::build(entry["metric"].as_str().unwrap(), &options(&entry["options"])).unwrap();
        let name = entry["name"].as_str();
        let metric = metrics.iter().find(|metric| name.is_none_or(|name| metric.name() == name)).unwrap();
        let scorer = metric.fit(&references).unwrap();
        let table = StatisticsTable::new(scorer.as_ref(), &segments.hypotheses, &references).unwrap();
        let within = entry["within"].as_f64().unwrap();
        let close = |got: f64, want: &Value, what: &str| {
            let want = want.as_f64().unwrap();
            let label = format!("{set}: {} {} {what}: {got} for {want}", metric.name(), entry["options"]);
            assert!((got - want).abs() <= within, "{label}");
        };
        close(scorer.score(&table.total()), &entry["score"], "corpus");
        compared += 1;
        for (at, want) in entry["sentences"].as_array().into_iter().flatten().enumerate() {
            close(scorer.score(table.row(at)), want, &format!("segment {at}"));
            compared += 1;
        }
        if let Some(signature) = entry["signature"].as_str() {
            let ours = metric.signature().complete(&references).to_string();
            let without_version = |text: &str| text.rsplit_once("|version").unwrap().0.to_owned();
            assert_eq!(without_version(&ours), without_version(signature));
        }
    }
    compared
}

#[test]
fn degenerate_texts_score_as_the_official_tools_say() {
    assert_eq!(check("degenerate"), 38 + 33 * 15);
}

#[test]
fn e2e_excerpt_scores_as_the_official_tools_say() {
    assert_eq!(check("e2e"), 38 + 33 * 100);
}

#[test]
fn dart_excerpt_scores_as_the_official_tools_say() {
    assert_eq!(check("dart"), 38 + 33 * 100);
}

#[test]
fn random_texts_score_as_the_official_tools_say() {
    assert_eq!(check("random"), 38 + 33 * 100);
}

#[test]
fn texts_beyond_the_limits_of_ter_score_as_the_official_tools_say() {
    assert_eq!(check("long"), 38 + 33 * 12);
}

/// Figures of this crate at a state that gave tercom 0.7.25's own 54,763 edits on the whole of DART (`full_sets.rs`):
/// the Java program cannot be had from a package registry.
#[test]
fn tercom_keeps_its_edits() {
    let edits = |set: &str| {
        let segments = segments(&format!("{set}.jsonl"));
        let references = References::new(segments.references).unwrap();
        let metrics = registry::build("tercom", &MetricOptions::default()).unwrap();
        let scorer = metrics[0].fit(&references).unwrap();
        let table = StatisticsTable::new(scorer.as_ref(), &segments.hypotheses, &references).unwrap();
        table.total()[0]
    };
    assert_eq!(["dart", "e2e", "random", "long"].map(edits), [1110.0, 1168.0, 243.0, 1396.0]);
}

#[test]
fn stems_equal_nltks() {
    let stems = json("stems.json");
    let stems = stems.as_object().unwrap();
    assert!(stems.len() > 3000);
    for (word, stem) in stems {
        assert_eq!(preface_metrics::stemmer::porter::stem(word), stem.as_str().unwrap(), "{word}");
    }
}

#[test]
fn characters_of_the_data_sets_become_ascii_as_by_unidecode() {
    let texts = json("ascii.json");
    let texts = texts.as_object().unwrap();
    assert!(texts.len() > 200);
    for (character, ascii) in texts {
        assert_eq!(
            preface_metrics::prepare::unidecode::to_ascii(character),
            ascii.as_str().unwrap(),
            "{character}"
        );
    }
}

#[test]
fn resampling_gives_sacrebleus_intervals_and_p_values() {
    let segments = segments("e2e.jsonl");
    let references = References::new(segments.references).unwrap();
    let mixed =
        |at: usize| if at.is_multiple_of(5) { &segments.others[at] } else { &segments.hypotheses[at] };
    let mixed: Vec<String> = (0..segments.others.len()).map(|at| mixed(at).clone()).collect();
    for entry in json("resampling.json").as_array().unwrap() {
        let metrics = registry::build(entry["metric"].as_str().unwrap(), &MetricOptions::default()).unwrap();
        let scorer = metrics[0].fit(&references).unwrap();
        let table = |hypotheses| StatisticsTable::new(scorer.as_ref(), hypotheses, &references).unwrap();
        let ours = table(&segments.hypotheses);
        if entry["kind"] == "bootstrap" {
            let confidence = bootstrap::confidence(scorer.as_ref(), &ours, &Resampling::DEFAULT).unwrap();
            // sacreBLEU adds in single precision.
            for (got, key) in [(confidence.mean, "mean"), (confidence.half_width, "half_width")] {
                let want = entry[key].as_f64().unwrap();
                assert!((got - want).abs() < 1e-4, "{entry}: {got}");
            }
            continue;
        }
        let theirs = table(if entry["close"] == true { &mixed } else { &segments.others });
        let resampling = Resampling { samples: 1000, seed: bootstrap::DEFAULT_SEED };
        let test = match entry["kind"].as_str() {
            Some("bs") => PairedTest::Bootstrap(resampling),
            _ => PairedTest::Randomisation(resampling),
        };
        let p = test.p_value(scorer.as_ref(), &ours, &theirs).unwrap();
        assert!((p - entry["p_value"].as_f64().unwrap()).abs() < 1e-12, "{entry}: {p}");
    }
}
