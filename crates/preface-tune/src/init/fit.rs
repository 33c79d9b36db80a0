//! The paper's way to start an MLP from a text (`lowdata_init_train3` of the authors' code): only the MLP's two layers
//! are fitted, `P'` stays as drawn; Adam, learning rate 1e-4, 500 steps, mean squared error over all numbers.

use crate::adam::{Adam, AdamSettings};
use crate::method::Parameters;
use crate::method::mlp::{self, MlpShape};

const LEARNING_RATE: f32 = 1e-4;
const N_STEP: usize = 500;

/// Fits the MLP to `rows`; returns the mean squared error that is left.
pub(crate) fn fit_mlp(shape: MlpShape, parameters: &mut Parameters, rows: &[f32]) -> f32 {
    let n_embedding = parameters.part(mlp::EMBEDDING).len();
    let mut adam = Adam::new(parameters.values().len() - n_embedding, AdamSettings::default());
    let scale = 2.0 / rows.len() as f32;
    for _ in 0..N_STEP {
        let (got, hidden) = mlp::forward(shape, parameters);
        let d_rows: Vec<f32> = got.iter().zip(rows).map(|(got, want)| scale * (got - want)).collect();
        let gradient = mlp::backward(shape, parameters, &hidden, &d_rows);
        adam.step(LEARNING_RATE, &mut parameters.values_mut()[n_embedding..], &gradient[n_embedding..]);
    }
    let (got, _) = mlp::forward(shape, parameters);
    got.iter().zip(rows).map(|(got, want)| (got - want).powi(2)).sum::<f32>() / rows.len() as f32
}
