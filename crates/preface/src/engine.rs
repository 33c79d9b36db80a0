//! A model by name, and what it runs on.

use std::sync::OnceLock;

use anyhow::{Context, Result};
use preface_backend::{Backend, Description};
use preface_cpu::{CpuBackend, CpuOptions, Precision, Tier};
use preface_generate::FileDefaults;
use preface_model::tokenizer::{SpecialTokens, Tokenizer};
use preface_model::{Fingerprint, InputStorage, Model, ModelFiles, WeightFormat};

use crate::config::ModelFacts;
use crate::config::sections::Compute;

/// A model whose files are open and checked, without its weights.
pub struct Source {
    /// As it was typed.
    pub name: String,
    /// Config and headers.
    pub files: ModelFiles,
    /// The tokenizer that lies with it.
    pub tokenizer: Tokenizer,
    /// The tokens that begin and end a text.
    pub special: SpecialTokens,
}

impl Source {
    /// Opens the files.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub fn open(name: &str) -> Result<Self> {
        Self::of(name, ModelFiles::open(name)?)
    }

    /// Opens config and tokenizer of a model that starts from random weights.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub fn untrained(name: &str, seed: u64) -> Result<Self> {
        Self::of(name, ModelFiles::untrained(name, seed)?)
    }

    fn of(name: &str, files: ModelFiles) -> Result<Self> {
        let (tokenizer, special) = files.tokenizer()?;
        Ok(Self { name: name.into(), files, tokenizer, special })
    }

    /// What defaults depend on.
    ///
    /// # Errors
    /// A file of the model that asks for something that cannot be.
    pub fn facts(&self) -> Result<ModelFacts> {
        let spec = self.files.spec();
        let files = match self.files.generation_config()? {
            None => FileDefaults::default(),
            Some((name, json)) => {
                let path = || self.files.path().join(name).display().to_string();
                FileDefaults::read(name, &json).with_context(path)?
            }
        };
        Ok(ModelFacts { family: spec.family, max_positions: spec.max_positions, files })
    }

    /// What the model is recognised by.
    ///
    /// # Errors
    /// A matrix that cannot be read.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        Ok(Fingerprint::new(self.files.spec(), self.files.weights(), self.tokenizer.fingerprint())?)
    }
}

/// Reads the weights for generation: unless something else is asked for, as their file stores them, because the fewer
/// bytes a token has to read the sooner it comes.
///
/// # Errors
/// A tensor that is missing or broken, or settings that this machine cannot do.
pub fn load(files: &ModelFiles, compute: &Compute) -> Result<Model<CpuBackend>> {
    Ok(files.load_as(backend(compute)?, asked_for(compute).unwrap_or_default())?)
}

/// Reads the weights for training: unless something else is asked for, in bf16 where products are in bf16, which is
/// faster than decoding blocks in every step, and exactly as they are where products are exact.
///
/// # Errors
/// As [`load`].
pub fn load_for_training(files: &ModelFiles, compute: &Compute) -> Result<Model<CpuBackend>> {
    Ok(files.load_as(backend(compute)?, training_format(compute)?)?)
}

/// How [`load_for_training`] keeps the weights.
///
/// # Errors
/// As [`options`].
pub fn training_format(compute: &Compute) -> Result<WeightFormat> {
    let default = match options(compute)?.precision {
        Precision::Bf16 => WeightFormat::Bf16,
        Precision::F32 => WeightFormat::Auto,
    };
    Ok(asked_for(compute).unwrap_or(default))
}

/// How inputs of the lowest trained layer are kept: as products take them.
///
/// # Errors
/// As [`options`].
pub fn input_storage(compute: &Compute) -> Result<InputStorage> {
    Ok(match options(compute)?.precision {
        Precision::F32 => InputStorage::F32,
        Precision::Bf16 => InputStorage::Bf16,
    })
}

fn asked_for(compute: &Compute) -> Option<WeightFormat> {
    compute.weights.as_deref().and_then(WeightFormat::named)
}

/// How the settings ask to compute.
///
/// # Errors
/// A tier that this CPU lacks, or no thread.
pub fn options(compute: &Compute) -> Result<CpuOptions> {
    let default = CpuOptions::default();
    let tier = Tier::ALL.into_iter().find(|tier| tier.name() == compute.tier);
    let precision = match compute.precision.as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        // A forced tier may not be the one that automatic precision has in mind.
        _ if tier.is_some_and(|tier| tier != Tier::Avx512Bf16) => Precision::F32,
        _ => default.precision,
    };
    Ok(CpuOptions { precision, threads: compute.threads.unwrap_or(default.threads), tier })
}

/// Sets how many threads rayon has, once: what comes first decides.
///
/// # Errors
/// If the system gives none.
pub fn start_threads(threads: usize) -> Result<()> {
    static STARTED: OnceLock<()> = OnceLock::new();
    if STARTED.set(()).is_ok() {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .context("cannot start threads")?;
    }
    Ok(())
}

/// The backend that the settings ask for.
///
/// # Errors
/// Settings that this machine cannot do.
pub fn backend(compute: &Compute) -> Result<CpuBackend> {
    let options = options(compute)?;
    let threads = options.threads;
    let backend = CpuBackend::new(options)?;
    start_threads(threads)?;
    Ok(backend)
}

/// What a model runs on, in words.
pub fn described<B: Backend>(model: &Model<B>) -> String {
    described_backend(model.backend())
}

/// The same of a backend without a model.
pub fn described_backend<B: Backend>(backend: &B) -> String {
    let Description { precision, tier, threads, .. } = backend.describe();
    let plural = if threads == 1 { "" } else { "s" };
    format!("{precision}, {tier}, {threads} thread{plural}")
}

/// Shapes and sizes of a model, in words.
pub fn shapes(files: &ModelFiles) -> String {
    preface_model::Shapes::of(files.spec()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::{self, Kind};

    #[test]
    fn every_tier_can_be_asked_for() {
        let setting = setting::find(&[setting::COMPUTE], "tier").unwrap();
        let Kind::Choice(words) = setting.kind else { panic!("a choice") };
        let tiers: Vec<&str> = std::iter::once("auto").chain(Tier::ALL.map(Tier::name)).collect();
        assert_eq!(words, tiers);
    }
}
