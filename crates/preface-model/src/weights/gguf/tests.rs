//! The golden file of `tests/golden/gguf_types`, one test for each way in which a GGUF file can be wrong, and proptest.

use proptest::prelude::*;

use super::*;
use crate::weights::SafetensorsFile;

const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/gguf_types/case.gguf");
const EXPECTED: &[u8] = include_bytes!("../../../tests/golden/gguf_types/expected.safetensors");

fn open(bytes: impl Into<Vec<u8>>) -> Result<GgufFile, WeightsError> {
    GgufFile::from_bytes("case", bytes.into())
}

fn error(bytes: impl Into<Vec<u8>>) -> WeightsError {
    let error = open(bytes).unwrap_err();
    assert!(error.to_string().starts_with("case: "), "{error}");
    error
}

/// Writes a GGUF file field by field.
struct Writer {
    pairs: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn pair(key: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    [string(key), value_type.to_le_bytes().to_vec(), value.to_vec()].concat()
}

fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut line = string(name);
    line.extend((dims.len() as u32).to_le_bytes());
    line.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
    line.extend(kind.to_le_bytes());
    line.extend(offset.to_le_bytes());
    line
}

impl Writer {
    /// One F32 tensor `a` of 4 x 2 (stored innermost first) and 32 bytes of data.
    fn one() -> Self {
        Self { pairs: vec![], tensors: vec![tensor("a", &[2, 4], 0, 0)], data: (0..32).collect() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.pairs.len() as u64).to_le_bytes());
        bytes.extend(self.pairs.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

fn with_pair(pair: Vec<u8>) -> Vec<u8> {
    Writer { pairs: vec![pair], ..Writer::one() }.bytes()
}

fn with_tensors(tensors: Vec<Vec<u8>>, data_len: usize) -> Vec<u8> {
    Writer { tensors, data: vec![0; data_len], ..Writer::one() }.bytes()
}

#[test]
fn every_type_decodes_to_the_bits_of_the_gguf_package() {
    let file = open(GOLDEN).unwrap();
    let expected = SafetensorsFile::from_bytes("expected", EXPECTED).unwrap();
    let mut names = file.names();
    let mut expected_names = expected.names();
    names.sort_unstable();
    expected_names.sort_unstable();
    assert_eq!(names, expected_names);
    assert_eq!(names.len(), 21, "fifteen types, five of them once more, and a tensor of three dimensions");
    for name in names {
        let (got, want) = (file.read(name).unwrap(), expected.read(name).unwrap());
        assert_eq!(got.info().shape(), want.info().shape(), "{name}");
        let want_bits: Vec<u32> = want.to_f32().iter().map(|x| x.to_bits()).collect();
        let got_bits: Vec<u32> = got.to_f32().iter().map(|x| x.to_bits()).collect();
        assert_eq!(got_bits, want_bits, "{name}");
    }
}

#[test]
fn random_blocks_decode_to_the_bits_of_the_gguf_package() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf_blocks");
    let file = GgufFile::open(&folder.join("blocks.gguf")).unwrap();
    let expected = SafetensorsFile::open(&folder.join("case.safetensors")).unwrap();
    assert_eq!(file.names().len(), 15);
    for name in file.names() {
        let (got, want) = (file.read(name).unwrap().to_f32(), expected.read(name).unwrap().to_f32());
        assert!(
            got.len() == want.len() && got.iter().zip(&want).all(|(g, w)| g.to_bits() == w.to_bits()),
            "{name}"
        );
    }
}

#[test]
fn metadata_of_every_type_is_read() {
    let file = open(GOLDEN).unwrap();
    let metadata = file.metadata();
    let unsigned = |key| metadata.require::<u64>(key).unwrap();
    assert_eq!(metadata.require::<&str>("test.string").unwrap(), "Präfix");
    assert_eq!(metadata.require::<&str>("general.architecture").unwrap(), "llama");
    assert_eq!(
        (unsigned("test.u8"), unsigned("test.u16"), unsigned("test.u32")),
        (200, 60000, 4_000_000_000)
    );
    assert_eq!(unsigned("test.u64"), 1 << 63);
    assert_eq!(metadata.require::<f32>("test.f32").unwrap(), 0.5);
    assert_eq!(metadata.require::<f32>("test.f64").unwrap(), 0.25);
    assert!(metadata.require::<bool>("test.bool").unwrap());
    assert_eq!(metadata.require::<&[String]>("test.strings").unwrap(), ["a", "", "ß"]);
    assert_eq!(metadata.require::<Vec<u64>>("test.numbers").unwrap(), [1, 2, 3]);
    assert_eq!(metadata.require::<&[f32]>("test.floats").unwrap(), [0.5, -1.5]);
    let value = |key| metadata.iter().find(|(k, _)| *k == key).unwrap().1.clone();
    assert_eq!(value("test.i8"), Value::I8(-5));
    assert_eq!(value("test.i16"), Value::I16(-30000));
    assert_eq!(value("test.i32"), Value::I32(-2_000_000_000));
    assert_eq!(value("test.i64"), Value::I64(-(1 << 62)));
    assert_eq!(value("test.flags"), Value::Array(Array::Bool(vec![true, false])));
}

#[test]
fn a_missing_key_and_a_key_of_another_type_are_named() {
    let file = open(GOLDEN).unwrap();
    let metadata = file.metadata();
    assert_eq!(metadata.get::<u64>("absent").unwrap(), None);
    let error = metadata.require::<u64>("absent").unwrap_err();
    assert_eq!(error.to_string(), "case: has no metadata key `absent`");
    let error = metadata.get::<u64>("test.i8").unwrap_err();
    assert_eq!(
        error.to_string(),
        "case: metadata key `test.i8` is I8(-5), but must be a non-negative integer"
    );
    assert!(matches!(metadata.get::<u32>("test.u64").unwrap_err(), WeightsError::KeyType { .. }));
    assert!(matches!(metadata.get::<&[String]>("test.numbers").unwrap_err(), WeightsError::KeyType { .. }));
    assert!(matches!(metadata.get::<&str>("test.bool").unwrap_err(), WeightsError::KeyType { .. }));
}

#[test]
fn dimensions_are_turned_round() {
    let file = open(Writer::one().bytes()).unwrap();
    assert_eq!(file.info("a").unwrap().shape(), [4, 2]);
    assert_eq!(file.read("a").unwrap().bytes(), (0..32).collect::<Vec<u8>>());
}

#[test]
fn nested_arrays_are_read() {
    let inner =
        [5u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec(), 7i32.to_le_bytes().to_vec()].concat();
    let outer = [9u32.to_le_bytes().to_vec(), 2u64.to_le_bytes().to_vec(), inner.clone(), inner].concat();
    let file = open(with_pair(pair("k", 9, &outer))).unwrap();
    let want = Value::Array(Array::Array(vec![Array::I32(vec![7]), Array::I32(vec![7])]));
    assert_eq!(file.metadata().iter().collect::<Vec<_>>(), [("k", &want)]);
}

#[test]
fn another_magic_is_another_format() {
    assert!(matches!(error(*b"GGML\x03\0\0\0"), WeightsError::UnknownFormat { .. }));
}

#[test]
fn other_versions_are_refused() {
    for version in [0u8, 1, 4] {
        let mut bytes = Writer::one().bytes();
        bytes[4] = version;
        assert!(
            matches!(error(bytes), WeightsError::GgufVersion { version: v, .. } if v == u32::from(version))
        );
    }
}

#[test]
fn a_big_endian_file_is_recognised() {
    let mut bytes = Writer::one().bytes();
    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(matches!(error(bytes), WeightsError::GgufBigEndian { .. }));
}

#[test]
fn every_truncation_of_the_header_is_an_error() {
    let bytes = Writer { pairs: vec![pair("k", 8, &string("v"))], ..Writer::one() }.bytes();
    for len in 0..bytes.len() {
        let error = error(&bytes[..len]);
        let expected = matches!(
            error,
            WeightsError::Truncated { .. }
                | WeightsError::CountTooLarge { .. }
                | WeightsError::OutsideFile { .. }
        );
        assert!(expected, "{len}: {error}");
    }
}

#[test]
fn counts_that_the_file_cannot_hold_are_refused() {
    for at in [8, 16] {
        for count in [u64::MAX, 1 << 40, 100] {
            let mut bytes = Writer::one().bytes();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            assert!(matches!(error(bytes), WeightsError::CountTooLarge { count: c, .. } if c == count));
        }
    }
    for element in [0u32, 5, 8, 9, 12] {
        let array = [element.to_le_bytes().to_vec(), (1u64 << 60).to_le_bytes().to_vec()].concat();
        assert!(
            matches!(error(with_pair(pair("k", 9, &array))), WeightsError::CountTooLarge { .. }),
            "{element}"
        );
    }
}

#[test]
fn a_string_longer_than_the_file_is_refused() {
    assert!(matches!(
        error(with_pair(pair("k", 8, &u64::MAX.to_le_bytes()))),
        WeightsError::Truncated { .. }
    ));
}

#[test]
fn a_header_beyond_the_cap_is_refused() {
    // The string's length is within the file, which here is a hole of zeros on disk.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.gguf");
    let head = with_pair(pair("k", 8, &(header::HEADER_CAP + 1).to_le_bytes()));
    fs_err::write(&path, &head).unwrap();
    let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(header::HEADER_CAP * 2).unwrap();
    assert!(matches!(GgufFile::open(&path).unwrap_err(), WeightsError::HeaderTooLarge { .. }));
}

#[test]
fn strings_must_be_utf8() {
    let value = [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat();
    assert!(matches!(error(with_pair(pair("k", 8, &value))), WeightsError::NotUtf8 { .. }));
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let bytes = Writer { pairs: vec![pair("k", 0, &[1]), pair("k", 0, &[1])], ..Writer::one() }.bytes();
    assert!(matches!(error(bytes), WeightsError::DuplicateKey { key, .. } if key == "k"));
}

#[test]
fn unknown_value_types_are_named() {
    assert!(matches!(
        error(with_pair(pair("k", 13, &[0; 8]))),
        WeightsError::UnknownValueType { value_type: 13, key, .. } if key == "k"
    ));
    let array = [99u32.to_le_bytes().to_vec(), 0u64.to_le_bytes().to_vec()].concat();
    assert!(matches!(
        error(with_pair(pair("k", 9, &array))),
        WeightsError::UnknownValueType { value_type: 99, .. }
    ));
}

#[test]
fn arrays_nested_without_end_are_refused() {
    let level = [9u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec()].concat();
    assert!(matches!(
        error(with_pair(pair("k", 9, &level.repeat(100_000)))),
        WeightsError::NestedTooDeep { .. }
    ));
}

#[test]
fn an_alignment_must_be_a_power_of_two() {
    for alignment in [0u32, 24] {
        let bytes = with_pair(pair("general.alignment", 4, &alignment.to_le_bytes()));
        assert!(matches!(error(bytes), WeightsError::BadAlignment { alignment: a, .. } if a == alignment));
    }
    let bytes = with_pair(pair("general.alignment", 8, &string("32")));
    assert!(matches!(error(bytes), WeightsError::KeyType { .. }));
}

#[test]
fn more_than_four_dimensions_are_refused() {
    let bytes = with_tensors(vec![tensor("a", &[1; 5], 0, 0)], 32);
    assert!(matches!(error(bytes), WeightsError::TooManyDimensions { n_dims: 5, name, .. } if name == "a"));
}

#[test]
fn types_that_are_not_read_are_named() {
    let text = error(with_tensors(vec![tensor("a", &[256], 16, 0)], 96)).to_string();
    assert!(text.contains("tensor `a` has the unknown type IQ2_XXS"), "{text}");
    assert!(matches!(
        error(with_tensors(vec![tensor("a", &[1], 999, 0)], 32)),
        WeightsError::UnknownDtype { .. }
    ));
}

#[test]
fn rows_must_be_whole_blocks() {
    let bytes = with_tensors(vec![tensor("a", &[16, 2], 8, 0)], 64);
    assert!(matches!(error(bytes), WeightsError::RowNotWholeBlocks { row_len: 16, .. }));
}

#[test]
fn sizes_that_overflow_are_refused() {
    for dims in [&[1 << 40, 1 << 40][..], &[u64::MAX], &[0, 1 << 40, 1 << 40]] {
        let bytes = with_tensors(vec![tensor("a", dims, 0, 0)], 32);
        assert!(matches!(error(bytes), WeightsError::SizeOverflow { name, .. } if name == "a"), "{dims:?}");
    }
}

#[test]
fn a_tensor_beyond_the_end_is_named() {
    for offset in [32, u64::MAX - 31, 1 << 40] {
        let bytes = with_tensors(vec![tensor("a", &[8], 0, offset)], 32);
        assert!(matches!(error(bytes), WeightsError::OutsideFile { name, .. } if name == "a"), "{offset}");
    }
}

#[test]
fn an_offset_off_the_alignment_is_refused() {
    let bytes = with_tensors(vec![tensor("a", &[1], 0, 4)], 32);
    assert!(matches!(error(bytes), WeightsError::Misaligned { offset: 4, alignment: 32, .. }));
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    let bytes = with_tensors(vec![tensor("a", &[16], 0, 0), tensor("b", &[8], 0, 32)], 64);
    assert!(matches!(error(bytes), WeightsError::Overlap { name, .. } if name == "b"));
}

#[test]
fn gaps_beyond_the_padding_are_refused() {
    let tensors = |second| vec![tensor("a", &[1], 0, 0), tensor("b", &[1], 0, second)];
    assert!(open(with_tensors(tensors(32), 64)).is_ok());
    assert!(open(with_tensors(tensors(32), 36)).is_ok(), "the padding after the last tensor may be absent");
    assert!(matches!(error(with_tensors(tensors(64), 96)), WeightsError::Gap { name, .. } if name == "b"));
}

#[test]
fn bytes_after_the_last_tensor_are_refused() {
    assert!(matches!(
        error(with_tensors(vec![tensor("a", &[8], 0, 0)], 33)),
        WeightsError::Tail { bytes: 1, .. }
    ));
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let bytes = with_tensors(vec![tensor("a", &[8], 0, 0), tensor("a", &[8], 0, 32)], 64);
    assert!(matches!(error(bytes), WeightsError::DuplicateTensor { name, .. } if name == "a"));
}

/// Opens and reads everything there is; only the absence of a panic is of interest.
fn read_all(bytes: Vec<u8>) {
    if let Ok(file) = open(bytes) {
        for name in file.names() {
            if let Ok(tensor) = file.read(name) {
                tensor.to_f32();
            }
        }
    }
}

proptest! {
    #[test]
    fn mutated_files_never_panic(
        len in 0..=GOLDEN.len(),
        whole: bool,
        // The header takes the first 1,900 bytes or so: most changes should hit it.
        changes in prop::collection::vec((0usize..2000, any::<u8>()), 0..6),
    ) {
        let mut bytes = GOLDEN.to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(len);
        }
        read_all(bytes);
    }

    #[test]
    fn mutated_numbers_never_panic(at in 8usize..1900, number: u64, shift in 0u32..64) {
        let mut bytes = GOLDEN.to_vec();
        bytes[at..at + 8].copy_from_slice(&(number >> shift).to_le_bytes());
        read_all(bytes);
    }

    #[test]
    fn any_metadata_never_panics(value in prop::collection::vec(any::<u8>(), 0..64), kind in 0u32..14) {
        read_all(with_pair(pair("k", kind, &value)));
    }
}
