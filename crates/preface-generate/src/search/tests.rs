//! The searches over scripted models, where the right answer is known or can be found by trying everything.

use super::*;
use crate::EarlyStopping;

const EXCLUDED: f32 = f32::NEG_INFINITY;

fn rules<'a>(settings: &'a GenerationSettings, end_tokens: &'a [u32]) -> Rules<'a> {
    settings.validate().unwrap();
    let processors = Processors::new(settings, settings.bad_words_ids.clone(), end_tokens);
    Rules { settings, processors, stop_strings: StopStrings::new(&[], None), end_tokens }
}

/// Runs a search over a model that maps prompt and answer to logits.
fn drive(
    mut search: impl Search,
    prompt: &[u32],
    model: &dyn Fn(&[u32]) -> Vec<f32>,
) -> Result<Generation, GenerateError> {
    let mut rows = vec![prompt.to_vec()];
    loop {
        let logits: Vec<f32> = rows.iter().flat_map(|row| model(row)).collect();
        match search.step(&logits)? {
            Step::Finished(generation) => return Ok(generation),
            Step::Continue(continuations) => {
                let next = continuations.iter().map(|next| [&rows[next.parent][..], &[next.token]].concat());
                rows = next.collect();
                assert!(!rows.is_empty(), "a search that goes on has rows");
            }
        }
    }
}

/// Logits that depend on the whole past, from a few bits of a hash of it.
fn arbitrary(vocab_size: u32) -> impl Fn(&[u32]) -> Vec<f32> {
    move |past| {
        let hash = |state: u64, value: u32| (state ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let state = past.iter().fold(17, |state: u64, &token| hash(state.rotate_left(23), token));
        let logit = |token| ((hash(state, token) >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 6.0;
        (0..vocab_size).map(logit).collect()
    }
}

fn single(
    settings: &GenerationSettings,
    end_tokens: &[u32],
    prompt: &[u32],
    model: &dyn Fn(&[u32]) -> Vec<f32>,
) -> Result<Generation, GenerateError> {
    let rules = rules(settings, end_tokens);
    drive(SingleSearch::new(&rules, 0, prompt), prompt, model)
}

fn beams(
    settings: &GenerationSettings,
    end_tokens: &[u32],
    prompt: &[u32],
    model: &dyn Fn(&[u32]) -> Vec<f32>,
) -> Result<Generation, GenerateError> {
    let rules = rules(settings, end_tokens);
    drive(BeamSearch::new(&rules, 0, prompt), prompt, model)
}

/// Sum of log-probabilities of `answer` after `prompt`.
fn logprob(prompt: &[u32], answer: &[u32], model: &dyn Fn(&[u32]) -> Vec<f32>) -> f64 {
    let mut past = prompt.to_vec();
    let mut sum = 0.0;
    for &token in answer {
        let logits = model(&past);
        sum += f64::from(logits[token as usize]) - probability::log_sum_exp(&logits).unwrap();
        past.push(token);
    }
    sum
}

#[test]
fn greedy_takes_the_first_of_the_best_and_leaves_out_the_end_token() {
    let model = |past: &[u32]| match past.len() {
        1 => vec![0.0, 2.0, 2.0],
        2 => vec![3.0, 2.0, 2.0],
        _ => vec![0.0, 0.0, 9.0],
    };
    let settings = GenerationSettings { max_new_tokens: 3, ..GenerationSettings::default() };
    let got = single(&settings, &[0], &[1], &model).unwrap();
    assert_eq!((got.token_ids.as_slice(), got.finish), (&[1][..], Finish::End));
    assert!(
        (got.logprob - logprob(&[1], &[1, 0], &model)).abs() < 1e-6,
        "the end token's probability counts"
    );
    let got = single(&settings, &[], &[1], &model).unwrap();
    assert_eq!((got.token_ids.as_slice(), got.finish), (&[1, 0, 2][..], Finish::Length));
}

#[test]
fn one_beam_is_greedy_search() {
    let model = arbitrary(11);
    for prompt in 0..30 {
        for early_stopping in [EarlyStopping::WhenUnlikely, EarlyStopping::WhenFull, EarlyStopping::Never] {
            let settings = GenerationSettings {
                max_new_tokens: 8,
                length_penalty: 0.0, // with another one a later end may score better than the first
                early_stopping,
                ..GenerationSettings::default()
            };
            let greedy = single(&settings, &[3, 5], &[prompt], &model).unwrap();
            let beam = beams(&settings, &[3, 5], &[prompt], &model).unwrap();
            assert_eq!(beam.score.map(|score| (f64::from(score) - greedy.logprob).abs() < 1e-5), Some(true));
            assert_eq!(Generation { score: None, ..beam }, greedy);
        }
    }
}

#[test]
fn enough_beams_find_the_best_answer_there_is() {
    let (model, vocab_size, end, max_new_tokens) = (arbitrary(4), 4, 3, 4);
    // Every answer: ended by the end token, or as long as allowed.
    let mut answers: Vec<Vec<u32>> = vec![vec![]];
    let mut open = answers.clone();
    for _ in 0..max_new_tokens {
        open = open
            .iter()
            .flat_map(|past| (0..vocab_size).map(|token| [&past[..], &[token]].concat()))
            .collect();
        answers.extend(open.iter().filter(|answer| answer.ends_with(&[end])).cloned());
        open.retain(|answer| !answer.ends_with(&[end]));
    }
    answers.extend(open);
    for prompt in 0..20 {
        for length_penalty in [0.0, 1.0, 2.0] {
            let score = |answer: &Vec<u32>| {
                logprob(&[prompt], answer, &model) / (answer.len() as f64).powf(length_penalty)
            };
            let best = answers[1..].iter().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
            let settings = GenerationSettings {
                max_new_tokens,
                num_beams: 256,
                length_penalty,
                early_stopping: EarlyStopping::Never,
                ..GenerationSettings::default()
            };
            let got = beams(&settings, &[end], &[prompt], &model).unwrap();
            let want = best.strip_suffix(&[end]).unwrap_or(best);
            assert_eq!(got.token_ids, want, "prompt {prompt}, length penalty {length_penalty}");
            assert!((f64::from(got.score.unwrap()) - score(best)).abs() < 1e-5);
            assert!((got.logprob - logprob(&[prompt], best, &model)).abs() < 1e-5);
        }
    }
}

#[test]
fn a_long_prompt_makes_lengths_alike_under_the_total_norm() {
    // Ending at once has the probability 0.35, token 1 and then the end 0.5 * 0.6.
    let model = |past: &[u32]| match past {
        [.., 1] => [0.6, 0.0, 0.4].map(f32::ln).to_vec(),
        [.., 2, 2] => [0.0, 0.0, 1.0].map(f32::ln).to_vec(),
        _ => [0.35, 0.5, 0.15].map(f32::ln).to_vec(),
    };
    let mut prompt = vec![2; 50];
    *prompt.last_mut().unwrap() = 0;
    let settings = GenerationSettings { num_beams: 2, max_new_tokens: 2, ..GenerationSettings::default() };
    let got = beams(&settings, &[0], &prompt, &model).unwrap();
    assert_eq!(got.token_ids, [1]);
    assert!((f64::from(got.score.unwrap()) - 0.3f64.ln() / 2.0).abs() < 1e-6);
    let total = GenerationSettings { length_norm: crate::LengthNorm::Total, ..settings };
    let got = beams(&total, &[0], &prompt, &model).unwrap();
    assert!(got.token_ids.is_empty(), "{got:?}");
    assert!((f64::from(got.score.unwrap()) - 0.35f64.ln() / 51.0).abs() < 1e-6);
}

#[test]
fn several_end_tokens_leave_enough_candidates_to_run_on() {
    // Three ends are more probable than 3 and 4; of these, 4 is the less probable one and leads to the best answer.
    let model = |past: &[u32]| match past {
        [.., 3] => vec![0.0; 5],
        [.., 4] => [0.98, 0.005, 0.005, 0.005, 0.005].map(f32::ln).to_vec(),
        _ => [0.3, 0.25, 0.2, 0.15, 0.1].map(f32::ln).to_vec(),
    };
    let settings = GenerationSettings {
        num_beams: 2,
        max_new_tokens: 2,
        length_penalty: 2.0,
        early_stopping: EarlyStopping::Never,
        ..GenerationSettings::default()
    };
    assert_eq!(beams(&settings, &[0, 1, 2], &[9], &model).unwrap().token_ids, [4]);
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let settings = GenerationSettings { num_beams: 2, ..GenerationSettings::default() };
    let greedy = GenerationSettings::default();
    for bad in [f32::NAN, f32::INFINITY] {
        let model = move |past: &[u32]| vec![0.0, if past.len() == 3 { bad } else { 1.0 }];
        let want = Err(GenerateError::NotFinite { prompt: 0, n_generated: 2 });
        assert_eq!(single(&greedy, &[], &[1], &model), want);
        assert_eq!(beams(&settings, &[], &[1], &model), want);
    }
}

#[test]
fn settings_that_leave_no_token_are_an_error() {
    let model = |_: &[u32]| vec![0.0, 1.0];
    let greedy = GenerationSettings { no_repeat_ngram_size: 1, ..GenerationSettings::default() };
    let settings = GenerationSettings { num_beams: 3, ..greedy.clone() };
    let sampled = GenerationSettings { do_sample: true, ..greedy.clone() };
    let want = Err(GenerateError::NoTokenLeft { prompt: 0, n_generated: 1 });
    assert_eq!(single(&greedy, &[], &[1], &model), want);
    assert_eq!(single(&sampled, &[], &[1], &model), want);
    assert_eq!(beams(&settings, &[], &[1], &model), want);
}

#[test]
fn a_beam_without_a_token_left_dies_and_the_ended_ones_answer() {
    let model = |past: &[u32]| match past {
        [.., 1] => vec![EXCLUDED, EXCLUDED, 0.0],
        _ => vec![-2.0, 1.0, EXCLUDED],
    };
    let settings =
        GenerationSettings { num_beams: 2, bad_words_ids: vec![vec![1, 2]], ..GenerationSettings::default() };
    let got = beams(&settings, &[0], &[2], &model).unwrap();
    assert_eq!((got.token_ids.as_slice(), got.finish), (&[][..], Finish::End));
}

#[test]
fn sampling_at_a_low_temperature_is_greedy_search() {
    let model = arbitrary(13);
    let greedy = GenerationSettings { max_new_tokens: 12, ..GenerationSettings::default() };
    let cold = GenerationSettings { do_sample: true, temperature: 1e-3, ..greedy.clone() };
    let warm = GenerationSettings { do_sample: true, ..greedy.clone() };
    let want = single(&greedy, &[2], &[4], &model).unwrap();
    assert_eq!(single(&cold, &[2], &[4], &model).unwrap(), want);
    assert_ne!(single(&warm, &[2], &[4], &model).unwrap(), want);
}
