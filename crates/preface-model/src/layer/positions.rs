//! Positions that are neither rotary nor learned: a table of sines, and T5's bias by distance.

use preface_backend::{Backend, RelativeBias};

/// `[n_position, width]`: row `p` holds `sin(p / 10000^(2 i / width))` of all even columns `2 i`, then `cos` of all odd
/// ones, as Marian and Pegasus have it.
pub(crate) fn sinusoidal_table(n_position: usize, width: usize) -> Vec<f32> {
    let angle = |position: usize, column: usize| {
        position as f64 / 10_000f64.powf((column / 2 * 2) as f64 / width as f64)
    };
    (0..n_position)
        .flat_map(|position| {
            let sines = (0..width).step_by(2).map(move |column| angle(position, column).sin() as f32);
            let cosines = (1..width).step_by(2).map(move |column| angle(position, column).cos() as f32);
            sines.chain(cosines)
        })
        .collect()
}

/// T5's learned table `[n_bucket, n_head]`, and what it makes of every distance.
pub(crate) struct BiasTable<B: Backend> {
    table: Vec<f32>,
    n_bucket: usize,
    n_head: usize,
    reach: usize,
    both_directions: bool,
    /// `[n_head, 2 * reach + 1]`
    values: B::Vector,
    /// Of each of them its place in the table.
    places: B::Index,
}

impl<B: Backend> BiasTable<B> {
    /// From a table `[n_bucket, n_head]`.
    pub fn new(
        backend: &B,
        table: Vec<f32>,
        n_bucket: usize,
        n_head: usize,
        reach: usize,
        both_directions: bool,
    ) -> Self {
        let places: Vec<u32> = (0..(n_bucket * n_head) as u32).collect();
        let places = relative_bias(&places, n_bucket, n_head, reach, both_directions);
        let values = relative_bias(&table, n_bucket, n_head, reach, both_directions);
        let (values, places) = (backend.vector(&values), backend.index(&places));
        Self { table, n_bucket, n_head, reach, both_directions, values, places }
    }

    /// The table, row-major.
    pub fn table(&self) -> &[f32] {
        &self.table
    }

    /// `[n_bucket, n_head]`
    pub fn shape(&self) -> [usize; 2] {
        [self.n_bucket, self.n_head]
    }

    /// Puts another table in its place.
    pub fn update(&mut self, backend: &B, table: &[f32]) {
        self.table.copy_from_slice(table);
        let values = relative_bias(table, self.n_bucket, self.n_head, self.reach, self.both_directions);
        backend.update_vector(&values, &mut self.values);
    }

    /// As attention takes it.
    pub fn of_distances(&self) -> RelativeBias<'_, B> {
        RelativeBias { values: &self.values, reach: self.reach }
    }

    /// Of each distance's entry its place in the table.
    pub fn places(&self) -> &B::Index {
        &self.places
    }
}

/// What distances add to the scores, `[n_head, 2 * max_distance + 1]`: entry `max_distance + d` is for keys that stand
/// `d` positions after the query. `table` is `[n_bucket, n_head]`.
fn relative_bias<T: Copy>(
    table: &[T],
    n_bucket: usize,
    n_head: usize,
    max_distance: usize,
    both_directions: bool,
) -> Vec<T> {
    let distances = -(max_distance as i64)..=max_distance as i64;
    let buckets: Vec<usize> =
        distances.map(|distance| bucket(distance, n_bucket, max_distance, both_directions)).collect();
    (0..n_head).flat_map(|head| buckets.iter().map(move |bucket| table[bucket * n_head + head])).collect()
}

/// Half of the buckets (of each direction) are single distances, the others are wider with the distance's logarithm
/// (Raffel et al., 2020). Where queries look back only, later keys count as the query's own place. In `f32`, because the
/// bounds of the wide buckets are where PyTorch's rounding puts them.
fn bucket(distance: i64, n_bucket: usize, max_distance: usize, both_directions: bool) -> usize {
    let (n_bucket, first, size) = if both_directions {
        let half = n_bucket / 2;
        (half, if distance > 0 { half } else { 0 }, distance.unsigned_abs() as usize)
    } else {
        (n_bucket, 0, (-distance).max(0) as usize)
    };
    let n_exact = n_bucket / 2;
    if size < n_exact {
        return first + size;
    }
    let range = (max_distance as f64 / n_exact as f64).ln() as f32;
    let wide = (size as f32 / n_exact as f32).ln() / range * (n_bucket - n_exact) as f32;
    first + (n_exact + wide as usize).min(n_bucket - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_transformers() {
        // `_relative_position_bucket` of T5 for 32 buckets up to 128, at the distances where the bucket changes.
        let starts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        for distance in 0..=200i64 {
            let want = starts.iter().rposition(|&start| start <= distance).unwrap();
            assert_eq!(bucket(-distance, 32, 128, true), want, "{distance} before");
            let after = if distance == 0 { 0 } else { 16 + want };
            assert_eq!(bucket(distance, 32, 128, true), after, "{distance} after");
            assert_eq!(bucket(distance, 32, 128, false), 0, "{distance} after, looking back only");
        }
        let starts = [16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113];
        for distance in 16..=200i64 {
            let want = 16 + starts.iter().rposition(|&start| start <= distance).unwrap();
            assert_eq!(bucket(-distance, 32, 128, false), want, "{distance} back");
        }
    }

    #[test]
    fn a_bias_depends_on_the_distance_only() {
        let table: Vec<f32> = (0..8 * 2).map(|i| i as f32).collect();
        let bias = relative_bias(&table, 8, 2, 5, true);
        assert_eq!(bias.len(), 2 * 11);
        // Distance 0 is bucket 0, one after is bucket 4 + 1.
        assert_eq!([bias[5], bias[6], bias[11 + 5]], [table[0], table[10], table[1]]);
    }
}
