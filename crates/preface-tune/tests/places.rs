//! A prefix in the places of an encoder-decoder: its gradient is the loss' slope through the MLP, steps against it lower
//! the loss whatever the places, and settings that a model cannot follow are refused.
#![expect(clippy::unwrap_used, reason = "tests")]

use preface_backend::Reference;
use preface_model::{
    Attachments, Batch, Feed, KvCache, Model, ModelFiles, PerPlace, PrefixPlace, Sequence, SourceFeed,
};
use preface_tune::init::{Init, InitTextError, MlpTextInit, SeqToSeqText, placed_text_rows};
use preface_tune::{DecoderPositions, Method, PlaceStart, PlacedPrefix, PlacesError, Reparametrisation};
use testkit::{Tolerance, check_gradient};

const MLP: Reparametrisation = Reparametrisation::Mlp { mid: 6, text_init: MlpTextInit::Exact };

fn model(folder: &str) -> Model<Reference> {
    let path = testkit::golden_folder().join(folder);
    ModelFiles::open(path.to_str().unwrap()).unwrap().load(Reference).unwrap()
}

fn prefix(
    model: &Model<Reference>,
    places: &[PrefixPlace],
    reparametrisation: Reparametrisation,
) -> Result<PlacedPrefix, PlacesError> {
    // Lengths of their own.
    let start = |&place: &PrefixPlace| {
        (place, PlaceStart::Drawn { prefix_len: 2 + place as usize, init: Init::Random })
    };
    let starts = places.iter().map(start).collect();
    PlacedPrefix::new(model.spec(), starts, reparametrisation, 0, DecoderPositions::AfterPrefix, 3)
}

/// The loss of two pairs and the gradient of the parameters.
fn loss_and_gradient(model: &mut Model<Reference>, prefix: &mut PlacedPrefix) -> (f64, Vec<f32>) {
    let pair = |source, tokens| Sequence {
        source,
        tokens,
        first_target: 1,
        segment: Some(0),
        prefix_dropout: None,
        masks: None,
    };
    let sequences = [pair(&[9, 8, 7, 2], &[2, 20, 21, 2]), pair(&[30, 31], &[2, 11, 2])];
    let attachments = prefix.attach(model);
    let batch = Batch::pack(&Reference, model.spec(), &attachments, &sequences, 0.0).unwrap();
    let mut grads = attachments.zero_grad(&Reference);
    let losses = model.loss_and_gradient(&batch, &attachments, &mut grads);
    let gradient = prefix.gradient(model, grads).to_vec();
    (losses.iter().map(|&loss| f64::from(loss)).sum(), gradient)
}

#[test]
fn the_gradient_goes_through_every_places_own_mlp() {
    let mut model = model("encoder_decoder/bart");
    let mut prefix = prefix(&model, &PrefixPlace::ALL, MLP).unwrap();
    let (_, gradient) = loss_and_gradient(&mut model, &mut prefix);
    let start = Method::<Reference>::parameters(&prefix).values().to_vec();
    let names: Vec<String> =
        Method::<Reference>::parameters(&prefix).ranges().iter().map(|range| range.name.clone()).collect();
    assert_eq!(names.len(), 15);
    assert!(names.contains(&"cross.mlp.2.weight".to_owned()), "{names:?}");
    let indices: Vec<usize> = (0..start.len()).step_by(start.len() / 60).collect();
    let mut value = |parameters: &[f32]| {
        Method::<Reference>::parameters_mut(&mut prefix).values_mut().copy_from_slice(parameters);
        loss_and_gradient(&mut model, &mut prefix).0
    };
    let value = std::cell::RefCell::new(&mut value);
    let tolerance = Tolerance { abs: 3e-3, rel: 2e-2 };
    check_gradient(|p: &[f32]| (value.borrow_mut())(p), &start, &gradient, &indices, 1e-2, tolerance)
        .unwrap();
}

#[test]
fn steps_against_the_gradient_lower_the_loss_for_every_subset_of_places() {
    use PrefixPlace::{Cross, Decoder, Encoder};
    let subsets: [&[PrefixPlace]; 7] = [
        &[Encoder],
        &[Decoder],
        &[Cross],
        &[Encoder, Decoder],
        &[Encoder, Cross],
        &[Decoder, Cross],
        &[Encoder, Decoder, Cross],
    ];
    for folder in ["encoder_decoder/mbart", "encoder_decoder/t5_v1_1"] {
        let mut model = model(folder);
        for places in subsets {
            let mut prefix = prefix(&model, places, Reparametrisation::Direct).unwrap();
            let (first, mut gradient) = loss_and_gradient(&mut model, &mut prefix);
            let mut last = first;
            for _ in 0..20 {
                let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
                let values = Method::<Reference>::parameters_mut(&mut prefix).values_mut();
                values.iter_mut().zip(&gradient).for_each(|(value, g)| *value -= 0.3 * g / norm);
                (last, gradient) = loss_and_gradient(&mut model, &mut prefix);
            }
            assert!(last < 0.97 * first, "{folder} {places:?}: {first} to {last}");
        }
    }
}

#[test]
fn places_that_the_model_lacks_or_that_come_twice_are_refused() {
    let causal = model("tiny_gpt2/model");
    let error = prefix(&causal, &[PrefixPlace::Decoder, PrefixPlace::Encoder], MLP).err().unwrap();
    assert_eq!(error, PlacesError::NoSuchPlace { place: PrefixPlace::Encoder });
    assert!(error.to_string().contains("`places`") && error.to_string().contains("decoder-only"), "{error}");
    let bart = model("encoder_decoder/bart");
    let twice = prefix(&bart, &[PrefixPlace::Cross, PrefixPlace::Cross], MLP).err();
    assert_eq!(twice, Some(PlacesError::Twice { place: PrefixPlace::Cross }));
    assert_eq!(prefix(&bart, &[], MLP).err(), Some(PlacesError::NoPlace));
}

/// The start of a place from a text, through no MLP, an MLP that is added to it, and one that is fitted.
fn start_of(
    model: &Model<Reference>,
    place: PrefixPlace,
    text: SeqToSeqText<'_>,
    len: Option<usize>,
    form: Reparametrisation,
) -> Vec<f32> {
    let rows = placed_text_rows(model, place, text, len).unwrap();
    let starts = vec![(place, PlaceStart::Rows(rows))];
    let prefix = PlacedPrefix::new(model.spec(), starts, form, 0, DecoderPositions::AfterPrefix, 5).unwrap();
    prefix.rows().values.get(place).clone()
}

#[test]
fn a_start_from_a_text_is_the_text_in_each_places_own_terms_under_both_parametrisations() {
    let model = model("encoder_decoder/pegasus");
    let text = SeqToSeqText { source: &[9, 8, 7, 1], target: &[0, 30, 31] };
    let direct = PerPlace::new(|place| start_of(&model, place, text, None, Reparametrisation::Direct));
    for place in PrefixPlace::ALL {
        let n_row = if place == PrefixPlace::Decoder { 3 } else { 4 };
        assert_eq!(direct.get(place).len(), n_row * model.spec().row_width(place), "{place}");
        // Added to the text's rows, an MLP whose last layer is zero changes nothing.
        assert_eq!(start_of(&model, place, text, None, MLP), *direct.get(place), "{place}");
        let fitted = Reparametrisation::Mlp { mid: 24, text_init: MlpTextInit::Fit };
        let fitted = start_of(&model, place, text, None, fitted);
        let error = |rows: &[f32]| {
            rows.iter().zip(direct.get(place)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        let drawn = PlaceStart::Drawn { prefix_len: n_row, init: Init::Random };
        let form = Reparametrisation::Mlp { mid: 24, text_init: MlpTextInit::Fit };
        let drawn =
            PlacedPrefix::new(model.spec(), vec![(place, drawn)], form, 0, DecoderPositions::AfterPrefix, 5);
        let drawn = error(drawn.unwrap().rows().values.get(place));
        assert!(error(&fitted) < 0.9 * drawn, "{place}: {} of {drawn}", error(&fitted));
        // Fewer rows are the first ones.
        let fewer = start_of(&model, place, text, Some(2), Reparametrisation::Direct);
        assert_eq!(fewer, direct.get(place)[..fewer.len()], "{place}");
        assert_eq!(fewer.len(), 2 * model.spec().row_width(place));
    }
    // The decoder's rows are the target's, run behind that source; cross-attention's are the source's.
    let none = Attachments::none();
    let mut cache = KvCache::new(&model, &none);
    let sequence = cache.encode(&[SourceFeed { tokens: text.source, segment: None }]).unwrap()[0];
    cache.append(&[Feed { sequence, tokens: text.target }]).unwrap();
    assert_eq!(cache.read(sequence), direct.decoder);
    assert_eq!(cache.read_encoded(sequence), direct.cross);
    assert_eq!(model.encoder_text_rows(text.source).unwrap(), direct.encoder);
}

#[test]
fn texts_that_are_too_short_for_their_place_are_refused() {
    let model = model("encoder_decoder/pegasus");
    let text = SeqToSeqText { source: &[9, 8], target: &[0] };
    let error = |place, len| placed_text_rows(&model, place, text, len).unwrap_err();
    assert_eq!(error(PrefixPlace::Encoder, Some(3)), InitTextError::TooShort { n_token: 2, prefix_len: 3 });
    assert_eq!(error(PrefixPlace::Decoder, Some(2)), InitTextError::TooShort { n_token: 1, prefix_len: 2 });
    let nothing = SeqToSeqText { source: &[], target: &[0] };
    assert_eq!(
        placed_text_rows(&model, PrefixPlace::Cross, nothing, None).unwrap_err(),
        InitTextError::Empty
    );
}

#[test]
fn a_start_at_zero_is_rows_of_zeros_under_both_parametrisations() {
    let model = model("encoder_decoder/bart");
    for form in [MLP, Reparametrisation::Direct] {
        let start = |&place: &PrefixPlace| (place, PlaceStart::Drawn { prefix_len: 2, init: Init::Zeros });
        let starts = PrefixPlace::ALL.iter().map(start).collect();
        let prefix =
            PlacedPrefix::new(model.spec(), starts, form, 0, DecoderPositions::AfterPrefix, 5).unwrap();
        let rows = prefix.rows();
        for place in PrefixPlace::ALL {
            let values = rows.values.get(place);
            assert_eq!(values.len(), 2 * model.spec().row_width(place));
            assert!(values.iter().all(|value| *value == 0.0), "{place}");
        }
    }
}

#[test]
fn the_rows_that_an_mlp_gives_are_the_same_prefix_without_it() {
    let mut model = model("encoder_decoder/t5");
    let mut prefix = prefix(&model, &PrefixPlace::ALL, MLP).unwrap();
    let (through_mlp, _) = loss_and_gradient(&mut model, &mut prefix);
    let mut flat = PlacedPrefix::from_rows(model.spec(), prefix.rows());
    assert_eq!(flat.rows(), prefix.rows());
    assert_eq!(loss_and_gradient(&mut model, &mut flat).0, through_mlp);
    assert!(
        Method::<Reference>::parameters(&flat).values().len()
            < Method::<Reference>::parameters(&prefix).values().len()
    );
    assert_eq!(Method::<Reference>::n_stored(&flat), Method::<Reference>::n_stored(&prefix));
}
