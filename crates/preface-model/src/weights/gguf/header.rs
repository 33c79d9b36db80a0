//! Reads the front of a GGUF file field by field, with its length known.
//!
//! Nothing is allocated for a count or a length before the rest of the file is known to be long enough for it, and the
//! header as a whole is capped: a hostile file costs at most a small multiple of [`HEADER_CAP`] bytes.

use std::path::{Path, PathBuf};

use crate::weights::WeightsError;
use crate::weights::bytes::ByteSource;

/// Largest header that is accepted. The metadata of a vocabulary of 262,144 tokens takes about 16 MB.
pub(super) const HEADER_CAP: u64 = 256 << 20;

/// Bytes fetched at once.
const CHUNK: u64 = 1 << 16;

/// A cursor over the header.
pub(super) struct HeaderReader<'a> {
    source: &'a ByteSource,
    position: u64,
    /// The bytes of the file from `buffer_start` on.
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl<'a> HeaderReader<'a> {
    pub(super) fn new(source: &'a ByteSource) -> Self {
        Self { source, position: 0, buffer: vec![], buffer_start: 0 }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.source.path().to_path_buf()
    }

    pub(super) fn path_ref(&self) -> &Path {
        self.source.path()
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes from here to the end of the file.
    fn remaining(&self) -> u64 {
        self.source.len() - self.position
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, what: &'static str, len: u64) -> Result<&[u8], WeightsError> {
        let (offset, file_len) = (self.position, self.source.len());
        if len > self.remaining() {
            return Err(WeightsError::Truncated { path: self.path(), what, offset, need: len, file_len });
        }
        let end = offset + len;
        if end > HEADER_CAP {
            return Err(WeightsError::HeaderTooLarge { path: self.path(), bytes: end, cap: HEADER_CAP });
        }
        if end > self.buffer_start + self.buffer.len() as u64 {
            let fetch = len.max(CHUNK).min(file_len - offset);
            self.buffer = self.source.read(what, offset, fetch)?;
            self.buffer_start = offset;
        }
        self.position = end;
        let start = (offset - self.buffer_start) as usize;
        Ok(&self.buffer[start..start + len as usize])
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WeightsError> {
        Ok(self.take(what, N as u64)?.try_into().expect("`take` returns the length it is asked for"))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, WeightsError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, WeightsError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A string: `u64` length and that many bytes of UTF-8.
    pub(super) fn string(&mut self, what: &'static str) -> Result<String, WeightsError> {
        let len = self.u64(what)?;
        let (path, offset) = (self.path(), self.position);
        let bytes = self.take(what, len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(WeightsError::NotUtf8 { path, what, offset }),
        }
    }

    /// A `u64` count of things that take at least `min_bytes` each.
    pub(super) fn count(&mut self, what: &'static str, min_bytes: u64) -> Result<usize, WeightsError> {
        let count = self.u64(what)?;
        self.check_count(what, count, min_bytes)
    }

    /// Refuses a count of things of at least `min_bytes` each that the rest of the file cannot hold.
    pub(super) fn check_count(
        &self,
        what: &'static str,
        count: u64,
        min_bytes: u64,
    ) -> Result<usize, WeightsError> {
        if count > self.remaining().min(HEADER_CAP) / min_bytes {
            return Err(WeightsError::CountTooLarge { path: self.path(), what, count });
        }
        Ok(count as usize)
    }
}
