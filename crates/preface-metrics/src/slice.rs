//! Subsets of the segments by a field of the data, each with scores of its own.

/// A named subset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The field's value, or the name of a group of values.
    pub name: String,
    /// Positions of its segments, ascending.
    pub segments: Vec<usize>,
}

/// WebNLG 2017's categories that its training set never shows.
pub const WEBNLG_UNSEEN: [&str; 5] =
    ["Artist", "Athlete", "CelestialBody", "MeanOfTransportation", "Politician"];

/// One slice for each value of a field, in the order of first appearance; `values` holds one for each segment.
pub fn by_value(values: &[String]) -> Vec<Slice> {
    let mut slices: Vec<Slice> = Vec::new();
    for (segment, value) in values.iter().enumerate() {
        match slices.iter_mut().find(|slice| slice.name == *value) {
            Some(slice) => slice.segments.push(segment),
            None => slices.push(Slice { name: value.clone(), segments: vec![segment] }),
        }
    }
    slices
}

/// WebNLG's `seen` and `unseen` by category; one that no segment is in is left out.
pub fn webnlg(categories: &[String]) -> Vec<Slice> {
    let group = |category: &String| {
        if WEBNLG_UNSEEN.contains(&category.as_str()) { "unseen" } else { "seen" }.to_owned()
    };
    let mut slices = by_value(&categories.iter().map(group).collect::<Vec<_>>());
    slices.sort_by(|a, b| a.name.cmp(&b.name));
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn slices_keep_the_order_of_first_appearance() {
        let slices = by_value(&values(&["b", "a", "b"]));
        assert_eq!(slices[0], Slice { name: "b".into(), segments: vec![0, 2] });
        assert_eq!(slices[1], Slice { name: "a".into(), segments: vec![1] });
    }

    #[test]
    fn categories_of_the_training_set_are_seen() {
        let slices = webnlg(&values(&["Artist", "Airport", "Athlete"]));
        assert_eq!(slices[0], Slice { name: "seen".into(), segments: vec![1] });
        assert_eq!(slices[1], Slice { name: "unseen".into(), segments: vec![0, 2] });
    }
}
