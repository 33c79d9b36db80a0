//! `processor/` against `tests/golden/logits_processors`, and degenerate inputs.

use testkit::Golden;

use super::*;

fn apply(settings: &GenerationSettings, end_tokens: &[u32], ids: &[u32], scores: &[f32]) -> Vec<f32> {
    let mut scores = scores.to_vec();
    let processors = Processors::new(settings, settings.bad_words_ids.clone(), end_tokens);
    processors.apply(Past { ids, prompt_len: ids.len() }, &mut scores);
    scores
}

fn sampling() -> GenerationSettings {
    GenerationSettings { do_sample: true, top_k: 0, ..GenerationSettings::default() }
}

#[test]
fn scores_are_those_of_transformers() {
    let golden = Golden::open("logits_processors").unwrap();
    let ids = golden.token_ids("/input_ids").unwrap();
    let end_token = golden.number("/eos_token_id").unwrap() as u32;
    let prompt_len = ids.len() - golden.number("/generated").unwrap() as usize;
    let cases = golden.value("/cases").unwrap().as_array().unwrap();
    assert!(cases.len() > 50, "only {} cases", cases.len());
    for (number, case) in cases.iter().enumerate() {
        let mut named = serde_json::to_value(sampling()).unwrap();
        for (name, value) in case["settings"].as_object().unwrap() {
            named[name] = value.clone();
        }
        let settings: GenerationSettings = serde_json::from_value(named).unwrap();
        let processors = Processors::new(&settings, settings.bad_words_ids.clone(), &[end_token]);
        let kind = case["kind"].as_str().unwrap();
        let mut got = golden.tensor(&format!("scores.{kind}")).unwrap().data.clone();
        processors.apply(Past { ids: &ids, prompt_len }, &mut got);
        let want = &golden.tensor(&format!("processed.{number}")).unwrap().data;
        for (token, (got, want)) in got.iter().zip(want).enumerate() {
            // One rounding of f32 each for temperature and penalty; -inf must be met exactly.
            let same = got == want || (got - want).abs() <= 1e-6 * want.abs();
            assert!(same, "case {number} {case}: token {token}: got {got}, want {want}");
        }
    }
}

#[test]
fn neutral_settings_make_no_rule() {
    assert!(Processors::new(&sampling(), Vec::new(), &[1]).0.is_empty());
    let greedy = GenerationSettings { temperature: 0.0, top_k: 3, top_p: 0.5, min_p: 0.5, ..sampling() };
    let greedy = GenerationSettings { do_sample: false, ..greedy };
    assert!(
        Processors::new(&greedy, Vec::new(), &[1]).0.is_empty(),
        "rules of sampling do not touch greedy search"
    );
}

#[test]
fn one_token_always_stays() {
    let scores = [EXCLUDED, 0.3, 0.3, EXCLUDED, -1.0];
    for settings in [
        GenerationSettings { top_p: 1e-9, ..sampling() },
        GenerationSettings { min_p: 1.0, ..sampling() },
        GenerationSettings { top_k: 1, ..sampling() },
    ] {
        let got = apply(&settings, &[], &[0], &scores);
        assert!(got.iter().any(|&score| score > EXCLUDED), "{settings:?}: {got:?}");
        assert_eq!([got[0], got[3], got[4]], [EXCLUDED; 3]);
    }
}

#[test]
fn scores_that_are_all_excluded_stay_so() {
    let rules = GenerationSettings { top_p: 0.5, min_p: 0.5, top_k: 2, temperature: 0.5, ..sampling() };
    assert_eq!(apply(&rules, &[], &[0], &[EXCLUDED; 3]), [EXCLUDED; 3]);
}

#[test]
fn the_repetition_penalty_counts_a_token_once_and_skips_tokens_without_a_score() {
    let settings = GenerationSettings { repetition_penalty: 2.0, ..sampling() };
    assert_eq!(apply(&settings, &[], &[0, 1, 0, 0, 9], &[1.0, -1.0, 1.0]), [0.5, -2.0, 1.0]);
}

#[test]
fn a_bigram_of_the_prompt_is_not_repeated() {
    let settings = GenerationSettings { no_repeat_ngram_size: 2, ..sampling() };
    assert_eq!(apply(&settings, &[], &[1, 2, 1], &[0.0; 3]), [0.0, 0.0, EXCLUDED]);
    assert_eq!(apply(&settings, &[], &[1], &[0.0; 3]), [0.0; 3]);
}

#[test]
fn renormalised_scores_are_probabilities_of_what_is_left() {
    let settings =
        GenerationSettings { renormalize_logits: true, bad_words_ids: vec![vec![3]], ..sampling() };
    let got = apply(&settings, &[], &[0], &[1.0, 2.0, 3.0, 9.0]);
    assert_eq!(got[3], EXCLUDED);
    let sum: f32 = got.iter().map(|score| score.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-6 && (got[1] - got[0] - 1.0).abs() < 1e-6, "{got:?}");
    let banned = GenerationSettings { bad_words_ids: vec![vec![0]], ..settings };
    assert_eq!(apply(&banned, &[], &[0], &[1.0]), [EXCLUDED], "nothing is left");
}
