//! Products and epilogues, unfused: the sum, then the bias, then the epilogue.

use super::{Reference, ReferenceRows};
use crate::{Activation, Direction, Epilogue, Term};

pub fn linear(terms: &[Term<'_, Reference>], epilogue: Epilogue<'_, Reference>, out: &mut ReferenceRows) {
    let mut sum = products(terms);
    match epilogue {
        Epilogue::Store => {}
        Epilogue::Bias(bias) => add_bias(&mut sum, bias),
        Epilogue::Residual { residual, bias } => {
            if let Some(bias) = bias {
                add_bias(&mut sum, bias);
            }
            for (row, residual) in sum.values.iter_mut().zip(&residual.data) {
                *row += f64::from(*residual);
            }
        }
        Epilogue::Activate { activation, bias, keep } => {
            if let Some(bias) = bias {
                add_bias(&mut sum, bias);
            }
            if let Some(keep) = keep {
                sum.store(keep);
            }
            sum = activate(&sum, activation);
        }
        Epilogue::ActivateGrad { activation, kept } => sum = activate_grad(&sum, activation, kept),
    }
    sum.store(out);
}

/// The activation of [`Epilogue::Activate`] alone.
pub fn activated(activation: Activation, kept: &ReferenceRows, out: &mut ReferenceRows) {
    activate(&Sum::of(kept), activation).store(out);
}

/// The epilogue [`Epilogue::ActivateGrad`] alone.
pub fn activation_grad(
    activation: Activation,
    kept: &ReferenceRows,
    d: &ReferenceRows,
    out: &mut ReferenceRows,
) {
    activate_grad(&Sum::of(d), activation, kept).store(out);
}

/// An intermediate matrix in `f64`.
struct Sum {
    n_row: usize,
    width: usize,
    values: Vec<f64>,
}

impl Sum {
    fn of(rows: &ReferenceRows) -> Self {
        let values = rows.data.iter().map(|&v| f64::from(v)).collect();
        Self { n_row: rows.n_row, width: rows.width, values }
    }

    fn store(&self, out: &mut ReferenceRows) {
        assert_eq!((out.n_row, out.width), (self.n_row, self.width), "linear: shape of out");
        for (o, v) in out.data.iter_mut().zip(&self.values) {
            *o = *v as f32;
        }
    }
}

fn products(terms: &[Term<'_, Reference>]) -> Sum {
    let n_row = terms[0].x.n_row;
    let widths = |term: &Term<'_, Reference>| match term.direction {
        Direction::Plain => (term.weight.n_in, term.weight.n_out),
        Direction::Transposed => (term.weight.n_out, term.weight.n_in),
    };
    let (_, width) = widths(&terms[0]);
    let mut values = vec![0.0; n_row * width];
    for term in terms {
        assert_eq!((term.x.n_row, (term.x.width, width)), (n_row, widths(term)), "linear: shapes of a term");
        for i in 0..n_row {
            for o in 0..width {
                values[i * width + o] += (0..term.x.width)
                    .map(|k| {
                        let w = match term.direction {
                            Direction::Plain => term.weight.at(o, k),
                            Direction::Transposed => term.weight.at(k, o),
                        };
                        term.x.at(i, k) * w
                    })
                    .sum::<f64>();
            }
        }
    }
    Sum { n_row, width, values }
}

fn add_bias(sum: &mut Sum, bias: &[f32]) {
    assert_eq!(bias.len(), sum.width, "linear: length of the bias");
    for row in sum.values.chunks_exact_mut(sum.width) {
        for (v, b) in row.iter_mut().zip(bias) {
            *v += f64::from(*b);
        }
    }
}

fn activate(sum: &Sum, activation: Activation) -> Sum {
    if !activation.gated {
        let values = sum.values.iter().map(|&x| activation.function.value(x)).collect();
        return Sum { values, ..*sum };
    }
    let width = sum.width / 2;
    let values = sum
        .values
        .chunks_exact(sum.width)
        .flat_map(|row| {
            let (gate, up) = row.split_at(width);
            gate.iter().zip(up).map(move |(&g, &u)| activation.function.value(g) * u)
        })
        .collect();
    Sum { n_row: sum.n_row, width, values }
}

fn activate_grad(sum: &Sum, activation: Activation, kept: &ReferenceRows) -> Sum {
    assert_eq!(
        (kept.n_row, kept.width),
        (sum.n_row, activation.input_width(sum.width)),
        "linear: shape of what the activation kept"
    );
    let mut values = Vec::with_capacity(kept.data.len());
    for i in 0..sum.n_row {
        let d_row = &sum.values[i * sum.width..(i + 1) * sum.width];
        if activation.gated {
            for (j, d) in d_row.iter().enumerate() {
                values.push(d * kept.at(i, sum.width + j) * activation.function.derivative(kept.at(i, j)));
            }
            for (j, d) in d_row.iter().enumerate() {
                values.push(d * activation.function.value(kept.at(i, j)));
            }
        } else {
            for (j, d) in d_row.iter().enumerate() {
                values.push(d * activation.function.derivative(kept.at(i, j)));
            }
        }
    }
    Sum { n_row: sum.n_row, width: kept.width, values }
}
