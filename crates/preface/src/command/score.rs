//! `preface score`: texts that are there already against references.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use preface_metrics::bootstrap::{PairedTest, Resampling, confidence};
use preface_metrics::metric::bleu::{BleuTokenizer, Smoothing};
use preface_metrics::metric::rouge::ReferenceChoice;
use preface_metrics::read::{check_inputs, read_hypotheses, read_references, records};
use preface_metrics::slice::{Slice, by_value};
use preface_metrics::{Direction, Metric, MetricOptions, References, Score, StatisticsTable};
use serde::Serialize;
use serde_json::json;

use crate::args::{PairedKind, ReferencesOf, ScoreArgs, Smooth, Tokenize};
use crate::exit::WrongUse;
use crate::ui::{self, Align, Output, Table};

/// One system under one metric.
#[derive(Clone, Serialize)]
struct SystemScore {
    #[serde(flatten)]
    score: Score,
    /// Against the first system.
    #[serde(skip_serializing_if = "Option::is_none")]
    p_value: Option<f64>,
    #[serde(skip)]
    is_best: bool,
}

/// One system.
struct System {
    name: String,
    scores: Vec<SystemScore>,
    /// For each slice, the score of each metric.
    slices: Vec<Vec<Score>>,
}

/// Runs the command.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let metrics = super::metrics(&args.metrics, &options(args)?)?;
    if metrics.is_empty() {
        return Err(WrongUse("--metrics names no metric".into()).into());
    }
    let (texts, references) = read(args)?;
    let slices = slices(args, references.n_segment())?;
    let names = names_of(&args.hypotheses).into_iter();
    let mut systems: Vec<System> = names
        .map(|name| System { name, scores: Vec::new(), slices: vec![Vec::new(); slices.len()] })
        .collect();
    for metric in &metrics {
        score_metric(metric.as_ref(), args, &texts, &references, &slices, &mut systems)?;
    }
    print(args, references.n_segment(), &slices, &systems)
}

fn options(args: &ScoreArgs) -> Result<MetricOptions> {
    let value = |default: f64| args.smooth_value.unwrap_or(default);
    let smoothing = match args.smooth {
        Smooth::Floor => Smoothing::Floor(value(0.1)),
        Smooth::AddK => Smoothing::AddK(value(1.0)),
        Smooth::Exp | Smooth::None if args.smooth_value.is_some() => {
            return Err(WrongUse("--smooth-value needs --smooth floor or --smooth add-k".into()).into());
        }
        Smooth::Exp => Smoothing::Exp,
        Smooth::None => Smoothing::None,
    };
    Ok(MetricOptions {
        lowercase: args.lowercase,
        tokenizer: match args.tokenize {
            Tokenize::V13a => BleuTokenizer::V13a,
            Tokenize::None => BleuTokenizer::None,
            Tokenize::Intl => BleuTokenizer::International,
            Tokenize::Char => BleuTokenizer::Char,
        },
        smoothing,
        effective_order: args.effective_order,
        rouge_unstemmed: args.no_stemmer,
        rouge_references: match args.rouge_references {
            ReferencesOf::Best => ReferenceChoice::Best,
            ReferencesOf::Average => ReferenceChoice::Average,
        },
        ..MetricOptions::default()
    })
}

/// The texts of every system, and the references.
fn read(args: &ScoreArgs) -> Result<(Vec<Vec<String>>, References)> {
    let systems = args.hypotheses.iter().map(|path| read_hypotheses(path)).collect::<Result<Vec<_>, _>>()?;
    let n_segment = systems[0].texts.len();
    for (path, system) in args.hypotheses.iter().zip(&systems) {
        if system.texts.len() != n_segment {
            bail!(
                "{} has {} segments, but {} has {n_segment}",
                path.display(),
                system.texts.len(),
                args.hypotheses[0].display()
            );
        }
    }
    let files = || {
        let names: Vec<String> = args.references.iter().map(|path| path.display().to_string()).collect();
        format!("{} against {}", args.hypotheses[0].display(), names.join(", "))
    };
    let references = read_references(&args.references, n_segment).with_context(files)?;
    for (path, system) in args.hypotheses.iter().zip(&systems) {
        check_inputs(path, system, &references)?;
    }
    Ok((systems.into_iter().map(|system| system.texts).collect(), references.references))
}

fn slices(args: &ScoreArgs, n_segment: usize) -> Result<Vec<Slice>> {
    let Some(field) = &args.slice_by else { return Ok(Vec::new()) };
    let [path] = args.references.as_slice() else {
        return Err(WrongUse("--slice-by needs one file of references, JSONL".into()).into());
    };
    let values = records::read_field(path, field)?;
    if values.len() != n_segment {
        bail!("{}: {} lines with `{field}`, but {n_segment} segments", path.display(), values.len());
    }
    Ok(by_value(&values))
}

fn score_metric(
    metric: &dyn Metric,
    args: &ScoreArgs,
    texts: &[Vec<String>],
    references: &References,
    slices: &[Slice],
    systems: &mut [System],
) -> Result<()> {
    let resampling =
        |default: usize| Resampling { samples: args.samples.unwrap_or(default), seed: args.seed };
    let bootstrap = resampling(Resampling::DEFAULT.samples);
    let test = args.paired.map(|kind| match kind {
        PairedKind::Bootstrap => PairedTest::Bootstrap(bootstrap),
        PairedKind::Randomisation => PairedTest::Randomisation(resampling(10_000)),
    });
    let scorer = metric.fit(references)?;
    let mut signature = metric.signature();
    if let Some(test) = test {
        signature = test.sign(signature);
    } else if args.confidence {
        signature = bootstrap.sign(signature);
    }
    let signature = signature.complete(references).to_string();
    let tables = texts
        .iter()
        .map(|texts| StatisticsTable::new(scorer.as_ref(), texts, references))
        .collect::<Result<Vec<_>, _>>()?;
    let score = |statistics: Vec<f64>| Score {
        name: metric.name().into(),
        score: scorer.score(&statistics),
        signature: signature.clone(),
        confidence: None,
    };
    for (i, (system, table)) in systems.iter_mut().zip(&tables).enumerate() {
        let interval = args.confidence.then(|| confidence(scorer.as_ref(), table, &bootstrap)).transpose()?;
        let p_value = match &test {
            Some(test) if i > 0 => Some(test.p_value(scorer.as_ref(), &tables[0], table)?),
            _ => None,
        };
        let score_of_all = Score { confidence: interval, ..score(table.total()) };
        system.scores.push(SystemScore { score: score_of_all, p_value, is_best: false });
        for (slice, scores) in slices.iter().zip(&mut system.slices) {
            scores.push(score(table.sum(slice.segments.iter().copied())));
        }
    }
    mark_best(systems, metric.direction());
    Ok(())
}

/// Marks the best system under the metric that was scored last.
fn mark_best(systems: &mut [System], direction: Direction) {
    let value = |system: &System| system.scores.last().map_or(f64::NAN, |score| score.score.score);
    let better = |a: &f64, b: &f64| match direction {
        Direction::HigherIsBetter => a.total_cmp(b),
        Direction::LowerIsBetter => b.total_cmp(a),
    };
    let best = systems.iter().map(value).max_by(better);
    if systems.len() > 1 {
        for system in systems {
            let is_best = Some(value(system)) == best;
            system.scores.iter_mut().rev().take(1).for_each(|score| score.is_best = is_best);
        }
    }
}

fn print(args: &ScoreArgs, n_segment: usize, slices: &[Slice], systems: &[System]) -> Result<()> {
    let mut out = Output::stdout();
    if args.json {
        let slices_of = |system: &System| -> Vec<_> {
            let parts = slices.iter().zip(&system.slices);
            parts
                .map(|(slice, scores)| {
                    json!({"name": slice.name, "segments": slice.segments.len(), "scores": scores})
                })
                .collect()
        };
        let mut result = json!({"segments": n_segment, "scores": systems[0].scores});
        if !slices.is_empty() {
            result["slices"] = slices_of(&systems[0]).into();
        }
        if systems.len() > 1 {
            let all = systems.iter().map(|system| {
                let mut object = json!({"system": system.name, "scores": system.scores});
                if !slices.is_empty() {
                    object["slices"] = slices_of(system).into();
                }
                object
            });
            result["systems"] = all.collect();
        }
        out.line(&result.to_string())?;
        return out.finish();
    }
    let table = if systems.len() == 1 { metrics_table(&systems[0]) } else { systems_table(systems) };
    let lines = |table: &Table| if args.markdown { table.markdown() } else { table.lines(ui::width()) };
    for line in lines(&table) {
        out.line(&line)?;
    }
    if systems.len() > 1 {
        let footer =
            systems[0].scores.iter().map(|score| format!("{}: {}", score.score.name, score.score.signature));
        out.line("")?;
        out.line("* best; p: against the first system")?;
        for line in footer {
            out.line(&line)?;
        }
    }
    if !slices.is_empty() {
        out.line("")?;
        for line in lines(&slices_table(slices, systems)) {
            out.line(&line)?;
        }
    }
    out.finish()
}

fn metrics_table(system: &System) -> Table {
    let mut table =
        Table::new(&[("metric", Align::Left), ("score", Align::Right), ("signature", Align::Left)]);
    for score in &system.scores {
        table.row(vec![score.score.name.clone(), cell(score), score.score.signature.clone()]);
    }
    table
}

fn systems_table(systems: &[System]) -> Table {
    let names = systems[0].scores.iter().map(|score| (score.score.name.as_str(), Align::Right));
    let columns: Vec<_> = std::iter::once(("system", Align::Left)).chain(names).collect();
    let mut table = Table::new(&columns);
    for system in systems {
        table.row(std::iter::once(system.name.clone()).chain(system.scores.iter().map(cell)).collect());
    }
    table
}

fn slices_table(slices: &[Slice], systems: &[System]) -> Table {
    let names = systems[0].scores.iter().map(|score| (score.score.name.as_str(), Align::Right));
    let fixed = [("slice", Align::Left), ("segments", Align::Right), ("system", Align::Left)];
    let mut table = Table::new(&fixed.into_iter().chain(names).collect::<Vec<_>>());
    for (i, slice) in slices.iter().enumerate() {
        for system in systems {
            let fixed = [slice.name.clone(), slice.segments.len().to_string(), system.name.clone()];
            let scores = system.slices[i].iter().map(|score| ui::score(score.score));
            table.row(fixed.into_iter().chain(scores).collect());
        }
    }
    table
}

fn cell(score: &SystemScore) -> String {
    let mut text = ui::score(score.score.score);
    if let Some(interval) = score.score.confidence {
        text = format!("{text} ± {}", ui::score(interval.half_width));
    }
    if let Some(p_value) = score.p_value {
        text = format!("{text} (p {p_value:.4})");
    }
    if score.is_best { format!("{text}*") } else { text }
}

/// What the systems are called: the files' names without their endings, with as many of the folders above them as it
/// takes to tell them apart (every evaluation calls its file `hypotheses.txt`).
fn names_of(paths: &[PathBuf]) -> Vec<String> {
    let parts: Vec<Vec<String>> = paths
        .iter()
        .map(|path| {
            let path = path.with_extension("");
            path.iter().map(|part| part.to_string_lossy().into_owned()).collect()
        })
        .collect();
    let most = parts.iter().map(Vec::len).max().unwrap_or(0);
    let with = |n: usize| -> Vec<String> {
        parts.iter().map(|parts| parts[parts.len().saturating_sub(n)..].join("/")).collect()
    };
    let are_distinct = |names: &[String]| (1..names.len()).all(|i| !names[..i].contains(&names[i]));
    (1..=most).map(with).find(|names| are_distinct(names)).unwrap_or_else(|| with(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_of_one_file_name_are_told_apart_by_their_folders() {
        let names = |paths: &[&str]| names_of(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["a/x.txt", "b/y.txt"]), ["x", "y"]);
        assert_eq!(names(&["out/a/h.txt", "out/b/h.txt"]), ["a/h", "b/h"]);
        assert_eq!(names(&["h.txt", "b/h.txt"]), ["h", "b/h"]);
        assert_eq!(names(&["h.txt", "h.txt"]), ["h", "h"], "the same file twice");
    }
}
