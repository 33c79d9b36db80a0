//! Greedy and beam search give what `transformers` and PEFT give: `tests/golden/generation`.

use preface_generate::{Finish, GenerationSettings, Generator};

use crate::fixture;

/// The fixture takes `eos_token_id` among the settings; here the model names the end tokens.
fn take_end_tokens(settings: &mut serde_json::Value) -> Vec<u32> {
    let end_tokens = settings.as_object_mut().unwrap().remove("eos_token_id").unwrap();
    serde_json::from_value(end_tokens).unwrap()
}

#[test]
fn answers_and_scores_are_those_of_transformers() {
    let golden = fixture::golden();
    let cases = golden.value("/cases").unwrap().as_array().unwrap();
    let mut n_answer = 0;
    for name in fixture::MODELS {
        let (model, attachments) = fixture::load(&golden, name);
        for case in cases.iter().filter(|case| case["model"] == name) {
            let mut settings = case["settings"].clone();
            let end_tokens = take_end_tokens(&mut settings);
            let settings: GenerationSettings = serde_json::from_value(settings).unwrap();
            let generator = Generator::new(&model, &attachments, &settings, &end_tokens, None).unwrap();
            let segment = case["prefix"].as_bool().unwrap().then_some(0);
            let requests = fixture::requests(&golden, name, segment);
            // Three at once: the fourth joins when one leaves.
            let answers = generator.run(&requests, 3, &mut ()).unwrap();
            for (number, (got, want)) in answers.iter().zip(case["outputs"].as_array().unwrap()).enumerate() {
                let at = format!("{name}, prompt {number}, segment {segment:?}, {}", case["settings"]);
                let mut ids: Vec<u32> = serde_json::from_value(want["generated"].clone()).unwrap();
                let ended = ids.last().is_some_and(|last| end_tokens.contains(last));
                ids.truncate(ids.len() - usize::from(ended));
                assert_eq!(got.token_ids, ids, "{at}");
                assert_eq!(got.finish, if ended { Finish::End } else { Finish::Length }, "{at}");
                let score = got.score.map_or(got.logprob, f64::from);
                let want = want["score"].as_f64().unwrap();
                // Logits agree to 1e-5 of their RMS (about 3); up to 14 of them are summed.
                assert!((score - want).abs() <= 3e-4, "{at}: score {score}, want {want}");
                n_answer += 1;
            }
        }
    }
    assert!(n_answer >= 700, "only {n_answer} answers compared");
}
