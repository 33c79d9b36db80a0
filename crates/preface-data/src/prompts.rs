//! Prompts without references, for generation: JSONL whose lines have a `prompt`; other keys are not read.

use std::path::Path;

use crate::dataset::text_of;
use crate::error::{DataError, Place};
use crate::reader::{jsonl, prompt_of};

/// The prompts of a file, in file order.
pub fn read_prompts(path: impl AsRef<Path>) -> Result<Vec<String>, DataError> {
    let path = path.as_ref();
    prompts_from_bytes(path, &fs_err::read(path)?)
}

/// The prompts that a file holds; `path` names it in errors.
pub fn prompts_from_bytes(path: &Path, bytes: &[u8]) -> Result<Vec<String>, DataError> {
    let prompt = |(line, text)| {
        let at = |fault| DataError::At { path: path.to_owned(), place: Place::Line(line), fault };
        jsonl::object(text).and_then(prompt_of).map_err(at)
    };
    jsonl::lines(text_of(path, bytes)?).map(prompt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(text: &str) -> Result<Vec<String>, String> {
        prompts_from_bytes("p.jsonl".as_ref(), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn other_keys_and_blank_lines_are_passed_over() {
        let text = "{\"prompt\":\"a\",\"completion\":7}\n\n{\"n\":1,\"prompt\":\"b\"}\n";
        assert_eq!(prompts(text).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_line_without_prompt_is_named() {
        let message = prompts("{\"prompt\":\"a\"}\n{\"question\":\"b\"}").unwrap_err();
        assert!(message.contains("line 2") && message.contains("`prompt`") && message.contains("`question`"));
        assert!(prompts("").unwrap_err().contains("empty"));
        assert!(prompts("{\"prompt\":3}").unwrap_err().contains("a number"));
    }
}
