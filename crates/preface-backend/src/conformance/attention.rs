//! Attention over many plans, forward and backward.

use super::rows::result;
use super::values::{rows, values};
use super::{Case, Output, Suite, Within};
use crate::{
    AttentionCall, AttentionDropout, AttentionPlan, AttentionShape, Backend, Dropout, KeyRun, KeyStore,
    Place, QueryRun, RelativeBias, RowMask, Storage,
};

/// How the text's rows are stored, and those of the other stores.
type Storages = [Storage; 2];

const EXACT: Storages = [Storage::Exact; 2];
const COMPACT: Storages = [Storage::Compact; 2];
/// A text behind a prefix that is trained.
const BESIDE_EXACT: Storages = [Storage::Compact, Storage::Exact];

pub fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    let heads = [(1, 1, 2), (2, 1, 3), (2, 1, 6), (4, 2, 10), (3, 3, 16), (9, 3, 64), (2, 2, 80), (5, 1, 32)];
    for (n_head, n_kv_head, head_dim) in heads {
        for (name, stores, plan) in plans() {
            for (storage, reach) in [
                (EXACT, None),
                (COMPACT, None),
                (BESIDE_EXACT, None),
                (EXACT, Some(4)),
                (COMPACT, Some(64)),
                (BESIDE_EXACT, Some(4)),
            ] {
                let scale = (head_dim as f32).powf(-0.5);
                let shape = AttentionShape { n_head, n_kv_head, head_dim, scale };
                let (plan, stores) = (Quiet(plan.clone()), stores.clone());
                let case = AttentionCase::new(name, shape, stores, plan, storage);
                suite.compare(AttentionCase { reach, ..case });
            }
        }
    }
    // Longer than any tile of queries or keys.
    let shape = AttentionShape { n_head: 3, n_kv_head: 1, head_dim: 16, scale: 0.25 };
    for (name, n_prefix, n_row) in [("long text", 10, 300), ("long prefix", 400, 20)] {
        for storage in [COMPACT, BESIDE_EXACT] {
            let plan = AttentionPlan { runs: vec![text(0..n_row, n_prefix, vec![all(1, 0..n_prefix)])] };
            let case = AttentionCase::new(name, shape, vec![n_row, n_prefix], Quiet(plan), storage);
            suite.compare(AttentionCase { reach: Some(40), ..case });
        }
    }
    // Dropout of the probabilities, in every plan.
    for (name, stores, plan) in plans() {
        let shape = AttentionShape { n_head: 4, n_kv_head: 2, head_dim: 10, scale: 0.3 };
        for (storage, reach) in [(EXACT, Some(4)), (COMPACT, None), (BESIDE_EXACT, Some(4))] {
            let (plan, stores) = (Quiet(plan.clone()), stores.clone());
            let case = AttentionCase::new(name, shape, stores, plan, storage);
            suite.compare(AttentionCase { reach, dropout: Some(0.3), ..case });
        }
    }
    // Every choice of what is wanted of the backward.
    let (name, stores, plan) = plans().swap_remove(2);
    for bits in 0..8 {
        for storage in [COMPACT, BESIDE_EXACT] {
            let wanted = Wanted { query: bits & 1 > 0, text: bits & 2 > 0, others: bits & 4 > 0 };
            let (plan, stores) = (Quiet(plan.clone()), stores.clone());
            let case = AttentionCase::new(name, shape, stores, plan, storage);
            suite.compare(AttentionCase { wanted, ..case });
        }
    }
}

/// Name, rows of each store (the first is the text's own), plan.
fn plans() -> Vec<(&'static str, Vec<usize>, AttentionPlan)> {
    let plan = |runs| AttentionPlan { runs };
    let dropout = |stream| Some(Dropout { probability: 0.4, stream });
    let dropped = |run: KeyRun, stream| KeyRun { dropout: dropout(stream), ..run };
    vec![
        ("no rows", vec![0], plan(vec![])),
        ("causal text", vec![9], plan(vec![text(0..9, 0, vec![])])),
        (
            "sequences with one shared prefix",
            vec![40, 5],
            plan(vec![
                text(0..7, 5, vec![all(1, 0..5)]),
                text(7..8, 5, vec![all(1, 0..5)]),
                text(8..40, 5, vec![all(1, 0..5)]),
            ]),
        ),
        (
            "sequences with prefixes of their own",
            vec![30, 3, 17],
            plan(vec![text(0..13, 3, vec![all(1, 0..3)]), text(13..30, 17, vec![all(2, 0..17)])]),
        ),
        (
            "prompt shared by its completions",
            vec![20, 4],
            plan(vec![
                text(0..8, 4, vec![all(1, 0..4)]),
                text(8..13, 12, vec![all(1, 0..4), all(0, 0..8)]),
                text(13..20, 12, vec![all(1, 0..4), all(0, 0..8)]),
            ]),
        ),
        (
            "rows of no run stay as they are",
            vec![12],
            plan(vec![text(2..5, 0, vec![]), text(7..11, 3, vec![])]),
        ),
        (
            "one new row and cached pages",
            vec![3, 40],
            plan(vec![
                query(0..1, 20, vec![all(1, 0..16), all(1, 24..28), causal(0, 0..1, 20)]),
                query(1..2, 16, vec![all(1, 16..32), causal(0, 1..2, 16)]),
                query(2..3, 0, vec![causal(0, 2..3, 0)]),
            ]),
        ),
        (
            "more single rows than threads, behind prefixes of their own or none",
            vec![24, 60],
            plan(
                (0..24)
                    .map(|i| {
                        let prefix = (i % 3 > 0).then(|| all(1, i..i + 7 * (i % 3))).into_iter();
                        let keys =
                            prefix.chain([causal(1, 30 + i..33 + i, 4), causal(0, i..i + 1, 7)]).collect();
                        query(i..i + 1, 7, keys)
                    })
                    .collect(),
            ),
        ),
        (
            "causal pages out of order",
            vec![6, 12],
            plan(vec![query(0..6, 8, vec![causal(1, 4..8, 4), causal(1, 0..4, 0), causal(1, 8..12, 8)])]),
        ),
        (
            "two causal runs at the same positions",
            vec![6, 8],
            plan(vec![query(0..6, 1, vec![causal(1, 2..8, 0), causal(0, 0..6, 1)])]),
        ),
        (
            "cross attention",
            vec![9, 21],
            plan(vec![query(0..5, 0, vec![all(1, 0..13)]), query(5..9, 0, vec![all(1, 13..21)])]),
        ),
        (
            "an encoder's text behind a prefix without positions",
            vec![24, 3],
            plan(vec![
                query(0..11, 0, vec![all(1, 0..3), placed(0, 0..11, 0)]),
                query(11..24, 0, vec![all(1, 0..3), placed(0, 11..24, 0)]),
            ]),
        ),
        (
            "prefixes with positions, seen by later queries",
            vec![13, 4],
            plan(vec![text(0..12, 4, vec![placed(1, 0..4, 0)]), text(12..13, 30, vec![placed(1, 0..4, 2)])]),
        ),
        (
            "dropout on prefix rows",
            vec![22, 6],
            plan(vec![
                text(0..10, 6, vec![dropped(all(1, 0..6), 7)]),
                text(10..22, 6, vec![dropped(all(1, 0..6), 8)]),
            ]),
        ),
        ("one row with dropout", vec![1, 6], plan(vec![text(0..1, 6, vec![dropped(all(1, 1..5), 9)])])),
    ]
}

fn all(store: usize, rows: std::ops::Range<usize>) -> KeyRun {
    KeyRun { store, rows, causal_from: None, bias_from: None, dropout: None }
}

/// Seen by all queries, at positions that the bias counts.
fn placed(store: usize, rows: std::ops::Range<usize>, from: usize) -> KeyRun {
    KeyRun { bias_from: Some(from), ..all(store, rows) }
}

fn causal(store: usize, rows: std::ops::Range<usize>, from: usize) -> KeyRun {
    KeyRun { store, rows, causal_from: Some(from), bias_from: Some(from), dropout: None }
}

fn query(rows: std::ops::Range<usize>, first_position: usize, keys: Vec<KeyRun>) -> QueryRun {
    QueryRun { rows, first_position, keys }
}

/// Queries that see `keys` and, causally, their own rows in store 0.
fn text(rows: std::ops::Range<usize>, first_position: usize, mut keys: Vec<KeyRun>) -> QueryRun {
    keys.push(causal(0, rows.clone(), first_position));
    query(rows, first_position, keys)
}

/// A plan that does not print its runs: the case's name says what it holds.
struct Quiet(AttentionPlan);

impl std::fmt::Debug for Quiet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} runs", self.0.runs.len())
    }
}

/// Which gradients are asked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    query: bool,
    text: bool,
    others: bool,
}

impl Wanted {
    const ALL: Self = Self { query: true, text: true, others: true };
}

/// Source 0 holds query, key and value columns of the text (store 0); each further store has a source of its own,
/// values before keys, starting at an odd column.
#[derive(Debug)]
struct AttentionCase {
    #[expect(dead_code, reason = "read by the Debug form, which is the case's name")]
    name: &'static str,
    shape: AttentionShape,
    stores: Vec<usize>,
    plan: Quiet,
    storage: Storages,
    wanted: Wanted,
    /// Reach of the relative bias, if there is one.
    reach: Option<usize>,
    /// Probability of the probabilities' dropout, if there is any.
    dropout: Option<f32>,
}

impl AttentionCase {
    /// Everything is wanted; neither bias nor dropout.
    fn new(
        name: &'static str,
        shape: AttentionShape,
        stores: Vec<usize>,
        plan: Quiet,
        storage: Storages,
    ) -> Self {
        Self { name, shape, stores, plan, storage, wanted: Wanted::ALL, reach: None, dropout: None }
    }

    fn width(&self, source: usize) -> usize {
        let kv_width = self.shape.kv_width();
        if source == 0 { self.shape.query_width() + 2 * kv_width } else { 2 * kv_width + 4 }
    }

    fn store(&self, store: usize) -> KeyStore {
        let (query_width, kv_width) = (self.shape.query_width(), self.shape.kv_width());
        let (keys, values) =
            if store == 0 { (query_width, query_width + kv_width) } else { (3 + kv_width, 3) };
        KeyStore {
            keys: Place { buffer: store, column: keys },
            values: Place { buffer: store, column: values },
        }
    }
}

impl Case for AttentionCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let n_row = self.stores[0];
        let matrix = |seed: u64, source: usize, storage| {
            rows(backend, seed + source as u64, self.stores[source], self.width(source), storage)
        };
        let n_store = self.stores.len();
        let sources: Vec<B::Rows> = (0..n_store).map(|s| matrix(61, s, self.storage[s.min(1)])).collect();
        let sources: Vec<&B::Rows> = sources.iter().collect();
        let stores: Vec<KeyStore> = (0..n_store).map(|s| self.store(s)).collect();
        let plan = backend.plan(&self.plan.0);
        let bias =
            self.reach.map(|reach| (backend.vector(&values(64, self.shape.n_head * (2 * reach + 1))), reach));
        let relative_bias = bias.as_ref().map(|(values, reach)| RelativeBias { values, reach: *reach });
        let masks: Vec<RowMask> =
            (0..n_row as u32).map(|i| RowMask { stream: u64::from(i % 2), row: i / 2 }).collect();
        let masks = backend.masks(&masks);
        let dropout =
            self.dropout.map(|probability| AttentionDropout { masks: &masks, probability, layer: 6 });
        let call = AttentionCall {
            shape: self.shape,
            layer: 3,
            plan: &plan,
            sources: &sources,
            query: Place { buffer: 0, column: 0 },
            stores: &stores,
            relative_bias,
            dropout,
        };
        let query_width = self.shape.query_width();
        let mut out = backend.rows(n_row, query_width, self.storage[0]);
        backend.zero(&mut out);
        let mut log_sum_exp = backend.rows(n_row, self.shape.n_head, Storage::Exact);
        backend.zero(&mut log_sum_exp);
        backend.attention(&call, &mut out, Some(&mut log_sum_exp));
        let mut alone = backend.rows(n_row, query_width, self.storage[0]);
        backend.zero(&mut alone);
        backend.attention(&call, &mut alone, None);

        let d_out = rows(backend, 71, n_row, query_width, self.storage[0]);
        let mut grads: Vec<B::Rows> = (0..n_store).map(|s| matrix(81, s, Storage::Exact)).collect();
        let mut grad_refs: Vec<&mut B::Rows> = grads.iter_mut().collect();
        let d_stores: Vec<Option<KeyStore>> = (0..n_store)
            .map(|s| {
                let wanted = if s == 0 { self.wanted.text } else { self.wanted.others };
                wanted.then(|| self.store(s))
            })
            .collect();
        let d_query = self.wanted.query.then_some(Place { buffer: 0, column: 0 });
        backend.attention_backward(&call, &log_sum_exp, &d_out, d_query, &d_stores, &mut grad_refs);
        let mut outputs = vec![
            Output::new("out", backend.read(&out), self.products()),
            Output::new("out without log_sum_exp", backend.read(&alone), self.products()),
            Output::new("log_sum_exp", backend.read(&log_sum_exp), self.products()),
        ];
        for grad in &grads {
            outputs.push(Output::new("gradients", backend.read(grad), self.products()));
        }
        if let Some((values, _)) = &bias {
            // Entries of neighbouring distances share a place, as those of a bucket.
            const FIRST: usize = 5;
            let places: Vec<u32> = (0..backend.read_vector(values).len() as u32).map(|i| i / 3).collect();
            let mut flat = rows(backend, 91, 1, FIRST + places.len(), Storage::Exact);
            let places = backend.index(&places);
            backend.attention_bias_grad(&call, &log_sum_exp, &d_out, &places, FIRST, &mut flat);
            outputs.push(Output::new("bias gradient", backend.read(&flat), self.products()));
        }
        outputs
    }
}

impl AttentionCase {
    /// Compact operands may be multiplied in the precision of the products.
    fn products(&self) -> Within {
        result(self.storage[0])
    }
}
