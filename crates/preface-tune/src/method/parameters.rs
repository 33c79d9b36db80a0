//! One flat vector with named parts.

use std::ops::Range;

use rayon::prelude::*;

/// A named part of the vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterRange {
    /// Such as `mlp.1.weight`.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Where it lies.
    pub range: Range<usize>,
}

/// A flat vector and its parts, which follow each other without gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    values: Vec<f32>,
    ranges: Vec<ParameterRange>,
}

impl Parameters {
    /// Appends a part.
    ///
    /// # Panics
    /// If `values` is not as long as `shape` says.
    pub fn push(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}: {shape:?}");
        let range = self.values.len()..self.values.len() + values.len();
        self.ranges.push(ParameterRange { name: name.into(), shape: shape.into(), range });
        self.values.extend(values);
    }

    /// Appends a part without values, to plan with: see [`Self::n_number`].
    pub(crate) fn outline(&mut self, name: &str, shape: &[usize]) {
        let start = self.n_number();
        let range = start..start + shape.iter().product::<usize>();
        self.ranges.push(ParameterRange { name: name.into(), shape: shape.into(), range });
    }

    /// Numbers of all parts.
    pub fn n_number(&self) -> usize {
        self.ranges.last().map_or(0, |part| part.range.end)
    }

    /// Makes room for `n` values, so that a long vector grows without a second copy of itself.
    pub fn reserve(&mut self, n: usize) {
        self.values.reserve_exact(n);
    }

    /// Gives the values away: the parts stay, without numbers.
    pub(crate) fn release(&mut self) {
        self.values = Vec::new();
    }

    /// Has values again: `fill` writes those of each of the pieces, so many numbers one after the other, into zeros.
    ///
    /// # Panics
    /// If the pieces are longer than the vector.
    pub(crate) fn restore(
        &mut self,
        pieces: impl Iterator<Item = usize>,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.values = vec![0.0; self.n_number()];
        let mut rest = self.values.as_mut_slice();
        let pieces: Vec<&mut [f32]> = pieces.filter_map(|len| rest.split_off_mut(..len)).collect();
        pieces.into_par_iter().enumerate().with_max_len(1).for_each(|(i, values)| fill(i, values));
    }

    /// The parts, in order.
    pub fn ranges(&self) -> &[ParameterRange] {
        &self.ranges
    }

    /// Name, shape and values of each part.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        let tensor = |part: &'_ ParameterRange| part.range.clone();
        self.ranges
            .iter()
            .map(move |part| (part.name.as_str(), part.shape.as_slice(), &self.values[tensor(part)]))
    }

    /// All values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The values of part number `i`.
    pub fn part(&self, i: usize) -> &[f32] {
        &self.values[self.ranges[i].range.clone()]
    }

    /// The values of part number `i`, to be changed.
    pub fn part_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.values[self.ranges[i].range.clone()]
    }
}
