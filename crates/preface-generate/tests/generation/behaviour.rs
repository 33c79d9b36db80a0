//! The generator's own behaviour: observers, stop strings, banned texts, errors.

use preface_generate::{
    Finish, GenerateError, Generation, GenerationSettings, Generator, Observer, Request, TextCodec,
};

use crate::fixture;

/// Token = letter, from `A` on.
struct Letters;

impl TextCodec for Letters {
    fn spellings(&self, text: &str) -> Result<Vec<Vec<u32>>, GenerateError> {
        let token = |letter: char| (letter as u32).checked_sub('A' as u32);
        let tokens: Vec<u32> = text.chars().filter_map(token).collect();
        Ok(vec![tokens].into_iter().filter(|tokens| !tokens.is_empty()).collect())
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, GenerateError> {
        Ok(text(tokens))
    }
}

fn text(tokens: &[u32]) -> String {
    tokens.iter().filter_map(|token| char::from_u32('A' as u32 + token)).collect()
}

#[derive(Default)]
struct Recorder {
    tokens: Vec<(usize, u32)>,
    finished: Vec<(usize, Generation)>,
    stop_after: Option<usize>,
}

impl Observer for Recorder {
    fn token(&mut self, request: usize, token: u32) {
        self.tokens.push((request, token));
    }

    fn finished(&mut self, request: usize, generation: &Generation) {
        self.finished.push((request, generation.clone()));
    }

    fn should_stop(&mut self) -> bool {
        self.stop_after.is_some_and(|n| self.finished.len() >= n)
    }
}

#[test]
fn observers_hear_every_token_and_answer_and_can_stop() {
    let golden = fixture::golden();
    let (model, attachments) = fixture::load(&golden, "llama");
    let requests = fixture::requests(&golden, "llama", None);
    let settings = GenerationSettings { max_new_tokens: 14, ..GenerationSettings::default() };
    let generator = Generator::new(&model, &attachments, &settings, &[15], None).unwrap();
    let mut recorder = Recorder::default();
    let answers = generator.run(&requests, 2, &mut recorder).unwrap();
    for (number, answer) in answers.iter().enumerate() {
        let heard = recorder.tokens.iter().filter(|(request, _)| *request == number);
        assert_eq!(heard.map(|&(_, token)| token).collect::<Vec<_>>(), answer.token_ids);
        assert!(recorder.finished.contains(&(number, answer.clone())));
    }
    assert!(
        answers.iter().any(|answer| answer.finish == Finish::End),
        "an end token must have been left out"
    );
    assert_eq!(recorder.finished.len(), requests.len());
    assert_eq!(recorder.finished[0].0, 1, "the shorter answer is finished first, and reported in its place");

    let mut impatient = Recorder { stop_after: Some(1), ..Recorder::default() };
    let stopped = generator.run(&requests, 2, &mut impatient);
    assert_eq!(stopped, Err(GenerateError::Stopped { n_finished: 1, n_prompt: 4 }));
    assert_eq!(impatient.finished[0], recorder.finished[0]);

    let settings = GenerationSettings { num_beams: 3, ..settings };
    let generator = Generator::new(&model, &attachments, &settings, &[15], None).unwrap();
    let mut recorder = Recorder::default();
    generator.run(&requests, 2, &mut recorder).unwrap();
    assert!(recorder.tokens.is_empty() && recorder.finished.len() == 4);
}

#[test]
fn a_stop_string_ends_an_answer_that_keeps_it() {
    let golden = fixture::golden();
    let (model, attachments) = fixture::load(&golden, "llama");
    let requests = &fixture::requests(&golden, "llama", None)[..1];
    for num_beams in [1, 3] {
        let free = GenerationSettings { max_new_tokens: 14, num_beams, ..GenerationSettings::default() };
        let run = |settings: &GenerationSettings| {
            let generator = Generator::new(&model, &attachments, settings, &[15], Some(&Letters)).unwrap();
            generator.run(requests, 1, &mut ()).unwrap().remove(0)
        };
        let without = run(&free);
        assert!(without.token_ids.len() > 3, "{without:?}");
        let stop = text(&without.token_ids[1..3]);
        let with = run(&GenerationSettings { stop_strings: vec!["never".into(), stop.clone()], ..free });
        assert_eq!(with.finish, Finish::StopString);
        assert!(text(&with.token_ids).ends_with(&stop));
        if num_beams == 1 {
            assert_eq!(with.token_ids, without.token_ids[..3]);
        }
    }
}

#[test]
fn a_banned_text_is_not_written() {
    let golden = fixture::golden();
    let (model, attachments) = fixture::load(&golden, "gpt2");
    let requests = &fixture::requests(&golden, "gpt2", Some(0))[1..2];
    let run = |bad_words: Vec<String>| {
        let settings = GenerationSettings { bad_words, max_new_tokens: 12, ..GenerationSettings::default() };
        let generator = Generator::new(&model, &attachments, &settings, &[], Some(&Letters)).unwrap();
        text(&generator.run(requests, 1, &mut ()).unwrap()[0].token_ids)
    };
    let free = run(Vec::new());
    let word: String = free.chars().skip(2).take(2).collect();
    assert!(!run(vec![word.clone()]).contains(&word), "{word:?} of {free:?}");
}

#[test]
fn no_prompts_give_no_answers() {
    let golden = fixture::golden();
    let (model, attachments) = fixture::load(&golden, "llama");
    let settings = GenerationSettings::default();
    let generator = Generator::new(&model, &attachments, &settings, &[], None).unwrap();
    assert_eq!(generator.run(&[], 0, &mut ()), Ok(Vec::new()));
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is() {
    let golden = fixture::golden();
    let (model, attachments) = fixture::load(&golden, "llama"); // 67 tokens, 64 positions, a prefix of 5 rows
    let settings = GenerationSettings { max_new_tokens: 30, ..GenerationSettings::default() };
    let generator = Generator::new(&model, &attachments, &settings, &[15], None).unwrap();
    let good = Request { source: Vec::new(), prompt: vec![1], segment: None };
    let refused = |prompt: Vec<u32>, segment| {
        let mut recorder = Recorder::default();
        let requests = [good.clone(), Request { source: Vec::new(), prompt, segment }];
        let error = generator.run(&requests, 1, &mut recorder).unwrap_err();
        assert!(recorder.tokens.is_empty(), "{error}: found too late");
        error
    };
    assert_eq!(refused(vec![], None), GenerateError::EmptyPrompt { prompt: 1 });
    assert_eq!(
        refused(vec![67], None),
        GenerateError::UnknownPromptToken { prompt: 1, token: 67, vocab_size: 67 }
    );
    assert_eq!(
        refused(vec![1], Some(1)),
        GenerateError::UnknownSegment { prompt: 1, segment: 1, n_segment: 1 }
    );
    let message = refused(vec![1; 31], Some(0)).to_string();
    for part in ["prompt 2", "5 prefix rows", "31 tokens", "`max_new_tokens` = 30", "64 positions"] {
        assert!(message.contains(part), "{message}");
    }
    // One token less fits exactly: the last one is never run.
    let full = [Request { source: Vec::new(), prompt: vec![1; 30], segment: Some(0) }];
    let settings = GenerationSettings { min_new_tokens: 30, ..settings.clone() };
    let generator = Generator::new(&model, &attachments, &settings, &[15], None).unwrap();
    assert_eq!(generator.run(&full, 1, &mut ()).unwrap()[0].token_ids.len(), 30);
}

#[test]
fn settings_that_the_model_cannot_follow_are_refused() {
    let golden = fixture::golden();
    let (model, attachments) = fixture::load(&golden, "llama");
    let refused = |change: &dyn Fn(&mut GenerationSettings), end_tokens: &[u32], codec| {
        let mut settings = GenerationSettings::default();
        change(&mut settings);
        let generator = Generator::new(&model, &attachments, &settings, end_tokens, codec);
        generator.map(drop).expect_err("should be refused").to_string()
    };
    let unknown = refused(&|s| s.bad_words_ids = vec![vec![1, 67]], &[], None);
    assert!(unknown.contains("`bad_words_ids`") && unknown.contains("67"), "{unknown}");
    assert!(refused(&|_| (), &[99], None).contains("`eos_token_id` names token id 99"));
    assert!(refused(&|s| s.stop_strings = vec!["x".into()], &[], None).contains("`stop_strings` needs"));
    assert!(refused(&|s| s.bad_words = vec!["x".into()], &[], None).contains("`bad_words` needs"));
    let nothing = refused(&|s| s.bad_words = vec!["!".into()], &[], Some(&Letters));
    assert!(nothing.contains("makes no token of \"!\""), "{nothing}");
    assert!(refused(&|s| s.num_beams = 0, &[], None).contains("`num_beams` is 0"));
}
