//! PEFT, `transformers` and we load each other's folders of the methods and compute the same logits; what is no folder of
//! theirs is refused.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use preface_backend::Reference;
use preface_model::{Attachments, Batch, Fingerprint, Model, ModelDropout, ModelFiles, Sequence, Stack};
use preface_tune::artefact::{
    CONFIG, Description, MODEL, ModelFolder, Opened, TENSORS, TrainedWith, write_trained,
};
use preface_tune::{Adapter, FineTune, Infix, Lora, LoraSettings, Method, PromptTuning, Trained, Tuned};
use serde_json::json;
use testkit::{Golden, Tolerance, assert_close, golden_folder};

/// `f32` on both sides, different orders of summation.
const F32: Tolerance = Tolerance { abs: 0.0, rel: 1e-4 };

const MODELS: [&str; 2] = ["tiny_llama", "tiny_gpt2"];
const ENCODER_DECODERS: [&str; 2] = ["bart", "t5_v1_1"];

fn files(model: &str) -> ModelFiles {
    let folder = match model.starts_with("tiny_") {
        true => golden_folder().join(model).join("model"),
        false => golden_folder().join("encoder_decoder").join(model),
    };
    ModelFiles::open(folder.to_str().unwrap()).unwrap()
}

fn load(model: &str) -> Model<Reference> {
    files(model).load(Reference).unwrap()
}

fn prompts(golden: &Golden, model: &str) -> Vec<Vec<u32>> {
    serde_json::from_value(golden.value(&format!("/prompts/{model}")).unwrap().clone()).unwrap()
}

/// Logits of every token of the prompt; in an encoder-decoder both sides see it.
fn logits(model: &Model<Reference>, attachments: &Attachments<Reference>, prompt: &[u32]) -> Vec<f32> {
    // The last token of a sequence has no row: a token more gives it one. An infix stands behind the first.
    let tokens = [prompt, &[0]].concat();
    let sequence = Sequence {
        source: if model.spec().encoder.is_some() { prompt } else { &[] },
        tokens: &tokens,
        first_target: 1,
        segment: None,
        prefix_dropout: None,
        masks: None,
    };
    let batch = Batch::pack(&Reference, model.spec(), attachments, &[sequence], 0.0).unwrap();
    let logits = model.logits(&batch, attachments);
    logits[logits.len() - prompt.len() * model.spec().vocab_size..].to_vec()
}

fn folder_logits(model_name: &str, folder: &Path, prompt: &[u32]) -> Vec<f32> {
    let mut model = load(model_name);
    let mut method = Opened::open(folder).unwrap().method(model_name, &model).unwrap();
    let attachments = method.attach(&mut model);
    logits(&model, &attachments, prompt)
}

fn description(model: &str) -> Description {
    let files = files(model);
    Description {
        base_model: Some(format!("example/{model}")),
        fingerprint: Fingerprint::new(files.spec(), files.weights(), "no tokenizer".into()).unwrap(),
        text: json!({"separator": " "}),
        recipe: json!({"learning_rate": 0.001}),
        data_hash: None,
        scores: vec![],
        trained_with: TrainedWith { precision: "f32".into(), tier: "reference".into() },
    }
}

fn write(folder: &Path, model: &str, trained: &Trained) {
    let files = files(model);
    let (config, others) = files.folder_files().unwrap().unwrap();
    let model_folder = ModelFolder { config, others, constants: files.constant_tensors().unwrap() };
    write_trained(folder, trained, files.spec(), &description(model), Some(&model_folder)).unwrap();
}

#[test]
fn folders_of_peft_load_and_give_its_logits() {
    let golden = Golden::open("methods").unwrap();
    for name in MODELS {
        for kind in ["lora", "prompt_tuning"] {
            let folder = golden.folder().join(name).join(kind);
            assert_eq!(Opened::open(&folder).unwrap().base_model(), Some(format!("example/{name}").as_str()));
            for (i, prompt) in prompts(&golden, name).iter().enumerate() {
                let what = format!("{name}.{kind}.logits.{i}");
                assert_close(
                    &what,
                    &folder_logits(name, &folder, prompt),
                    &golden.tensor(&what).unwrap().data,
                    F32,
                );
            }
        }
    }
}

#[test]
fn what_peft_wrote_is_written_again_with_its_bytes() {
    let fixtures = |folder: &'static str, name, kinds: &'static [&'static str]| {
        kinds.iter().map(move |kind| (folder, name, *kind))
    };
    let causal = MODELS.into_iter().flat_map(|name| fixtures("methods", name, &["lora", "prompt_tuning"]));
    let others = [
        ("bart", &["lora"][..]),
        ("mbart", &["prompt_tuning"]),
        ("t5", &["prompt_tuning"]),
        ("t5_v1_1", &["lora", "prompt_tuning"]),
    ];
    let others =
        others.into_iter().flat_map(|(name, kinds)| fixtures("encoder_decoder_methods", name, kinds));
    for (folder, name, kind) in causal.chain(others) {
        let folder = golden_folder().join(folder).join(name).join(kind);
        let model = load(name);
        let trained = Opened::open(&folder).unwrap().method(name, &model).unwrap().trained();
        let ours = tempfile::tempdir().unwrap();
        write(ours.path(), name, &trained);
        let bytes = |folder: &Path| fs_err::read(folder.join(TENSORS)).unwrap();
        assert_eq!(bytes(ours.path()), bytes(&folder), "{name} {kind}");
        let config = |folder: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs_err::read(folder.join(CONFIG)).unwrap()).unwrap()
        };
        let (ours, theirs) = (config(ours.path()), config(&folder));
        for (key, value) in ours.as_object().unwrap() {
            let same =
                *value == theirs[key] || value.as_f64().is_some_and(|v| theirs[key].as_f64() == Some(v));
            assert!(same, "{name} {kind} {key}: {value} against {}", theirs[key]);
        }
    }
}

/// Values that are exact in any arithmetic, so that the fixtures can be made again anywhere.
fn fill(method: &mut impl Method<Reference>) {
    for (i, value) in method.parameters_mut().values_mut().iter_mut().enumerate() {
        *value += (i * 37 % 101) as f32 / 512.0 - 0.1;
    }
}

fn lora(name: &str) -> Lora {
    let targets: &[&str] = match name {
        "tiny_llama" => &["q_proj", "k_proj", "down_proj"],
        "tiny_gpt2" => &["c_attn", "mlp.c_proj"],
        "bart" => &["q_proj", "v_proj", "fc2"],
        _ => &["q", "v", "wi_1"],
    };
    let target_modules = targets.iter().map(|target| (*target).to_owned()).collect();
    let settings = LoraSettings { r: 2, lora_alpha: 3.0, lora_dropout: 0.0, target_modules };
    let mut lora = Lora::new(files(name).spec(), settings, 1).unwrap();
    let parameters = Method::<Reference>::parameters_mut(&mut lora).values_mut();
    parameters.fill(0.0);
    fill(&mut lora);
    lora
}

fn trained(name: &str) -> Vec<(&'static str, Trained)> {
    let model = load(name);
    let spec = model.spec();
    let mut prompt = PromptTuning::new(spec, 3, None, preface_tune::init::Init::Zeros, 1);
    fill(&mut prompt);
    let mut adapter = Adapter::new(spec, 2, ModelDropout::default(), 1);
    fill(&mut adapter);
    let mut top = FineTune::new(&model, Tuned::Top(1), ModelDropout::default()).unwrap();
    fill(&mut top);
    let mut all = FineTune::new(&model, Tuned::All, ModelDropout::default()).unwrap();
    fill(&mut all);
    let mut infix = Infix::new(spec, 2, Some(4), preface_tune::init::Init::Random, 2);
    fill(&mut infix);
    vec![
        ("prompt_tuning", Method::<Reference>::trained(&prompt)),
        ("infix", Method::<Reference>::trained(&infix)),
        ("lora", Trained::Lora(lora(name))),
        ("adapter", Trained::Adapter(adapter)),
        ("top_layers", Trained::Weights(top)),
        ("fine_tune", Trained::Weights(all)),
    ]
}

#[test]
fn what_is_saved_loads_with_the_same_bits_and_logits() {
    let prompt = [5, 9, 11];
    for name in MODELS.into_iter().chain(ENCODER_DECODERS) {
        for (kind, trained) in trained(name) {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), name, &trained);
            let model = load(name);
            let opened = Opened::open(folder.path()).unwrap();
            let again = opened.method(name, &model).unwrap().trained();
            let second = tempfile::tempdir().unwrap();
            write(second.path(), name, &again);
            let file = if kind == "fine_tune" { MODEL } else { TENSORS };
            let bytes = |folder: &Path| fs_err::read(folder.join(file)).unwrap();
            assert_eq!(bytes(folder.path()), bytes(second.path()), "{name} {kind}");
            let bare = logits(&model, &Attachments::none(), &prompt);
            let with = folder_logits(name, folder.path(), &prompt);
            assert!(
                with.iter().zip(&bare).any(|(a, b)| (a - b).abs() > 1e-2),
                "{name} {kind} changes nothing"
            );
            let given = &description(name).fingerprint;
            let warning = opened.check_base(name, given, preface_tune::artefact::OtherWeights::Refused);
            assert_eq!(warning.unwrap(), None, "{name} {kind}");
            if kind == "fine_tune" {
                // As a model of its own.
                let own = ModelFiles::open(folder.path().to_str().unwrap()).unwrap().load(Reference).unwrap();
                assert_eq!(logits(&own, &Attachments::none(), &prompt), with, "{name} {kind}");
            }
        }
    }
}

fn fixture(name: &str, kind: &str) -> PathBuf {
    golden_folder().join("methods_ours").join(name).join(kind)
}

/// Loaded by PEFT or `transformers`: see tests/golden/methods_ours/make.py.
const FIXTURES: [(&str, &str); 11] = [
    ("bart", "lora"),
    ("bart", "prompt_tuning"),
    ("bart", "fine_tune"),
    ("t5_v1_1", "lora"),
    ("t5_v1_1", "prompt_tuning"),
    ("t5_v1_1", "fine_tune"),
    ("tiny_llama", "lora"),
    ("tiny_llama", "prompt_tuning"),
    ("tiny_gpt2", "lora"),
    ("tiny_gpt2", "prompt_tuning"),
    ("tiny_gpt2", "fine_tune"),
];

#[test]
#[ignore = "makes fixtures; those that are there stay as they were written"]
fn write_the_fixtures() {
    for (name, kind) in FIXTURES {
        let (_, trained) = trained(name).into_iter().find(|(known, _)| *known == kind).unwrap();
        if fixture(name, kind).exists() {
            continue;
        }
        write(&fixture(name, kind), name, &trained);
    }
}

#[test]
fn peft_and_transformers_compute_our_logits_with_our_folders() {
    let golden = Golden::open("methods_ours").unwrap();
    for (name, kind) in FIXTURES {
        for (i, prompt) in prompts(&golden, name).iter().enumerate() {
            let what = format!("{name}.{kind}.logits.{i}");
            let want = golden.tensor(&what).unwrap();
            assert_close(&what, &folder_logits(name, &fixture(name, kind), prompt), &want.data, F32);
        }
    }
}

/// PEFT keeps two sets for an encoder-decoder unless it is told otherwise, and uses the first.
#[test]
fn of_two_sets_of_rows_the_first_is_read_and_written() {
    let folder = golden_folder().join("encoder_decoder_methods/bart/prompt_tuning");
    let opened = Opened::open(&folder).unwrap();
    assert_eq!(opened.n_number(), 6 * 30);
    let model = load("bart");
    assert_eq!(opened.n_position(model.spec(), Stack::Encoder), 3);
    assert_eq!(opened.n_position(model.spec(), Stack::Decoder), 0);
    let trained = opened.method("bart", &model).unwrap().trained();
    let ours = tempfile::tempdir().unwrap();
    write(ours.path(), "bart", &trained);
    let written = Opened::open(ours.path()).unwrap();
    assert_eq!(written.n_number(), 3 * 30);
    assert_eq!(written.method("bart", &model).unwrap().trained(), trained);
    // A decoder-only model has one set, and its rows are no encoder's.
    let changed = |key: &str, value: serde_json::Value, model: &str| {
        let path = ours.path().join(CONFIG);
        let before = fs_err::read(&path).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&before).unwrap();
        config[key] = value;
        fs_err::write(&path, config.to_string()).unwrap();
        let opened = Opened::open(ours.path());
        let error = opened.and_then(|opened| opened.method(model, &load(model)).map(drop)).unwrap_err();
        fs_err::write(&path, before).unwrap();
        error.to_string()
    };
    for (key, value, model, parts) in [
        ("task_type", json!("SEQ_CLS"), "bart", ["task_type", "CAUSAL_LM or SEQ_2_SEQ_LM"]),
        ("task_type", json!("CAUSAL_LM"), "bart", ["`task_type` = CAUSAL_LM", "bart is an encoder-decoder"]),
        ("num_transformer_submodules", json!(3), "bart", ["num_transformer_submodules", "2"]),
        ("num_transformer_submodules", json!(2), "bart", ["prompt_embeddings", "[6, 30]"]),
        ("num_virtual_tokens", json!(4), "bart", ["prompt_embeddings", "[4, 30]"]),
        ("num_virtual_tokens", json!(0), "bart", ["num_virtual_tokens", "between 1"]),
        ("revision", json!(null), "tiny_gpt2", ["`task_type` = SEQ_2_SEQ_LM", "tiny_gpt2 is decoder-only"]),
    ] {
        let error = changed(key, value, model);
        assert!(parts.iter().all(|part| error.contains(part)), "{key}: {error}");
    }
}

#[test]
fn folders_that_do_not_fit_are_refused_with_what_was_expected() {
    let golden = golden_folder().join("methods");
    let error = |folder: &Path, model: &str| {
        let model_of = load(model);
        match Opened::open(folder) {
            Ok(opened) => opened.method(model, &model_of).err().unwrap().to_string(),
            Err(error) => error.to_string(),
        }
    };
    // On another family.
    let wrong = error(&golden.join("tiny_llama/lora"), "tiny_gpt2");
    assert!(wrong.contains("`down_proj`") && wrong.contains("c_attn"), "{wrong}");
    let wrong = error(&golden.join("tiny_llama/prompt_tuning"), "tiny_gpt2");
    assert!(wrong.contains("prompt_embeddings") && wrong.contains("[4, 48]"), "{wrong}");

    // Options that would change what is computed.
    let changed = |key: &str, value: serde_json::Value| {
        let folder = tempfile::tempdir().unwrap();
        let from = golden.join("tiny_llama/lora");
        fs_err::copy(from.join(TENSORS), folder.path().join(TENSORS)).unwrap();
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs_err::read(from.join(CONFIG)).unwrap()).unwrap();
        config[key] = value;
        fs_err::write(folder.path().join(CONFIG), config.to_string()).unwrap();
        error(folder.path(), "tiny_llama")
    };
    let wrong = changed("use_rslora", json!(true));
    assert!(wrong.contains("`use_rslora` = true is not supported"), "{wrong}");
    let wrong = changed("r", json!(2));
    assert!(wrong.contains("lora_A") && wrong.contains("[2, "), "{wrong}");
    let wrong = changed("target_modules", json!(["q_proj", "k_proj"]));
    assert!(wrong.contains("k_proj.lora_A.weight"), "{wrong}");
    let wrong = changed("target_modules", json!(["q_proj"]));
    assert!(wrong.contains("no place for") && wrong.contains("v_proj"), "{wrong}");
    let wrong = changed("peft_type", json!("IA3"));
    assert!(wrong.contains("IA3") && wrong.contains("LORA"), "{wrong}");
    let wrong = changed("peft_type", json!("PREFIX_TUNING"));
    assert!(wrong.contains("num_virtual_tokens"), "{wrong}");
}

#[test]
fn settings_that_do_not_fit_the_model_are_refused_with_what_would() {
    let model = load("tiny_llama");
    let spec = model.spec();
    let lora = |r, target: &str| {
        let target_modules = if target.is_empty() { vec![] } else { vec![target.to_owned()] };
        let settings = LoraSettings { r, lora_alpha: 1.0, lora_dropout: 0.0, target_modules };
        Lora::new(spec, settings, 1).unwrap_err().to_string()
    };
    assert!(lora(2, "c_attn").contains("q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"));
    assert!(lora(2, "").contains("q_proj"));
    assert!(lora(0, "q_proj").contains("1 to 48"), "{}", lora(0, "q_proj"));
    assert!(lora(49, "q_proj").contains("1 to 48"));
    let n_model = spec.n_parameter(false);
    let error = Adapter::width_of_share(spec, 1e-5, n_model).unwrap_err().to_string();
    let smallest = Adapter::n_parameter(spec, 1) as f64 / n_model as f64;
    assert!(error.contains(&format!("{smallest:.6}")), "{error}");
    assert_eq!(Adapter::width_of_share(spec, smallest, n_model), Ok(1));
    for top in [0, 4] {
        let error = FineTune::new(&model, Tuned::Top(top), ModelDropout::default()).unwrap_err();
        assert!(error.to_string().contains("expected 1 to 3"), "{error}");
    }
}

#[test]
fn the_papers_adapter_sizes_are_those_of_its_table() {
    // GPT-2 medium: 24 blocks of width 1024.
    let spec = preface_model::ModelSpec { n_layer: 24, d_model: 1024, ..files("tiny_gpt2").spec().clone() };
    assert_eq!(Adapter::n_parameter(&spec, 6), 368_784);
    assert_eq!(Adapter::n_parameter(&spec, 224), 11_089_152);
    assert_eq!(Adapter::width_of_share(&spec, 0.001, 354_823_168), Ok(6));
}
