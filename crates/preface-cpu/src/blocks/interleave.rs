//! From a row's blocks as the file has them to its place in an interleaved group.

use preface_backend::BlockFormat;
use preface_backend::blocks::q4_k::scales_and_mins;

use super::layout::{HALVES, WORDS, block_bytes};
use super::{GROUP, STEP};

/// Writes a row's blocks to lane `lane` of the group `to`.
pub fn row(format: BlockFormat, blocks: &[u8], lane: usize, to: &mut [u8]) {
    let from = blocks.chunks_exact(format.block_bytes());
    for (from, to) in from.zip(to.chunks_exact_mut(block_bytes(format))) {
        let mut to = Lane { to, lane, at: 0 };
        match format {
            BlockFormat::Q4_0 => {
                to.half(&from[..2]);
                to.nibbles(|i| from[2 + i]);
            }
            BlockFormat::Q4_1 => {
                to.half(&from[..2]);
                to.half(&from[2..4]);
                to.nibbles(|i| from[4 + i]);
            }
            BlockFormat::Q5_0 => {
                to.half(&from[..2]);
                let high = u32::from_le_bytes([from[2], from[3], from[4], from[5]]);
                // Bit `w` of byte `j` belongs to element `4 w + j`.
                to.word(std::array::from_fn(|j| {
                    (0..8).fold(0, |byte, w| byte | ((high >> (4 * w + j)) as u8 & 1) << w)
                }));
                to.nibbles(|i| from[6 + i]);
            }
            BlockFormat::Q8_0 => {
                to.half(&from[..2]);
                // Unsigned: 128 more.
                for word in 0..8 {
                    to.word(std::array::from_fn(|j| from[2 + 4 * word + j] ^ 0x80));
                }
            }
            BlockFormat::Q4_K => {
                to.half(&from[..2]);
                to.half(&from[2..4]);
                let (scales, mins) = scales_and_mins(&from[4..16]);
                for bytes in [scales, mins] {
                    to.word(std::array::from_fn(|j| bytes[j]));
                    to.word(std::array::from_fn(|j| bytes[4 + j]));
                }
                let element =
                    |step: usize, e: usize| (from[16 + 32 * (step / 2) + e] >> (4 * (step % 2))) & 0x0f;
                for step in 0..8 {
                    to.nibbles(|i| element(step, i) | element(step, STEP / 2 + i) << 4);
                }
            }
            BlockFormat::Q6_K => {
                to.half(&from[208..]);
                for word in 0..4 {
                    to.word(std::array::from_fn(|j| from[192 + 4 * word + j] ^ 0x80));
                }
                let element = |e: usize| {
                    let (half, r) = (e / 128, e % 128);
                    let low = (from[64 * half + r % 64] >> (4 * (r / 64))) & 0x0f;
                    let high = (from[128 + 32 * half + r % 32] >> (2 * (r / 32))) & 3;
                    (low, high)
                };
                for step in 0..8 {
                    to.nibbles(|i| element(STEP * step + i).0 | element(STEP * step + STEP / 2 + i).0 << 4);
                    // Bits `2 w` of byte `j` belong to element `4 w + j` of a half of the step.
                    for half in 0..2 {
                        to.word(std::array::from_fn(|j| {
                            (0..4).fold(0, |byte, w| {
                                byte | element(STEP * step + STEP / 2 * half + 4 * w + j).1 << (2 * w)
                            })
                        }));
                    }
                }
            }
        }
    }
}

/// One lane of a group's block, written from its start.
struct Lane<'a> {
    to: &'a mut [u8],
    lane: usize,
    at: usize,
}

impl Lane<'_> {
    /// The lane's half in a row of [`GROUP`] halves.
    fn half(&mut self, bytes: &[u8]) {
        self.to[self.at + 2 * self.lane..][..2].copy_from_slice(bytes);
        self.at += HALVES;
    }

    /// The lane's word in a row of [`GROUP`] words.
    fn word(&mut self, bytes: [u8; 4]) {
        self.to[self.at + 4 * self.lane..][..4].copy_from_slice(&bytes);
        self.at += WORDS;
    }

    /// Sixteen bytes, each with element `i` of a step in its low and element `16 + i` in its high four bits.
    fn nibbles(&mut self, byte: impl Fn(usize) -> u8) {
        for word in 0..4 {
            self.word(std::array::from_fn(|j| byte(4 * word + j)));
        }
    }
}

const _: () = assert!(HALVES == 2 * GROUP && WORDS == 4 * GROUP);
