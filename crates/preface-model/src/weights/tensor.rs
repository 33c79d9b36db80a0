//! A tensor as it is stored: its bytes, how they are encoded, and the shape.

use std::ops::Range;
use std::path::Path;

use crate::weights::{Dtype, WeightsError};

/// Name, shape and type of a stored tensor. Made by the readers only, so its sizes are known not to overflow and its rows
/// are whole blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    n_bytes: usize,
}

impl TensorInfo {
    /// Checks that shape and type make a size. `path` is for the message.
    pub(crate) fn new(path: &Path, name: String, shape: &[u64], dtype: Dtype) -> Result<Self, WeightsError> {
        let sizes = || -> Option<(Vec<usize>, usize)> {
            let shape = shape.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>()?;
            // An empty dimension counts as one here, so that no product of some of the dimensions can overflow later; and
            // no addressable memory is larger, so that later sums of sizes cannot overflow either.
            let largest = shape.iter().try_fold(8usize, |product, &n| product.checked_mul(n.max(1)))?;
            isize::try_from(largest).ok()?;
            let n_elements = shape.iter().product();
            Some((shape, n_elements))
        };
        let Some((shape, n_elements)) = sizes() else {
            let path = path.to_path_buf();
            return Err(WeightsError::SizeOverflow { path, name, shape: shape.to_vec(), dtype });
        };
        let row_len = shape.last().copied().unwrap_or(1);
        let (Some(n_bytes), true) = (dtype.n_bytes(n_elements), row_len.is_multiple_of(dtype.block_len()))
        else {
            return Err(WeightsError::RowNotWholeBlocks { path: path.to_path_buf(), name, row_len, dtype });
        };
        Ok(Self { name, shape, dtype, n_bytes })
    }

    /// The tensor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shape, outermost dimension first, in every format.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Elements in a row: the last dimension (1 for a scalar).
    pub fn row_len(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows: the product of all dimensions but the last.
    pub fn n_rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Elements in all.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes as stored.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }
}

/// A tensor with its bytes as the file has them, so that an engine may keep the blocks as they are.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    info: TensorInfo,
    bytes: Vec<u8>,
}

impl StoredTensor {
    /// Joins what a reader found; the type is decodable and the length right.
    pub(crate) fn new(info: TensorInfo, bytes: Vec<u8>) -> Self {
        assert_eq!(
            bytes.len(),
            info.n_bytes,
            "{}: a reader delivered another length than it announced",
            info.name
        );
        assert!(info.dtype.is_decodable(), "{}: readers refuse types that are no weights", info.name);
        Self { info, bytes }
    }

    /// Name, shape and type.
    pub fn info(&self) -> &TensorInfo {
        &self.info
    }

    /// The bytes as stored: rows one after the other, each a whole number of blocks.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes as stored, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Decodes the rows `rows` into `out`, which must hold `rows.len() * row_len` elements.
    ///
    /// # Panics
    /// If a row does not exist or `out` has another length.
    pub fn decode_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let n_rows = self.info.n_rows();
        assert!(
            rows.start <= rows.end && rows.end <= n_rows,
            "{}: rows {rows:?} of {n_rows}",
            self.info.name
        );
        assert_eq!(out.len(), rows.len() * self.info.row_len(), "{}: length of the output", self.info.name);
        let row_bytes = self.bytes.len().checked_div(n_rows).unwrap_or(0);
        self.info.dtype.decode(&self.bytes[rows.start * row_bytes..rows.end * row_bytes], out);
    }

    /// All elements, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.info.n_elements()];
        self.info.dtype.decode(&self.bytes, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(shape: &[u64], dtype: Dtype) -> Result<TensorInfo, WeightsError> {
        TensorInfo::new(Path::new("file"), "w".into(), shape, dtype)
    }

    #[test]
    fn hostile_shapes_are_refused() {
        for shape in [&[u64::MAX][..], &[1 << 32, 1 << 32], &[1 << 62], &[1 << 40, 1 << 40, 0]] {
            let error = info(shape, Dtype::F32).unwrap_err();
            assert!(matches!(error, WeightsError::SizeOverflow { .. }), "{shape:?}: {error}");
        }
    }

    #[test]
    fn a_row_must_be_whole_blocks_even_when_the_tensor_is() {
        assert!(matches!(
            info(&[2, 16], Dtype::Q8_0).unwrap_err(),
            WeightsError::RowNotWholeBlocks { row_len: 16, .. }
        ));
        assert_eq!(info(&[2, 32], Dtype::Q8_0).unwrap().n_bytes(), 68);
    }

    #[test]
    fn scalars_and_empty_tensors_have_sizes() {
        let scalar = info(&[], Dtype::F32).unwrap();
        assert_eq!((scalar.n_elements(), scalar.n_rows(), scalar.row_len(), scalar.n_bytes()), (1, 1, 1, 4));
        let empty = info(&[0, 32], Dtype::Q8_0).unwrap();
        assert_eq!((empty.n_elements(), empty.n_rows(), empty.n_bytes()), (0, 0, 0));
        let tensor = StoredTensor::new(empty, vec![]);
        tensor.decode_rows(0..0, &mut []);
        assert!(tensor.to_f32().is_empty());
    }

    #[test]
    fn rows_decoded_one_by_one_equal_the_whole() {
        let info = info(&[2, 3, 64], Dtype::Q4_0).unwrap();
        let bytes = (0..info.n_bytes()).map(|i| if i % 18 == 1 { 0x2c } else { (i * 37) as u8 }).collect();
        let tensor = StoredTensor::new(info, bytes);
        let whole = tensor.to_f32();
        let mut row = [0.0; 64];
        for r in 0..6 {
            tensor.decode_rows(r..r + 1, &mut row);
            assert_eq!(row, whole[64 * r..64 * (r + 1)]);
        }
        let mut two = [0.0; 128];
        tensor.decode_rows(2..4, &mut two);
        assert_eq!(two, whole[128..256]);
    }
}
