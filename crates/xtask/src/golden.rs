//! Golden files: `tests/golden/NAME/make.py`, run with the package versions that the fixtures state.

use std::path::PathBuf;

use anyhow::bail;

use crate::run::{root, run};

const PACKAGES: [&str; 7] =
    ["torch==2.15.*", "transformers==5.23.*", "peft==0.21.*", "gguf", "safetensors", "numpy", "tokenizers"];

/// Makes the named cases again, or all of them.
pub fn make(names: &[String]) -> anyhow::Result<()> {
    let cases = root().join("tests/golden");
    let scripts: Vec<PathBuf> = if names.is_empty() {
        let mut all = Vec::new();
        for entry in fs_err::read_dir(&cases)? {
            let script = entry?.path().join("make.py");
            if script.exists() {
                all.push(script);
            }
        }
        all.sort();
        all
    } else {
        names.iter().map(|name| cases.join(name).join("make.py")).collect()
    };
    if let Some(missing) = scripts.iter().find(|script| !script.exists()) {
        bail!("no such case: {} does not exist", missing.display());
    }
    let python = environment()?;
    for script in scripts {
        eprintln!("== {}", script.display());
        run(&python, &[&script.to_string_lossy()])?;
    }
    Ok(())
}

/// A Python environment under `target/`, made once.
fn environment() -> anyhow::Result<PathBuf> {
    let folder = root().join("target/golden-venv");
    let python = folder.join("bin/python");
    if !python.exists() {
        run("python3", &["-m", "venv", &folder.to_string_lossy()])?;
    }
    run(&python, &[["-m", "pip", "install", "--quiet"].as_slice(), &PACKAGES].concat())?;
    Ok(python)
}
