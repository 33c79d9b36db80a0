//! What [`Weights::open`] takes for what.

use super::*;

const GGUF: &[u8] = include_bytes!("../../tests/golden/gguf_types/case.gguf");
const SAFETENSORS: &[u8] = include_bytes!("../../tests/golden/gguf_types/expected.safetensors");

#[test]
fn the_format_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(matches!(Weights::open(folder.path()).unwrap_err(), WeightsError::NoWeights { .. }));

    let index = r#"{"weight_map":{"F32":"shard.safetensors"}}"#;
    fs_err::write(path("model.safetensors.index.json"), index).unwrap();
    fs_err::write(path("shard.safetensors"), SAFETENSORS).unwrap();
    let sharded = Weights::open(folder.path()).unwrap();
    assert!(matches!(sharded, Weights::Sharded(_)));
    assert_eq!(sharded.names(), ["F32"]);

    fs_err::write(path("model.safetensors"), SAFETENSORS).unwrap();
    let single = Weights::open(folder.path()).unwrap();
    assert!(matches!(single, Weights::Safetensors(_)));
    assert_eq!(single.read("F32").unwrap().to_f32(), sharded.read("F32").unwrap().to_f32());
    assert!(matches!(Weights::open(&path("model.safetensors")).unwrap(), Weights::Safetensors(_)));

    // Whatever its name is, a GGUF file begins with its magic.
    fs_err::write(path("model.bin"), GGUF).unwrap();
    assert!(matches!(Weights::open(&path("model.bin")).unwrap(), Weights::Gguf(_)));

    fs_err::write(path("model.pt"), b"PK").unwrap();
    assert!(matches!(Weights::open(&path("model.pt")).unwrap_err(), WeightsError::UnknownFormat { .. }));
    fs_err::write(path("model.gguf"), b"GG").unwrap();
    assert!(matches!(Weights::open(&path("model.gguf")).unwrap_err(), WeightsError::UnknownFormat { .. }));
    let absent = Weights::open(&path("absent")).unwrap_err();
    assert!(matches!(&absent, WeightsError::Io { path: p, .. } if *p == path("absent")), "{absent}");
}
