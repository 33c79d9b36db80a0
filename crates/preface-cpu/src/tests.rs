//! The backend as a whole, on every tier of this CPU and in both precisions.

use gemmkit::{MatMut, MatRef, Parallelism};
use preface_backend::conformance::{Tolerance, check};
use preface_backend::{
    Activation, AttentionCall, AttentionPlan, AttentionShape, Backend, Direction, Dropout, Epilogue,
    Function, Head, HostMatrix, KeyRun, KeyStore, Norm, NormKind, Place, QueryRun, Reference, RowTarget,
    Storage, Term,
};

use crate::{CpuBackend, CpuError, CpuOptions, Precision, Tier};

#[test]
fn every_tier_and_precision_conforms() {
    for tier in Tier::available() {
        for (precision, tolerance) in [(Precision::F32, Tolerance::F32), (Precision::Bf16, Tolerance::BF16)] {
            let options = CpuOptions { precision, threads: 2, tier: Some(tier) };
            let backend = CpuBackend::new(options).unwrap();
            let report = check(&backend, tolerance);
            assert!(report.passed(), "{tier:?} {precision:?}: {report}");
        }
    }
}

/// In tests: an operation that reads what it should have written, or leaves out what it should write, then fails its
/// comparison.
#[test]
fn new_rows_hold_no_numbers() {
    let backend = CpuBackend::new(CpuOptions::default()).unwrap();
    for storage in [Storage::Exact, Storage::Compact] {
        let rows = backend.rows(3, 17, storage);
        assert!(backend.read(&rows).iter().all(|value| value.is_nan()), "{storage:?}");
    }
}

#[test]
fn impossible_options_are_refused() {
    let options = CpuOptions { threads: 0, ..CpuOptions::default() };
    assert!(matches!(CpuBackend::new(options), Err(CpuError::NoThreads)));
    for tier in Tier::ALL {
        let result = CpuBackend::new(CpuOptions { tier: Some(tier), ..CpuOptions::default() });
        let missing = matches!(result, Err(CpuError::MissingTier { .. }));
        assert_eq!(missing, !Tier::available().contains(&tier), "{tier:?}");
    }
}

#[test]
fn description_names_what_was_chosen() {
    let options = CpuOptions { precision: Precision::F32, threads: 3, tier: Some(Tier::Scalar) };
    let description = CpuBackend::new(options).unwrap().describe();
    assert_eq!((description.precision, description.tier.as_str(), description.threads), ("f32", "scalar", 3));
}

fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed + 99;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Results of every operation with a sum in it, on shapes that are divided among threads.
fn results(backend: &CpuBackend) -> Vec<Vec<f32>> {
    let rows = |seed, n_row, width, storage| backend.rows_from(&values(seed, n_row * width), width, storage);
    let matrix = |seed, n_row, n_column| {
        let values = values(seed, n_row * n_column).iter().map(|v| v / 8.0).collect();
        backend.weight(vec![HostMatrix { n_row, n_column, values }])
    };
    let mut all = Vec::new();

    let x = rows(1, 333, 200, Storage::Compact);
    let weight = matrix(2, 700, 200);
    let mut out = backend.rows(333, 350, Storage::Exact);
    let activation = Activation { function: Function::Silu, gated: true };
    let epilogue = Epilogue::Activate { activation, bias: None, keep: None };
    backend.linear(&[Term { x: &x, weight: &weight, direction: Direction::Plain }], epilogue, &mut out);
    all.push(backend.read(&out));
    let d = rows(3, 333, 700, Storage::Exact);
    let mut d_x = backend.rows(333, 200, Storage::Exact);
    let term = Term { x: &d, weight: &weight, direction: Direction::Transposed };
    backend.linear(&[term], Epilogue::Store, &mut d_x);
    all.push(backend.read(&d_x));

    let norm =
        Norm { kind: NormKind::Layer, epsilon: 1e-5, weight: backend.vector(&values(4, 200)), bias: None };
    let d_out = rows(5, 333, 200, Storage::Exact);
    backend.norm_backward(&norm, &x, &d_out, &mut d_x);
    all.push(backend.read(&d_x));

    let shape = AttentionShape { n_head: 4, n_kv_head: 2, head_dim: 10, scale: 0.3 };
    let place = |buffer, column| Place { buffer, column };
    let stores = [
        KeyStore { keys: place(0, 40), values: place(0, 60) },
        KeyStore { keys: place(1, 0), values: place(1, 20) },
    ];
    let run = |rows: std::ops::Range<usize>| QueryRun {
        rows: rows.clone(),
        first_position: 6,
        keys: vec![
            KeyRun {
                store: 1,
                rows: 0..6,
                causal_from: None,
                bias_from: None,
                dropout: Some(Dropout { probability: 0.1, stream: rows.start as u64 }),
            },
            KeyRun { store: 0, rows, causal_from: Some(6), bias_from: None, dropout: None },
        ],
    };
    let plan = backend.plan(&AttentionPlan { runs: vec![run(0..20), run(20..21), run(21..333)] });
    let (text, prefix) = (rows(6, 333, 80, Storage::Compact), rows(7, 6, 40, Storage::Exact));
    let sources = [&text, &prefix];
    let call = AttentionCall {
        shape,
        layer: 1,
        plan: &plan,
        sources: &sources,
        query: place(0, 0),
        stores: &stores,
        relative_bias: None,
        dropout: None,
    };
    let mut attended = backend.rows(333, 40, Storage::Exact);
    let mut log_sum_exp = backend.rows(333, 4, Storage::Exact);
    backend.attention(&call, &mut attended, Some(&mut log_sum_exp));
    all.push(backend.read(&attended));
    let d_out = rows(8, 333, 40, Storage::Exact);
    let (mut d_text, mut d_prefix) = (rows(9, 333, 80, Storage::Exact), rows(10, 6, 40, Storage::Exact));
    let grads = &mut [&mut d_text, &mut d_prefix];
    backend.attention_backward(&call, &log_sum_exp, &d_out, Some(place(0, 0)), &stores.map(Some), grads);
    all.extend([backend.read(&d_text), backend.read(&d_prefix)]);

    let weight = matrix(11, 9_000, 200);
    let targets: Vec<RowTarget> = (0..333).map(|i| RowTarget::token(i * 27, 0.1)).collect();
    let head = Head { weight: &weight, bias: None, scale: 1.0 };
    let mut loss = backend.rows(333, 1, Storage::Exact);
    backend.head_loss(&head, &x, &backend.targets(&targets), &mut loss, Some(&mut d_x));
    all.extend([backend.read(&loss), backend.read(&d_x)]);
    all
}

#[test]
fn results_are_the_same_bits_for_any_number_of_threads() {
    for precision in [Precision::F32, Precision::Bf16] {
        let with = |threads| {
            let backend = CpuBackend::new(CpuOptions { precision, threads, tier: None }).unwrap();
            let bits = |values: Vec<f32>| -> Vec<u32> { values.into_iter().map(f32::to_bits).collect() };
            results(&backend).into_iter().map(bits).collect::<Vec<_>>()
        };
        let one = with(1);
        for threads in [2, 3, 7] {
            for (number, (got, want)) in with(threads).iter().zip(&one).enumerate() {
                assert!(got == want, "{precision:?}: result {number} differs with {threads} threads");
            }
        }
    }
}

/// Their keys' gradients are collected group by group.
#[test]
fn many_queries_of_one_long_prefix_add_up_to_what_the_reference_says() {
    const N_PREFIX: usize = 400;
    const N_RUN: usize = 45;
    fn gradients<B: Backend>(backend: &B) -> [Vec<f32>; 2] {
        let rows =
            |seed, n_row, width| backend.rows_from(&values(seed, n_row * width), width, Storage::Exact);
        let place = |buffer, column| Place { buffer, column };
        let stores = [
            KeyStore { keys: place(0, 4), values: place(0, 8) },
            KeyStore { keys: place(1, 0), values: place(1, 4) },
        ];
        let key_run =
            |store, rows, causal_from| KeyRun { store, rows, causal_from, bias_from: None, dropout: None };
        let run = |row: usize| QueryRun {
            rows: 2 * row..2 * row + 2,
            first_position: N_PREFIX,
            keys: vec![key_run(1, 0..N_PREFIX, None), key_run(0, 2 * row..2 * row + 2, Some(N_PREFIX))],
        };
        let plan = backend.plan(&AttentionPlan { runs: (0..N_RUN).map(run).collect() });
        let (text, prefix) = (rows(1, 2 * N_RUN, 12), rows(2, N_PREFIX, 8));
        let call = AttentionCall {
            shape: AttentionShape { n_head: 1, n_kv_head: 1, head_dim: 4, scale: 0.5 },
            layer: 0,
            plan: &plan,
            sources: &[&text, &prefix],
            query: place(0, 0),
            stores: &stores,
            relative_bias: None,
            dropout: None,
        };
        let mut attended = backend.rows(2 * N_RUN, 4, Storage::Exact);
        let mut log_sum_exp = backend.rows(2 * N_RUN, 1, Storage::Exact);
        backend.attention(&call, &mut attended, Some(&mut log_sum_exp));
        let (mut d_text, mut d_prefix) = (rows(3, 2 * N_RUN, 12), rows(4, N_PREFIX, 8));
        let d_out = rows(5, 2 * N_RUN, 4);
        let grads = &mut [&mut d_text, &mut d_prefix];
        backend.attention_backward(&call, &log_sum_exp, &d_out, Some(place(0, 0)), &stores.map(Some), grads);
        [backend.read(&d_text), backend.read(&d_prefix)]
    }
    const { assert!(N_RUN * N_PREFIX > 2 * crate::attention::GROUP_KEYS, "the test needs three groups") };
    let options = CpuOptions { precision: Precision::F32, threads: 2, tier: None };
    let got = gradients(&CpuBackend::new(options).unwrap());
    for (got, want) in got.iter().zip(&gradients(&Reference)) {
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{got}, expected {want}");
        }
    }
}

/// The shapes of real models, which the conformance suite is too slow for, against another implementation.
#[test]
fn products_agree_with_gemmkit_on_the_shapes_of_real_models() {
    for tier in Tier::available().into_iter().filter(|tier| *tier != Tier::Scalar) {
        let options = CpuOptions { precision: Precision::F32, threads: 2, tier: Some(tier) };
        let backend = CpuBackend::new(options).unwrap();
        for (n_row, n_in, n_out) in
            [(1, 576, 960), (8, 1536, 576), (129, 576, 3072), (100, 640, 1000), (67, 896, 1024)]
        {
            let (x, w) = (values(1, n_row * n_in), values(2, n_out * n_in));
            let mut want = vec![0.0; n_row * n_out];
            gemmkit::gemm(
                1.0,
                MatRef::from_row_major(&x, n_row, n_in),
                MatRef::from_col_major(&w, n_in, n_out),
                0.0,
                MatMut::from_row_major(&mut want, n_row, n_out),
                Parallelism::Serial,
            );
            let weight = backend.weight(vec![HostMatrix { n_row: n_out, n_column: n_in, values: w }]);
            let x = backend.rows_from(&x, n_in, Storage::Exact);
            let mut out = backend.rows(n_row, n_out, Storage::Exact);
            let term = Term { x: &x, weight: &weight, direction: Direction::Plain };
            backend.linear(&[term], Epilogue::Store, &mut out);
            let rms = (want.iter().map(|v| v * v).sum::<f32>() / want.len() as f32).sqrt();
            for (got, want) in backend.read(&out).iter().zip(&want) {
                // Two orders of summing 1536 numbers: sqrt(1536) * 2^-24 of the sum's size, and some more at worst.
                assert!(
                    (got - want).abs() <= 2e-5 * rms,
                    "{tier:?} {n_row}x{n_in}x{n_out}: {got} and {want}"
                );
            }
        }
    }
}
