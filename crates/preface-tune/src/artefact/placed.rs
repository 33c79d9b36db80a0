//! The prefix of an encoder-decoder as files.
//!
//! PEFT has one tensor, `prompt_embeddings`, and takes it for the decoder's rows; those of the other places are tensors of
//! their own beside it, which PEFT passes over:
//!
//! ```text
//! prompt_embeddings            [P, 2 * N * n_kv_head * head_dim]         decoder; N is `num_layers` of adapter_config.json
//! encoder_prompt_embeddings    [P, 2 * n_layer * n_kv_head * head_dim]   encoder (its own depth and heads): keys of layer l at 2l
//! cross_prompt_embeddings      [P, 2 * n_layer * n_kv_head * head_dim]   cross-attention: keys of layer l at 2l
//! ```
//!
//! PEFT reads its tensor in a way of its own: it writes the `2 N` slots of a row down twice and cuts them into groups of
//! four, of which the decoder's layer `l` takes the first two. So the keys of layer `l` are slot `4l mod 2N` and its values
//! the one behind. Where `N` is odd that reaches every slot once; where it is even, the layers of the upper half see what
//! those of the lower half see, and half of the slots nothing. A folder of PEFT's is read as PEFT reads it. Ours has the
//! least odd `N` that has a slot for each layer (one pair of zeros more where the depth is even), so every layer has rows
//! of its own and PEFT computes what we compute.

use std::path::Path;

use preface_model::{ModelSpec, PerPlace, PrefixPlace};
use serde::{Deserialize, Serialize};

use super::adapter_config::{AdapterConfig, Task};
use super::card::{Also, Subject};
use super::trained::Tensors;
use super::{ArtefactError, MANIFEST, manifest};
use crate::{DecoderPositions, PlacedRows};

/// The `peft_type` of rows for the encoder or cross-attention alone, which PEFT could do nothing with.
pub(super) const PREFACE_PREFIX: &str = "PREFACE_PREFIX";

/// What preface.json says of an encoder-decoder's prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Places {
    /// Where there are rows.
    names: Vec<PrefixPlace>,
    /// How many.
    num_virtual_tokens: Lengths,
    /// Where the decoder's text starts.
    #[serde(default)]
    decoder_positions: DecoderPositions,
}

/// Rows of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Lengths {
    /// Every place has so many.
    Shared(usize),
    /// Each has its own; 0 where there are none.
    Separate { encoder: usize, decoder: usize, cross: usize },
}

/// What the files say of the tensors.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlacedPrefixFiles {
    pub places: Places,
    /// `num_virtual_tokens`, `num_layers`, `num_attention_heads` and the width of a head in adapter_config.json; nothing
    /// without decoder rows.
    decoder: Option<[usize; 4]>,
}

/// The tensor of a place.
fn tensor(place: PrefixPlace) -> &'static str {
    match place {
        PrefixPlace::Encoder => "encoder_prompt_embeddings",
        PrefixPlace::Decoder => super::TENSOR,
        PrefixPlace::Cross => "cross_prompt_embeddings",
    }
}

/// The slot of a layer's keys in a row of `2 * n` slots.
fn slot(layer: usize, n: usize) -> usize {
    4 * layer % (2 * n)
}

/// The tensors of rows.
pub(super) fn tensors(rows: &PlacedRows, spec: &ModelSpec) -> Tensors {
    let mut tensors = Tensors::new();
    for place in PrefixPlace::ALL {
        let values = rows.values.get(place);
        if values.is_empty() {
            continue;
        }
        let prefix_len = values.len() / spec.row_width(place);
        let values = match place {
            PrefixPlace::Decoder => to_slots(values, spec),
            _ => values.clone(),
        };
        tensors.insert(tensor(place).into(), (vec![prefix_len, values.len() / prefix_len], values));
    }
    tensors
}

/// The least odd number of layers whose slots hold those of the decoder.
fn n_slot_layer(spec: &ModelSpec) -> usize {
    spec.n_layer | 1
}

fn to_slots(rows: &[f32], spec: &ModelSpec) -> Vec<f32> {
    let (n, pair) = (n_slot_layer(spec), 2 * spec.kv_width());
    let mut slots = vec![0.0; rows.len() / spec.prefix_row_width() * n * pair];
    for (row, slots) in rows.chunks_exact(spec.prefix_row_width()).zip(slots.chunks_exact_mut(n * pair)) {
        for (layer, own) in row.chunks_exact(pair).enumerate() {
            let at = slot(layer, n) / 2 * pair;
            slots[at..at + pair].copy_from_slice(own);
        }
    }
    slots
}

fn from_slots(slots: &[f32], n: usize, spec: &ModelSpec) -> Vec<f32> {
    let pair = 2 * spec.kv_width();
    let of_row = |row: &[f32]| -> Vec<f32> {
        (0..spec.n_layer).flat_map(|layer| row[slot(layer, n) / 2 * pair..][..pair].to_vec()).collect()
    };
    slots.chunks_exact(n * pair).flat_map(of_row).collect()
}

impl Lengths {
    fn new(lengths: PerPlace<usize>) -> Self {
        let PerPlace { encoder, decoder, cross } = lengths;
        let most = encoder.max(decoder).max(cross);
        match [encoder, decoder, cross].iter().all(|len| *len == 0 || *len == most) {
            true => Self::Shared(most),
            false => Self::Separate { encoder, decoder, cross },
        }
    }

    fn of(self, place: PrefixPlace) -> usize {
        match self {
            Self::Shared(len) => len,
            Self::Separate { encoder, decoder, cross } => *PerPlace { encoder, decoder, cross }.get(place),
        }
    }
}

impl Places {
    fn new(prefix_len: PerPlace<usize>, decoder_positions: DecoderPositions) -> Self {
        let names = PrefixPlace::ALL.into_iter().filter(|place| *prefix_len.get(*place) > 0).collect();
        Self { names, num_virtual_tokens: Lengths::new(prefix_len), decoder_positions }
    }

    fn len(&self, place: PrefixPlace) -> usize {
        if self.names.contains(&place) { self.num_virtual_tokens.of(place) } else { 0 }
    }

    /// Where the decoder's text starts.
    pub fn first_position(&self) -> usize {
        match self.decoder_positions {
            DecoderPositions::AfterPrefix => self.len(PrefixPlace::Decoder),
            DecoderPositions::FromZero => 0,
        }
    }

    /// What enters the hash beside the tensors: the same rows compute something else where the text starts elsewhere.
    pub fn hashed(&self) -> &'static str {
        match self.decoder_positions {
            DecoderPositions::AfterPrefix => "",
            DecoderPositions::FromZero => "from_zero",
        }
    }
}

impl PlacedPrefixFiles {
    /// Of rows that are to be written.
    pub fn of(rows: &PlacedRows, spec: &ModelSpec) -> Self {
        let prefix_len = PerPlace::new(|place| rows.values.get(place).len() / spec.row_width(place).max(1));
        let sizes = [prefix_len.decoder, n_slot_layer(spec), spec.n_kv_head, spec.head_dim];
        let decoder = (prefix_len.decoder > 0).then_some(sizes);
        Self { places: Places::new(prefix_len, rows.decoder_positions), decoder }
    }

    /// Of the tensors in `file`, checked against what the files beside it say of them. `config` is adapter_config.json,
    /// where that is PEFT's. Without preface.json there are as many rows as the tensors have.
    pub fn read(
        file: &Path,
        tensors: &Tensors,
        config: Option<&AdapterConfig>,
    ) -> Result<Self, ArtefactError> {
        let decoder =
            config.map(|config| [config.prefix_len, config.n_layer, config.n_kv_head, config.head_dim]);
        if let Some([prefix_len, n_layer, n_kv_head, head_dim]) = decoder {
            let (name, model) = (super::TENSOR.to_owned(), super::CONFIG.to_owned());
            let want = vec![prefix_len, 2 * n_layer * n_kv_head * head_dim];
            match tensors.get(&name) {
                None => return Err(ArtefactError::MissingTensor { path: file.into(), name, model }),
                Some((got, _)) if *got != want => {
                    let got = got.clone();
                    return Err(ArtefactError::TensorShape { path: file.into(), name, got, want, model });
                }
                Some(_) => {}
            }
        }
        let n_row =
            |place| tensors.get(tensor(place)).map_or(0, |(shape, _)| shape.first().copied().unwrap_or(0));
        let lens = PerPlace::new(n_row);
        if PrefixPlace::ALL.iter().all(|place| *lens.get(*place) == 0) {
            let names = PrefixPlace::ALL.map(tensor).join(" or ");
            let (path, model) = (file.into(), "a prefix".into());
            return Err(ArtefactError::MissingTensor { path, name: names, model });
        }
        let manifest = file.with_file_name(MANIFEST);
        let described = if manifest.exists() { manifest::places(&manifest)? } else { None };
        let Some(places) = described else {
            return Ok(Self { places: Places::new(lens, DecoderPositions::AfterPrefix), decoder });
        };
        for place in PrefixPlace::ALL {
            let (got, want) = (*lens.get(place), places.len(place));
            if got != want {
                let is_shared = matches!(places.num_virtual_tokens, Lengths::Shared(_));
                let (path, name) = (file.into(), tensor(place));
                return Err(ArtefactError::PlaceLength { path, name, got, want, is_shared });
            }
        }
        Ok(Self { places, decoder })
    }

    /// `[prefix_len, num_layers, n_kv_head, head_dim]` as PEFT is told; nothing without decoder rows.
    pub fn peft_sizes(&self) -> Option<[usize; 4]> {
        self.decoder
    }

    /// The rows for the model called `name`, from its tensors.
    ///
    /// # Errors
    /// Why the model cannot have them.
    pub fn rows(
        &self,
        name: &str,
        spec: &ModelSpec,
        mut take: impl FnMut(&str, &[usize]) -> Vec<f32>,
    ) -> Result<PlacedRows, String> {
        if let Some([_, n, n_kv_head, head_dim]) = self.decoder {
            let fits = (n == spec.n_layer || n == n_slot_layer(spec))
                && (n_kv_head, head_dim) == (spec.n_kv_head, spec.head_dim);
            if !fits {
                return Err(format!(
                    "`num_layers` = {n} with {n_kv_head} heads of {head_dim}, but the decoder of {name} has {} layers \
                     with {} heads of {}",
                    spec.n_layer, spec.n_kv_head, spec.head_dim
                ));
            }
        }
        let values = PerPlace::new(|place| {
            let prefix_len = self.places.len(place);
            match (place, self.decoder) {
                _ if prefix_len == 0 => Vec::new(),
                (PrefixPlace::Decoder, Some([_, n, ..])) => {
                    from_slots(&take(tensor(place), &[prefix_len, 2 * n * spec.kv_width()]), n, spec)
                }
                _ => take(tensor(place), &[prefix_len, spec.row_width(place)]),
            }
        });
        Ok(PlacedRows { values, decoder_positions: self.places.decoder_positions })
    }

    /// Such as `2 in the encoder, 4 in the decoder`.
    pub fn in_words(&self) -> String {
        let rows = self.places.names.iter().map(|place| {
            let what = match place {
                PrefixPlace::Encoder => "in the encoder",
                PrefixPlace::Decoder => "in the decoder",
                PrefixPlace::Cross => "in cross-attention",
            };
            format!("{} {what}", self.places.len(*place))
        });
        rows.collect::<Vec<_>>().join(", ")
    }

    /// What the card says.
    pub fn subject(&self, n_number: usize) -> Subject {
        let places = &self.places;
        let is_pefts = places.names == [PrefixPlace::Decoder]
            && places.decoder_positions == DecoderPositions::AfterPrefix;
        let in_part = match !is_pefts && self.decoder.is_some() {
            true => " PEFT would take the decoder's rows alone, with the text behind them.",
            false => "",
        };
        Subject {
            title: "A prefix",
            introduction: format!(
                "Rows of keys and values for every layer of an encoder-decoder, {} ({n_number} numbers), that steer the \
                 frozen model to a task.{in_part} Trained with \
                 [Prefix-Tuning](https://aclanthology.org/2021.acl-long.353/)",
                self.in_words(),
            ),
            tag: "prefix-tuning",
            also: if is_pefts { Also::Peft } else { Also::Nobody },
            task: Task::Seq2Seq,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_depths_reach_every_slot_once_and_even_ones_half_of_them_twice() {
        let slots = |n: usize| -> Vec<usize> { (0..n).map(|layer| slot(layer, n)).collect() };
        assert_eq!(slots(1), [0]);
        assert_eq!(slots(3), [0, 4, 2]);
        assert_eq!(slots(5), [0, 4, 8, 2, 6]);
        assert_eq!(slots(4), [0, 4, 0, 4]);
    }

    #[test]
    fn lengths_are_shared_where_every_place_that_has_rows_has_as_many() {
        let places = |encoder, decoder, cross| {
            Places::new(PerPlace { encoder, decoder, cross }, DecoderPositions::AfterPrefix)
        };
        assert_eq!(places(4, 0, 4).num_virtual_tokens, Lengths::Shared(4));
        let separate = places(4, 2, 0);
        assert_eq!(separate.num_virtual_tokens, Lengths::Separate { encoder: 4, decoder: 2, cross: 0 });
        for places in [places(4, 0, 4), separate] {
            let json = serde_json::to_string(&places).unwrap();
            assert_eq!(serde_json::from_str::<Places>(&json).unwrap(), places, "{json}");
        }
    }
}
