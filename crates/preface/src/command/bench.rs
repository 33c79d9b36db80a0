//! `preface bench`: speed and memory of a training step and of decoding. Each bench checks its answer before it measures.

mod flops;
mod generate;
mod matmul;
mod memory;
mod peak;
mod train;

use anyhow::Result;
use preface_backend::{Backend, Description};
use preface_cpu::CpuBackend;
use preface_model::Model;
use serde_json::{Map, Value, json};

use crate::measure::peak_memory_bytes;
use crate::ui::{self, Align, Output, Table};

pub use generate::run as generate;
pub use matmul::run as matmul;
pub use memory::run as memory;
pub use train::run as train;

/// What was measured, in the order in which it is printed.
struct Report(Map<String, Value>);

impl Report {
    /// Begins with the memory of everything so far: what measures the machine comes after it.
    fn new(bench: &str, model_name: &str, model: &Model<CpuBackend>) -> Self {
        let Description { precision, tier, threads, .. } = model.backend().describe();
        let values = json!({
            "bench": bench,
            "model": model_name,
            "precision": precision,
            "tier": tier,
            "threads": threads,
            "machine": machine(),
            "peak_memory_bytes": peak_memory_bytes(),
            "weight_bytes": model.weight_bytes(),
        });
        let Value::Object(values) = values else { unreachable!("an object was written") };
        Self(values)
    }

    /// One without a model.
    fn of_machine(bench: &str, backend: &CpuBackend) -> Self {
        let Description { precision, tier, threads, .. } = backend.describe();
        let values = json!({
            "bench": bench,
            "precision": precision,
            "tier": tier,
            "threads": threads,
            "machine": machine(),
        });
        let Value::Object(values) = values else { unreachable!("an object was written") };
        Self(values)
    }

    fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    fn print(self, as_json: bool) -> Result<()> {
        let mut out = Output::stdout();
        if as_json {
            out.line(&Value::Object(self.0).to_string())?;
            return out.finish();
        }
        let mut table = Table::new(&[("measured", Align::Left), ("", Align::Right)]);
        for (name, value) in self.0 {
            let text = match &value {
                Value::String(text) => text.clone(),
                Value::Number(number) if name.ends_with("_bytes") => {
                    ui::bytes(number.as_u64().map_or(0, |bytes| bytes as usize))
                }
                Value::Number(number) => number
                    .as_u64()
                    .map_or_else(|| ui::score(number.as_f64().unwrap_or(f64::NAN)), |n| n.to_string()),
                other => other.to_string(),
            };
            table.row(vec![name.replace('_', " "), text]);
        }
        for line in table.lines(ui::width()) {
            out.line(&line)?;
        }
        out.finish()
    }
}

/// The processor's name, as the system tells it.
fn machine() -> String {
    let text = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}
