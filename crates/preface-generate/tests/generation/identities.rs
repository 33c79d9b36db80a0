//! What must hold whatever the weights are: batch = alone, cached = uncached, prefix from a text = that text first.

use preface_backend::Reference;
use preface_generate::{EarlyStopping, GenerationSettings, Generator, Request};
use preface_model::{Attachments, Feed, KvCache};

use crate::fixture;

fn settings() -> [GenerationSettings; 4] {
    let greedy = GenerationSettings { max_new_tokens: 20, ..GenerationSettings::default() };
    [
        GenerationSettings { do_sample: true, seed: 5, ..greedy.clone() },
        GenerationSettings { no_repeat_ngram_size: 2, repetition_penalty: 1.2, ..greedy.clone() },
        GenerationSettings { num_beams: 4, early_stopping: EarlyStopping::Never, ..greedy.clone() },
        greedy,
    ]
}

#[test]
fn an_answer_does_not_depend_on_the_batch() {
    let golden = fixture::golden();
    for name in fixture::MODELS {
        let (model, attachments) = fixture::load(&golden, name);
        let end_tokens = &fixture::end_tokens(name);
        let mut requests = fixture::requests(&golden, name, None);
        requests.extend(fixture::requests(&golden, name, Some(0)));
        requests.swap(1, 6); // prefixes mixed
        for settings in settings() {
            let generator = Generator::new(&model, &attachments, &settings, end_tokens, None).unwrap();
            let alone = generator.run(&requests, 1, &mut ()).unwrap();
            for batch_size in [2, 3, 8, 100] {
                let together = generator.run(&requests, batch_size, &mut ()).unwrap();
                assert_eq!(together, alone, "{name}: batches of {batch_size}, {settings:?}");
            }
        }
    }
}

#[test]
fn the_cache_changes_nothing() {
    let golden = fixture::golden();
    for name in fixture::MODELS {
        let (model, attachments) = fixture::load(&golden, name);
        // Past two pages of the cache.
        let settings = GenerationSettings { max_new_tokens: 27, ..GenerationSettings::default() };
        let generator = Generator::new(&model, &attachments, &settings, &[], None).unwrap();
        for segment in [None, Some(0)] {
            let requests = fixture::requests(&golden, name, segment);
            let answers = generator.run(&requests, 4, &mut ()).unwrap();
            for (request, answer) in requests.iter().zip(answers) {
                let mut text = request.prompt.clone();
                for &token in &answer.token_ids {
                    let mut cache = KvCache::new(&model, &attachments);
                    let sequence = cache.start(segment);
                    let logits = cache.extend(&[Feed { sequence, tokens: &text }]).unwrap();
                    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
                    assert_eq!(
                        best as u32,
                        token,
                        "{name}, segment {segment:?}, after {} tokens",
                        text.len()
                    );
                    text.push(token);
                }
                assert_eq!(answer.token_ids.len(), 27);
            }
        }
    }
}

#[test]
fn a_prefix_made_from_a_text_is_that_text_in_front() {
    let golden = fixture::golden();
    for name in fixture::MODELS {
        let (model, none) = (fixture::load(&golden, name).0, Attachments::none());
        let text = [9, 4, 33, 20, 7];
        let mut cache = KvCache::new(&model, &none);
        let sequence = cache.start(None);
        cache.append(&[Feed { sequence, tokens: &text }]).unwrap();
        let attachments = Attachments::prefix(&Reference, &cache.read(sequence), model.spec());
        let end_tokens = &fixture::end_tokens(name);
        let behind_prefix = fixture::requests(&golden, name, Some(0));
        let behind_text: Vec<Request> = behind_prefix
            .iter()
            .map(|request| Request {
                source: Vec::new(),
                prompt: [&text[..], &request.prompt].concat(),
                segment: None,
            })
            .collect();
        // The repetition rules count tokens, which prefix rows are not.
        for settings in settings().into_iter().filter(|settings| settings.no_repeat_ngram_size == 0) {
            let run = |attachments, requests: &[Request]| {
                let generator = Generator::new(&model, attachments, &settings, end_tokens, None).unwrap();
                generator.run(requests, 3, &mut ()).unwrap()
            };
            let answers = run(&attachments, &behind_prefix);
            for (got, want) in answers.iter().zip(run(&none, &behind_text)) {
                assert_eq!(got.token_ids, want.token_ids, "{name}, {settings:?}");
                assert!((got.logprob - want.logprob).abs() < 1e-4, "{} and {}", got.logprob, want.logprob);
            }
        }
    }
}
