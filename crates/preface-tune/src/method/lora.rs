//! LoRA (Hu et al., 2021): `W x + (alpha / r) B A x` at chosen modules, `A` random, `B` zero at first, so that training
//! starts from the bare model.
//!
//! Modules are those of `transformers`, by its names. Where several of them are one product here (queries, keys and values),
//! their `A` are stacked and their `B` stand in a block matrix, so that a site has one low-rank term whatever is targeted
//! in it. PEFT's layout: `lora_A.weight` is `[r, n_in]`, `lora_B.weight` is `[n_out, r]`.

use std::collections::BTreeMap;
use std::ops::Range;

use preface_backend::{Backend, HostMatrix};
use preface_model::{Attachments, AttachmentsGrad, LowRank, Model, ModelSpec, Part, Site};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Gradient, Method, Parameters, Trained};
use crate::init::uniform_fan_in;

/// Settings under PEFT's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraSettings {
    /// Rank of a delta.
    pub r: usize,
    /// The delta is multiplied by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Probability of dropout on a delta's input.
    pub lora_dropout: f64,
    /// Names of modules, or their ends (`q_proj`, `attn.c_proj`).
    pub target_modules: Vec<String>,
}

/// Settings that do not fit the model.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LoraError {
    /// No module has the name.
    #[error("target_modules: the model has no module `{name}`; it has: {known}")]
    UnknownModule {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Nothing is targeted.
    #[error("target_modules is empty; the model has: {known}")]
    NoModule {
        /// The names there are.
        known: String,
    },
    /// A rank that cannot be.
    #[error(
        "r = {r}, but the smallest matrix among the target modules has rank {most}: expected 1 to {most}"
    )]
    Rank {
        /// What was asked for.
        r: usize,
        /// Largest possible.
        most: usize,
    },
}

/// A targeted module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoraModule {
    /// Its name in `transformers`.
    pub name: String,
    pub site: Site,
    /// Its features among those of the site.
    pub rows: Range<usize>,
    pub n_in: usize,
    /// Features of the site.
    pub n_out: usize,
}

/// Deltas under training.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    settings: LoraSettings,
    /// Whether the family stores its linear weights `[n_in, n_out]`; PEFT wants it said.
    fan_in_fan_out: bool,
    modules: Vec<LoraModule>,
    /// `A` and `B` of each module.
    parameters: Parameters,
}

/// All linear modules of the blocks, and whether the family stores them transposed.
fn all_modules(spec: &ModelSpec) -> (Vec<LoraModule>, bool) {
    let mut transposed = false;
    let mut modules = Vec::new();
    for site in spec.linear_sites() {
        let parts = spec.hugging_face_parts(site);
        let (n_in, n_out) = (spec.n_in(site), parts.last().map_or(0, |part| part.rows.end));
        for part in parts {
            transposed |= part.transposed;
            modules.push(LoraModule { name: part.module, site, rows: part.rows, n_in, n_out });
        }
    }
    (modules, transposed)
}

/// Whether PEFT would target a module by this name.
fn is_target(module: &str, target: &str) -> bool {
    module == target || module.strip_suffix(target).is_some_and(|rest| rest.ends_with('.'))
}

/// The last words of the modules' names, each once.
fn known(modules: &[LoraModule]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for module in modules {
        let word = module.name.rsplit('.').next().unwrap_or(&module.name);
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(", ")
}

impl Lora {
    /// What PEFT targets where nothing is said: queries and values, or the fused product that holds them.
    pub fn default_targets(spec: &ModelSpec) -> Vec<String> {
        let parts = spec.hugging_face_parts(Site::decoder(0, Part::Qkv));
        let picked: Vec<_> =
            if parts.len() == 3 { vec![&parts[0], &parts[2]] } else { parts.iter().collect() };
        let word = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        picked.into_iter().map(|part| word(&part.module)).collect()
    }

    /// Deltas of zero: `A` random, `B` zero.
    ///
    /// # Errors
    /// See [`LoraError`].
    pub fn new(spec: &ModelSpec, settings: LoraSettings, seed: u64) -> Result<Self, LoraError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let r = settings.r;
        Self::assemble(spec, settings, |module| {
            let down = uniform_fan_in(r * module.n_in, module.n_in, &mut rng);
            (down, vec![0.0; module.rows.len() * r])
        })
    }

    /// Deltas whose `A` and `B` are given module by module.
    pub(crate) fn assemble(
        spec: &ModelSpec,
        settings: LoraSettings,
        mut values: impl FnMut(&LoraModule) -> (Vec<f32>, Vec<f32>),
    ) -> Result<Self, LoraError> {
        let (all, fan_in_fan_out) = all_modules(spec);
        if settings.target_modules.is_empty() {
            return Err(LoraError::NoModule { known: known(&all) });
        }
        let targets = &settings.target_modules;
        for name in targets {
            if !all.iter().any(|module| is_target(&module.name, name)) {
                return Err(LoraError::UnknownModule { name: name.clone(), known: known(&all) });
            }
        }
        let is_targeted = |module: &LoraModule| targets.iter().any(|target| is_target(&module.name, target));
        let modules: Vec<LoraModule> = all.into_iter().filter(is_targeted).collect();
        let most = modules.iter().map(|module| module.n_in.min(module.rows.len())).min().unwrap_or(0);
        if settings.r == 0 || settings.r > most {
            return Err(LoraError::Rank { r: settings.r, most });
        }
        let mut parameters = Parameters::default();
        for module in &modules {
            let (down, up) = values(module);
            parameters.push(&format!("{}.lora_A.weight", module.name), &[settings.r, module.n_in], down);
            let shape = [module.rows.len(), settings.r];
            parameters.push(&format!("{}.lora_B.weight", module.name), &shape, up);
        }
        Ok(Self { settings, fan_in_fan_out, modules, parameters })
    }

    /// The settings.
    pub fn settings(&self) -> &LoraSettings {
        &self.settings
    }

    /// Number of modules that have a delta.
    pub fn n_module(&self) -> usize {
        self.modules.len()
    }

    /// Name, shape and values of each matrix.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.parameters.tensors()
    }

    pub(crate) fn fan_in_fan_out(&self) -> bool {
        self.fan_in_fan_out
    }

    fn scale(&self) -> f32 {
        (self.settings.lora_alpha / self.settings.r as f64) as f32
    }

    /// The modules of each site by their numbers.
    fn sites(&self) -> BTreeMap<Site, Vec<usize>> {
        let mut sites: BTreeMap<Site, Vec<usize>> = BTreeMap::new();
        for (number, module) in self.modules.iter().enumerate() {
            sites.entry(module.site).or_default().push(number);
        }
        sites
    }

    /// Where the gradients of each site's matrices begin, and the length of all.
    fn places(&self) -> (BTreeMap<Site, [usize; 2]>, usize) {
        let mut end = 0;
        let mut places = BTreeMap::new();
        for (site, numbers) in self.sites() {
            let (module, rank) = (&self.modules[numbers[0]], numbers.len() * self.settings.r);
            let down = end;
            let up = down + rank * module.n_in;
            end = up + module.n_out * rank;
            places.insert(site, [down, up]);
        }
        (places, end)
    }
}

impl<B: Backend> Method<B> for Lora {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn attach(&mut self, model: &mut Model<B>) -> Attachments<B> {
        let (backend, r, scale) = (model.backend(), self.settings.r, self.scale());
        let (places, n_gradient) = self.places();
        let low_rank = self.sites().into_iter().map(|(site, numbers)| {
            let rank = numbers.len() * r;
            let n_out = self.modules[numbers[0]].n_out;
            let mut up = vec![0.0; n_out * rank];
            let mut down = Vec::new();
            for (slot, &number) in numbers.iter().enumerate() {
                let module = &self.modules[number];
                let values = self.parameters.part(2 * number).to_vec();
                down.push(HostMatrix { n_row: r, n_column: module.n_in, values });
                let rows = up.chunks_exact_mut(rank).skip(module.rows.start);
                for (row, own) in rows.zip(self.parameters.part(2 * number + 1).chunks_exact(r)) {
                    for (to, from) in row[slot * r..(slot + 1) * r].iter_mut().zip(own) {
                        *to = scale * from;
                    }
                }
            }
            let up = HostMatrix { n_row: n_out, n_column: rank, values: up };
            let [down_grad, up_grad] = places[&site];
            let delta = LowRank {
                down: backend.weight(down),
                up: backend.weight(vec![up]),
                dropout: self.settings.lora_dropout as f32,
                down_grad,
                up_grad,
            };
            (site, delta)
        });
        Attachments { low_rank: low_rank.collect(), n_gradient, ..Attachments::none() }
    }

    fn gradient(&self, model: &Model<B>, grads: AttachmentsGrad<B>) -> Gradient<B> {
        let flat = model.backend().to_host(grads.flat);
        let (r, scale) = (self.settings.r, self.scale());
        let (places, _) = self.places();
        let mut gradient = vec![0.0; self.parameters.values().len()];
        for (site, numbers) in self.sites() {
            let [down, up] = places[&site];
            let rank = numbers.len() * r;
            for (slot, &number) in numbers.iter().enumerate() {
                let module = &self.modules[number];
                let [down_range, up_range] =
                    [2 * number, 2 * number + 1].map(|i| self.parameters.ranges()[i].range.clone());
                let own = &flat[down + slot * r * module.n_in..][..r * module.n_in];
                gradient[down_range].copy_from_slice(own);
                let rows = flat[up..].chunks_exact(rank).skip(module.rows.start);
                for (to, row) in gradient[up_range].chunks_exact_mut(r).zip(rows) {
                    for (to, from) in to.iter_mut().zip(&row[slot * r..(slot + 1) * r]) {
                        *to = scale * from;
                    }
                }
            }
        }
        Gradient::Computed(gradient)
    }

    fn trained(&self) -> Trained {
        Trained::Lora(self.clone())
    }
}
