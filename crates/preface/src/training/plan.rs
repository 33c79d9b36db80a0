//! What a run will need of memory, and what to do where there is not enough.

use anyhow::{Result, bail};
use preface_backend::Dropout;
use preface_train::{GradientSum, TokenPair, TrainSettings, evaluate_loss, largest_step};

use super::Job;
use super::method::Numbers;
use crate::plan::{MemoryPlan, Planner};
use crate::ui;

impl Job {
    /// Counts what the run will need.
    ///
    /// # Errors
    /// What would also stop the run itself.
    pub fn plan(&self) -> Result<MemoryPlan> {
        self.plan_with(&self.settings, self.config.training.recompute)
    }

    fn plan_with(&self, settings: &TrainSettings, recompute: bool) -> Result<MemoryPlan> {
        let mut planner = Planner::new(&self.source.files, &self.config.compute, recompute)?;
        let mut method = self.method(&planner.model, Numbers::Planned)?;
        let budget = settings.max_tokens_per_batch;
        let attachments = method.attach(&mut planner.model);
        if !self.valid_pairs.is_empty() {
            evaluate_loss(&planner.model, &attachments, method.segment(), &self.valid_pairs, budget)?;
        }
        let pairs = largest_step(settings, &self.train_pairs)?;
        let pairs: Vec<&TokenPair> = pairs.iter().map(|&pair| &self.train_pairs[pair]).collect();
        let dropout = Dropout { probability: settings.prefix_dropout, stream: 0 };
        let wanted = GradientSum {
            grads: None,
            label_smoothing: settings.label_smoothing_factor,
            prefix_dropout: &|_| (dropout.probability > 0.0).then_some(dropout),
            masks: &|_| None,
        };
        planner.step(&mut *method, &pairs, budget, wanted)?;
        let best = usize::from(!self.valid_pairs.is_empty());
        // Of the other methods the gradient lies in the step's rows, which are counted.
        let own_gradient = usize::from(self.config.run.method.has_rows());
        let mut plan = planner.plan(&*method, best + own_gradient);
        plan.inputs = planner.kept_inputs(&attachments, self.train_pairs.iter().chain(&self.valid_pairs));
        Ok(plan)
    }

    /// Refuses a run that would not fit into `available` bytes, and says what would.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn check_memory(&self, plan: &MemoryPlan, available: usize) -> Result<()> {
        if plan.fits(available) {
            return Ok(());
        }
        let mut settings = self.settings.clone();
        let longest = self.train_counts.longest.max(self.valid_counts.longest);
        let (mut least, mut recompute) = (*plan, self.config.training.recompute);
        let advice = loop {
            if !recompute {
                recompute = true;
            } else if settings.max_tokens_per_batch > longest {
                settings.max_tokens_per_batch = (settings.max_tokens_per_batch / 2).max(longest);
            } else {
                break "no setting makes it fit: the least".to_owned();
            }
            least = self.plan_with(&settings, recompute)?;
            if least.fits(available) {
                let budget = match settings.max_tokens_per_batch == self.settings.max_tokens_per_batch {
                    true => String::new(),
                    false => format!(" --max-tokens-per-batch {}", settings.max_tokens_per_batch),
                };
                break format!("it fits with --recompute{budget}, which");
            }
        };
        bail!(
            "training {plan}, but only {} are available beside what the program has already; {advice} needs about {}",
            ui::bytes(available),
            ui::bytes(least.total())
        )
    }
}
