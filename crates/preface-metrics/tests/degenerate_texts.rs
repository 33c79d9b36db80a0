//! Texts that no official tool was made for: every metric gives a figure, in bounded time and memory.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use preface_metrics::{MetricOptions, References, StatisticsTable, registry};

/// All metrics that need no tables.
const NAMES: &str = "bleu,sentence-bleu,multi-bleu,mteval-bleu,mteval-nist,e2e-bleu,e2e-nist,rouge,rouge-lsum,ter,tercom,\
                     chrf,chrf++,coco-rouge-l,cider,exact-match";

/// About 200 KB of words, `distinct` of them different.
fn long_line(seed: u32, distinct: u32) -> String {
    let mut state = seed;
    let words = (0..29_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("w{}", (state >> 8) % distinct)
    });
    words.collect::<Vec<_>>().join(" ")
}

fn scores(hypothesis: &str, references: &[&str]) -> Vec<(&'static str, f64)> {
    let references =
        References::new(vec![references.iter().map(|text| (*text).to_owned()).collect()]).unwrap();
    let metrics = registry::build(NAMES, &MetricOptions::default()).unwrap();
    let mut scores = Vec::new();
    for metric in &metrics {
        let scorer = metric.fit(&references).unwrap();
        let table = StatisticsTable::new(scorer.as_ref(), &[hypothesis.to_owned()], &references).unwrap();
        scores.push((metric.name(), scorer.score(&table.total())));
    }
    scores
}

fn assert_finite(hypothesis: &str, references: &[&str]) {
    for (name, score) in scores(hypothesis, references) {
        assert!(score.is_finite() && score >= 0.0, "{name}: {score}");
    }
}

#[test]
fn lines_of_200_kilobytes_score() {
    let many = long_line(1, 1 << 20);
    assert!(many.len() > 200_000);
    assert_finite(&many, &[&long_line(2, 1 << 20)]);
    assert_finite(&many, &["w1 w2"]);
    assert_finite("w1 w2", &[&many]);
}

#[test]
fn one_word_repeated_over_200_kilobytes_scores() {
    let one = "again ".repeat(34_000);
    assert_finite(&one, &[&one]);
    assert_finite(&one, &["again"]);
}

#[test]
fn one_token_of_200_kilobytes_scores() {
    let token = "x".repeat(200_000);
    assert_finite(&token, &[&token]);
    assert_finite(&"y".repeat(200_000), &[&token]);
    assert_finite(&".".repeat(200_000), &[&"-.".repeat(100_000)]);
}

#[test]
fn empty_texts_score_on_either_side() {
    for hypothesis in ["", " ", "\u{0}", "word", "?!", "日本語", "\u{202e}\u{301}"] {
        for reference in ["", " ", "\u{0}", "word", "?!", "日本語", "\u{202e}\u{301}"] {
            assert_finite(hypothesis, &[reference]);
            assert_finite(hypothesis, &["", reference]);
        }
    }
}

#[test]
fn a_text_equal_to_its_reference_has_the_best_score() {
    let text = "The Vaults, a pub near 18L/36R, costs £20.5 — it's good.";
    for (name, score) in scores(text, &["nothing of it", text]) {
        let best = match name {
            "bleu" | "sentence-bleu" | "multi-bleu" | "chrf" | "chrf++" => 100.0,
            "ter" | "tercom" => 0.0,
            // Weights depend on the corpus.
            "mteval-nist" | "e2e-nist" | "cider" => continue,
            _ => 1.0,
        };
        assert!((score - best).abs() < 1e-9, "{name}: {score}");
    }
}
