//! A trained encoder-decoder: Arabic letters to Latin ones, in the layout of Pegasus, as `transformers` does it.

use preface_backend::{Backend, Reference};
use preface_cpu::{CpuBackend, CpuOptions, Precision};
use preface_generate::{GenerationSettings, Generator, Request};
use preface_model::tokenizer::Special;
use preface_model::{Attachments, ModelFiles};
use testkit::Golden;

#[test]
fn letters_become_what_transformers_makes_of_them() {
    letters_become_latin(|| Reference);
}

#[test]
fn they_do_so_on_the_cpu_backend_too() {
    let options = CpuOptions { precision: Precision::F32, threads: 2, ..CpuOptions::default() };
    letters_become_latin(|| CpuBackend::new(options).unwrap());
}

fn letters_become_latin<B: Backend>(backend: impl Fn() -> B) {
    let golden = Golden::open("transliteration").unwrap();
    let files = ModelFiles::open(golden.folder().join("model").to_str().unwrap()).unwrap();
    let (tokenizer, special) = files.tokenizer().unwrap();
    let model = files.load(backend()).unwrap();
    let none = Attachments::<B>::none();
    let words = golden.value("/words").unwrap().as_array().unwrap().clone();
    let sources: Vec<Vec<u32>> = words
        .iter()
        .enumerate()
        .map(|(i, word)| {
            let ids = tokenizer.encode(word["word"].as_str().unwrap(), Special::AsTokenizer).unwrap();
            assert_eq!(ids, golden.token_ids(&format!("/words/{i}/ids")).unwrap());
            ids
        })
        .collect();
    for (way, num_beams) in [("greedy", 1), ("beams", 4)] {
        let settings = GenerationSettings { num_beams, max_new_tokens: 30, ..GenerationSettings::default() };
        let generator = Generator::new(&model, &none, &settings, &special.end, None).unwrap();
        let request = |source: &Vec<u32>| Request { source: source.clone(), prompt: vec![52], segment: None };
        let requests: Vec<Request> = sources.iter().map(request).collect();
        let answers = generator.run(&requests, 4, &mut ()).unwrap();
        for (answer, word) in answers.iter().zip(&words) {
            let text = tokenizer.decode(&answer.token_ids, true).unwrap();
            assert_eq!(text, word[format!("{way}_text")].as_str().unwrap(), "{word}");
        }
        assert_eq!(tokenizer.decode(&answers[0].token_ids, true).unwrap(), "atzmon");
    }
}
