//! Artefacts: what is written is read again bit by bit, whatever is wrong with a folder is named, and nothing breaks.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use preface_model::{Fingerprint, ModelFiles, Probe, Shapes};
use preface_tune::PrefixRows;
use preface_tune::artefact::{
    Artefact, ArtefactError, CARD, CONFIG, Description, MANIFEST, OtherWeights, Score, TENSORS, TrainedWith,
    Warning, write,
};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{golden_folder, mutate};

fn rows() -> PrefixRows {
    let (prefix_len, n_layer, n_kv_head, head_dim) = (5, 3, 2, 10);
    let n_number = prefix_len * 2 * n_layer * n_kv_head * head_dim;
    let values = (0..n_number).map(|i| (i as f32 * 0.37).sin() / 3.0).collect();
    PrefixRows { prefix_len, n_layer, n_kv_head, head_dim, values }
}

fn fingerprint() -> Fingerprint {
    let shapes = Shapes {
        family: "llama".into(),
        n_layer: 3,
        d_model: 48,
        n_head: 6,
        n_kv_head: 2,
        head_dim: 10,
        vocab_size: 97,
        d_ff: 80,
        encoder: None,
    };
    let probe = Probe { matrix: "values".into(), values: (1..64).map(|i| (i as f32).sin()).collect() };
    Fingerprint { shapes, tokenizer: "0123456789abcdef".into(), probe: vec![probe] }
}

fn description() -> Description {
    Description {
        base_model: Some("HuggingFaceTB/SmolLM2-135M".into()),
        fingerprint: fingerprint(),
        text: json!({"format": "webnlg", "separator": " ", "template": "{prompt} | {completion}\n"}),
        recipe: json!({"learning_rate": 1e-3, "seed": 7, "init": {"kind": "text", "text": "a ` and a | b"}}),
        data_hash: Some("cafe".into()),
        scores: vec![Score { name: "BLEU".into(), score: 37.1, signature: "nrefs:var|case:lc".into() }],
        trained_with: TrainedWith { precision: "f32".into(), tier: "avx2".into() },
    }
}

fn written() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &rows(), &description()).unwrap();
    folder
}

/// A good folder of which one JSON file was changed.
fn with_json(file: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let folder = written();
    let path = folder.path().join(file);
    let mut value: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs_err::write(&path, serde_json::to_vec(&value).unwrap()).unwrap();
    folder
}

/// A good folder whose tensors were exchanged for these.
fn with_tensors(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> TempDir {
    let folder = written();
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    fs_err::write(folder.path().join(TENSORS), serialize(views, None).unwrap()).unwrap();
    folder
}

fn error(folder: &TempDir) -> (ArtefactError, String) {
    let error = Artefact::open(folder.path()).expect_err("something is wrong with it");
    let message = error.to_string();
    (error, message)
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

#[test]
fn what_is_written_is_read_with_the_same_bits() {
    let mut rows = rows();
    // Values whose bits a conversion through text or another precision would lose.
    rows.values[..4].copy_from_slice(&[-0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, 0.1]);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &rows, &description()).unwrap();
    let read = Artefact::open(folder.path()).unwrap();
    let bits = |rows: &PrefixRows| rows.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read.rows), bits(&rows));
    assert_eq!(read.rows, rows);
    assert_eq!(read.description, Some(description()));
    assert_eq!(read.base_model, description().base_model);
}

#[test]
fn equal_rows_give_equal_bytes_in_every_file_and_folder() {
    let (a, b) = (written(), written());
    for file in [TENSORS, CONFIG, MANIFEST, CARD] {
        let bytes = |folder: &TempDir| fs_err::read(folder.path().join(file)).unwrap();
        assert_eq!(bytes(&a), bytes(&b), "{file}");
    }
}

#[test]
fn one_row_and_one_number_per_head_are_enough() {
    let rows = PrefixRows { prefix_len: 1, n_layer: 1, n_kv_head: 1, head_dim: 1, values: vec![1.0, 2.0] };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &rows, &description()).unwrap();
    assert_eq!(Artefact::open(folder.path()).unwrap().rows, rows);
}

#[test]
fn a_path_of_this_machine_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let base_model = Some("/somewhere/secret/model.gguf".into());
    write(folder.path(), &rows(), &Description { base_model, ..description() }).unwrap();
    for file in [TENSORS, CONFIG, MANIFEST, CARD] {
        let bytes = fs_err::read(folder.path().join(file)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "{file}");
    }
    let read = Artefact::open(folder.path()).unwrap();
    assert_eq!(read.base_model, None);
    assert_eq!(read.description.unwrap().base_model, None);
}

#[test]
fn the_hash_changes_with_each_size_and_each_value() {
    let all = rows();
    let changes: [fn(&mut PrefixRows); 4] = [
        |rows| rows.values[0] = -rows.values[0],
        |rows| rows.values.swap(1, 2),
        |rows| (rows.n_kv_head, rows.head_dim) = (rows.head_dim, rows.n_kv_head),
        |rows| (rows.prefix_len, rows.n_layer) = (rows.n_layer, rows.prefix_len),
    ];
    let mut hashes = vec![all.content_hash()];
    for change in changes {
        let mut rows = all.clone();
        change(&mut rows);
        hashes.push(rows.content_hash());
    }
    assert_eq!(all.content_hash().len(), 64);
    assert_eq!(all.content_hash(), rows().content_hash());
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 5);
}

#[test]
fn the_card_shows_settings_scores_and_both_uses() {
    let folder = written();
    let card = fs_err::read_to_string(folder.path().join(CARD)).unwrap();
    let parts = [
        "---\nlibrary_name: peft\n",
        "\nbase_model: HuggingFaceTB/SmolLM2-135M\n",
        "preface generate --model HuggingFaceTB/SmolLM2-135M",
        "PeftModel.from_pretrained",
        "| BLEU | 37.1 | `nrefs:var\\|case:lc` |",
        "| learning_rate | `0.001` |",
        "| init.text | `\"a ' and a \\| b\"` |",
        "| text.separator | `\" \"` |",
    ];
    assert_says(&card, &parts);
}

#[test]
fn a_built_in_model_is_named_but_not_as_a_model_of_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let base_model = Some("builtin:stories260k".into());
    write(folder.path(), &rows(), &Description { base_model, scores: vec![], ..description() }).unwrap();
    let card = fs_err::read_to_string(folder.path().join(CARD)).unwrap();
    assert_says(&card, &["--model builtin:stories260k"]);
    assert!(!card.contains("base_model:") && !card.contains("## Scores"), "{card}");
}

#[test]
fn a_missing_file_is_named() {
    for file in [TENSORS, CONFIG] {
        let folder = written();
        fs_err::remove_file(folder.path().join(file)).unwrap();
        let (error, message) = error(&folder);
        assert!(matches!(error, ArtefactError::MissingFile { .. }), "{message}");
        assert_says(&message, &[file, folder.path().to_str().unwrap()]);
    }
    let message = Artefact::open(Path::new("no/such/folder")).unwrap_err().to_string();
    assert_says(&message, &["no/such/folder", CONFIG, "no folder"]);
}

#[test]
fn a_pickle_in_the_place_of_the_rows_is_explained() {
    let folder = written();
    fs_err::rename(folder.path().join(TENSORS), folder.path().join("adapter_model.bin")).unwrap();
    assert_says(&error(&folder).1, &["adapter_model.bin is a pickle"]);
}

#[test]
fn truncated_rows_are_refused() {
    let folder = written();
    let path = folder.path().join(TENSORS);
    let bytes = fs_err::read(&path).unwrap();
    for len in [0, 7, 50, bytes.len() - 1] {
        fs_err::write(&path, &bytes[..len]).unwrap();
        let (error, message) = error(&folder);
        assert!(matches!(error, ArtefactError::Weights(_)), "{len}: {message}");
        assert_says(&message, &[TENSORS]);
    }
}

#[test]
fn rows_that_are_no_floating_point_numbers_are_refused() {
    let folder = with_tensors(&[("prompt_embeddings", Dtype::I32, &[5, 120], &[0; 2400])]);
    let (error, message) = error(&folder);
    assert!(matches!(error, ArtefactError::Weights(_)), "{message}");
    assert_says(&message, &["prompt_embeddings", "I32"]);
}

#[test]
fn half_precision_rows_are_read_as_the_values_they_hold() {
    let bytes: Vec<u8> = [0x3F80u16, 0xC000].iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let folder = with_tensors(&[("prompt_embeddings", Dtype::BF16, &[5, 120], &bytes.repeat(300))]);
    fs_err::remove_file(folder.path().join(MANIFEST)).unwrap();
    assert_eq!(Artefact::open(folder.path()).unwrap().rows.values, [1.0, -2.0].repeat(300));
}

#[test]
fn rows_of_another_shape_than_the_config_says_are_refused() {
    for (announced, shape) in [(5, [4, 120]), (5, [5, 96]), (6, [5, 120])] {
        let bytes = vec![0; shape[0] * shape[1] * 4];
        let folder = with_tensors(&[("prompt_embeddings", Dtype::F32, &shape, &bytes)]);
        let config = folder.path().join(CONFIG);
        let mut value: Value = serde_json::from_slice(&fs_err::read(&config).unwrap()).unwrap();
        value["num_virtual_tokens"] = json!(announced);
        fs_err::write(&config, value.to_string()).unwrap();
        let (error, message) = error(&folder);
        assert!(matches!(error, ArtefactError::PrefixShape { .. }), "{message}");
        assert_says(&message, &[&format!("{shape:?}"), &format!("[{announced}, 120]"), TENSORS]);
    }
}

#[test]
fn an_adapter_of_another_method_is_refused_by_its_name() {
    // Only the key that all methods share: the others differ.
    let folder = with_json(CONFIG, |config| *config = json!({"peft_type": "LORA", "r": 8}));
    let (error, message) = error(&folder);
    assert!(matches!(error, ArtefactError::OtherMethod { .. }), "{message}");
    assert_says(&message, &["LORA", "PREFIX_TUNING", CONFIG]);
    let folder = with_json(MANIFEST, |manifest| manifest["method"] = json!("infix"));
    assert_says(&self::error(&folder).1, &["infix", MANIFEST]);
}

#[test]
fn a_config_without_a_needed_key_names_it() {
    for key in ["peft_type", "num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim"] {
        let folder = with_json(CONFIG, |config| drop(config.as_object_mut().unwrap().shift_remove(key)));
        let (error, message) = error(&folder);
        assert!(matches!(error, ArtefactError::Json { .. }), "{message}");
        assert_says(&message, &[key, CONFIG]);
    }
}

#[test]
fn config_values_that_cannot_be_are_refused_by_their_key() {
    for (key, value) in [
        ("num_virtual_tokens", json!(0)),
        ("num_layers", json!(u64::MAX)),
        ("num_attention_heads", json!(3)),
        ("token_dim", json!(1u64 << 40)),
        ("task_type", json!("SEQ_2_SEQ_LM")),
        ("num_transformer_submodules", json!(2)),
    ] {
        let folder = with_json(CONFIG, |config| config[key] = value.clone());
        let (error, message) = error(&folder);
        assert!(matches!(error, ArtefactError::WrongValue { .. }), "{key}: {message}");
        let named = match key {
            "num_attention_heads" => "token_dim",
            // Each is wrong only beside the other.
            "task_type" => "num_transformer_submodules",
            key => key,
        };
        assert_says(&message, &[named, CONFIG]);
    }
    let negative = with_json(CONFIG, |config| config["num_layers"] = json!(-3));
    assert!(matches!(error(&negative).0, ArtefactError::Json { .. }));
}

#[test]
fn a_training_state_with_an_mlp_is_told_from_a_prefix() {
    let folder = with_tensors(&[
        ("embedding.weight", Dtype::F32, &[1], &[0; 4]),
        ("transform.0.weight", Dtype::F32, &[1], &[0; 4]),
    ]);
    let (error, message) = error(&folder);
    assert!(matches!(error, ArtefactError::Unevaluated { .. }), "{message}");
    assert_says(&message, &["transform.0.weight", "prompt_embeddings"]);
}

#[test]
fn tensors_that_would_have_to_act_on_the_model_are_not_left_out_silently() {
    let rows = vec![0; 2400];
    let folder = with_tensors(&[
        ("base_model.lm_head.weight", Dtype::F32, &[1], &[0; 4]),
        ("prompt_embeddings", Dtype::F32, &[5, 120], &rows),
    ]);
    let (error, message) = error(&folder);
    assert!(matches!(error, ArtefactError::UnknownTensors { .. }), "{message}");
    assert_says(&message, &["base_model.lm_head.weight"]);
    assert_says(&self::error(&with_tensors(&[])).1, &["prompt_embeddings"]);
}

#[test]
fn a_newer_format_is_refused_before_its_fields_are_looked_at() {
    let folder = with_json(MANIFEST, |manifest| *manifest = json!({"format_version": 2, "unheard": "of"}));
    let (error, message) = error(&folder);
    assert!(matches!(error, ArtefactError::NewerFormat { got: 2, .. }), "{message}");
    assert_says(&message, &[MANIFEST, "2", "up to 1"]);
}

#[test]
fn values_that_are_not_finite_are_refused_with_their_place_and_never_written() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut rows = rows();
        // Row 3, values of layer 1, head 1, column 4.
        rows.values[3 * 120 + 3 * 20 + 14] = bad;
        let bytes: Vec<u8> = rows.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let folder = with_tensors(&[("prompt_embeddings", Dtype::F32, &[5, 120], &bytes)]);
        assert_says(&error(&folder).1, &[&bad.to_string(), "row 3", "values of layer 1", TENSORS]);
        let good = written();
        assert!(matches!(
            write(good.path(), &rows, &description()).unwrap_err(),
            ArtefactError::NotFinite { row: 3, layer: 1, .. }
        ));
        assert_eq!(Artefact::open(good.path()).unwrap().rows, self::rows());
    }
}

#[test]
fn files_of_two_artefacts_are_not_taken_for_one() {
    let (folder, other) = (written(), tempfile::tempdir().unwrap());
    let mut rows = rows();
    rows.values[17] += 1.0;
    write(other.path(), &rows, &description()).unwrap();
    fs_err::copy(other.path().join(TENSORS), folder.path().join(TENSORS)).unwrap();
    let (error, message) = error(&folder);
    assert!(matches!(error, ArtefactError::OtherRows { .. }), "{message}");
    assert_says(&message, &[MANIFEST, &rows.content_hash()]);
}

#[test]
fn an_absurdly_large_json_file_is_not_read() {
    let folder = written();
    fs_err::write(folder.path().join(CONFIG), vec![b' '; (16 << 20) + 1]).unwrap();
    assert!(matches!(error(&folder).0, ArtefactError::TooLarge { .. }));
}

#[test]
fn without_preface_json_only_shapes_are_checked() {
    let folder = written();
    fs_err::remove_file(folder.path().join(MANIFEST)).unwrap();
    let artefact = Artefact::open(folder.path()).unwrap();
    assert_eq!(artefact.description, None);
    let warning = artefact.check_base("m", &fingerprint(), OtherWeights::Refused).unwrap();
    assert!(matches!(warning, Some(Warning::Unchecked { .. })));
    let mut other = fingerprint();
    // As wide, but other heads.
    (other.shapes.n_kv_head, other.shapes.head_dim) = (4, 5);
    let error = artefact.check_base("m.gguf", &other, OtherWeights::Allowed).unwrap_err();
    assert_says(&error.to_string(), &["m.gguf", "[5, 6, 2, 10]", "[5, 6, 4, 5]", TENSORS]);
}

#[test]
fn a_model_of_another_shape_than_the_rows_is_refused() {
    let folder = written();
    let artefact = Artefact::open(folder.path()).unwrap();
    let open = |name: &str| {
        ModelFiles::open(golden_folder().join(name).join("model").to_str().unwrap()).unwrap().spec().clone()
    };
    artefact.check_shape("tiny_llama", &open("tiny_llama")).unwrap();
    let error = artefact.check_shape("tiny_gpt2", &open("tiny_gpt2")).unwrap_err();
    assert!(matches!(error, ArtefactError::PrefixShape { .. }), "{error}");
}

#[test]
fn the_model_that_it_was_trained_on_is_accepted_without_a_word() {
    let artefact = Artefact::open(written().path()).unwrap();
    assert_eq!(artefact.check_base("m", &fingerprint(), OtherWeights::Refused).unwrap(), None);
}

#[test]
fn another_precision_is_a_warning_and_other_weights_need_insistence() {
    let artefact = Artefact::open(written().path()).unwrap();
    let mut near = fingerprint();
    near.probe[0].values[0] += 0.01;
    let warning = artefact.check_base("m", &near, OtherWeights::Refused).unwrap().unwrap();
    assert!(matches!(warning, Warning::OtherPrecision { .. }));
    assert_says(&warning.to_string(), &[&fingerprint().to_string(), &near.to_string()]);
    let mut far = fingerprint();
    far.probe[0].values.reverse();
    let error = artefact.check_base("m", &far, OtherWeights::Refused).unwrap_err();
    assert!(matches!(error, ArtefactError::OtherWeights { .. }));
    assert_says(&error.to_string(), &[&fingerprint().to_string(), &far.to_string()]);
    let warning = artefact.check_base("m", &far, OtherWeights::Allowed).unwrap();
    assert!(matches!(warning, Some(Warning::OtherWeights { .. })));
}

#[test]
fn another_tokenizer_or_architecture_is_refused_even_to_those_who_insist() {
    let artefact = Artefact::open(written().path()).unwrap();
    let mut other = fingerprint();
    other.tokenizer = "fedcba".into();
    let error = artefact.check_base("m", &other, OtherWeights::Allowed).unwrap_err();
    assert!(matches!(error, ArtefactError::OtherTokenizer { .. }));
    assert_says(&error.to_string(), &[&fingerprint().to_string(), &other.to_string()]);
    other.shapes.d_ff += 1;
    let error = artefact.check_base("m", &other, OtherWeights::Allowed).unwrap_err();
    assert!(matches!(error, ArtefactError::OtherModel { .. }));
    assert_says(&error.to_string(), &["feed-forward 80", "feed-forward 81"]);
}

#[test]
fn an_edited_fingerprint_does_not_let_rows_of_another_shape_through() {
    let folder = with_json(MANIFEST, |manifest| manifest["fingerprint"]["shapes"]["n_layer"] = json!(4));
    let artefact = Artefact::open(folder.path()).unwrap();
    let mut given = fingerprint();
    given.shapes.n_layer = 4;
    let error = artefact.check_base("m", &given, OtherWeights::Refused).unwrap_err();
    assert!(matches!(error, ArtefactError::PrefixShape { .. }), "{error}");
}

#[test]
fn an_artefact_is_replaced_whole_or_not_at_all() {
    let folder = written();
    fs_err::write(folder.path().join("metrics.jsonl"), "kept").unwrap();
    let before = Artefact::open(folder.path()).unwrap();
    fs_err::remove_file(folder.path().join(CARD)).unwrap();
    fs_err::create_dir(folder.path().join(CARD)).unwrap();
    let mut rows = rows();
    rows.values[0] = 9.0;
    let error = write(folder.path(), &rows, &description()).unwrap_err();
    assert!(matches!(error, ArtefactError::InTheWay { .. }), "{error}");
    assert_eq!(Artefact::open(folder.path()).unwrap(), before);
    fs_err::remove_dir(folder.path().join(CARD)).unwrap();
    write(folder.path(), &rows, &description()).unwrap();
    assert_eq!(Artefact::open(folder.path()).unwrap().rows, rows);
    assert_eq!(fs_err::read(folder.path().join("metrics.jsonl")).unwrap(), b"kept");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_mutated_file_gives_an_error_or_an_artefact_but_no_panic(file in 0..3usize, seed: u64) {
        let folder = written();
        let path = folder.path().join([TENSORS, CONFIG, MANIFEST][file]);
        mutate::write_mutated(&path, &path, seed).unwrap();
        if let Ok(artefact) = Artefact::open(folder.path()) {
            let rows = &artefact.rows;
            prop_assert_eq!(rows.values.len(), rows.prefix_len * rows.row_width());
            prop_assert!(rows.values.iter().all(|value| value.is_finite()));
            let _ = artefact.check_base("m", &fingerprint(), OtherWeights::Allowed);
        }
    }

    #[test]
    fn any_finite_rows_come_back_as_they_were(
        prefix_len in 1..4usize, n_layer in 1..4usize, n_kv_head in 1..4usize, head_dim in 1..4usize, seed: u32,
    ) {
        let n_number = prefix_len * 2 * n_layer * n_kv_head * head_dim;
        let finite = |value: f32| if value.is_finite() { value } else { 1.0 };
        let bits = |i: usize| f32::from_bits(seed.wrapping_mul(2 * i as u32 + 1));
        let values = (0..n_number).map(|i| finite(bits(i))).collect();
        let rows = PrefixRows { prefix_len, n_layer, n_kv_head, head_dim, values };
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &rows, &description()).unwrap();
        prop_assert_eq!(Artefact::open(folder.path()).unwrap().rows, rows);
    }
}
