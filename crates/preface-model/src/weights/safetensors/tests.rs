//! One test for each way in which a safetensors file can be wrong, and proptest over what nobody thought of.

use proptest::prelude::*;

use super::*;

/// A file of this header and `data_len` bytes that count up.
fn file(header: &str, data_len: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..data_len).map(|i| i as u8));
    bytes
}

fn open(bytes: Vec<u8>) -> Result<SafetensorsFile, WeightsError> {
    SafetensorsFile::from_bytes("case", bytes)
}

/// The error for a header over `data_len` bytes of data; its message must name the file.
fn error(header: &str, data_len: usize) -> WeightsError {
    let error = open(file(header, data_len)).unwrap_err();
    assert!(error.to_string().starts_with("case: "), "{error}");
    error
}

const TWO: &str = r#"{"__metadata__":{"format":"pt"},
    "b":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]},
    "a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}} "#;

#[test]
fn tensors_are_read_by_name_in_any_order_of_the_header() {
    let file = open(file(TWO, 12)).unwrap();
    assert_eq!(file.names(), ["b", "a"]);
    assert_eq!(file.read("a").unwrap().bytes(), [0, 1, 2, 3]);
    let b = file.read_shaped("b", &[2, 1]).unwrap();
    assert_eq!(b.bytes(), [4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(b.to_f32()[1], f32::from_le_bytes([8, 9, 10, 11]));
}

#[test]
fn a_file_without_tensors_is_valid() {
    assert!(open(file("{}", 0)).unwrap().names().is_empty());
}

#[test]
fn what_the_safetensors_crate_writes_is_read_with_the_same_bytes() {
    let data: Vec<u8> = (0..48).collect();
    let view = |dtype, shape: &[usize], bytes| {
        safetensors::tensor::TensorView::new(dtype, shape.to_vec(), bytes).unwrap()
    };
    let bytes = safetensors::serialize(
        [
            ("x", view(safetensors::Dtype::F16, &[3, 2], &data[..12])),
            ("y", view(safetensors::Dtype::F32, &[4], &data[12..28])),
            ("empty", view(safetensors::Dtype::F32, &[0, 7], &[])),
            ("ids", view(safetensors::Dtype::I64, &[1], &data[28..36])),
        ],
        None,
    )
    .unwrap();
    let file = open(bytes).unwrap();
    assert_eq!(file.read("x").unwrap().bytes(), &data[..12]);
    assert_eq!(file.read("y").unwrap().bytes(), &data[12..28]);
    assert!(file.read("empty").unwrap().to_f32().is_empty());
    assert_eq!(file.info("ids").unwrap().dtype(), Dtype::Other(safetensors::Dtype::I64));
}

#[test]
fn integer_tensors_are_listed_but_refused_as_weights() {
    let file = open(file(r#"{"ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, 8)).unwrap();
    let error = file.read("ids").unwrap_err();
    assert!(matches!(&error, WeightsError::NotAWeight { name, .. } if name == "ids"), "{error}");
}

#[test]
fn a_tensor_that_is_not_there_is_named() {
    let file = open(file(TWO, 12)).unwrap();
    assert!(matches!(file.read("c").unwrap_err(), WeightsError::MissingTensor { name, .. } if name == "c"));
    assert!(matches!(file.read_shaped("c", &[1]).unwrap_err(), WeightsError::MissingTensor { .. }));
}

#[test]
fn another_shape_than_needed_is_an_error_with_both() {
    let error = open(file(TWO, 12)).unwrap().read_shaped("b", &[1, 2]).unwrap_err();
    assert_eq!(error.to_string(), "case: tensor `b` has shape [2, 1], but the model's config says [1, 2]");
}

#[test]
fn a_file_shorter_than_its_header_is_truncated() {
    for len in [0, 7, 8, 8 + TWO.len() - 1] {
        let error = open(file(TWO, 12)[..len].to_vec()).unwrap_err();
        assert!(matches!(error, WeightsError::Truncated { .. }), "{len}: {error}");
    }
}

#[test]
fn a_huge_header_is_refused_before_it_is_read() {
    for len in [HEADER_CAP + 1, u64::MAX] {
        let error = open(len.to_le_bytes().to_vec()).unwrap_err();
        assert!(matches!(error, WeightsError::HeaderTooLarge { .. }), "{error}");
    }
}

#[test]
fn a_header_that_is_not_the_right_json_is_refused() {
    for header in
        ["", "[]", "{", r#"{"a":1}"#, r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, "{}x"]
    {
        assert!(matches!(error(header, 4), WeightsError::Json { .. }), "{header}");
    }
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    assert!(matches!(error(header, 8), WeightsError::DuplicateTensor { name, .. } if name == "a"));
}

#[test]
fn an_unknown_type_is_named() {
    let header = r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#;
    assert!(
        matches!(error(header, 4), WeightsError::UnknownDtype { dtype, name, .. } if dtype == "F31" && name == "a")
    );
}

#[test]
fn a_shape_that_overflows_is_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
    assert!(matches!(error(header, 0), WeightsError::SizeOverflow { .. }));
}

#[test]
fn offsets_that_do_not_fit_the_shape_are_refused() {
    for offsets in ["[0,3]", "[4,0]", "[0,18446744073709551615]"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{offsets}}}}}"#);
        assert!(matches!(error(&header, 4), WeightsError::SizeMismatch { want: 4, .. }), "{offsets}");
    }
}

#[test]
fn a_tensor_beyond_the_end_is_named() {
    assert!(matches!(error(TWO, 11), WeightsError::OutsideFile { name, data_len: 11, .. } if name == "b"));
    let header =
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]}}"#;
    assert!(matches!(error(header, 1), WeightsError::OutsideFile { .. }));
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#;
    assert!(
        matches!(error(header, 6), WeightsError::Overlap { name, begin: 2, previous_end: 4, .. } if name == "b")
    );
}

#[test]
fn a_gap_between_tensors_is_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[5,9]}}"#;
    assert!(matches!(error(header, 9), WeightsError::Gap { name, .. } if name == "b"));
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}"#;
    assert!(matches!(error(header, 5), WeightsError::Gap { .. }));
}

#[test]
fn bytes_after_the_last_tensor_are_refused() {
    assert!(matches!(error(TWO, 15), WeightsError::Tail { bytes: 3, .. }));
    assert!(matches!(error("{}", 1), WeightsError::Tail { bytes: 1, .. }));
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
        cut in 0usize..400,
        changes in prop::collection::vec((0usize..400, any::<u8>()), 0..6),
    ) {
        let mut bytes = file(TWO, 12);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(200)));
        read_all(bytes);
    }

    #[test]
    fn headers_of_arbitrary_numbers_never_panic(
        shape in prop::collection::vec(any::<u64>(), 0..4),
        begin: u64,
        end: u64,
        small in 0u64..16,
    ) {
        for (begin, end) in [(begin, end), (small, small + 4), (0, small)] {
            read_all(file(&format!(r#"{{"a":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{begin},{end}]}}}}"#), 16));
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        read_all(bytes);
    }
}
