//! Plain loops, accumulating in `f64`: the specification of every operation. Never fast, kept for ever.

mod attention;
#[cfg(test)]
mod gradients;
mod head;
mod linear;
mod norm;
mod rows;
mod training;

use std::ops::Range;

use crate::{
    Activation, AttentionCall, AttentionPlan, Backend, Description, Epilogue, Head, HeadSpan, Norm, Place,
    Rotation, RowMask, RowTarget, Storage, StoreGrad, Term, WeightPart,
};

/// The reference backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

/// `[n_row, width]` in row-major order, always `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceRows {
    pub(crate) n_row: usize,
    pub(crate) width: usize,
    pub(crate) data: Vec<f32>,
}

/// `[n_out, n_in]` in row-major order, always `f32`.
#[derive(Clone, Debug)]
pub struct ReferenceWeight {
    pub(crate) n_out: usize,
    pub(crate) n_in: usize,
    pub(crate) data: Vec<f32>,
}

impl ReferenceRows {
    /// The values, row-major.
    pub fn into_values(self) -> impl Iterator<Item = f32> {
        self.data.into_iter()
    }

    pub(crate) fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.width..(i + 1) * self.width]
    }

    pub(crate) fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.width..(i + 1) * self.width]
    }

    pub(crate) fn at(&self, i: usize, j: usize) -> f64 {
        f64::from(self.data[i * self.width + j])
    }
}

impl ReferenceWeight {
    pub(crate) fn at(&self, out: usize, input: usize) -> f64 {
        f64::from(self.data[out * self.n_in + input])
    }
}

impl Backend for Reference {
    type Rows = ReferenceRows;
    type Weight = ReferenceWeight;
    type Vector = Vec<f32>;
    type Index = Vec<u32>;
    type Plan = AttentionPlan;
    type Targets = Vec<RowTarget>;
    type Masks = Vec<RowMask>;
    type Host = Vec<f32>;

    fn describe(&self) -> Description {
        Description { name: "reference", precision: "f32", tier: "plain loops".into(), threads: 1 }
    }

    fn rows(&self, n_row: usize, width: usize, _storage: Storage) -> ReferenceRows {
        // Not zero: code that forgets to write before it reads must show.
        ReferenceRows { n_row, width, data: vec![f32::NAN; n_row * width] }
    }

    fn rows_from(&self, values: &[f32], width: usize, _storage: Storage) -> ReferenceRows {
        assert_eq!(values.len() % width, 0, "rows_from: {} values of width {width}", values.len());
        ReferenceRows { n_row: values.len() / width, width, data: values.to_vec() }
    }

    fn write(&self, values: &[f32], rows: &mut ReferenceRows) {
        rows.data.copy_from_slice(values);
    }

    fn read(&self, rows: &ReferenceRows) -> Vec<f32> {
        rows.data.clone()
    }

    fn shape(&self, rows: &ReferenceRows) -> (usize, usize) {
        (rows.n_row, rows.width)
    }

    fn stored_weight(&self, parts: Vec<WeightPart>) -> ReferenceWeight {
        let n_in = parts[0].shape().1;
        assert!(parts.iter().all(|part| part.shape().1 == n_in), "weight: parts of different n_in");
        let n_out = parts.iter().map(|part| part.shape().0).sum();
        let values = |part| match part {
            WeightPart::Values(matrix) => matrix.values,
            WeightPart::Blocks(matrix) => matrix.decode(),
        };
        ReferenceWeight { n_out, n_in, data: parts.into_iter().flat_map(values).collect() }
    }

    fn weight_shape(&self, weight: &ReferenceWeight) -> (usize, usize) {
        (weight.n_out, weight.n_in)
    }

    fn weight_bytes(&self, weight: &ReferenceWeight) -> usize {
        size_of_val(weight.data.as_slice())
    }

    fn vector(&self, values: &[f32]) -> Vec<f32> {
        values.to_vec()
    }

    fn index(&self, values: &[u32]) -> Vec<u32> {
        values.to_vec()
    }

    fn plan(&self, plan: &AttentionPlan) -> AttentionPlan {
        plan.clone()
    }

    fn targets(&self, targets: &[RowTarget]) -> Vec<RowTarget> {
        targets.to_vec()
    }

    fn zero(&self, rows: &mut ReferenceRows) {
        rows.data.fill(0.0);
    }

    fn compact(&self, rows: ReferenceRows) -> ReferenceRows {
        rows
    }

    fn gather(&self, x: &ReferenceRows, columns: Range<usize>, index: &Vec<u32>, out: &mut ReferenceRows) {
        rows::gather(x, columns, index, out);
    }

    fn scatter(&self, x: &ReferenceRows, columns: Range<usize>, index: &Vec<u32>, out: &mut ReferenceRows) {
        rows::scatter(x, columns, index, out);
    }

    fn scatter_add(&self, x: &ReferenceRows, index: &Vec<u32>, out: &mut ReferenceRows) {
        rows::scatter_add(x, index, out);
    }

    fn embed(&self, table: &ReferenceWeight, ids: &Vec<u32>, scale: f32, out: &mut ReferenceRows) {
        rows::embed(table, ids, scale, out);
    }

    fn embed_add(&self, table: &ReferenceWeight, ids: &Vec<u32>, out: &mut ReferenceRows) {
        rows::embed_add(table, ids, out);
    }

    fn linear(&self, terms: &[Term<'_, Self>], epilogue: Epilogue<'_, Self>, out: &mut ReferenceRows) {
        linear::linear(terms, epilogue, out);
    }

    fn norm(&self, norm: &Norm<Self>, x: &ReferenceRows, out: &mut ReferenceRows) {
        norm::forward(norm, x, out);
    }

    fn norm_backward(
        &self,
        norm: &Norm<Self>,
        x: &ReferenceRows,
        d_out: &ReferenceRows,
        d_x: &mut ReferenceRows,
    ) {
        norm::backward(norm, x, d_out, d_x);
    }

    fn rotary(
        &self,
        table: &ReferenceRows,
        positions: &Vec<u32>,
        heads: HeadSpan,
        rotation: Rotation,
        rows: &mut ReferenceRows,
    ) {
        rows::rotary(table, positions, heads, rotation, rows);
    }

    fn attention(
        &self,
        call: &AttentionCall<'_, Self>,
        out: &mut ReferenceRows,
        log_sum_exp: Option<&mut ReferenceRows>,
    ) {
        attention::forward(call, out, log_sum_exp);
    }

    fn attention_backward(
        &self,
        call: &AttentionCall<'_, Self>,
        _log_sum_exp: &ReferenceRows,
        d_out: &ReferenceRows,
        d_query: Option<Place>,
        d_stores: &[Option<StoreGrad>],
        grads: &mut [&mut ReferenceRows],
    ) {
        attention::backward(call, d_out, d_query, d_stores, grads);
    }

    fn attention_bias_grad(
        &self,
        call: &AttentionCall<'_, Self>,
        _log_sum_exp: &ReferenceRows,
        d_out: &ReferenceRows,
        places: &Vec<u32>,
        first: usize,
        grads: &mut ReferenceRows,
    ) {
        attention::bias_grad(call, d_out, places, first, grads);
    }

    fn activate(&self, activation: Activation, kept: &ReferenceRows, out: &mut ReferenceRows) {
        linear::activated(activation, kept, out);
    }

    fn activation_grad(
        &self,
        activation: Activation,
        kept: &ReferenceRows,
        d: &ReferenceRows,
        out: &mut ReferenceRows,
    ) {
        linear::activation_grad(activation, kept, d, out);
    }

    fn head_loss(
        &self,
        head: &Head<'_, Self>,
        x: &ReferenceRows,
        targets: &Vec<RowTarget>,
        loss: &mut ReferenceRows,
        d_x: Option<&mut ReferenceRows>,
    ) {
        head::loss(head, x, targets, loss, d_x);
    }

    fn to_host(&self, rows: ReferenceRows) -> Vec<f32> {
        rows.data
    }

    fn read_weight(&self, weight: &ReferenceWeight) -> Vec<f32> {
        weight.data.clone()
    }

    fn read_vector(&self, vector: &Vec<f32>) -> Vec<f32> {
        vector.clone()
    }

    fn update(&self, values: &[f32], weight: &mut ReferenceWeight) {
        weight.data.copy_from_slice(values);
    }

    fn update_vector(&self, values: &[f32], vector: &mut Vec<f32>) {
        vector.copy_from_slice(values);
    }

    fn weights_are_exact(&self) -> bool {
        true
    }

    fn masks(&self, rows: &[RowMask]) -> Vec<RowMask> {
        rows.to_vec()
    }

    fn dropout(
        &self,
        masks: &Vec<RowMask>,
        probability: f32,
        layer: u32,
        x: &ReferenceRows,
        out: &mut ReferenceRows,
    ) {
        training::dropout(masks, probability, layer, x, out);
    }

    fn add(&self, x: &ReferenceRows, out: &mut ReferenceRows) {
        training::add(x, out);
    }

    fn weight_grad(&self, x: &ReferenceRows, d_out: &ReferenceRows, first: usize, grads: &mut ReferenceRows) {
        training::weight_grad(x, d_out, first, grads);
    }

    fn bias_grad(&self, d_out: &ReferenceRows, first: usize, grads: &mut ReferenceRows) {
        training::bias_grad(d_out, first, grads);
    }

    fn norm_grad(
        &self,
        norm: &Norm<Self>,
        x: &ReferenceRows,
        d_out: &ReferenceRows,
        weight: usize,
        bias: Option<usize>,
        grads: &mut ReferenceRows,
    ) {
        training::norm_grad(norm, x, d_out, weight, bias, grads);
    }

    fn embed_grad(
        &self,
        ids: &Vec<u32>,
        scale: f32,
        d_out: &ReferenceRows,
        first: usize,
        grads: &mut ReferenceRows,
    ) {
        training::embed_grad(ids, scale, d_out, first, grads);
    }

    fn head_grad(
        &self,
        head: &Head<'_, Self>,
        x: &ReferenceRows,
        targets: &Vec<RowTarget>,
        first: usize,
        grads: &mut ReferenceRows,
    ) {
        training::head_grad(head, x, targets, first, grads);
    }
}
