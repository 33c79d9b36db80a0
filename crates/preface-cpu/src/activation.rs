//! Activation functions and gates over row pieces.

use preface_backend::{Activation, Function};

use crate::CpuBackend;
use crate::rows::RowKernel;
use crate::simd::{
    Simd, combine, exact_gelu_slope, exact_gelu_value, gelu_slope, gelu_value, map, relu_slope, relu_value,
    sigmoid,
};
use crate::storage::{CpuRows, SharedRows};

/// An activation of what a product gave.
pub fn forward(backend: &CpuBackend, activation: Activation, kept: &CpuRows, out: &mut CpuRows) {
    let (n, width) = (out.width, activation.input_width(out.width));
    assert_eq!((kept.n_row, kept.width), (out.n_row, width), "activate: what the activation takes");
    let kernel = Forward { activation, kept, width: n, out: out.share() };
    backend.for_rows(kept.n_row, width, width + n, &kernel);
}

struct Forward<'a> {
    activation: Activation,
    kept: &'a CpuRows,
    /// Of `out`.
    width: usize,
    out: SharedRows<'a>,
}

impl RowKernel for Forward<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let n = self.width;
        let (kept, to) = scratch.split_at_mut(self.kept.width);
        let kept = self.kept.row(row).floats(simd, kept);
        if self.activation.gated {
            gate(simd, self.activation.function, &kept[..n], &kept[n..], &mut to[..n]);
        } else {
            activate(simd, self.activation.function, kept, &mut to[..n]);
        }
        // SAFETY: `for_rows` hands out each row once.
        unsafe { self.out.part(row, 0..n) }.write(simd, &to[..n]);
    }
}

/// The way back through an activation, of a gradient that is there already.
pub fn grad(backend: &CpuBackend, activation: Activation, kept: &CpuRows, d: &CpuRows, out: &mut CpuRows) {
    let width = activation.input_width(d.width);
    assert_eq!((kept.n_row, kept.width), (d.n_row, width), "activation_grad: what the activation kept");
    assert_eq!((out.n_row, out.width), (d.n_row, width), "activation_grad: shape of out");
    let kernel = Grad { activation, kept, d, out: out.share() };
    backend.for_rows(d.n_row, width, d.width + 2 * width, &kernel);
}

struct Grad<'a> {
    activation: Activation,
    kept: &'a CpuRows,
    d: &'a CpuRows,
    out: SharedRows<'a>,
}

impl RowKernel for Grad<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let (n, width) = (self.d.width, self.kept.width);
        let (d, rest) = scratch.split_at_mut(n);
        let (kept, to) = rest.split_at_mut(width);
        let d = self.d.row(row).floats(simd, d);
        let kept = self.kept.row(row).floats(simd, kept);
        if self.activation.gated {
            let (d_gate, d_up) = to.split_at_mut(n);
            gate_grad(simd, self.activation.function, [d, &kept[..n], &kept[n..]], d_gate, &mut d_up[..n]);
        } else {
            activate_grad(simd, self.activation.function, d, kept, &mut to[..n]);
        }
        // SAFETY: `for_rows` hands out each row once.
        unsafe { self.out.part(row, 0..width) }.write(simd, &to[..width]);
    }
}

/// `x = f(x)`
#[inline(always)]
pub fn activate<S: Simd>(simd: S, function: Function, x: &[f32], out: &mut [f32]) {
    match function {
        Function::Silu => map(
            simd,
            x,
            out,
            #[inline(always)]
            |x| simd.mul(x, sigmoid(simd, x)),
        ),
        Function::GeluTanh => map(
            simd,
            x,
            out,
            #[inline(always)]
            |x| gelu_value(simd, x),
        ),
        Function::Gelu => map(
            simd,
            x,
            out,
            #[inline(always)]
            |x| exact_gelu_value(simd, x),
        ),
        Function::Relu => map(
            simd,
            x,
            out,
            #[inline(always)]
            |x| relu_value(simd, x),
        ),
    }
}

/// `out = f(gate) * up`
#[inline(always)]
pub fn gate<S: Simd>(simd: S, function: Function, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match function {
        Function::Silu => {
            combine(
                simd,
                gate,
                up,
                out,
                #[inline(always)]
                |gate, up| simd.mul(simd.mul(gate, sigmoid(simd, gate)), up),
            );
        }
        Function::GeluTanh => combine(
            simd,
            gate,
            up,
            out,
            #[inline(always)]
            |gate, up| simd.mul(gelu_value(simd, gate), up),
        ),
        Function::Gelu => combine(
            simd,
            gate,
            up,
            out,
            #[inline(always)]
            |gate, up| simd.mul(exact_gelu_value(simd, gate), up),
        ),
        Function::Relu => combine(
            simd,
            gate,
            up,
            out,
            #[inline(always)]
            |gate, up| simd.mul(relu_value(simd, gate), up),
        ),
    }
}

/// `out = d * f'(x)`
#[inline(always)]
pub fn activate_grad<S: Simd>(simd: S, function: Function, d: &[f32], x: &[f32], out: &mut [f32]) {
    match function {
        Function::Silu => combine(
            simd,
            d,
            x,
            out,
            #[inline(always)]
            |d, x| simd.mul(d, silu(simd, x).1),
        ),
        Function::GeluTanh => combine(
            simd,
            d,
            x,
            out,
            #[inline(always)]
            |d, x| simd.mul(d, gelu_slope(simd, x)),
        ),
        Function::Gelu => combine(
            simd,
            d,
            x,
            out,
            #[inline(always)]
            |d, x| simd.mul(d, exact_gelu_slope(simd, x)),
        ),
        Function::Relu => combine(
            simd,
            d,
            x,
            out,
            #[inline(always)]
            |d, x| simd.mul(d, relu_slope(simd, x)),
        ),
    }
}

/// `d_gate = d * up * f'(gate)`, `d_up = d * f(gate)`
#[inline(always)]
pub fn gate_grad<S: Simd>(
    simd: S,
    function: Function,
    [d, gate, up]: [&[f32]; 3],
    d_gate: &mut [f32],
    d_up: &mut [f32],
) {
    let n = d.len();
    // One by one: an array of them is written in four pieces and waits to be read in one.
    assert!(gate.len() == n && up.len() == n && d_gate.len() == n && d_up.len() == n);
    let whole = n - n % S::LANES;
    for start in (0..whole).step_by(S::LANES) {
        let d = simd.load(&d[start..]);
        let (value, slope) = value_and_slope(simd, function, simd.load(&gate[start..]));
        simd.store(simd.mul(simd.mul(d, simd.load(&up[start..])), slope), &mut d_gate[start..]);
        simd.store(simd.mul(d, value), &mut d_up[start..]);
    }
    if whole < n {
        let d = simd.load_part(&d[whole..], 0.0);
        let (value, slope) = value_and_slope(simd, function, simd.load_part(&gate[whole..], 0.0));
        let up = simd.load_part(&up[whole..], 0.0);
        simd.store_part(simd.mul(simd.mul(d, up), slope), &mut d_gate[whole..]);
        simd.store_part(simd.mul(d, value), &mut d_up[whole..]);
    }
}

/// `f(x)` and `f'(x)`.
#[inline(always)]
fn value_and_slope<S: Simd>(simd: S, function: Function, x: S::F32) -> (S::F32, S::F32) {
    match function {
        Function::Silu => silu(simd, x),
        Function::GeluTanh => (gelu_value(simd, x), gelu_slope(simd, x)),
        Function::Gelu => (exact_gelu_value(simd, x), exact_gelu_slope(simd, x)),
        Function::Relu => (relu_value(simd, x), relu_slope(simd, x)),
    }
}

/// Value `x s` and slope `s + x s (1 - s)`, `s = sigmoid(x)`.
#[inline(always)]
fn silu<S: Simd>(simd: S, x: S::F32) -> (S::F32, S::F32) {
    let s = sigmoid(simd, x);
    let value = simd.mul(x, s);
    (value, simd.mul_add(value, simd.sub(simd.splat(1.0), s), s))
}
