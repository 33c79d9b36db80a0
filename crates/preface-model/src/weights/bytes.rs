//! Positioned reads from a file, or from bytes that are part of the program.
//!
//! Never a memory map: a mapped file that somebody truncates kills the process, a positioned read returns an error. Reads
//! share no cursor, so tensors can be read from several threads.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::weights::WeightsError;

/// Where the bytes of a weight file come from, with the path (or `builtin:` name) that messages show.
#[derive(Debug)]
pub(crate) struct ByteSource {
    path: PathBuf,
    bytes: Bytes,
    len: u64,
}

#[derive(Debug)]
enum Bytes {
    File(fs_err::File),
    Memory(Cow<'static, [u8]>),
}

impl ByteSource {
    /// Opens a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |doing| move |source| WeightsError::Io { path: path.to_path_buf(), doing, source };
        // Asked first: opening a pipe would wait for its writer.
        if !fs_err::metadata(path).map_err(io("open it"))?.is_file() {
            return Err(WeightsError::NotAFile { path: path.to_path_buf() });
        }
        let file = fs_err::File::open(path).map_err(io("open it"))?;
        let len = file.metadata().map_err(io("ask for its length"))?.len();
        Ok(Self { path: path.to_path_buf(), bytes: Bytes::File(file), len })
    }

    /// Takes bytes that are in memory already.
    pub(crate) fn memory(name: &Path, bytes: Cow<'static, [u8]>) -> Self {
        let len = bytes.len() as u64;
        Self { path: name.to_path_buf(), bytes: Bytes::Memory(bytes), len }
    }

    /// The path or name for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads `len` bytes at `offset` into owned memory. Refuses before it allocates when the source is shorter.
    pub(crate) fn read(&self, what: &'static str, offset: u64, len: u64) -> Result<Vec<u8>, WeightsError> {
        let truncated = || WeightsError::Truncated {
            path: self.path.clone(),
            what,
            offset,
            need: len,
            file_len: self.len,
        };
        let end = offset.checked_add(len).filter(|end| *end <= self.len).ok_or_else(truncated)?;
        match &self.bytes {
            Bytes::Memory(bytes) => Ok(bytes[usize::try_from(offset).map_err(|_| truncated())?..]
                [..(end - offset) as usize]
                .to_vec()),
            Bytes::File(file) => {
                let mut buffer = vec![0; usize::try_from(len).map_err(|_| truncated())?];
                read_exact_at(file, &mut buffer, offset).map_err(|source| WeightsError::Io {
                    path: self.path.clone(),
                    doing: "read from it",
                    source,
                })?;
                Ok(buffer)
            }
        }
    }
}

/// Fills `buffer` from `offset` on without moving a cursor.
#[cfg(unix)]
fn read_exact_at(file: &fs_err::File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file.file(), buffer, offset)
}

/// Fills `buffer` from `offset` on; Windows moves the cursor, which nobody here uses.
#[cfg(windows)]
fn read_exact_at(file: &fs_err::File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file.file(), buffer, offset)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[n..];
        offset += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_beyond_the_end_is_refused_before_it_allocates() {
        let source = ByteSource::memory(Path::new("four"), vec![1, 2, 3, 4].into());
        assert_eq!(source.read("x", 1, 3).unwrap(), [2, 3, 4]);
        for (offset, len) in [(0, 5), (4, 1), (1, u64::MAX), (u64::MAX, 1), (0, 1 << 60)] {
            assert!(
                matches!(source.read("x", offset, len), Err(WeightsError::Truncated { .. })),
                "{offset} {len}"
            );
        }
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let error = ByteSource::open(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
        assert!(matches!(error, WeightsError::NotAFile { .. }), "{error}");
    }

    #[test]
    fn a_file_that_shrinks_after_it_was_opened_gives_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shrinks");
        fs_err::write(&path, [7; 100]).unwrap();
        let source = ByteSource::open(&path).unwrap();
        assert_eq!(source.read("x", 90, 10).unwrap(), [7; 10]);
        fs_err::write(&path, [7; 10]).unwrap();
        assert!(matches!(source.read("x", 90, 10), Err(WeightsError::Io { .. })));
    }
}
