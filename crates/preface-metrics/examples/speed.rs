//! Seconds to score 50,000 segments, metric by metric: `speed.py` beside this makes the segments, runs this and the
//! official tools in one go, and compares scores and times.
//!
//! Arguments: a JSONL file with `hypothesis` and `references`, then names of metrics. Prints a JSON line for each score.

use std::path::Path;
use std::time::Instant;

use preface_metrics::read::records;
use preface_metrics::{MetricError, MetricOptions, References, evaluate, registry};

fn main() -> Result<(), MetricError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((path, names)) = arguments.split_first() else {
        return Err(MetricError::Options("usage: speed SEGMENTS.jsonl METRIC...".into()));
    };
    let path = Path::new(path);
    let hypotheses = records::read_hypotheses(path)?;
    let references = References::new(records::read_references(path)?)?;
    for name in names {
        let metrics = registry::build(name, &MetricOptions::default())?;
        let start = Instant::now();
        let scores = evaluate(&metrics, &hypotheses, &references)?;
        let seconds = start.elapsed().as_secs_f64();
        let scores: Vec<f64> = scores.iter().map(|score| score.score).collect();
        println!("{}", serde_json::json!({"metric": name, "scores": scores, "seconds": seconds}));
    }
    Ok(())
}
