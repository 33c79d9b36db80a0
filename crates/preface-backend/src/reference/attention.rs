//! Attention, one query head at a time, all its visible keys in a list.
//!
//! Backward, with `p = softmax(scores)`, `m_k` the factors of its dropout (1 without) and `dp_k = m_k <d_out, v_k>`:
//! `d_v_k += m_k p_k d_out`,
//! `ds_k = scale p_k (dp_k - sum_j p_j dp_j)`, `d_q += sum_k ds_k k_k`, `d_k_k += ds_k q`.

use super::{Reference, ReferenceRows};
use crate::{AttentionCall, AttentionDropout, KeyRun, Place, QueryRun, StoreGrad};

type Call<'a> = AttentionCall<'a, Reference>;

pub fn forward(call: &Call<'_>, out: &mut ReferenceRows, mut log_sum_exp: Option<&mut ReferenceRows>) {
    for_each_query(call, |run, row, head| {
        let attended = attend(call, run, row, head);
        let head_dim = call.shape.head_dim;
        for column in 0..head_dim {
            let value: f64 = attended.keys.iter().map(|key| key.share() * key.value[column]).sum();
            out.row_mut(row)[head * head_dim + column] = value as f32;
        }
        if let Some(log_sum_exp) = log_sum_exp.as_deref_mut() {
            log_sum_exp.row_mut(row)[head] = attended.log_sum_exp as f32;
        }
    });
}

pub fn backward(
    call: &Call<'_>,
    d_out: &ReferenceRows,
    d_query: Option<Place>,
    d_stores: &[Option<StoreGrad>],
    grads: &mut [&mut ReferenceRows],
) {
    assert_eq!(d_stores.len(), call.stores.len(), "attention_backward: one entry for each store");
    let head_dim = call.shape.head_dim;
    for_each_query(call, |run, row, head| {
        let attended = attend(call, run, row, head);
        let d_scores = score_gradients(&attended, d_out, row, head);
        let d_out = &d_out.row(row)[head * head_dim..(head + 1) * head_dim];
        for (key, d_score) in attended.keys.iter().zip(d_scores) {
            let d_score = f64::from(call.shape.scale) * d_score;
            if let Some(place) = d_query {
                let target = grads[place.buffer].row_mut(row);
                for column in 0..head_dim {
                    target[place.column + head * head_dim + column] += (d_score * key.key[column]) as f32;
                }
            }
            let Some(place) = d_stores[key.store] else { continue };
            let kv_column = kv_head(call, head) * head_dim;
            for column in 0..head_dim {
                let d_key = d_score * attended.query[column] * key.key_factor[column];
                let d_value = key.share() * f64::from(d_out[column]) * key.value_factor[column];
                let keys = grads[place.keys.buffer].row_mut(key.row);
                keys[place.keys.column + kv_column + column] += d_key as f32;
                let values = grads[place.values.buffer].row_mut(key.row);
                values[place.values.column + kv_column + column] += d_value as f32;
            }
        }
    });
}

/// See [`crate::Backend::attention_bias_grad`].
pub fn bias_grad(
    call: &Call<'_>,
    d_out: &ReferenceRows,
    places: &[u32],
    first: usize,
    grads: &mut ReferenceRows,
) {
    let bias = call.relative_bias.expect("attention_bias_grad: a call with a bias");
    assert_eq!(places.len(), bias.values.len(), "attention_bias_grad: a place for each entry");
    for_each_query(call, |run, row, head| {
        let attended = attend(call, run, row, head);
        let d_scores = score_gradients(&attended, d_out, row, head);
        for (entry, d_score) in attended.keys.iter().map(|key| key.bias_entry).zip(d_scores) {
            if let Some(entry) = entry {
                grads.data[first + places[entry] as usize] += d_score as f32;
            }
        }
    });
}

/// `p_k (dp_k - sum_j p_j dp_j)` of each key.
fn score_gradients(attended: &Attended, d_out: &ReferenceRows, row: usize, head: usize) -> Vec<f64> {
    let head_dim = attended.query.len();
    let d_out = &d_out.row(row)[head * head_dim..(head + 1) * head_dim];
    let d_probability: Vec<f64> = attended
        .keys
        .iter()
        .map(|key| key.factor * key.value.iter().zip(d_out).map(|(v, d)| v * f64::from(*d)).sum::<f64>())
        .collect();
    let along: f64 = attended.keys.iter().zip(&d_probability).map(|(key, d)| key.probability * d).sum();
    attended.keys.iter().zip(d_probability).map(|(key, d)| key.probability * (d - along)).collect()
}

/// A key that a query sees, with dropout applied to its key and value.
struct Key {
    store: usize,
    row: usize,
    key: Vec<f64>,
    value: Vec<f64>,
    key_factor: Vec<f64>,
    value_factor: Vec<f64>,
    probability: f64,
    /// Entry of the relative bias that its score has.
    bias_entry: Option<usize>,
    /// Of the dropout of probabilities.
    factor: f64,
}

impl Key {
    /// What the query gets of the value.
    fn share(&self) -> f64 {
        self.probability * self.factor
    }
}

struct Attended {
    query: Vec<f64>,
    keys: Vec<Key>,
    log_sum_exp: f64,
}

fn attend(call: &Call<'_>, run: &QueryRun, row: usize, head: usize) -> Attended {
    let query = columns(call, call.query, row, head);
    let position = run.first_position + row - run.rows.start;
    let mut keys = Vec::new();
    let mut scores = Vec::new();
    let mut n_before = 0;
    for key_run in &run.keys {
        for row_in_run in 0..key_run.visible(position) {
            let mut key = load(call, key_run, row_in_run, kv_head(call, head));
            let product = query.iter().zip(&key.key).map(|(q, k)| q * k).sum::<f64>();
            let bias = match (call.relative_bias, key_run.bias_from) {
                (Some(bias), Some(first)) => {
                    let entry = bias.entry(head, position, first + row_in_run);
                    key.bias_entry = Some(entry);
                    bias.values[entry]
                }
                _ => 0.0,
            };
            scores.push(f64::from(call.shape.scale) * product + f64::from(bias));
            if let Some(AttentionDropout { masks, probability, layer }) = call.dropout {
                let number = n_before + row_in_run;
                let factor = masks[row].attention_factor(probability, layer, call.shape.n_head, head, number);
                key.factor = f64::from(factor);
            }
            keys.push(key);
        }
        n_before += key_run.rows.len();
    }
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
    for (key, score) in keys.iter_mut().zip(&scores) {
        key.probability = (score - max).exp() / sum;
    }
    Attended { query, keys, log_sum_exp: max + sum.ln() }
}

fn load(call: &Call<'_>, run: &KeyRun, row_in_run: usize, kv_head: usize) -> Key {
    let store = call.stores[run.store];
    let row = run.rows.start + row_in_run;
    let factors = |is_value: u64| -> Vec<f64> {
        let kv_width = call.shape.kv_width() as u64;
        (0..call.shape.head_dim)
            .map(|column| {
                let column = (kv_head * call.shape.head_dim + column) as u64;
                let element = (row_in_run as u64 * 2 + is_value) * kv_width + column;
                run.dropout.map_or(1.0, |dropout| f64::from(dropout.factor(call.layer, element)))
            })
            .collect()
    };
    let masked = |place: Place, factors: &[f64]| -> Vec<f64> {
        columns(call, place, row, kv_head).iter().zip(factors).map(|(value, factor)| value * factor).collect()
    };
    let (key_factor, value_factor) = (factors(0), factors(1));
    Key {
        store: run.store,
        row,
        key: masked(store.keys, &key_factor),
        value: masked(store.values, &value_factor),
        key_factor,
        value_factor,
        probability: 0.0,
        bias_entry: None,
        factor: 1.0,
    }
}

fn columns(call: &Call<'_>, place: Place, row: usize, head: usize) -> Vec<f64> {
    let head_dim = call.shape.head_dim;
    let start = place.column + head * head_dim;
    call.sources[place.buffer].row(row)[start..start + head_dim].iter().map(|&v| f64::from(v)).collect()
}

fn kv_head(call: &Call<'_>, head: usize) -> usize {
    head / (call.shape.n_head / call.shape.n_kv_head)
}

fn for_each_query(call: &Call<'_>, mut visit: impl FnMut(&QueryRun, usize, usize)) {
    for run in &call.plan.runs {
        for row in run.rows.clone() {
            for head in 0..call.shape.n_head {
                visit(run, row, head);
            }
        }
    }
}
