//! Several files at once, or none.
//!
//! A rename replaces one file atomically; for a set of files there is no such operation. So the new files are written
//! and synced in a folder beside the old ones first, where a full disk does no harm; then the old ones are renamed
//! into that folder and the new ones out of it, and if one of these renames fails, those before it are undone. Killed
//! in the middle of the renames, the set may be mixed or lack a file: what reads it must notice (preface.json holds the hash of the rows that it was written with).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::ArtefactError;

/// Writes `files` (name and bytes) into `folder`, which is made if it is absent, in place of those of the same names
/// that are there. What else lies in the folder is left alone.
///
/// # Errors
/// If something else than a regular file has one of the names, or the system refuses. Then the folder is as it was.
pub fn replace_files(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), ArtefactError> {
    let existed = folder.exists();
    fs_err::create_dir_all(folder)?;
    let written = stage_and_swap(folder, files);
    if written.is_err() && !existed {
        // Only removes it when it is empty; the first error is the one to report.
        let _ = fs_err::remove_dir(folder);
    }
    written
}

fn stage_and_swap(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), ArtefactError> {
    for (name, _) in files {
        let path = folder.join(name);
        if fs_err::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(ArtefactError::InTheWay { path });
        }
    }
    // Removed with what is in it when it goes out of scope, after success and after failure.
    let staging = tempfile::Builder::new().prefix(".preface-").tempdir_in(folder)?;
    for (name, bytes) in files {
        let mut file = fs_err::File::create(staging.path().join(name))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    let mut swap = Swap { folder, staging: &staging, done: Vec::new() };
    for (name, _) in files {
        if let Err(error) = swap.one(name) {
            swap.undo();
            return Err(error.into());
        }
    }
    sync_folder(folder)?;
    Ok(())
}

/// The renames so far, newest last.
struct Swap<'a> {
    folder: &'a Path,
    staging: &'a TempDir,
    done: Vec<(PathBuf, PathBuf)>,
}

impl Swap<'_> {
    fn one(&mut self, name: &str) -> std::io::Result<()> {
        let target = self.folder.join(name);
        if target.exists() {
            self.rename(target.clone(), self.staging.path().join(format!("{name}.old")))?;
        }
        self.rename(self.staging.path().join(name), target)
    }

    fn rename(&mut self, from: PathBuf, to: PathBuf) -> std::io::Result<()> {
        fs_err::rename(&from, &to)?;
        self.done.push((from, to));
        Ok(())
    }

    fn undo(self) {
        for (from, to) in self.done.into_iter().rev() {
            // A rename back that fails has no remedy; the others are still tried.
            let _ = fs_err::rename(to, from);
        }
    }
}

/// Makes the renames last through a loss of power.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    fs_err::File::open(folder)?.sync_all()
}

/// A folder cannot be opened as a file here; its entries are in the file system's journal.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs_err::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn files(text: &str) -> Vec<(&'static str, Vec<u8>)> {
        ["a", "b", "c"].map(|name| (name, format!("{text} {name}").into_bytes())).into()
    }

    fn assert_holds(folder: &Path, text: &str) {
        for (name, bytes) in files(text) {
            assert_eq!(fs_err::read(folder.join(name)).unwrap(), bytes);
        }
    }

    #[test]
    fn files_are_made_then_replaced_and_nothing_else_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new/deeper");
        replace_files(&folder, &files("old")).unwrap();
        assert_holds(&folder, "old");
        fs_err::write(folder.join("other"), "kept").unwrap();
        replace_files(&folder, &files("new")).unwrap();
        assert_holds(&folder, "new");
        assert_eq!(names(&folder), ["a", "b", "c", "other"]);
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        replace_files(folder.path(), &files("old")[..2]).unwrap();
        fs_err::create_dir(folder.path().join("c")).unwrap();
        let error = replace_files(folder.path(), &files("new")).unwrap_err();
        assert!(matches!(&error, ArtefactError::InTheWay { path } if path.ends_with("c")), "{error}");
        assert_eq!(fs_err::read(folder.path().join("a")).unwrap(), b"old a");
        assert_eq!(fs_err::read(folder.path().join("b")).unwrap(), b"old b");
        assert_eq!(names(folder.path()), ["a", "b", "c"]);
    }

    #[test]
    fn a_rename_that_fails_undoes_those_before_it() {
        let folder = tempfile::tempdir().unwrap();
        replace_files(folder.path(), &files("old")).unwrap();
        // The third file cannot be put in place: it was never staged.
        let staging = tempfile::Builder::new().tempdir_in(folder.path()).unwrap();
        let mut swap = Swap { folder: folder.path(), staging: &staging, done: Vec::new() };
        for (name, bytes) in &files("new")[..2] {
            fs_err::write(staging.path().join(name), bytes).unwrap();
            swap.one(name).unwrap();
        }
        swap.one("c").unwrap_err();
        assert!(!folder.path().join("c").exists(), "the failure came in the middle of a swap");
        swap.undo();
        assert_holds(folder.path(), "old");
    }

    #[test]
    fn a_name_that_cannot_be_written_leaves_everything_as_it_was() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        // The second lies in a folder that does not exist: staging fails after the first was written.
        let bad = [("a", b"new".to_vec()), ("missing/b", b"new".to_vec())];
        assert!(matches!(replace_files(&folder, &bad).unwrap_err(), ArtefactError::Io(_)));
        assert!(!folder.exists(), "a folder that was made for nothing is removed");
        replace_files(&folder, &files("old")).unwrap();
        replace_files(&folder, &bad).unwrap_err();
        assert_holds(&folder, "old");
        assert_eq!(names(&folder), ["a", "b", "c"]);
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_kept() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs_err::write(&path, "kept").unwrap();
        assert!(matches!(replace_files(&path, &files("new")).unwrap_err(), ArtefactError::Io(_)));
        assert_eq!(fs_err::read(&path).unwrap(), b"kept");
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_written_keeps_its_files() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        replace_files(folder.path(), &files("old")).unwrap();
        let mode = |mode| fs_err::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).unwrap();
        mode(0o500);
        let written = replace_files(folder.path(), &files("new"));
        mode(0o700);
        // Root may write anywhere: then the new files are there, whole.
        assert_holds(folder.path(), if written.is_ok() { "new" } else { "old" });
        assert_eq!(names(folder.path()), ["a", "b", "c"]);
    }
}
