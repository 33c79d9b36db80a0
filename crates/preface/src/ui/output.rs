//! Results: stdout, whose reader may go away, or a file that appears when it is whole.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// Where results go.
pub enum Output {
    /// The terminal or a pipe.
    Stdout(BufWriter<io::Stdout>),
    /// A file, until [`Output::finish`] under another name.
    File(BufWriter<NamedTempFile>, PathBuf),
}

impl Output {
    /// The terminal or a pipe.
    pub fn stdout() -> Self {
        Self::Stdout(BufWriter::new(io::stdout()))
    }

    /// A file; nothing that is there is touched before [`Output::finish`].
    ///
    /// # Errors
    /// If its folder takes no file.
    pub fn file(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            anyhow::bail!("{}: is a folder, expected the name of a file", path.display());
        }
        let file = tempfile::Builder::new()
            .prefix(".preface-")
            .tempfile_in(folder)
            .with_context(|| format!("{}: cannot write into this folder", folder.display()))?;
        Ok(Self::File(BufWriter::new(file), path.to_owned()))
    }

    /// One line.
    ///
    /// # Errors
    /// If it cannot be written; a reader that went away is [`io::ErrorKind::BrokenPipe`].
    pub fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self, "{text}")?)
    }

    /// Everything is written; a file gets its name.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Stdout(mut stdout) => Ok(stdout.flush()?),
            Self::File(file, path) => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                // A temporary file is readable by its owner alone; this one is meant to be read.
                #[cfg(unix)]
                {
                    use std::os::unix::fs::PermissionsExt;
                    file.as_file().set_permissions(PermissionsExt::from_mode(0o644))?;
                }
                file.persist(&path)
                    .map_err(|error| error.error)
                    .with_context(|| path.display().to_string())?;
                Ok(())
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file, _) => file.flush(),
        }
    }
}

/// A text as one line, for files with a line for each segment.
pub fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers");
        fs_err::write(&path, "old").unwrap();
        let mut output = Output::file(&path).unwrap();
        output.line("new").unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "old");
        output.finish().unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "new\n");
        drop(Output::file(&path).unwrap());
        assert_eq!(
            fs_err::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left of what was given up"
        );
        assert!(Output::file(folder.path()).is_err());
    }

    #[test]
    fn a_text_becomes_one_line() {
        assert_eq!(one_line(" a \n\n b\r\nc"), "a b c");
        assert_eq!(one_line("\n"), "");
    }
}
