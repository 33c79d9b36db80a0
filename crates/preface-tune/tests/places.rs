//! A prefix in the places of an encoder-decoder: its gradient is the loss' slope through the MLP, steps against it lower
//! the loss whatever the places, and settings that a model cannot follow are refused.
#![expect(clippy::unwrap_used, reason = "tests")]

use preface_backend::Reference;
use preface_model::{Batch, Model, ModelFiles, PrefixPlace, Sequence};
use preface_tune::init::{Init, MlpTextInit};
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
