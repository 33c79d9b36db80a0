//! Takes METEOR's tables out of the program's distribution, once, into a folder of the user's.
//!
//! The jar holds the WordNet synsets, their exceptions, the function words and the non-breaking prefixes; the paraphrase
//! table lies beside it, in `data/`. Both also lie in the wheel of pycocoevalcap. What is taken must have the checksums
//! of METEOR 1.5, since other tables give other scores under the same name. The paraphrase table is stored in the compact
//! form that [`MeteorData`] reads at once.

use std::io::{BufReader, BufWriter, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use fs_err::File;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::data::{self, MeteorData};
use super::paraphrase::ParaphraseTable;

const JAR: &str = "meteor-1.5.jar";
const PARAPHRASE_ARCHIVE: &str = "data/paraphrase-en.gz";
const FOLDER_IN_WHEEL: &str = "pycocoevalcap/meteor/";
/// More than the jar and the paraphrase archive have; a file that claims more is not read on.
const MAX_SIZE: u64 = 64 << 20;

/// An entry of the jar: its name there, our name, its SHA-256.
const ENTRIES: [(&str, &str, &str); 5] = [
    (
        "function/english.words",
        data::FUNCTION_WORDS,
        "2ae0d5b8c29e2993a0f442b065b946d1a17fbfe8538e66bf5931c4a248cf4c3a",
    ),
    (
        "nonbreaking/english.prefixes",
        data::PREFIXES,
        "bd909f364224748976f9b8b7cdeb4f9be3bf7c8e66a10f1ed268b12d904ab876",
    ),
    (
        "synonym/english.exceptions",
        data::EXCEPTIONS,
        "5feb8fcb5b349d035df1a448149c2ccc860bf32e4b9eea8c8e4f113e90a5a962",
    ),
    (
        "synonym/english.synsets",
        data::SYNSETS,
        "20b7cf6ae1cba2395d714d8c2ec2992e88c6d1c75c7c30aa480c6a2a9bb8fef9",
    ),
    (
        "synonym/COPYING.WORDNET",
        "COPYING.WORDNET",
        "a9c2429bcded547ce3a9d19250df850ad65ec13ad7c320a662d84fb12419e130",
    ),
];
const PARAPHRASE_SHA256: &str = "c147ac7d2c91f2fbb3ad31e4b352235061eb83145e0434daf217ee9ca5975f48";

/// Why the tables were not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// Neither a wheel nor a folder with the program.
    #[error(
        "{} holds no METEOR: expected the wheel of pycocoevalcap 1.2, or a folder with {JAR} and {PARAPHRASE_ARCHIVE}",
        .0.display()
    )]
    NotADistribution(PathBuf),
    /// An archive that cannot be read, or lacks an entry.
    #[error("{}: {name}: {source}", .path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The entry.
        name: String,
        /// What is wrong with it.
        source: zip::result::ZipError,
    },
    /// A table of another version.
    #[error("{name} of {} is not that of METEOR 1.5: SHA-256 {found}, expected {expected}", .path.display())]
    Checksum {
        /// Where it was taken from.
        path: PathBuf,
        /// Its name there.
        name: String,
        /// The checksum of METEOR 1.5.
        expected: &'static str,
        /// The checksum of what lies there.
        found: String,
    },
    /// The destination is something else.
    #[error("{} exists and does not hold METEOR's tables: remove it or choose another folder", .0.display())]
    Occupied(PathBuf),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What [`install`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The tables are in place now.
    New,
    /// They were there already, and are whole.
    Already,
}

/// Puts METEOR's tables from `from` (the wheel of pycocoevalcap 1.2, the jar, or the folder of the jar) into the folder
/// `to`, which appears whole or not at all. Nothing is read if `to` holds the tables.
///
/// # Errors
/// See [`InstallError`]; `to` is then as it was.
pub fn install(from: &Path, to: &Path) -> Result<Installed, InstallError> {
    if to.exists() {
        return MeteorData::open(to)
            .map(|_| Installed::Already)
            .map_err(|_| InstallError::Occupied(to.to_owned()));
    }
    let (jar, paraphrases) = read_distribution(from)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::create_dir_all(parent)?;
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let partial = parent.join(format!(".{name}.partial-{}", std::process::id()));
    let written =
        write_tables(from, &jar, &paraphrases, &partial).and_then(|()| Ok(fs_err::rename(&partial, to)?));
    if written.is_err() && partial.exists() {
        fs_err::remove_dir_all(&partial)?;
    }
    match written {
        // Someone else was faster.
        Err(_) if MeteorData::open(to).is_ok() => Ok(Installed::Already),
        written => written.map(|()| Installed::New),
    }
}

/// The bytes of the jar and of the paraphrase archive.
fn read_distribution(from: &Path) -> Result<(Vec<u8>, Vec<u8>), InstallError> {
    let not_here = || InstallError::NotADistribution(from.to_owned());
    let folder = if from.is_dir() {
        Some(from)
    } else if from.file_name().is_some_and(|name| name == JAR) {
        from.parent()
    } else {
        None
    };
    if let Some(folder) = folder {
        let paths = [folder.join(JAR), folder.join(PARAPHRASE_ARCHIVE)];
        if !paths.iter().all(|path| path.is_file()) {
            return Err(not_here());
        }
        let [jar, paraphrases] = paths.map(|path| read_limited(&mut File::open(path)?));
        return Ok((jar?, paraphrases?));
    }
    if !from.is_file() {
        return Err(not_here());
    }
    let mut wheel = ZipArchive::new(BufReader::new(File::open(from)?)).map_err(|_| not_here())?;
    let mut take = |name: &str| read_entry(&mut wheel, from, &format!("{FOLDER_IN_WHEEL}{name}"));
    match (take(JAR), take(PARAPHRASE_ARCHIVE)) {
        (Err(InstallError::Archive { source: zip::result::ZipError::FileNotFound, .. }), _) => {
            Err(not_here())
        }
        (jar, paraphrases) => Ok((jar?, paraphrases?)),
    }
}

fn write_tables(from: &Path, jar: &[u8], paraphrases: &[u8], folder: &Path) -> Result<(), InstallError> {
    fs_err::create_dir_all(folder)?;
    let mut archive = ZipArchive::new(Cursor::new(jar)).map_err(|source| InstallError::Archive {
        path: from.to_owned(),
        name: JAR.to_owned(),
        source,
    })?;
    for (entry, name, expected) in ENTRIES {
        let bytes = read_entry(&mut archive, from, entry)?;
        verify(from, entry, &bytes, expected)?;
        write_synced(&folder.join(name), |file| file.write_all(&bytes))?;
    }
    verify(from, PARAPHRASE_ARCHIVE, paraphrases, PARAPHRASE_SHA256)?;
    let table = ParaphraseTable::build(BufReader::with_capacity(1 << 20, GzDecoder::new(paraphrases)))?;
    write_synced(&folder.join(data::PARAPHRASES), |file| table.write(file))
}

fn write_synced(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), InstallError> {
    let mut file = BufWriter::new(File::create(path)?);
    write(&mut file)?;
    Ok(file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?)
}

fn read_entry<R: Read + std::io::Seek>(
    archive: &mut ZipArchive<R>,
    path: &Path,
    name: &str,
) -> Result<Vec<u8>, InstallError> {
    let mut entry = archive.by_name(name).map_err(|source| InstallError::Archive {
        path: path.to_owned(),
        name: name.to_owned(),
        source,
    })?;
    read_limited(&mut entry)
}

fn read_limited(file: &mut impl Read) -> Result<Vec<u8>, InstallError> {
    let mut bytes = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn verify(path: &Path, name: &str, bytes: &[u8], expected: &'static str) -> Result<(), InstallError> {
    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found == expected {
        Ok(())
    } else {
        Err(InstallError::Checksum { path: path.to_owned(), name: name.to_owned(), expected, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_the_program_is_refused_with_what_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("tables");
        for from in [folder.path().to_owned(), folder.path().join("absent.whl")] {
            let refused = install(&from, &to).unwrap_err();
            assert!(refused.to_string().contains("expected the wheel of pycocoevalcap 1.2"), "{refused}");
            assert!(!to.exists());
        }
    }

    #[test]
    fn a_file_that_is_no_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("some.whl");
        fs_err::write(&wheel, "no archive").unwrap();
        let refused = install(&wheel, &folder.path().join("tables")).unwrap_err();
        assert!(matches!(refused, InstallError::NotADistribution(_)), "{refused}");
    }

    #[test]
    fn other_tables_are_refused_and_nothing_stays_behind() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("data")).unwrap();
        fs_err::write(folder.path().join(PARAPHRASE_ARCHIVE), "other").unwrap();
        let mut jar = zip::ZipWriter::new(std::fs::File::create_new(folder.path().join(JAR)).unwrap());
        for (entry, _, _) in ENTRIES {
            jar.start_file(entry, zip::write::SimpleFileOptions::default()).unwrap();
            jar.write_all(b"other").unwrap();
        }
        jar.finish().unwrap();
        let to = folder.path().join("tables");
        let refused = install(folder.path(), &to).unwrap_err();
        assert!(matches!(&refused, InstallError::Checksum { name, .. } if name == ENTRIES[0].0), "{refused}");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_occupied_destination_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("mine"), "mine").unwrap();
        let refused = install(folder.path(), folder.path()).unwrap_err();
        assert!(matches!(refused, InstallError::Occupied(_)), "{refused}");
        assert!(folder.path().join("mine").exists());
    }
}
