//! Head and loss, one row at a time.
//!
//! With `p = softmax(logits)` and `m = sum of the weights + uniform`: `loss = m log_sum_exp - sum w_t logit_t -
//! uniform mean(logits)`, `d_logit = m p - w - uniform / vocab`, `d_x = scale d_logit W`.

use super::{Reference, ReferenceRows};
use crate::{Head, RowTarget};

pub fn loss(
    head: &Head<'_, Reference>,
    x: &ReferenceRows,
    targets: &[RowTarget],
    loss: &mut ReferenceRows,
    mut d_x: Option<&mut ReferenceRows>,
) {
    assert_eq!((x.n_row, x.width), (targets.len(), head.weight.n_in), "head_loss: shapes");
    assert_eq!((loss.n_row, loss.width), (targets.len(), 1), "head_loss: shape of loss");
    let vocab = head.weight.n_out;
    for (i, target) in targets.iter().enumerate() {
        let logits: Vec<f64> = (0..vocab)
            .map(|token| {
                let product: f64 = (0..x.width).map(|k| x.at(i, k) * head.weight.at(token, k)).sum();
                f64::from(head.scale) * product + head.bias.map_or(0.0, |bias| f64::from(bias[token]))
            })
            .collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - max).exp()).sum();
        let uniform = f64::from(target.uniform);
        let mass = target.tokens.iter().map(|t| f64::from(t.weight)).sum::<f64>() + uniform;
        let hit: f64 = target.tokens.iter().map(|t| f64::from(t.weight) * logits[t.token as usize]).sum();
        let smooth = if uniform == 0.0 { 0.0 } else { uniform * logits.iter().sum::<f64>() / vocab as f64 };
        loss.data[i] = (mass * (max + sum.ln()) - hit - smooth) as f32;
        let Some(d_x) = d_x.as_deref_mut() else { continue };
        let mut d_logits: Vec<f64> =
            logits.iter().map(|logit| mass * (logit - max).exp() / sum - uniform / vocab as f64).collect();
        for t in &target.tokens {
            d_logits[t.token as usize] -= f64::from(t.weight);
        }
        for k in 0..x.width {
            let d: f64 = d_logits.iter().enumerate().map(|(token, d)| d * head.weight.at(token, k)).sum();
            d_x.row_mut(i)[k] = (f64::from(head.scale) * d) as f32;
        }
    }
}
