//! What must hold whatever the weights: a row of a batch is the sequence alone, cached is uncached, gradients are slopes.
#![expect(clippy::unwrap_used, reason = "tests")]

use preface_backend::{Backend, Counting, Dropout, Reference};
use preface_model::{
    Attachments, Batch, Feed, InputStorage, KvCache, Model, ModelError, ModelFiles, ParameterGrad, Part,
    Segment, Sequence, Site, WeightFormat, packed_rows,
};
use proptest::prelude::*;
use testkit::{Golden, Tolerance, assert_close, check_gradient};

/// The reference accumulates in `f64`: only the rounding of what it stores differs.
const TIGHT: Tolerance = Tolerance { abs: 0.0, rel: 1e-5 };

fn model(name: &str) -> Model<Reference> {
    let folder = Golden::open(name).unwrap().folder().join("model");
    ModelFiles::open(folder.to_str().unwrap()).unwrap().load(Reference).unwrap()
}

fn rows(model: &Model<Reference>, prefix_len: usize, seed: f32) -> Vec<f32> {
    (0..prefix_len * model.spec().prefix_row_width()).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
}

fn sequence(tokens: &[u32], first_target: usize, segment: Option<usize>) -> Sequence<'_> {
    Sequence { source: &[], tokens, first_target, segment, prefix_dropout: None, masks: None }
}

/// The summed loss of every target, and the gradient of every segment.
fn loss_and_gradient<B: Backend>(
    model: &Model<B>,
    attachments: &Attachments<B>,
    batches: &[&[Sequence<'_>]],
    label_smoothing: f32,
) -> (f64, Vec<f32>) {
    let mut grads = attachments.zero_grad(model.backend());
    let mut loss = 0.0;
    for sequences in batches {
        let batch =
            Batch::pack(model.backend(), model.spec(), attachments, sequences, label_smoothing).unwrap();
        let losses = model.loss_and_gradient(&batch, attachments, &mut grads);
        loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
    }
    (loss, grads.segments.iter().flat_map(|rows| model.backend().read(&rows.decoder)).collect())
}

fn losses(
    model: &Model<Reference>,
    attachments: &Attachments<Reference>,
    sequences: &[Sequence<'_>],
) -> Vec<f32> {
    let batch = Batch::pack(&Reference, model.spec(), attachments, sequences, 0.0).unwrap();
    model.loss(&batch, attachments)
}

#[test]
fn a_sequence_in_a_batch_equals_the_sequence_alone_even_among_other_prefixes() {
    for name in ["tiny_llama", "tiny_gpt2"] {
        let model = model(name);
        let attachments = Attachments {
            segments: vec![
                Segment::new(&Reference, &rows(&model, 5, 0.1), model.spec()),
                Segment::new(&Reference, &rows(&model, 2, 0.9), model.spec()),
            ],
            ..Attachments::none()
        };
        let texts: [&[u32]; 4] = [&[5, 6, 7, 8, 9], &[10, 11], &[12, 13, 14, 15, 16, 17, 18], &[5, 6, 7]];
        let sequences = [
            sequence(texts[0], 2, Some(0)),
            sequence(texts[1], 1, None),
            sequence(texts[2], 3, Some(1)),
            sequence(texts[3], 1, Some(0)),
        ];
        let together = losses(&model, &attachments, &sequences);
        let alone: Vec<f32> = sequences
            .iter()
            .flat_map(|one| losses(&model, &attachments, std::slice::from_ref(one)))
            .collect();
        assert_close(name, &together, &alone, TIGHT);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Sequences that begin alike: some equal, some the beginning of another, some under another prefix.
    #[test]
    fn a_batch_that_shares_rows_has_the_loss_and_gradient_of_its_sequences_alone(
        own in prop::collection::vec((prop::collection::vec(3_u32..6, 1..14), 0_usize..8, 0_usize..20), 2..9),
        first_targets in prop::collection::vec(0_usize..20, 9),
        segments in prop::collection::vec(prop::option::of(0_usize..2), 3),
        label_smoothing in prop::sample::select(vec![0.0_f32, 0.1]),
    ) {
        let mut texts: Vec<Vec<u32>> = vec![(10..24).collect()];
        for (tokens, other, kept) in &own {
            let other = &texts[other % texts.len()];
            let start = &other[..other.len().min(*kept)];
            texts.push([start, &tokens[..tokens.len().min(40 - start.len())]].concat());
        }
        texts.retain(|tokens| tokens.len() >= 2);
        for name in ["tiny_llama", "tiny_gpt2"] {
            let model = model(name);
            let attachments = Attachments {
                segments: [5, 2].map(|len| Segment::new(&Reference, &rows(&model, len, 0.1), model.spec())).into(), ..Attachments::none() };
            let sequences: Vec<Sequence<'_>> = texts.iter().enumerate().map(|(i, tokens)| {
                let first_target = first_targets[i % 9] % tokens.len();
                sequence(tokens, first_target, segments[i % 3])
            }).collect();
            let alone: Vec<&[Sequence<'_>]> = sequences.chunks(1).collect();
            let shared = loss_and_gradient(&model, &attachments, &[&sequences], label_smoothing);
            let apart = loss_and_gradient(&model, &attachments, &alone, label_smoothing);
            assert_close(name, &[shared.0], &[apart.0], Tolerance { abs: 0.0, rel: 1e-6 });
            assert_close(name, &shared.1, &apart.1, Tolerance { abs: 1e-7, rel: 1e-5 });
        }
    }
}

#[test]
fn computing_again_what_was_not_kept_changes_no_bit() {
    for name in ["tiny_llama", "tiny_gpt2"] {
        let mut model = model(name);
        let attachments = Attachments::prefix(&Reference, &rows(&model, 3, 0.4), model.spec());
        let texts: [&[u32]; 2] = [&[5, 6, 7, 8, 9], &[20, 11, 30]];
        let sequences = [sequence(texts[0], 2, Some(0)), sequence(texts[1], 1, Some(0))];
        let kept = loss_and_gradient(&model, &attachments, &[&sequences], 0.0);
        model.set_recompute(true);
        assert_eq!(loss_and_gradient(&model, &attachments, &[&sequences], 0.0), kept, "{name}");
    }
}

/// The upper weights of the last block are trained; all that lies below its input is kept.
#[test]
fn going_on_from_a_kept_input_gives_the_loss_and_gradient_of_the_whole_way() {
    for name in ["tiny_llama", "tiny_gpt2"] {
        let mut model = model(name);
        let spec = model.spec().clone();
        let site = Site::decoder(spec.n_layer - 1, Part::Up);
        let attachments = Attachments {
            trained: [(site, ParameterGrad { weight: 0, bias: None })].into(),
            n_gradient: spec.activation.input_width(spec.d_ff) * spec.d_model,
            ..Attachments::none()
        };
        assert_eq!(attachments.n_frozen_block(spec.n_layer), spec.n_layer - 1);
        let shared: Vec<u32> = (10..22).collect();
        let texts = [vec![5, 6, 7, 8, 9], [&shared[..], &[30, 31]].concat(), [&shared[..], &[40]].concat()];
        let sequences: Vec<Sequence<'_>> = texts.iter().map(|text| sequence(text, 2, None)).collect();
        let run = |model: &Model<Reference>| {
            let mut grads = attachments.zero_grad(&Reference);
            let batch = Batch::pack(&Reference, &spec, &attachments, &sequences, 0.0).unwrap();
            let loss = model.loss_and_gradient(&batch, &attachments, &mut grads);
            assert_eq!(model.loss(&batch, &attachments), loss, "{name}");
            (loss, Reference.read(&grads.flat))
        };
        let (loss, gradient) = run(&model);
        assert!(gradient.iter().any(|g| *g != 0.0));
        model.keep_inputs(InputStorage::F32, 1 << 20);
        for _ in 0..2 {
            assert_eq!(run(&model), (loss.clone(), gradient.clone()), "{name}: not rounded, no bit differs");
        }
        model.keep_inputs(InputStorage::Bf16, 1 << 20);
        let rounded = run(&model);
        assert_ne!(rounded.0, loss, "the kept input is used");
        assert_close(name, &rounded.0, &loss, Tolerance { abs: 0.0, rel: 1e-2 });
        assert_close(name, &rounded.1, &gradient, Tolerance { abs: 0.0, rel: 5e-2 });
        assert_eq!(run(&model), rounded);
        model.keep_inputs(InputStorage::Bf16, 0);
        assert_eq!(run(&model), rounded, "{name}: whether there is room changes nothing");
    }
}

#[test]
fn a_counted_step_needs_less_where_blocks_keep_only_their_input_and_grows_with_the_rows() {
    let folder = Golden::open("tiny_llama").unwrap().folder().join("model");
    let files = ModelFiles::open(folder.to_str().unwrap()).unwrap();
    let peak = |n_row: usize, recompute: bool| {
        let size_of = |n_row, width, _| 4 * n_row * width;
        let counting = Counting::new(std::sync::Arc::new(size_of), 4);
        let mut model = files.outline(counting.clone(), WeightFormat::Auto).unwrap();
        let loaded: usize = files.load(Reference).unwrap().weight_bytes();
        assert_eq!(model.weight_bytes(), loaded);
        model.set_recompute(recompute);
        let values = vec![0.0; 3 * model.spec().prefix_row_width()];
        let attachments = Attachments::prefix(&counting, &values, model.spec());
        let before = counting.rows_now();
        let tokens = vec![1; n_row + 1];
        loss_and_gradient(&model, &attachments, &[&[sequence(&tokens, 1, Some(0))]], 0.0);
        assert_eq!(counting.rows_now(), before, "a step leaves nothing");
        counting.rows_peak() - before
    };
    assert!(peak(30, true) < peak(30, false));
    let per_row = |recompute| (peak(40, recompute) - peak(20, recompute)) as f64 / 20.0;
    for recompute in [false, true] {
        let want = 40.0 * per_row(recompute);
        assert!((peak(40, recompute) as f64 - want).abs() < 0.1 * want, "memory is linear in length");
    }
}

#[test]
fn shared_beginnings_are_packed_once_but_not_under_dropout_or_another_prefix() {
    let model = model("tiny_llama");
    let attachments = Attachments {
        segments: [1, 1].map(|len| Segment::new(&Reference, &rows(&model, len, 0.1), model.spec())).into(),
        ..Attachments::none()
    };
    let prompt: Vec<u32> = (20..40).collect();
    let texts = [3, 4, 4].map(|n| [prompt.as_slice(), &[n, n + 1]].concat());
    let n_row = |sequences: &[Sequence<'_>]| {
        let batch = Batch::pack(&Reference, model.spec(), &attachments, sequences, 0.0).unwrap();
        assert_eq!(packed_rows(sequences), batch.n_row());
        assert_eq!(batch.n_target(), 2 * sequences.len());
        batch.n_row()
    };
    let [a, b, c] = [0, 1, 2].map(|i| sequence(&texts[i], 20, Some(0)));
    // 20 rows of the prompt and one of each different text.
    assert_eq!(n_row(&[a.clone(), b.clone(), c.clone()]), 22);
    let other = Sequence { segment: Some(1), ..c.clone() };
    assert_eq!(n_row(&[a.clone(), b.clone(), other]), 22 + 21);
    let dropped = Sequence { prefix_dropout: Some(Dropout { probability: 0.5, stream: 1 }), ..c };
    assert_eq!(n_row(&[a, b, dropped.clone(), dropped]), 22 + 2 * 21);
}

#[test]
fn the_gradient_of_every_prefix_is_the_slope_of_the_loss_and_not_zero() {
    for name in ["tiny_llama", "tiny_gpt2"] {
        let model = model(name);
        let start = rows(&model, 3, 0.4);
        let dropout = Dropout { probability: 0.25, stream: 7 };
        for prefix_dropout in [None, Some(dropout)] {
            let texts: [&[u32]; 2] = [&[5, 6, 7, 8, 9], &[20, 11, 30]];
            let sequences = [
                Sequence { prefix_dropout, ..sequence(texts[0], 2, Some(0)) },
                Sequence { prefix_dropout, ..sequence(texts[1], 1, Some(0)) },
            ];
            let loss = |rows: &[f32]| -> f64 {
                let attachments = Attachments::prefix(&Reference, rows, model.spec());
                losses(&model, &attachments, &sequences).iter().map(|&l| f64::from(l)).sum()
            };
            let attachments = Attachments::prefix(&Reference, &start, model.spec());
            let batch = Batch::pack(&Reference, model.spec(), &attachments, &sequences, 0.0).unwrap();
            let mut grads = attachments.zero_grad(&Reference);
            model.loss_and_gradient(&batch, &attachments, &mut grads);
            let gradient: Vec<f32> = grads.segments[0].decoder.clone().into_values().collect();
            let dropped = gradient.iter().filter(|g| **g == 0.0).count();
            match prefix_dropout {
                None => assert_eq!(dropped, 0, "{name}: every element of every row has a gradient"),
                Some(_) => assert!(dropped > 0 && dropped < gradient.len() / 2, "{name}: {dropped}"),
            }
            let indices: Vec<usize> = (0..start.len()).step_by(start.len() / 40).collect();
            check_gradient(loss, &start, &gradient, &indices, 1e-2, Tolerance { abs: 1e-3, rel: 2e-2 })
                .unwrap();
        }
    }
}

#[test]
fn cached_logits_equal_uncached_through_pages_forks_and_truncation() {
    for name in ["tiny_llama", "tiny_gpt2"] {
        let model = model(name);
        let attachments = Attachments::prefix(&Reference, &rows(&model, 4, 0.2), model.spec());
        let text: Vec<u32> = (0..40).map(|i| 3 + (i * 7) % 80).collect();
        let vocab = model.spec().vocab_size;
        let batch = Batch::pack(
            &Reference,
            model.spec(),
            &attachments,
            &[sequence(&[text.as_slice(), &[0]].concat(), 1, Some(0))],
            0.0,
        )
        .unwrap();
        let uncached = model.logits(&batch, &attachments);
        let want = |position: usize| &uncached[position * vocab..(position + 1) * vocab];

        let mut cache = KvCache::new(&model, &attachments);
        let trunk = cache.start(Some(0));
        let other = cache.start(None);
        let feeds =
            [Feed { sequence: trunk, tokens: &text[..19] }, Feed { sequence: other, tokens: &[9, 8, 7] }];
        assert_close(name, &cache.extend(&feeds).unwrap()[..vocab], want(18), TIGHT);
        // The fork writes into a page that it shares with the trunk; neither may see the other's tokens.
        let fork = cache.fork(trunk);
        cache.extend(&[Feed { sequence: fork, tokens: &[50, 51, 52, 53] }]).unwrap();
        for position in 19..text.len() {
            let feed = Feed { sequence: trunk, tokens: &text[position..position + 1] };
            assert_close(name, &cache.extend(&[feed]).unwrap(), want(position), TIGHT);
        }
        cache.truncate(fork, 17);
        let feed = Feed { sequence: fork, tokens: &text[17..33] };
        assert_close(name, &cache.extend(&[feed]).unwrap(), want(32), TIGHT);
        cache.release(trunk);
        let feed = Feed { sequence: fork, tokens: &text[33..40] };
        assert_close(name, &cache.extend(&[feed]).unwrap(), want(39), TIGHT);
        assert_eq!(cache.len(fork), 40);
    }
}

#[test]
fn what_cannot_be_run_is_refused_with_the_numbers() {
    let model = model("tiny_gpt2");
    let none = Attachments::none();
    let pack = |tokens: &[u32], first_target| {
        Batch::pack(&Reference, model.spec(), &none, &[sequence(tokens, first_target, None)], 0.0).err()
    };
    let vocab_size = model.spec().vocab_size;
    assert_eq!(pack(&[1, 2, 500], 1), Some(ModelError::UnknownToken { sequence: 0, token: 500, vocab_size }));
    assert_eq!(pack(&[1], 0), Some(ModelError::NothingToPredict { sequence: 0, n_token: 1 }));
    assert_eq!(pack(&[1, 2], 2), Some(ModelError::NothingToPredict { sequence: 0, n_token: 2 }));
    let long = vec![1; 66];
    assert_eq!(
        pack(&long, 1),
        Some(ModelError::TooLong { sequence: 0, n_row: 65, prefix_len: 0, max_positions: 64 })
    );
    assert_eq!(pack(&long[..65], 1), None);
}
