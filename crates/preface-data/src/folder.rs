//! The files of a folder: WebNLG 2017 is released as a tree of XML files, one for each category and size.

use std::path::Path;

use crate::error::DataError;

/// Names, relative to `folder` and with `/`, of all `.xml` files in it and below, sorted. Links are not followed, so
/// the tree has an end.
pub(crate) fn xml_files(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    let mut open = vec![String::new()];
    while let Some(below) = open.pop() {
        for entry in fs_err::read_dir(folder.join(&below))? {
            let entry = entry?;
            // A name that is no UTF-8 is nothing that the release holds.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(format!("{below}{name}/"));
            } else if kind.is_file() && name.to_ascii_lowercase().ends_with(".xml") {
                names.push(format!("{below}{name}"));
            }
        }
    }
    if names.is_empty() {
        return Err(DataError::EmptyFolder { path: folder.to_owned() });
    }
    names.sort_unstable();
    Ok(names)
}
