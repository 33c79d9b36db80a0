//! Models inside the binary.

/// What stands in front of a built-in model's name.
pub const SCHEME: &str = "builtin:";

/// All of them, for messages.
pub const NAMES: &str = "builtin:stories260k";

/// A model's files.
pub(crate) struct Files {
    pub config: &'static str,
    pub tokenizer: &'static str,
    pub weights: &'static [u8],
}

/// The files of a built-in model.
pub(crate) fn find(name: &str) -> Option<Files> {
    (name == "stories260k").then_some(Files {
        config: include_str!("../../../assets/stories260k/config.json"),
        tokenizer: include_str!("../../../assets/stories260k/tokenizer.json"),
        weights: include_bytes!("../../../assets/stories260k/model.safetensors"),
    })
}
