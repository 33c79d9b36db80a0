//! What a prefix's rows are called and what they are: their place in the file, and a hash of their contents.
//!
//! ```text
//! row i = K_0 V_0 K_1 V_1 ... K_(n_layer-1) V_(n_layer-1),      K_l, V_l: [n_kv_head, head_dim]
//! ```
//!
//! that is, the row of a token viewed as `(2 * n_layer, n_kv_head, head_dim)` has the keys of layer `l` (after rotary
//! embedding) at `2l` and its values at `2l + 1`. It is the layout in which the model takes them, so nothing is moved.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::PrefixRows;

impl PrefixRows {
    /// Numbers in one row.
    pub fn row_width(&self) -> usize {
        2 * self.n_layer * self.n_kv_head * self.head_dim
    }

    /// `[prefix_len, 2 * n_layer, n_kv_head, head_dim]`
    pub fn shape(&self) -> [usize; 4] {
        [self.prefix_len, 2 * self.n_layer, self.n_kv_head, self.head_dim]
    }

    /// SHA-256, in hexadecimal, of the four numbers `prefix_len`, `n_layer`, `n_kv_head`, `head_dim` (64 bits each) and
    /// of all values (`f32`), all little endian. What is computed behind a prefix can be kept under this name: it is
    /// equal only for rows that are equal bit by bit.
    pub fn content_hash(&self) -> String {
        let mut hash = Sha256::new();
        for size in [self.prefix_len, self.n_layer, self.n_kv_head, self.head_dim] {
            hash.update((size as u64).to_le_bytes());
        }
        for value in &self.values {
            hash.update(value.to_le_bytes());
        }
        hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
            hex
        })
    }

    /// The first value that is not finite: its row, its layer, whose it is, and the value itself.
    pub(super) fn first_not_finite(&self) -> Option<(usize, usize, &'static str, f32)> {
        let index = self.values.iter().position(|value| !value.is_finite())?;
        let part = index % self.row_width() / (self.n_kv_head * self.head_dim);
        let name = if part.is_multiple_of(2) { "keys" } else { "values" };
        Some((index / self.row_width(), part / 2, name, self.values[index]))
    }
}
