//! Attention over runs of keys.
//!
//! A query run is cut into *segments* of at most [`segment_rows`] rows. A task is one segment and one key head with all
//! query heads that read it: it gathers the keys and values that the segment sees (with dropout applied) into scratch
//! memory, in the form that products read, then goes over its queries some rows at a time. Rows of scores are whole, so no
//! running maximum is needed, and few, so memory is linear in the number of keys.
//!
//! Products are of pairs of bf16 where queries and keys are stored in bf16 and an instruction multiplies them, of `f32`
//! elsewhere, and of both in one task where some keys, those of a prefix, are stored in `f32` (`pack::Part`). As pairs,
//! queries, keys, values, probabilities and their gradients are rounded; sums, scores, scale, softmax and statistics are in
//! `f32`.
//!
//! Runs that all queries see come first in the gathered list, causal ones last: what a query sees is then nearly
//! always a beginning of the list, and nothing behind it is computed. Where it is not (two causal runs), hidden scores
//! are set to negative infinity.
//!
//! In the backward several segments may see the same store row (a prefix). Each task writes its keys' gradients to rows
//! of its own; a second pass adds them to the stores in the order of the segments. Both go over *groups* of segments that
//! see about [`GROUP_KEYS`] keys together: all segments of a long text see, together, a number of keys that grows with the
//! square of its length.

mod backward;
mod bias_grad;
mod dropout;
mod forward;
mod multiply;
mod pack;
mod thin;

use std::ops::Range;

use preface_backend::{AttentionCall, AttentionPlan, Dropout, KeyRun, Place, QueryRun, StoreGrad};

use crate::CpuBackend;
use crate::simd::{Simd, update};
use crate::storage::CpuRows;
use pack::Side;

pub use backward::backward;
pub use bias_grad::bias_grad;
pub use forward::forward;

type Call<'a> = AttentionCall<'a, CpuBackend>;

/// Query rows of a task, for a number of query runs. The more, the less often keys are gathered; but one long text is cut so
/// that there is something to do for several threads.
fn segment_rows(n_run: usize) -> usize {
    if n_run < 4 { 256 } else { 512 }
}
/// Words of the backward's probabilities that wait for the products over a tile's queries, and of their gradients: together
/// half of a second-level cache of 1 MiB.
const SCORE_TILE: usize = 64 * 1024;

/// Keys that the segments of a group see together, unless a single one sees more: their gradients should still lie in a
/// third-level cache when they are added up.
pub(crate) const GROUP_KEYS: usize = 4 * 1024;

/// A plan cut into segments.
pub struct CpuPlan {
    segments: Vec<Segment>,
    /// Segments of each group.
    groups: Vec<Range<usize>>,
}

/// Some query rows and what they see.
struct Segment {
    rows: Range<usize>,
    first_position: usize,
    keys: Vec<Keys>,
    /// Length of the gathered list.
    n_key: usize,
    /// First row in the matrix of the keys' gradients of its group.
    first_gradient: usize,
}

/// A run of keys as far as the segment sees it.
struct Keys {
    store: usize,
    first_row: usize,
    len: usize,
    /// Place in the gathered list.
    start: usize,
    causal_from: Option<usize>,
    bias_from: Option<usize>,
    dropout: Option<Dropout>,
    /// Number of its first key among those that the plan lists for the queries.
    first_number: usize,
}

impl CpuPlan {
    pub(crate) fn new(plan: &AttentionPlan) -> Self {
        let mut spans: Vec<&Range<usize>> = plan.runs.iter().map(|run| &run.rows).collect();
        spans.sort_by_key(|rows| rows.start);
        // Tasks write the rows of their segments at the same time.
        assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start), "plan: query runs overlap");
        let (mut segments, mut groups): (Vec<Segment>, Vec<Range<usize>>) = (Vec::new(), Vec::new());
        let mut n_key = 0;
        for run in &plan.runs {
            let n_part = run.rows.len().div_ceil(segment_rows(plan.runs.len()));
            for part in 0..n_part {
                let cut = |part| run.rows.start + run.rows.len() * part / n_part;
                let mut segment = Segment::new(run, cut(part)..cut(part + 1));
                match groups.last_mut() {
                    Some(group) if n_key + segment.n_key <= GROUP_KEYS => group.end += 1,
                    _ => {
                        groups.push(segments.len()..segments.len() + 1);
                        n_key = 0;
                    }
                }
                segment.first_gradient = n_key;
                n_key += segment.n_key;
                segments.push(segment);
            }
        }
        Self { segments, groups }
    }

    /// The segments of each group, and the keys that they see together.
    fn groups(&self) -> impl Iterator<Item = (&[Segment], usize)> {
        self.groups.iter().map(|group| {
            let segments = &self.segments[group.clone()];
            (segments, segments.iter().map(|segment| segment.n_key).sum())
        })
    }
}

impl Segment {
    fn new(run: &QueryRun, rows: Range<usize>) -> Self {
        let first_position = run.first_position + rows.start - run.rows.start;
        let last_position = first_position + rows.len() - 1;
        let mut n_listed = 0;
        let numbered = run.keys.iter().map(|keys| {
            let first_number = n_listed;
            n_listed += keys.rows.len();
            (keys, first_number)
        });
        type Numbered<'a> = (&'a KeyRun, usize);
        let is_causal = |(keys, _): &Numbered<'_>| keys.causal_from.is_some();
        let (causal, full): (Vec<Numbered<'_>>, Vec<Numbered<'_>>) = numbered.partition(is_causal);
        let mut n_key = 0;
        let keys = full
            .into_iter()
            .chain(causal)
            .map(|(keys, first_number)| {
                let (start, len) = (n_key, keys.visible(last_position));
                n_key += len;
                Keys {
                    store: keys.store,
                    first_row: keys.rows.start,
                    len,
                    start,
                    causal_from: keys.causal_from,
                    bias_from: keys.bias_from,
                    dropout: keys.dropout,
                    first_number,
                }
            })
            .collect();
        Self { rows, first_position, keys, n_key, first_gradient: 0 }
    }

    fn position(&self, row: usize) -> usize {
        self.first_position + row - self.rows.start
    }

    /// Length of the beginning of the list that holds all keys that a query sees.
    fn limit(&self, position: usize) -> usize {
        let ends = self.keys.iter().filter_map(|keys| {
            let visible = keys.visible(position);
            (visible > 0).then_some(keys.start + visible)
        });
        ends.max().unwrap_or(0)
    }

    /// Makes scores of a query's products with the first keys of the list, up to a factor that is returned: scale and bias.
    #[inline(always)]
    fn score<S: Simd>(
        &self,
        simd: S,
        call: &Call<'_>,
        head: usize,
        position: usize,
        products: &mut [f32],
    ) -> f32 {
        let scale = call.shape.scale;
        // A factor that is not positive would turn the order of scores, and hidden ones, about.
        if call.relative_bias.is_none() && scale > 0.0 {
            return scale;
        }
        products.iter_mut().for_each(|product| *product *= scale);
        self.add_bias(simd, call, head, position, products);
        1.0
    }

    /// Adds to a query's first scores, one for each key of the list, what the distances give.
    #[inline(always)]
    fn add_bias<S: Simd>(&self, simd: S, call: &Call<'_>, head: usize, position: usize, scores: &mut [f32]) {
        let Some(bias) = call.relative_bias else { return };
        let width = 2 * bias.reach + 1;
        let values = &bias.values.0[head * width..(head + 1) * width];
        for keys in &self.keys {
            let Some(first) = keys.bias_from else { continue };
            let end = (keys.start + keys.len).min(scores.len());
            let Some(scores) = scores.get_mut(keys.start..end) else { continue };
            // Key `j` has entry `first + j + reach - position`, held inside the table: at its start for the first
            // `n_low` keys, at its end behind the first `n_low + n_inside`.
            let n_low = (position.saturating_sub(first + bias.reach)).min(scores.len());
            let entry = (first + n_low + bias.reach).saturating_sub(position).min(width);
            let n_inside = (width - entry).min(scores.len() - n_low);
            let (low, rest) = scores.split_at_mut(n_low);
            let (inside, high) = rest.split_at_mut(n_inside);
            low.iter_mut().for_each(|score| *score += values[0]);
            update(
                simd,
                inside,
                &values[entry..entry + n_inside],
                #[inline(always)]
                |score, bias| simd.add(score, bias),
            );
            high.iter_mut().for_each(|score| *score += values[width - 1]);
        }
    }

    /// Parts of the first `limit` keys that a query does not see.
    fn hidden(&self, position: usize, limit: usize) -> impl Iterator<Item = Range<usize>> {
        self.keys.iter().filter_map(move |keys| {
            let hidden = keys.start + keys.visible(position)..(keys.start + keys.len).min(limit);
            (hidden.start < hidden.end).then_some(hidden)
        })
    }
}

impl Keys {
    fn visible(&self, position: usize) -> usize {
        match self.causal_from {
            None => self.len,
            Some(first) => (position + 1).saturating_sub(first).min(self.len),
        }
    }
}

/// Panics unless the call's places lie inside its matrices.
fn check(call: &Call<'_>, out: &CpuRows) {
    let shape = call.shape;
    assert!(shape.n_kv_head > 0 && shape.n_head.is_multiple_of(shape.n_kv_head), "attention: head counts");
    assert_eq!(out.width, shape.query_width(), "attention: width of the queries' matrix");
    let inside = |place: Place, width| place.column + width <= call.sources[place.buffer].width;
    if let Some(bias) = call.relative_bias {
        let len = shape.n_head * (2 * bias.reach + 1);
        assert_eq!(bias.values.0.len(), len, "attention: length of the relative bias");
    }
    assert!(inside(call.query, shape.query_width()), "attention: columns of the queries");
    for store in call.stores {
        let kv_width = shape.kv_width();
        assert!(
            inside(store.keys, kv_width) && inside(store.values, kv_width),
            "attention: columns of a store"
        );
    }
}

/// Panics unless the gradients of different heads, and those of keys and of values, are apart: then a task for the keys or
/// values of a head is alone with its columns.
fn check_gradients(
    call: &Call<'_>,
    d_query: Option<Place>,
    d_stores: &[Option<StoreGrad>],
    grads: &[&mut CpuRows],
) {
    assert_eq!(d_stores.len(), call.stores.len(), "attention_backward: one entry for each store");
    let kv_width = call.shape.kv_width();
    let sides = |grad: &StoreGrad| [(Side::Keys, grad.keys), (Side::Values, grad.values)];
    let places: Vec<(Side, Place)> = d_stores.iter().flatten().flat_map(sides).collect();
    for (i, (side, a)) in places.iter().enumerate() {
        assert!(
            a.column + kv_width <= grads[a.buffer].width,
            "attention_backward: columns of a store's gradient"
        );
        for (other, b) in &places[..i] {
            let is_apart = a.buffer != b.buffer || a.column.abs_diff(b.column) >= kv_width;
            let is_same = a.column == b.column && side == other;
            assert!(is_apart || is_same, "attention_backward: gradients of two stores overlap in part");
        }
    }
    if let Some(place) = d_query {
        let end = place.column + call.shape.query_width();
        assert!(end <= grads[place.buffer].width, "attention_backward: columns of the queries' gradient");
    }
}
