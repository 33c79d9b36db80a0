//! An index and its shards, right and wrong.

use proptest::prelude::*;

use super::*;

/// A folder with two shards, `1.safetensors` holding `a`, and `2.safetensors` holding `b` and `c`.
fn shards(index: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let data = [0u8; 8];
    let write = |file: &str, tensors: &[(&str, &[u8])]| {
        let views = tensors.iter().map(|(name, bytes)| {
            (
                *name,
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![bytes.len() / 4], bytes)
                    .unwrap(),
            )
        });
        fs_err::write(folder.path().join(file), safetensors::serialize(views, None).unwrap()).unwrap();
    };
    write("1.safetensors", &[("a", &data[..4])]);
    write("2.safetensors", &[("b", &data[..8]), ("c", &data[..4])]);
    fs_err::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    folder
}

fn open(folder: &tempfile::TempDir) -> Result<ShardedSafetensors, WeightsError> {
    ShardedSafetensors::open(&folder.path().join("model.safetensors.index.json"))
}

const INDEX: &str = r#"{"metadata":{"total_size":16},"weight_map":{"b":"2.safetensors","a":"1.safetensors","c":"2.safetensors"}}"#;

fn error(index: &str) -> WeightsError {
    let error = open(&shards(index)).unwrap_err();
    assert!(error.to_string().contains("model.safetensors.index.json: "), "{error}");
    error
}

#[test]
fn tensors_are_found_in_their_shards() {
    let folder = shards(INDEX);
    let model = open(&folder).unwrap();
    assert_eq!(model.names(), ["b", "a", "c"]);
    assert_eq!(model.read("b").unwrap().info().shape(), [2]);
    assert_eq!(model.read("a").unwrap().info().shape(), [1]);
    assert!(matches!(model.read("d").unwrap_err(), WeightsError::MissingTensor { name, .. } if name == "d"));
}

#[test]
fn a_missing_shard_is_named() {
    let folder = shards(INDEX);
    fs_err::remove_file(folder.path().join("2.safetensors")).unwrap();
    assert!(
        matches!(open(&folder).unwrap_err(), WeightsError::MissingShard { shard, .. } if shard == "2.safetensors")
    );
}

#[test]
fn a_tensor_that_the_shard_lacks_is_named_with_the_shard() {
    let error = error(r#"{"weight_map":{"a":"1.safetensors","b":"1.safetensors"}}"#);
    assert!(
        matches!(&error, WeightsError::ShardLacksTensor { shard, name, .. } if shard == "1.safetensors" && name == "b")
    );
}

#[test]
fn a_tensor_that_the_index_lists_twice_is_refused() {
    let error = error(r#"{"weight_map":{"a":"1.safetensors","a":"1.safetensors"}}"#);
    assert!(matches!(error, WeightsError::DuplicateTensor { name, .. } if name == "a"));
}

#[test]
fn a_shard_elsewhere_is_refused() {
    for shard in ["../1.safetensors", "/etc/passwd", "x/1.safetensors", "", ".", ".."] {
        let error = error(&format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#));
        assert!(matches!(error, WeightsError::ShardOutsideFolder { .. }), "{shard}: {error}");
    }
}

#[test]
fn an_index_that_is_not_the_right_json_is_refused() {
    for index in ["", "{}", "[1]", r#"{"weight_map":["a"]}"#, r#"{"weight_map":{"a":1}}"#] {
        assert!(matches!(error(index), WeightsError::Json { .. }), "{index}");
    }
}

#[test]
fn an_error_in_a_shard_names_the_shard() {
    let folder = shards(INDEX);
    fs_err::write(folder.path().join("2.safetensors"), [0; 4]).unwrap();
    let error = open(&folder).unwrap_err();
    assert!(error.to_string().contains("2.safetensors: truncated"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn mutated_indices_never_panic(changes in prop::collection::vec((0usize..200, any::<u8>()), 1..5)) {
        let mut index = INDEX.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at % index.len();
            index[at] = byte;
        }
        let folder = shards(INDEX);
        fs_err::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        let _ = open(&folder);
    }
}
