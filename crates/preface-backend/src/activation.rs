//! Activation functions and gates of the feed-forward layer.
//!
//! A gated layer has twice the columns in front of the activation: `[gate | up]`, and gives `f(gate) * up`.

/// A scalar activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `x * sigmoid(x)` (Llama).
    Silu,
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` (GPT-2's `gelu_new`).
    GeluTanh,
    /// `x Phi(x)`, `Phi` the normal distribution's cumulative function (BART's `gelu`).
    Gelu,
    /// `max(x, 0)` (T5 v1.0, Pegasus). Its derivative at 0 is 0.
    Relu,
}

/// What stands between the two products of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    /// The scalar function.
    pub function: Function,
    /// Whether its input is `[gate | up]`.
    pub gated: bool,
}

impl Activation {
    /// Columns in front of the activation for `width` columns behind it.
    pub fn input_width(self, width: usize) -> usize {
        if self.gated { 2 * width } else { width }
    }
}

impl Function {
    /// `f(x)`, in `f64`: the specification.
    pub fn value(self, x: f64) -> f64 {
        match self {
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::GeluTanh => 0.5 * x * (1.0 + gelu_inner(x).tanh()),
            Self::Gelu => x * normal_cumulative(x),
            Self::Relu => x.max(0.0),
        }
    }

    /// `f'(x)`, in `f64`: the specification.
    pub fn derivative(self, x: f64) -> f64 {
        match self {
            Self::Silu => {
                let s = 1.0 / (1.0 + (-x).exp());
                s * (1.0 + x * (1.0 - s))
            }
            Self::GeluTanh => {
                let t = gelu_inner(x).tanh();
                let inner_derivative = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner_derivative
            }
            Self::Gelu => normal_cumulative(x) + x * NORMAL_SCALE * (-0.5 * x * x).exp(),
            Self::Relu => f64::from(u8::from(x > 0.0)),
        }
    }
}

/// `sqrt(2 / pi)`.
const GELU_SCALE: f64 = 0.797_884_560_802_865_4;
const GELU_CUBIC: f64 = 0.044_715;

/// `1 / sqrt(2 pi)`.
const NORMAL_SCALE: f64 = 0.398_942_280_401_432_7;

fn normal_cumulative(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

fn gelu_inner(x: f64) -> f64 {
    GELU_SCALE * (x + GELU_CUBIC * x * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_agree_with_finite_differences() {
        for function in [Function::Silu, Function::GeluTanh, Function::Gelu, Function::Relu] {
            // Not 0: there the ReLU has none.
            for x in [-6.0, -1.5, -0.1, 1e-3, 0.3, 2.0, 7.0] {
                let h = 1e-5;
                let numeric = (function.value(x + h) - function.value(x - h)) / (2.0 * h);
                assert!((numeric - function.derivative(x)).abs() < 1e-8, "{function:?} at {x}");
            }
        }
    }
}
