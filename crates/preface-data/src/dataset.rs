//! A data file in memory: its examples, where they came from, and what the file's bytes hash to.
//!
//! Two views of the same examples: [`pairs`](Dataset::pairs), one for each reference, is what training learns from;
//! [`grouped`](Dataset::grouped), one for each prompt, is what evaluation generates for and scores.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::example::{Example, Pair};
use crate::folder;
use crate::form::Form;
use crate::linearise::Linearisation;
use crate::reader::{self, Lexicalisations, Read};
use crate::sampler::draw;

/// How a file is read; the default recognises everything from the file.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions {
    /// The form, where it is not to be recognised.
    pub form: Option<Form>,
    /// The linearisation of structured inputs, where it is not to be the form's own. Forms whose prompt is text
    /// already ignore it.
    pub linearisation: Option<Linearisation>,
    /// Which lexicalisations of WebNLG are read: `Good` for training, `All` for testing.
    pub lexicalisations: Lexicalisations,
}

/// The examples of one file (or of a folder of WebNLG's XML).
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The file or folder.
    pub path: PathBuf,
    /// Its form.
    pub form: Form,
    /// How its inputs were linearised; nothing where they are text already.
    pub linearisation: Option<Linearisation>,
    /// In file order; never empty.
    pub examples: Vec<Example>,
    /// SHA-256 of the bytes that were read, in hexadecimal (of a folder: of every file's name, length and bytes).
    /// A subset keeps the hash of the whole.
    pub sha256: String,
    /// References that were left out: by [`Lexicalisations::Good`], or as blank annotations of DART.
    pub dropped_references: usize,
}

impl Dataset {
    /// Reads a file, or all `.xml` files of a folder.
    pub fn load(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self, DataError> {
        let path = path.as_ref();
        if path.is_dir() {
            Self::load_folder(path, options)
        } else {
            Self::from_bytes(path, &fs_err::read(path)?, options)
        }
    }

    /// Reads what a file holds; `path` gives its ending and names it in errors.
    pub fn from_bytes(path: &Path, bytes: &[u8], options: &ReadOptions) -> Result<Self, DataError> {
        let text = text_of(path, bytes)?;
        let form = options.form.map_or_else(|| Form::recognise(path, text), Ok)?;
        let read = read(path, text, form, options)?;
        Self::new(path, form, options, read, hex(Sha256::digest(bytes).as_slice()))
    }

    fn load_folder(path: &Path, options: &ReadOptions) -> Result<Self, DataError> {
        let form = options.form.unwrap_or(Form::WebnlgXml);
        if form != Form::WebnlgXml {
            return Err(DataError::FolderForm { path: path.to_owned(), form });
        }
        let mut hash = Sha256::new();
        let mut all = Read::default();
        for name in folder::xml_files(path)? {
            let file = path.join(&name);
            let bytes = fs_err::read(&file)?;
            for part in [name.as_bytes(), &[0], &(bytes.len() as u64).to_le_bytes(), &bytes] {
                hash.update(part);
            }
            let mut read = read(&file, text_of(&file, &bytes)?, form, options)?;
            for example in &mut read.examples {
                example.fields.insert("file".to_owned(), name.clone());
            }
            all.examples.append(&mut read.examples);
            all.dropped_references += read.dropped_references;
        }
        Self::new(path, form, options, all, hex(hash.finalize().as_slice()))
    }

    fn new(
        path: &Path,
        form: Form,
        options: &ReadOptions,
        read: Read,
        sha256: String,
    ) -> Result<Self, DataError> {
        let Read { examples, dropped_references } = read;
        if examples.is_empty() {
            return Err(match dropped_references {
                0 => DataError::Empty { path: path.to_owned() },
                dropped => DataError::AllDropped { path: path.to_owned(), dropped },
            });
        }
        let linearisation =
            form.default_linearisation().map(|default| options.linearisation.unwrap_or(default));
        Ok(Self { path: path.to_owned(), form, linearisation, examples, sha256, dropped_references })
    }

    /// One pair for each reference of each example, in file order.
    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        self.examples.iter().enumerate().flat_map(|(index, example)| {
            example.references.iter().map(move |completion| Pair {
                prompt: &example.prompt,
                completion,
                example: index,
                line: example.line,
            })
        })
    }

    /// How many pairs [`pairs`](Self::pairs) gives.
    pub fn n_pair(&self) -> usize {
        self.examples.iter().map(|example| example.references.len()).sum()
    }

    /// One example for each prompt: those with an equal prompt become one, which keeps the place, line and fields of
    /// the first and has the references of all, in file order. Documents without prompts stay apart.
    pub fn grouped(&self) -> Vec<Example> {
        if self.form == Form::Text {
            return self.examples.clone();
        }
        let mut groups: Vec<Example> = Vec::new();
        let mut of_prompt: HashMap<&str, usize> = HashMap::new();
        for example in &self.examples {
            match of_prompt.get(example.prompt.as_str()) {
                Some(&group) => groups[group].references.extend_from_slice(&example.references),
                None => {
                    of_prompt.insert(&example.prompt, groups.len());
                    groups.push(example.clone());
                }
            }
        }
        groups
    }

    /// At most `count` examples with all their references, drawn by `seed`, in file order.
    pub fn take(&self, count: usize, seed: u64) -> Self {
        let kept = draw(self.examples.len(), count, seed);
        self.with_examples(kept.into_iter().map(|index| self.examples[index].clone()).collect())
    }

    /// At most `count` pairs, drawn by `seed`, in file order: every example keeps the references that were drawn, and
    /// those without any are left out.
    pub fn take_pairs(&self, count: usize, seed: u64) -> Self {
        let mut kept = draw(self.n_pair(), count, seed).into_iter().peekable();
        let mut first_pair = 0;
        let mut examples = Vec::new();
        for example in &self.examples {
            let end = first_pair + example.references.len();
            let mut references = Vec::new();
            while let Some(pair) = kept.next_if(|&pair| pair < end) {
                references.push(example.references[pair - first_pair].clone());
            }
            if !references.is_empty() {
                examples.push(Example { references, ..example.clone() });
            }
            first_pair = end;
        }
        self.with_examples(examples)
    }

    fn with_examples(&self, examples: Vec<Example>) -> Self {
        Self { path: self.path.clone(), sha256: self.sha256.clone(), examples, ..*self }
    }
}

fn read(path: &Path, text: &str, form: Form, options: &ReadOptions) -> Result<Read, DataError> {
    reader::read(text, form, options.linearisation, options.lexicalisations).map_err(|located| {
        DataError::At { path: path.to_owned(), place: located.place, fault: located.fault }
    })
}

/// The file as text, without the mark that some editors put in front.
pub(crate) fn text_of<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, DataError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let byte = error.valid_up_to();
        let line = bytes[..byte].iter().filter(|byte| **byte == b'\n').count() + 1;
        DataError::NotUtf8 { path: path.to_owned(), line, byte }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() { Err(DataError::Empty { path: path.to_owned() }) } else { Ok(text) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
