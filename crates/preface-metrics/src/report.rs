//! Scores of one or several systems over whole sets and slices, with intervals and significance, as text, Markdown and
//! JSON.

use serde::Serialize;
use serde_json::{Value, json};

use crate::bootstrap::{self, PairedTest, Resampling};
use crate::slice::Slice;
use crate::statistics::{Score, StatisticsTable};
use crate::{Direction, Metric, MetricError, References};

/// The output of one system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Shown in tables.
    pub name: String,
    /// One text for each segment.
    pub hypotheses: Vec<String>,
}

/// What is reported beside the scores.
#[derive(Clone, Debug, Default)]
pub struct ReportOptions {
    /// Bootstrap each score.
    pub confidence: Option<Resampling>,
    /// Compare each system with the first.
    pub test: Option<PairedTest>,
    /// Score these subsets too. Weights fitted on all references stay.
    pub slices: Vec<Slice>,
}

/// A score, and how it compares with the first system's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportedScore {
    /// The score.
    #[serde(flatten)]
    pub score: Score,
    /// Probability of such a difference from the first system by chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// Whether no other system is better; of equals all are best. Only said among several systems.
    #[serde(skip)]
    pub best: bool,
}

/// The scores of one system over one set of segments, in the order of the metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Name of the system.
    pub system: String,
    /// Name of the slice; `None` for all segments.
    pub slice: Option<String>,
    /// Number of segments.
    pub n_segment: usize,
    /// A score for each metric.
    pub scores: Vec<ReportedScore>,
}

/// All rows: systems over the whole set, then over each slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// Scores `systems`.
    ///
    /// # Errors
    /// [`MetricError::UnequalCounts`] for a system with another number of texts than the references,
    /// [`MetricError::Options`] for a slice without segments or beyond the set, and what metrics refuse.
    pub fn new(
        metrics: &[Box<dyn Metric>],
        systems: &[System],
        references: &References,
        options: &ReportOptions,
    ) -> Result<Self, MetricError> {
        for system in systems {
            references.check_count(system.hypotheses.len())?;
        }
        let mut sets: Vec<(Option<&str>, Vec<usize>)> = vec![(None, (0..references.n_segment()).collect())];
        for slice in &options.slices {
            if slice.segments.is_empty() || slice.segments.iter().any(|at| *at >= references.n_segment()) {
                let name = &slice.name;
                return Err(MetricError::Options(format!(
                    "slice `{name}` is empty or reaches beyond the set"
                )));
            }
            sets.push((Some(&slice.name), slice.segments.clone()));
        }
        let mut rows: Vec<Row> = Vec::new();
        for (slice, segments) in &sets {
            rows.extend(systems.iter().map(|system| Row {
                system: system.name.clone(),
                slice: slice.map(str::to_owned),
                n_segment: segments.len(),
                scores: Vec::new(),
            }));
        }
        for metric in metrics {
            let column = score_column(metric.as_ref(), systems, references, &sets, options)?;
            for (row, score) in rows.iter_mut().zip(column) {
                row.scores.push(score);
            }
        }
        Ok(Self { rows })
    }

    /// `{"scores": [...], "slices": [...]}` for one system, a list `systems` of such objects with names for several.
    pub fn to_json(&self) -> Value {
        let mut systems: Vec<Value> = Vec::new();
        let several = self.rows.iter().filter(|row| row.slice.is_none()).count() > 1;
        for row in self.rows.iter().filter(|row| row.slice.is_none()) {
            let slices: Vec<Value> = self
                .rows
                .iter()
                .filter(|slice| slice.system == row.system && slice.slice.is_some())
                .map(|slice| json!({"slice": slice.slice, "segments": slice.n_segment, "scores": slice.scores}))
                .collect();
            let mut system = json!({"scores": row.scores});
            if several {
                system["system"] = json!(row.system);
            }
            if !slices.is_empty() {
                system["slices"] = json!(slices);
            }
            systems.push(system);
        }
        match systems.pop() {
            Some(system) if !several => system,
            Some(system) => {
                systems.push(system);
                json!({"systems": systems})
            }
            None => json!({"scores": []}),
        }
    }

    /// A table in columns, best scores marked with `*`, signatures below.
    pub fn to_text(&self) -> String {
        let cells = self.cells("*", "");
        let n_column = cells.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..n_column)
            .map(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for row in &cells {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = " ".repeat(width - cell.chars().count());
                // Names to the left, figures to the right.
                line += &if column == 0 { format!("{cell}{gap}") } else { format!("  {gap}{cell}") };
            }
            out += line.trim_end();
            out.push('\n');
        }
        out.push('\n');
        for (name, signature) in self.signatures() {
            out += &format!("{name}|{signature}\n");
        }
        out
    }

    /// A table with best scores in bold, signatures below.
    pub fn to_markdown(&self) -> String {
        let cells = self.cells("**", "**");
        let mut out = String::new();
        for (index, row) in cells.iter().enumerate() {
            out += &format!(
                "| {} |\n",
                row.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | ")
            );
            if index == 0 {
                out += &format!("|---|{}\n", "---:|".repeat(row.len() - 1));
            }
        }
        out.push('\n');
        for (name, signature) in self.signatures() {
            out += &format!("- `{name}|{signature}`\n");
        }
        out
    }

    fn signatures(&self) -> Vec<(&str, &str)> {
        let first = self.rows.first().into_iter().flat_map(|row| &row.scores);
        first.map(|reported| (reported.score.name.as_str(), reported.score.signature.as_str())).collect()
    }

    /// Header and rows; `before` and `after` stand round the best scores.
    fn cells(&self, before: &str, after: &str) -> Vec<Vec<String>> {
        let mut header = vec!["system".to_owned()];
        header.extend(self.signatures().into_iter().map(|(name, _)| name.to_owned()));
        let mut cells = vec![header];
        // Small scales need more digits: 0.6593 and 8.6094 where another metric says 65.93.
        let n_metric = self.rows.first().map_or(0, |row| row.scores.len());
        let largest = |metric: usize| self.rows.iter().map(move |row| row.scores[metric].score.score.abs());
        let digits: Vec<usize> = (0..n_metric)
            .map(|metric| if largest(metric).fold(0.0, f64::max) < 10.0 { 4 } else { 2 })
            .collect();
        for row in &self.rows {
            let mut line = vec![match &row.slice {
                None => row.system.clone(),
                Some(slice) => format!("{} [{slice}, {}]", row.system, row.n_segment),
            }];
            line.extend(row.scores.iter().zip(&digits).map(|(reported, digits)| {
                let mut cell = format!("{:.digits$}", reported.score.score, digits = *digits);
                if let Some(confidence) = reported.score.confidence {
                    cell +=
                        &format!(" (μ = {:.digits$} ± {:.digits$})", confidence.mean, confidence.half_width);
                }
                if let Some(p) = reported.p_value {
                    cell += &format!(" (p = {p:.4})");
                }
                if reported.best { format!("{before}{cell}{after}") } else { cell }
            }));
            cells.push(line);
        }
        cells
    }
}

/// One metric's scores: for each set of segments, for each system.
fn score_column(
    metric: &dyn Metric,
    systems: &[System],
    references: &References,
    sets: &[(Option<&str>, Vec<usize>)],
    options: &ReportOptions,
) -> Result<Vec<ReportedScore>, MetricError> {
    let scorer = metric.fit(references)?;
    let tables: Vec<StatisticsTable> = systems
        .iter()
        .map(|system| StatisticsTable::new(scorer.as_ref(), &system.hypotheses, references))
        .collect::<Result<_, _>>()?;
    let mut column = Vec::new();
    for (_, segments) in sets {
        let subset = References::new(segments.iter().map(|at| references.segments()[*at].clone()).collect())?;
        let mut signature = metric.signature();
        if let Some(resampling) = &options.confidence {
            signature = resampling.sign(signature);
        }
        if let (Some(test), true) = (&options.test, systems.len() > 1) {
            signature = test.sign(signature);
        }
        let signature = signature.complete(&subset).to_string();
        let tables: Vec<StatisticsTable> = tables.iter().map(|table| table.select(segments)).collect();
        let scores: Vec<f64> = tables.iter().map(|table| scorer.score(&table.total())).collect();
        let best = match metric.direction() {
            Direction::HigherIsBetter => scores.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Direction::LowerIsBetter => scores.iter().copied().fold(f64::INFINITY, f64::min),
        };
        for (index, (table, score)) in tables.iter().zip(&scores).enumerate() {
            let p_value = match &options.test {
                Some(test) if index > 0 => Some(test.p_value(scorer.as_ref(), &tables[0], table)?),
                _ => None,
            };
            let confidence = options.confidence.as_ref();
            let confidence =
                confidence.map(|resampling| bootstrap::confidence(scorer.as_ref(), table, resampling));
            column.push(ReportedScore {
                score: Score {
                    name: metric.name().to_owned(),
                    score: *score,
                    signature: signature.clone(),
                    confidence: confidence.transpose()?,
                },
                p_value,
                best: systems.len() > 1 && *score == best,
            });
        }
    }
    Ok(column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MetricOptions, registry};

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn report(systems: &[(&str, &[&str])], options: &ReportOptions) -> Result<Report, MetricError> {
        let references = References::new(vec![texts(&["a b c d e"]), texts(&["f g h i j"])]).unwrap();
        let systems: Vec<System> = systems
            .iter()
            .map(|(name, hypotheses)| System { name: (*name).to_owned(), hypotheses: texts(hypotheses) })
            .collect();
        let metrics = registry::build("bleu,ter", &MetricOptions::default()).unwrap();
        Report::new(&metrics, &systems, &references, options)
    }

    const GOOD: (&str, &[&str]) = ("good", &["a b c d e", "f g h i j"]);
    const POOR: (&str, &[&str]) = ("poor", &["a b c d e", "f g x i j"]);

    #[test]
    fn the_best_is_marked_by_the_direction_of_the_metric() {
        let report = report(&[POOR, GOOD], &ReportOptions::default()).unwrap();
        let text = report.to_text();
        let table = "system     bleu    ter
poor      64.09  10.00
good    *100.00  *0.00
";
        assert!(text.starts_with(table), "{text}");
        assert!(text.contains("\nbleu|nrefs:1|case:mixed|"), "{text}");
        let markdown = report.to_markdown();
        assert!(markdown.contains("| good | **100.00** | **0.00** |"), "{markdown}");
    }

    #[test]
    fn one_system_is_an_object_of_scores_and_several_are_a_list() {
        let one = report(&[GOOD], &ReportOptions::default()).unwrap().to_json();
        assert_eq!(one["scores"][0]["name"], "bleu");
        assert!(one["scores"][0]["signature"].as_str().unwrap().starts_with("nrefs:1|"));
        let two = report(&[GOOD, POOR], &ReportOptions::default()).unwrap().to_json();
        assert_eq!(two["systems"][1]["system"], "poor");
    }

    #[test]
    fn a_slice_scores_its_own_segments() {
        let slices = vec![Slice { name: "first".into(), segments: vec![0] }];
        let options = ReportOptions { slices, ..ReportOptions::default() };
        let report = report(&[POOR], &options).unwrap();
        assert_eq!(report.rows[1].n_segment, 1);
        assert!((report.rows[1].scores[0].score.score - 100.0).abs() < 1e-9);
        assert_eq!(report.to_json()["slices"][0]["slice"], "first");
    }

    #[test]
    fn a_slice_beyond_the_set_is_refused() {
        let slices = vec![Slice { name: "far".into(), segments: vec![2] }];
        assert!(report(&[GOOD], &ReportOptions { slices, ..ReportOptions::default() }).is_err());
    }

    #[test]
    fn tests_and_intervals_are_signed() {
        let options = ReportOptions {
            confidence: Some(Resampling { samples: 20, seed: 1 }),
            test: Some(PairedTest::Randomisation(Resampling { samples: 10, seed: 1 })),
            slices: Vec::new(),
        };
        let report = report(&[GOOD, POOR], &options).unwrap();
        let scores = &report.rows[1].scores[0];
        assert!(scores.p_value.is_some() && scores.score.confidence.is_some());
        assert!(scores.score.signature.contains("|bs:20|seed:1|ar:10|seed:1|"), "{}", scores.score.signature);
    }

    #[test]
    fn unequal_counts_are_refused() {
        let refused = report(&[("short", &["a"])], &ReportOptions::default()).unwrap_err();
        assert_eq!(refused.to_string(), "1 hypotheses, but references for 2 segments");
    }
}
