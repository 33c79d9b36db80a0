//! Which names of a model may go into a file that is shared.

use std::path::Path;

use preface_model::BUILTIN_SCHEME;

/// The name, if it means the same model on any machine: a hub id (`name` or `owner/name`) or a built-in model. A path
/// says nothing to others and something about this machine, so it is left out; a name that a file or folder here has is
/// a path.
pub fn public_name(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_prefix(BUILTIN_SCHEME) {
        return is_word(name).then_some(model);
    }
    let mut parts = model.split('/');
    let words = parts.by_ref().take(2).all(is_word) && parts.next().is_none();
    let is_file =
        Path::new(model).exists() || [".gguf", ".safetensors"].iter().any(|end| model.ends_with(end));
    (words && !is_file).then_some(model)
}

/// Letters, digits, `-`, `_` and `.`, but no dot in front.
fn is_word(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_and_built_in_models_have_public_names() {
        for name in ["gpt2", "HuggingFaceTB/SmolLM2-135M", "builtin:stories260k"] {
            assert_eq!(public_name(name), Some(name));
        }
    }

    #[test]
    fn paths_have_none() {
        let paths = [
            "",
            "/",
            "/models/x",
            "./x",
            "../x",
            "a/b/c",
            "a/",
            "a//b",
            "x.gguf",
            "m/x.gguf",
            "~/x",
            "C:\\x",
            "builtin:../x",
            "builtin:",
            "a b",
            // Exists where the tests of this crate run.
            "src",
            "Cargo.toml",
        ];
        for path in paths {
            assert_eq!(public_name(path), None, "{path}");
        }
    }
}
