//! Encoder-decoders: greedy with rows in every place, and beams, against `transformers`.

use preface_backend::Reference;
use preface_generate::{FileDefaults, GenerationSettings, Generator, Request};
use preface_model::{Attachments, ModelFiles, PerPlace, PrefixPlace, Segment};
use testkit::{Golden, Tolerance, assert_close};

const MODELS: [&str; 6] = ["bart", "mbart", "pegasus", "marian", "t5", "t5_v1_1"];
const SUBSETS: [(&str, &[PrefixPlace]); 5] = [
    ("bare", &[]),
    ("encoder", &[PrefixPlace::Encoder]),
    ("decoder", &[PrefixPlace::Decoder]),
    ("cross", &[PrefixPlace::Cross]),
    ("all", &PrefixPlace::ALL),
];

struct Case {
    golden: Golden,
    name: &'static str,
    model: preface_model::Model<Reference>,
    end: u32,
}

impl Case {
    fn open(name: &'static str) -> Self {
        let golden = Golden::open("encoder_decoder").unwrap();
        let files = ModelFiles::open(golden.folder().join(name).to_str().unwrap()).unwrap();
        let model = files.load(Reference).unwrap();
        let pairs = golden.pairs(&format!("/models/{name}/pairs")).unwrap();
        let end = *pairs[0].completion.last().unwrap();
        Self { golden, name, model, end }
    }

    fn attach(&self, places: &[PrefixPlace]) -> Attachments<Reference> {
        let rows = PerPlace::new(|place| match places.contains(&place) {
            true => self.golden.tensor(&format!("{}.rows.{place}", self.name)).unwrap().data.clone(),
            false => Vec::new(),
        });
        let first_position = rows.decoder.len() / self.model.spec().row_width(PrefixPlace::Decoder);
        let slices = PerPlace::new(|place| rows.get(place).as_slice());
        let segment = Segment::in_places(&Reference, slices, first_position, self.model.spec());
        Attachments { segments: vec![segment], ..Attachments::none() }
    }

    fn requests(&self) -> Vec<Request> {
        let start = self.golden.number(&format!("/models/{}/decoder_start_token_id", self.name)).unwrap();
        let pairs = self.golden.pairs(&format!("/models/{}/pairs", self.name)).unwrap();
        let request = |source: &Vec<u32>| Request {
            source: source.clone(),
            prompt: vec![start as u32],
            segment: Some(0),
        };
        pairs[..4].iter().map(|pair| request(&pair.prompt)).collect()
    }

    /// What BART and its relatives have in their generation_config.json.
    fn settings(&self, num_beams: usize) -> GenerationSettings {
        let forced_eos_token_id = (!self.name.starts_with("t5")).then_some(self.end);
        GenerationSettings {
            max_new_tokens: 9,
            num_beams,
            forced_eos_token_id,
            ..GenerationSettings::default()
        }
    }

    /// The answers with their end token.
    fn answers(
        &self,
        places: &[PrefixPlace],
        num_beams: usize,
        batch_size: usize,
    ) -> Vec<(Vec<u32>, Option<f32>)> {
        self.answers_by(places, &self.settings(num_beams), batch_size)
    }

    fn answers_by(
        &self,
        places: &[PrefixPlace],
        settings: &GenerationSettings,
        batch_size: usize,
    ) -> Vec<(Vec<u32>, Option<f32>)> {
        let attachments = self.attach(places);
        let ends = [self.end];
        let generator = Generator::new(&self.model, &attachments, settings, &ends, None).unwrap();
        let answers = generator.run(&self.requests(), batch_size, &mut ()).unwrap();
        let whole = |answer: preface_generate::Generation| {
            let mut ids = answer.token_ids;
            ids.extend((answer.finish == preface_generate::Finish::End).then_some(self.end));
            (ids, answer.score)
        };
        answers.into_iter().map(whole).collect()
    }
}

#[test]
fn greedy_equals_transformers_with_rows_in_every_place() {
    for name in MODELS {
        let case = Case::open(name);
        for (subset, places) in SUBSETS {
            let got = case.answers(places, 1, 3);
            let inputs = case.golden.numbers(&format!("/models/{name}/greedy_inputs/{subset}")).unwrap();
            assert!(!inputs.is_empty());
            for (i, input) in inputs.into_iter().enumerate() {
                let want = case.golden.token_ids(&format!("/models/{name}/greedy/{subset}/{i}")).unwrap();
                assert_eq!(got[input as usize].0, want, "{name} {subset} {input}");
            }
        }
    }
}

#[test]
fn beams_equal_transformers() {
    for name in MODELS {
        let case = Case::open(name);
        for (i, (ids, score)) in case.answers(&[], 3, 2).into_iter().enumerate() {
            let want = format!("/models/{name}/beams/{i}");
            let score_of = case.golden.number(&format!("{want}/score")).unwrap();
            let tolerance = Tolerance { abs: 1e-5, rel: 1e-4 };
            assert_close(&want, &[score.unwrap()], &[score_of], tolerance);
            let padded = case.golden.token_ids(&format!("{want}/ids")).unwrap();
            assert_eq!(ids, padded[..ids.len()], "{want}");
        }
    }
}

#[test]
fn an_answer_does_not_depend_on_its_batch_with_beams_and_rows_in_every_place() {
    for name in ["mbart", "t5"] {
        let case = Case::open(name);
        assert_eq!(case.answers(&PrefixPlace::ALL, 3, 1), case.answers(&PrefixPlace::ALL, 3, 4), "{name}");
    }
}

/// What published generation configs say, read as such, gives what `generate` makes of it.
#[test]
fn answers_by_a_models_own_generation_config_equal_those_of_transformers() {
    for name in MODELS {
        let case = Case::open(name);
        let configs = case.golden.value(&format!("/models/{name}/configs")).unwrap().as_array().unwrap();
        assert_eq!(configs.len(), 4);
        for (number, entry) in configs.iter().enumerate() {
            let defaults = FileDefaults::read("generation_config.json", &entry["config"]).unwrap();
            assert!(defaults.unknown.is_empty(), "{:?}", defaults.unknown);
            let mut settings = serde_json::to_value(GenerationSettings::default()).unwrap();
            for default in defaults.values {
                settings[default.setting] = default.value;
            }
            let settings: GenerationSettings = serde_json::from_value(settings).unwrap();
            let got = case.answers_by(&[], &settings, 4);
            for (i, (ids, score)) in got.into_iter().enumerate() {
                let what = format!("{name} config {number} input {i}");
                let want = &entry["outputs"][i];
                let padded: Vec<u32> = serde_json::from_value(want["ids"].clone()).unwrap();
                assert_eq!(ids, padded[..ids.len()], "{what}");
                assert!(padded.len() == ids.len() || ids.last() == Some(&case.end), "{what}: {ids:?}");
                if let Some(want) = want["score"].as_f64() {
                    let tolerance = Tolerance { abs: 1e-5, rel: 1e-4 };
                    assert_close(&what, &[score.unwrap()], &[want], tolerance);
                }
            }
        }
    }
}
