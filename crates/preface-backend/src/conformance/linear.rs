//! Products in both directions, each epilogue, sums of terms; fused equals unfused.

use super::rows::result;
use super::values::{rows, values, weight};
use super::{Case, Identity, Output, Suite, Within};
use crate::{Activation, Backend, Direction, Epilogue, Function, Storage, Term};

pub fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    let shapes = [(1, 1), (5, 3), (16, 48), (48, 16), (63, 65), (65, 63), (100, 576), (576, 100)];
    for direction in [Direction::Plain, Direction::Transposed] {
        for n_row in [0, 1, 2, 7, 33, 70] {
            for (from, to) in shapes {
                for tail in Tail::ALL {
                    let storage = if to % 2 == 0 { Storage::Compact } else { Storage::Exact };
                    suite.compare(LinearCase { direction, n_row, from, to, tail, storage, n_term: 1 });
                }
            }
        }
    }
    for activation in [SILU_GATE, GELU, GELU_GATE, EXACT_GELU, EXACT_GELU_GATE, RELU, RELU_GATE] {
        for (n_row, width) in [(0, 3), (1, 1), (2, 16), (33, 65)] {
            for storage in [Storage::Exact, Storage::Compact] {
                suite.compare(ActivationCase { activation, n_row, width, storage });
                suite.compare(ActivationGradCase { activation, n_row, width, storage });
            }
        }
    }
    for (n_row, from, to) in [(0, 5, 3), (1, 16, 48), (33, 63, 65)] {
        for tail in Tail::ALL {
            let (direction, storage) = (Direction::Plain, Storage::Exact);
            suite.compare(LinearCase { direction, n_row, from, to, tail, storage, n_term: 3 });
            suite.identity(FusedEqualsUnfused { n_row, from, to, tail });
        }
    }
    // Longer than any tile in every dimension, and rows far apart.
    for direction in [Direction::Plain, Direction::Transposed] {
        let (n_row, from, to, tail, storage) = (301, 130, 777, Tail::Residual(true), Storage::Exact);
        suite.compare(LinearCase { direction, n_row, from, to, tail, storage, n_term: 1 });
        let tail = Tail::Activate { activation: SILU_GATE, bias: false, keep: true };
        suite.compare(LinearCase { direction, n_row, from, to, tail, storage, n_term: 1 });
    }
}

const SILU_GATE: Activation = Activation { function: Function::Silu, gated: true };
const GELU: Activation = Activation { function: Function::GeluTanh, gated: false };
const GELU_GATE: Activation = Activation { function: Function::GeluTanh, gated: true };
const EXACT_GELU: Activation = Activation { function: Function::Gelu, gated: false };
const EXACT_GELU_GATE: Activation = Activation { function: Function::Gelu, gated: true };
const RELU: Activation = Activation { function: Function::Relu, gated: false };
const RELU_GATE: Activation = Activation { function: Function::Relu, gated: true };

/// Which epilogue; bias or none.
#[derive(Clone, Copy, Debug)]
enum Tail {
    Store,
    Bias,
    Residual(bool),
    Activate { activation: Activation, bias: bool, keep: bool },
    ActivateGrad(Activation),
}

impl Tail {
    const ALL: [Self; 17] = [
        Self::Store,
        Self::Bias,
        Self::Residual(false),
        Self::Residual(true),
        Self::Activate { activation: SILU_GATE, bias: false, keep: true },
        Self::Activate { activation: SILU_GATE, bias: true, keep: false },
        Self::Activate { activation: GELU, bias: true, keep: true },
        Self::ActivateGrad(SILU_GATE),
        Self::ActivateGrad(GELU),
        Self::Activate { activation: GELU_GATE, bias: false, keep: true },
        Self::ActivateGrad(GELU_GATE),
        Self::Activate { activation: EXACT_GELU, bias: true, keep: true },
        Self::ActivateGrad(EXACT_GELU),
        Self::ActivateGrad(EXACT_GELU_GATE),
        Self::Activate { activation: RELU, bias: true, keep: true },
        Self::ActivateGrad(RELU),
        Self::ActivateGrad(RELU_GATE),
    ];

    /// Columns of the product for `to` columns of the result (or of the gradient that comes in).
    fn product_width(self, to: usize) -> usize {
        match self {
            Self::Activate { activation, .. } => activation.input_width(to),
            _ => to,
        }
    }

    /// Columns of the result.
    fn out_width(self, to: usize) -> usize {
        match self {
            Self::ActivateGrad(activation) => activation.input_width(to),
            _ => to,
        }
    }
}

#[derive(Debug)]
struct LinearCase {
    direction: Direction,
    n_row: usize,
    from: usize,
    to: usize,
    tail: Tail,
    storage: Storage,
    n_term: u64,
}

impl Case for LinearCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { direction, n_row, from, to, tail, storage, n_term } = self;
        let product = tail.product_width(to);
        let (n_out, n_in) = match direction {
            Direction::Plain => (product, from),
            Direction::Transposed => (from, product),
        };
        // Exact rows as input, too: gradients come that way.
        let inputs: Vec<B::Rows> = (0..n_term)
            .map(|t| rows(backend, 31 + t, n_row, from, if t == 1 { Storage::Exact } else { storage }))
            .collect();
        let weights: Vec<B::Weight> = (0..n_term).map(|t| weight(backend, 41 + t, n_out, n_in)).collect();
        let terms: Vec<Term<'_, B>> =
            inputs.iter().zip(&weights).map(|(x, weight)| Term { x, weight, direction }).collect();
        let bias = backend.vector(&values(51, product));
        let some_bias = |wanted: bool| wanted.then_some(&bias);
        let mut out = backend.rows(n_row, tail.out_width(to), storage);
        let mut kept = rows(backend, 52, n_row, product, storage);
        let residual = rows(backend, 53, n_row, to, storage);
        let mut kept_output = false;
        let epilogue = match tail {
            Tail::Store => Epilogue::Store,
            Tail::Bias => Epilogue::Bias(&bias),
            Tail::Residual(with_bias) => {
                Epilogue::Residual { residual: &residual, bias: some_bias(with_bias) }
            }
            Tail::Activate { activation, bias, keep } => {
                kept_output = keep;
                let keep = if keep { Some(&mut kept) } else { None };
                Epilogue::Activate { activation, bias: some_bias(bias), keep }
            }
            Tail::ActivateGrad(activation) => {
                kept = rows(backend, 54, n_row, activation.input_width(to), storage);
                Epilogue::ActivateGrad { activation, kept: &kept }
            }
        };
        backend.linear(&terms, epilogue, &mut out);
        let mut outputs = vec![Output::new("out", backend.read(&out), result(storage))];
        if kept_output {
            outputs.push(Output::new("keep", backend.read(&kept), result(storage)));
        }
        outputs
    }
}

/// The way back through an activation alone.
#[derive(Debug)]
struct ActivationGradCase {
    activation: Activation,
    n_row: usize,
    width: usize,
    storage: Storage,
}

impl Case for ActivationGradCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { activation, n_row, width, storage } = self;
        let kept = rows(backend, 55, n_row, activation.input_width(width), storage);
        let d = rows(backend, 56, n_row, width, Storage::Exact);
        let mut out = backend.rows(n_row, activation.input_width(width), storage);
        backend.activation_grad(activation, &kept, &d, &mut out);
        vec![Output::new("out", backend.read(&out), result(storage))]
    }
}

/// An activation alone.
#[derive(Debug)]
struct ActivationCase {
    activation: Activation,
    n_row: usize,
    width: usize,
    storage: Storage,
}

impl Case for ActivationCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { activation, n_row, width, storage } = self;
        let kept = rows(backend, 57, n_row, activation.input_width(width), storage);
        let mut out = backend.rows(n_row, width, storage);
        backend.activate(activation, &kept, &mut out);
        vec![Output::new("out", backend.read(&out), result(storage))]
    }
}

/// Two terms with an epilogue against one product each, added and finished on the host.
#[derive(Debug)]
struct FusedEqualsUnfused {
    n_row: usize,
    from: usize,
    to: usize,
    tail: Tail,
}

impl Identity for FusedEqualsUnfused {
    fn run<B: Backend>(&self, backend: &B) -> (Vec<Output>, Vec<Output>) {
        let &Self { n_row, from, to, tail } = self;
        let product = tail.product_width(to);
        let case = LinearCase {
            direction: Direction::Plain,
            n_row,
            from,
            to,
            tail,
            storage: Storage::Exact,
            n_term: 2,
        };
        let fused = case.run(backend);
        let mut sum = vec![0.0f64; n_row * product];
        for t in 0..2 {
            let x = rows(backend, 31 + t, n_row, from, Storage::Exact);
            let weight = weight(backend, 41 + t, product, from);
            let mut out = backend.rows(n_row, product, Storage::Exact);
            let term = Term { x: &x, weight: &weight, direction: Direction::Plain };
            backend.linear(&[term], Epilogue::Store, &mut out);
            sum.iter_mut().zip(backend.read(&out)).for_each(|(sum, v)| *sum += f64::from(v));
        }
        let unfused = finish(tail, sum, n_row, to);
        let output = |values: Vec<f64>| {
            Output::new("out", values.into_iter().map(|v| v as f32).collect(), Within::Exact)
        };
        (fused, vec![output(unfused)])
    }
}

/// The epilogue in plain arithmetic.
fn finish(tail: Tail, mut sum: Vec<f64>, n_row: usize, to: usize) -> Vec<f64> {
    let product = tail.product_width(to);
    let has_bias = matches!(tail, Tail::Bias | Tail::Residual(true) | Tail::Activate { bias: true, .. });
    if has_bias {
        let bias = values(51, product);
        sum.iter_mut().enumerate().for_each(|(i, v)| *v += f64::from(bias[i % product]));
    }
    match tail {
        Tail::Store | Tail::Bias => sum,
        Tail::Residual(_) => {
            let residual = values(53, n_row * to);
            sum.iter().zip(residual).map(|(v, r)| v + f64::from(r)).collect()
        }
        Tail::Activate { activation: Activation { function, gated: false }, .. } => {
            sum.into_iter().map(|v| function.value(v)).collect()
        }
        Tail::Activate { activation: Activation { function, gated: true }, .. } => (0..n_row * to)
            .map(|i| {
                let gate = (i / to) * product + i % to;
                function.value(sum[gate]) * sum[gate + to]
            })
            .collect(),
        Tail::ActivateGrad(Activation { function, gated }) => {
            let width = tail.out_width(to);
            let kept = values(54, n_row * width);
            (0..n_row * width)
                .map(|i| {
                    let (row, column) = (i / width, i % width);
                    let d = sum[row * to + column % to];
                    let gate = f64::from(kept[row * width + column % to]);
                    match (gated, column < to) {
                        (false, _) => d * function.derivative(gate),
                        (true, true) => d * f64::from(kept[i + to]) * function.derivative(gate),
                        (true, false) => d * function.value(gate),
                    }
                })
                .collect()
        }
    }
}
