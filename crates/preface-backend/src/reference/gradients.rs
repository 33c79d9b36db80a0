//! The reference's backward operations against finite differences of its forward operations.
//!
//! Results are stored in `f32` (noise `6e-8` of their size) and moved by `2e-3`: the quotient is good to about
//! `1e-4` of the gradient's size, of which a missing factor or term is far away.

use super::{Reference, ReferenceRows};
use crate::{
    Activation, AttentionCall, AttentionDropout, AttentionPlan, AttentionShape, Backend, Direction, Dropout,
    Epilogue, Function, Head, HostMatrix, KeyRun, KeyStore, Norm, NormKind, Place, QueryRun, RelativeBias,
    RowMask, RowTarget, Storage, Term, TokenWeight,
};

const STEP: f32 = 2e-3;
const TOLERANCE: f64 = 1e-3;

fn values(seed: u32, n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| ((i + 1) as f32 * 1.37 + seed as f32 * 0.71).sin()).collect()
}

fn rows(values: &[f32], width: usize) -> ReferenceRows {
    Reference.rows_from(values, width, Storage::Exact)
}

fn dot(a: &ReferenceRows, b: &[f32]) -> f64 {
    a.data.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Compares `gradient` with the quotients of `value` at each element of `x`.
fn agree(name: &str, x: &[f32], gradient: &[f32], value: impl Fn(&[f32]) -> f64) {
    assert_eq!(x.len(), gradient.len());
    let numeric: Vec<f64> = (0..x.len())
        .map(|i| {
            let (mut up, mut down) = (x.to_vec(), x.to_vec());
            up[i] += STEP;
            down[i] -= STEP;
            (value(&up) - value(&down)) / f64::from(up[i] - down[i])
        })
        .collect();
    let rms = (numeric.iter().map(|v| v * v).sum::<f64>() / x.len() as f64).sqrt();
    assert!(rms > 1e-3, "{name}: the value does not depend on its input");
    for (i, (got, want)) in gradient.iter().zip(&numeric).enumerate() {
        let near = (f64::from(*got) - want).abs() <= TOLERANCE * (rms + want.abs());
        assert!(near, "{name}: gradient {i} is {got}, finite differences give {want}");
    }
}

#[test]
fn norm_backward_agrees_with_finite_differences() {
    let width = 7;
    for kind in [NormKind::Rms, NormKind::Layer] {
        let norm = Norm { kind, epsilon: 1e-3, weight: values(1, width), bias: Some(values(2, width)) };
        let (x, d_out) = (values(3, 3 * width), values(4, 3 * width));
        let mut d_x = rows(&vec![0.0; x.len()], width);
        Reference.norm_backward(&norm, &rows(&x, width), &rows(&d_out, width), &mut d_x);
        agree(&format!("{kind:?}"), &x, &d_x.data, |x| {
            let mut out = Reference.rows(3, width, Storage::Exact);
            Reference.norm(&norm, &rows(x, width), &mut out);
            dot(&out, &d_out)
        });
    }
}

#[test]
fn transposed_products_and_activate_grad_agree_with_finite_differences() {
    let (n_row, from, width) = (2, 5, 3);
    for function in [Function::Silu, Function::GeluTanh, Function::Gelu, Function::Relu] {
        for gated in [false, true] {
            let activation = Activation { function, gated };
            let inner = activation.input_width(width);
            let matrix = |seed, n_row, n_column| {
                let values = values(seed, n_row * n_column);
                Reference.weight(vec![HostMatrix { n_row, n_column, values }])
            };
            let (up, down) = (matrix(5, inner, from), matrix(6, 4, width));
            let (x, d_out) = (values(7, n_row * from), values(8, n_row * 4));
            let forward = |x: &[f32], keep: Option<&mut ReferenceRows>| {
                let x = rows(x, from);
                let mut hidden = Reference.rows(n_row, width, Storage::Exact);
                let term = Term { x: &x, weight: &up, direction: Direction::Plain };
                Reference.linear(&[term], Epilogue::Activate { activation, bias: None, keep }, &mut hidden);
                let mut out = Reference.rows(n_row, 4, Storage::Exact);
                let term = Term { x: &hidden, weight: &down, direction: Direction::Plain };
                Reference.linear(&[term], Epilogue::Store, &mut out);
                out
            };
            let mut kept = Reference.rows(n_row, inner, Storage::Exact);
            forward(&x, Some(&mut kept));
            let mut d_hidden = Reference.rows(n_row, inner, Storage::Exact);
            let term = Term { x: &rows(&d_out, 4), weight: &down, direction: Direction::Transposed };
            Reference.linear(&[term], Epilogue::ActivateGrad { activation, kept: &kept }, &mut d_hidden);
            let mut d_x = Reference.rows(n_row, from, Storage::Exact);
            let term = Term { x: &d_hidden, weight: &up, direction: Direction::Transposed };
            Reference.linear(&[term], Epilogue::Store, &mut d_x);
            agree(&format!("{activation:?}"), &x, &d_x.data, |x| dot(&forward(x, None), &d_out));
        }
    }
}

/// Two sequences behind one prefix with dropout, two query heads to a key head, a bias by distance; with and without
/// dropout of the probabilities.
#[test]
fn attention_backward_agrees_with_finite_differences() {
    for probability in [None, Some(0.4)] {
        check_attention_backward(probability);
    }
}

fn check_attention_backward(probability: Option<f32>) {
    let shape = AttentionShape { n_head: 2, n_kv_head: 1, head_dim: 3, scale: 0.6 };
    let (text_width, n_text, n_prefix) = (shape.query_width() + 2 * shape.kv_width(), 5, 2);
    let run = |text: std::ops::Range<usize>, stream| QueryRun {
        rows: text.clone(),
        first_position: n_prefix,
        keys: vec![
            KeyRun {
                store: 1,
                rows: 0..n_prefix,
                causal_from: None,
                bias_from: None,
                dropout: Some(Dropout { probability: 0.3, stream }),
            },
            KeyRun {
                store: 0,
                rows: text,
                causal_from: Some(n_prefix),
                bias_from: Some(n_prefix),
                dropout: None,
            },
        ],
    };
    let plan = AttentionPlan { runs: vec![run(0..3, 1), run(3..5, 2)] };
    let place = |buffer, column| Place { buffer, column };
    let stores = [
        KeyStore { keys: place(0, 6), values: place(0, 9) },
        KeyStore { keys: place(1, 0), values: place(1, 3) },
    ];
    let bias = values(10, shape.n_head * 5);
    let d_out = values(11, n_text * shape.query_width());
    let masks: Vec<RowMask> = (0..n_text as u32).map(|row| RowMask { stream: 5, row }).collect();
    let dropout = probability.map(|probability| AttentionDropout { masks: &masks, probability, layer: 2 });
    let call = |bias: &Vec<f32>,
                sources: &[&ReferenceRows],
                use_call: &mut dyn FnMut(&AttentionCall<'_, Reference>)| {
        use_call(&AttentionCall {
            shape,
            layer: 1,
            plan: &plan,
            sources,
            query: place(0, 0),
            stores: &stores,
            relative_bias: Some(RelativeBias { values: bias, reach: 2 }),
            dropout,
        });
    };
    let forward = |bias: &Vec<f32>, text: &[f32], prefix: &[f32]| {
        let mut out = Reference.rows(n_text, shape.query_width(), Storage::Exact);
        let (text, prefix) = (rows(text, text_width), rows(prefix, 6));
        call(bias, &[&text, &prefix], &mut |call| Reference.attention(call, &mut out, None));
        dot(&out, &d_out)
    };
    let (text, prefix) = (values(12, n_text * text_width), values(13, n_prefix * 6));
    let mut d_text = rows(&vec![0.0; text.len()], text_width);
    let mut d_prefix = rows(&vec![0.0; prefix.len()], 6);
    let (text_rows, prefix_rows) = (rows(&text, text_width), rows(&prefix, 6));
    let mut d_bias = rows(&vec![0.0; bias.len()], bias.len());
    let places: Vec<u32> = (0..bias.len() as u32).collect();
    call(&bias, &[&text_rows, &prefix_rows], &mut |call| {
        let d_out = rows(&d_out, shape.query_width());
        Reference.attention_bias_grad(call, &rows(&[], shape.n_head), &d_out, &places, 0, &mut d_bias);
        Reference.attention_backward(
            call,
            &rows(&[], shape.n_head),
            &d_out,
            Some(place(0, 0)),
            &[Some(stores[0]), Some(stores[1])],
            &mut [&mut d_text, &mut d_prefix],
        );
    });
    agree("text", &text, &d_text.data, |text| forward(&bias, text, &prefix));
    agree("prefix", &prefix, &d_prefix.data, |prefix| forward(&bias, &text, prefix));
    agree("bias", &bias, &d_bias.data, |bias| forward(&bias.to_vec(), &text, &prefix));
}

#[test]
fn head_gradient_agrees_with_finite_differences() {
    let (n_row, width, vocab) = (3, 4, 9);
    let weight = HostMatrix { n_row: vocab, n_column: width, values: values(14, vocab * width) };
    let (weight, bias) = (Reference.weight(vec![weight]), values(15, vocab));
    let head = Head { weight: &weight, bias: Some(&bias), scale: 0.7 };
    let soft = |token| TokenWeight { token, weight: 0.4 };
    let targets = vec![
        RowTarget::token(2, 0.0),
        RowTarget::token(8, 0.1),
        RowTarget { tokens: vec![soft(0), soft(5), soft(0)], uniform: 0.0 },
    ];
    let x = values(16, n_row * width);
    let loss_of = |x: &[f32], d_x: Option<&mut ReferenceRows>| {
        let mut loss = Reference.rows(n_row, 1, Storage::Exact);
        Reference.head_loss(&head, &rows(x, width), &targets, &mut loss, d_x);
        dot(&loss, &[1.0; 3])
    };
    let mut d_x = Reference.rows(n_row, width, Storage::Exact);
    loss_of(&x, Some(&mut d_x));
    agree("head", &x, &d_x.data, |x| loss_of(x, None));
}

#[test]
fn gradients_of_weights_agree_with_finite_differences() {
    let (n_row, n_in, n_out) = (4, 5, 3);
    let (x, d_out) = (values(20, n_row * n_in), values(21, n_row * n_out));
    let flat = |n: usize| rows(&vec![0.0; n], n);
    let weight = values(22, n_out * n_in);
    let mut gradient = flat(n_out * n_in);
    Reference.weight_grad(&rows(&x, n_in), &rows(&d_out, n_out), 0, &mut gradient);
    agree("weight", &weight, &gradient.data, |weight| {
        let matrix = HostMatrix { n_row: n_out, n_column: n_in, values: weight.to_vec() };
        let weight = Reference.weight(vec![matrix]);
        let mut out = Reference.rows(n_row, n_out, Storage::Exact);
        let term = Term { x: &rows(&x, n_in), weight: &weight, direction: Direction::Plain };
        Reference.linear(&[term], Epilogue::Store, &mut out);
        dot(&out, &d_out)
    });

    let table = values(23, 3 * n_out);
    let mut gradient = flat(table.len());
    let ids = vec![2, 0, 2, 2];
    Reference.embed_grad(&ids, 0.7, &rows(&d_out, n_out), 0, &mut gradient);
    agree("table", &table[2 * n_out..], &gradient.data[2 * n_out..], |row| {
        let values = [&table[..2 * n_out], row].concat();
        let table = Reference.weight(vec![HostMatrix { n_row: 3, n_column: n_out, values }]);
        let mut out = Reference.rows(n_row, n_out, Storage::Exact);
        Reference.embed(&table, &ids, 0.7, &mut out);
        dot(&out, &d_out)
    });
}

#[test]
fn gradients_of_norms_agree_with_finite_differences() {
    let width = 6;
    let (x, d_out) = (values(24, 3 * width), values(25, 3 * width));
    for kind in [NormKind::Rms, NormKind::Layer] {
        let parameters = values(26, 2 * width);
        let norm = |parameters: &[f32]| Norm {
            kind,
            epsilon: 1e-3,
            weight: parameters[..width].to_vec(),
            bias: Some(parameters[width..].to_vec()),
        };
        let mut gradient = rows(&vec![0.0; 2 * width], 2 * width);
        Reference.norm_grad(
            &norm(&parameters),
            &rows(&x, width),
            &rows(&d_out, width),
            0,
            Some(width),
            &mut gradient,
        );
        agree(&format!("{kind:?}"), &parameters, &gradient.data, |parameters| {
            let mut out = Reference.rows(3, width, Storage::Exact);
            Reference.norm(&norm(parameters), &rows(&x, width), &mut out);
            dot(&out, &d_out)
        });
    }
}

#[test]
fn the_heads_gradient_agrees_with_finite_differences() {
    let (width, vocab) = (4, 6);
    let (x, weight, bias) = (values(27, 2 * width), values(28, vocab * width), values(29, vocab));
    let targets = vec![
        RowTarget { tokens: vec![TokenWeight { token: 1, weight: 0.6 }], uniform: 0.3 },
        RowTarget::token(5, 0.0),
    ];
    let matrix = |values: &[f32]| {
        Reference.weight(vec![HostMatrix { n_row: vocab, n_column: width, values: values.to_vec() }])
    };
    let mut gradient = rows(&vec![0.0; weight.len()], weight.len());
    let stored = matrix(&weight);
    let head = Head { weight: &stored, bias: Some(&bias), scale: 0.5 };
    Reference.head_grad(&head, &rows(&x, width), &targets, 0, &mut gradient);
    agree("head", &weight, &gradient.data, |weight| {
        let stored = matrix(weight);
        let head = Head { weight: &stored, bias: Some(&bias), scale: 0.5 };
        let mut loss = Reference.rows(2, 1, Storage::Exact);
        Reference.head_loss(&head, &rows(&x, width), &targets, &mut loss, None);
        loss.data.iter().map(|&loss| f64::from(loss)).sum()
    });
}
