//! The loss curve of a run, drawn from its `metrics.jsonl` as SVG.

use std::path::Path;

use plotters::prelude::*;
use serde_json::Value;

use crate::{TrainError, read_metrics};

const SIZE: (u32, u32) = (720, 405);
/// Step losses are drawn faintly as they are and clearly as a running mean over so many.
const SMOOTHED: usize = 20;

/// Draws the training loss, its running mean, and the evaluation loss where there is one.
///
/// # Errors
/// If the metrics cannot be read or the picture cannot be written.
pub fn loss_curve(metrics: &Path, picture: &Path) -> Result<(), TrainError> {
    let lines = read_metrics(metrics)?;
    let points = |key: &str| -> Vec<(f64, f64)> {
        lines.iter().filter_map(|line| Some((line["step"].as_f64()?, number(line, key)?))).collect()
    };
    let (train, eval) = (points("loss"), points("eval_loss"));
    if train.is_empty() {
        return Ok(());
    }
    let mut svg = String::new();
    draw(&mut svg, &train, &eval)
        .map_err(|error| TrainError::Curve { path: picture.into(), reason: error.to_string() })?;
    Ok(fs_err::write(picture, svg)?)
}

fn number(line: &Value, key: &str) -> Option<f64> {
    line[key].as_f64().filter(|value| value.is_finite())
}

fn draw(
    svg: &mut String,
    train: &[(f64, f64)],
    eval: &[(f64, f64)],
) -> Result<(), Box<dyn std::error::Error>> {
    let mean = running_mean(train);
    let last = train.last().map_or(1.0, |point| point.0).max(2.0);
    let (low, high) = train
        .iter()
        .chain(eval)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| (low.min(point.1), high.max(point.1)));
    let margin = 0.05 * (high - low).max(0.1);
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(1.0..last, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss")
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|loss| format!("{loss:.2}"))
        .light_line_style(WHITE)
        .draw()?;
    let (faint, blue, orange) = (RGBColor(176, 200, 226), RGBColor(31, 96, 164), RGBColor(214, 110, 20));
    chart.draw_series(LineSeries::new(train.iter().copied(), faint))?;
    chart
        .draw_series(LineSeries::new(mean, blue.stroke_width(2)))?
        .label("train")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], blue.stroke_width(2)));
    if !eval.is_empty() {
        chart
            .draw_series(LineSeries::new(eval.iter().copied(), orange.stroke_width(2)).point_size(3))?
            .label("validation")
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], orange.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.9)).border_style(BLACK.mix(0.2)).draw()?;
    root.present()?;
    Ok(())
}

fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    (0..points.len())
        .map(|i| {
            let window = &points[(i + 1).saturating_sub(SMOOTHED)..=i];
            (points[i].0, window.iter().map(|point| point.1).sum::<f64>() / window.len() as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_shows_both_losses_and_a_run_without_steps_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let (metrics, picture) = (folder.path().join("metrics.jsonl"), folder.path().join("loss.svg"));
        fs_err::write(&metrics, "").unwrap();
        loss_curve(&metrics, &picture).unwrap();
        assert!(!picture.exists());
        let lines: String = (1..=30)
            .map(|step| format!("{{\"step\":{step},\"loss\":{}}}\n", 3.0 / f64::from(step)))
            .chain(["{\"step\":30,\"eval_loss\":0.5,\"is_best\":true}\n".into()])
            .collect();
        fs_err::write(&metrics, lines).unwrap();
        loss_curve(&metrics, &picture).unwrap();
        let svg = fs_err::read_to_string(&picture).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("validation") && svg.contains("train"), "{svg}");
    }
}
