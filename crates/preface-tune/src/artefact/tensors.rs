//! `adapter_model.safetensors`: one tensor, the rows.
//!
//! Written exactly as PEFT writes it (name, `f32`, the note `format: pt`), so that equal rows give equal bytes, from us and
//! from PEFT: nothing in the file says when, where or by whom it was made.

use std::collections::HashMap;
use std::path::Path;

use preface_model::weights::{SafetensorsFile, TensorSource};
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::adapter_config::AdapterConfig;
use super::{ArtefactError, TENSOR};
use crate::PrefixRows;

/// The bytes of the file.
pub(super) fn write(rows: &PrefixRows) -> Vec<u8> {
    let bytes: Vec<u8> = rows.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![rows.prefix_len, rows.row_width()], &bytes)
        .expect("the rows were checked to be as long as their shape says");
    let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize([(TENSOR, view)], Some(note)).expect("one tensor of a valid shape")
}

/// Reads the rows that `config` announces.
pub(super) fn read(path: &Path, config: &AdapterConfig) -> Result<PrefixRows, ArtefactError> {
    let file = SafetensorsFile::open(path)?;
    let others: Vec<&str> = file.names().into_iter().filter(|name| *name != TENSOR).collect();
    if !others.is_empty() {
        let (path, tensors) = (path.to_path_buf(), others.join(", "));
        return Err(match file.info(TENSOR) {
            None if others.iter().any(|name| name.contains("transform.")) => {
                ArtefactError::Unevaluated { path, tensors }
            }
            // They would change what the model says, so leaving them out silently would be wrong.
            _ => ArtefactError::UnknownTensors { path, tensors },
        });
    }
    let want = vec![config.prefix_len, config.row_width()];
    if let Some(info) = file.info(TENSOR)
        && info.shape() != want
    {
        let (got, model) = (info.shape().to_vec(), super::CONFIG.to_owned());
        return Err(ArtefactError::PrefixShape { path: path.into(), got, want, model });
    }
    let rows = PrefixRows {
        prefix_len: config.prefix_len,
        n_layer: config.n_layer,
        n_kv_head: config.n_kv_head,
        head_dim: config.head_dim,
        values: file.read(TENSOR)?.to_f32(),
    };
    check_finite(path, &rows)?;
    Ok(rows)
}

/// Refuses rows under which every logit would be NaN.
pub(super) fn check_finite(path: &Path, rows: &PrefixRows) -> Result<(), ArtefactError> {
    match rows.first_not_finite() {
        None => Ok(()),
        Some((row, layer, part, value)) => {
            Err(ArtefactError::NotFinite { path: path.into(), row, layer, part, value })
        }
    }
}
