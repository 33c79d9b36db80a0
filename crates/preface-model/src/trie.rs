//! Sequences as a trie: rows that several of them share from their start are computed once.
//!
//! ```text
//! a b c d e f g h | i j            nodes  [a..h] -+- [i j]
//! a b c d e f g h | k                             '- [k]
//! x y z                                   [x y z]
//! ```
//!
//! In a causal model a row depends on nothing behind it, so equal beginnings have equal rows. A node is a run of tokens
//! with the same ancestors; a query sees the prefix, the rows of its node's ancestors, and its own node up to itself.
//! A run that several sequences share becomes a node of its own only if it has [`LEAST_SHARED`] rows: a short one costs
//! more as a further run of keys than it saves. Sequences with equal inputs are one, however short.

use std::collections::HashMap;
use std::ops::Range;

/// The shortest run that is shared.
const LEAST_SHARED: usize = 8;

/// Rows that a sequence needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub tokens: &'a [u32],
    /// Inputs of the same group may share rows; without one it shares nothing.
    pub group: Option<usize>,
}

/// A run of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// What stands before it.
    pub parent: Option<usize>,
    /// One of the inputs that hold it.
    pub input: usize,
    /// Which of that input's tokens.
    pub range: Range<usize>,
}

/// Nodes, parents before their children, otherwise in the order of the inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trie {
    pub nodes: Vec<Node>,
    /// The last node of each input.
    pub leaves: Vec<usize>,
}

/// Inputs that are equal up to `start`, and the node that ends there.
struct Branch {
    inputs: Vec<usize>,
    start: usize,
    parent: Option<usize>,
}

impl Trie {
    /// Finds the shared beginnings. Every input has at least one token.
    pub fn new(inputs: &[Input<'_>]) -> Self {
        let mut trie = Self { nodes: Vec::new(), leaves: vec![0; inputs.len()] };
        // A stack of our own: long texts that differ late nest deeply.
        let mut open = split(inputs, (0..inputs.len()).collect(), 0, None);
        open.reverse();
        while let Some(Branch { inputs: members, start, parent }) = open.pop() {
            let end = common(inputs, &members);
            let node = trie.nodes.len();
            trie.nodes.push(Node { parent, input: members[0], range: start..end });
            let (done, rest): (Vec<usize>, Vec<usize>) =
                members.into_iter().partition(|&member| inputs[member].tokens.len() == end);
            for member in done {
                trie.leaves[member] = node;
            }
            let mut branches = split(inputs, rest, end, Some(node));
            branches.reverse();
            open.append(&mut branches);
        }
        trie
    }

    /// Rows of all nodes.
    pub fn n_row(&self) -> usize {
        self.nodes.iter().map(|node| node.range.len()).sum()
    }

    /// A node and what stands before it, from the node up.
    pub fn upwards(&self, node: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(node), |&node| self.nodes[node].parent)
    }
}

/// Inputs that will share a node from `start` on, in the order of their first member.
fn split(inputs: &[Input<'_>], members: Vec<usize>, start: usize, parent: Option<usize>) -> Vec<Branch> {
    let mut branches: Vec<Branch> = Vec::new();
    let mut of_key: HashMap<(usize, &[u32]), usize> = HashMap::new();
    for member in members {
        let Input { tokens, group } = inputs[member];
        // What is shorter than a shared run is only shared with its equal.
        let next = &tokens[start..tokens.len().min(start + LEAST_SHARED)];
        let known = group.and_then(|group| of_key.get(&(group, next)).copied());
        match known {
            Some(branch) => branches[branch].inputs.push(member),
            None => {
                if let Some(group) = group {
                    of_key.insert((group, next), branches.len());
                }
                branches.push(Branch { inputs: vec![member], start, parent });
            }
        }
    }
    branches
}

/// Length of the beginning that all members share.
fn common(inputs: &[Input<'_>], members: &[usize]) -> usize {
    let first = inputs[members[0]].tokens;
    let shared = |other: &[u32]| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    members.iter().map(|&member| shared(inputs[member].tokens)).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trie(texts: &[&[u32]]) -> Trie {
        Trie::new(&texts.iter().map(|tokens| Input { tokens, group: Some(0) }).collect::<Vec<_>>())
    }

    fn node(parent: Option<usize>, input: usize, range: Range<usize>) -> Node {
        Node { parent, input, range }
    }

    #[test]
    fn nothing_makes_no_node() {
        assert_eq!(trie(&[]), Trie::default());
    }

    #[test]
    fn the_example_of_the_module() {
        let shared = [1, 2, 3, 4, 5, 6, 7, 8];
        let (a, b) = ([&shared[..], &[9, 10]].concat(), [&shared[..], &[11]].concat());
        let trie = trie(&[&a, &b, &[20, 21, 22]]);
        let nodes =
            vec![node(None, 0, 0..8), node(Some(0), 0, 8..10), node(Some(0), 1, 8..9), node(None, 2, 0..3)];
        assert_eq!(trie, Trie { nodes, leaves: vec![1, 2, 3] });
    }

    #[test]
    fn seven_equal_rows_are_not_shared_but_equal_inputs_are_one() {
        let trie = trie(&[&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2, 3, 4, 5, 6, 7, 9], &[5], &[5]]);
        let nodes = vec![node(None, 0, 0..8), node(None, 1, 0..8), node(None, 2, 0..1)];
        assert_eq!(trie, Trie { nodes, leaves: vec![0, 1, 2, 2] });
    }

    #[test]
    fn an_input_may_end_where_others_go_on() {
        let long: Vec<u32> = (0..20).collect();
        let trie = trie(&[&long, &long[..9], &long[..9]]);
        let nodes = vec![node(None, 0, 0..9), node(Some(0), 0, 9..20)];
        assert_eq!(trie, Trie { nodes, leaves: vec![1, 0, 0] });
    }

    #[test]
    fn groups_share_nothing_with_each_other_and_none_nothing_at_all() {
        let tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let groups = [Some(0), Some(1), None, None, Some(1)];
        let inputs = groups.map(|group| Input { tokens: &tokens, group });
        assert_eq!(Trie::new(&inputs).leaves, [0, 1, 2, 3, 1]);
    }

    proptest! {
        #[test]
        fn every_input_is_its_path_and_no_short_run_is_shared(
            texts in prop::collection::vec(prop::collection::vec(0_u32..2, 1..30), 0..12),
            starts in prop::collection::vec(0_usize..12, 12),
        ) {
            // Beginnings of each other, so that there is something to share.
            let texts: Vec<Vec<u32>> = texts.iter().enumerate().map(|(i, own)| {
                let other = &texts[starts[i] % texts.len()];
                [&other[..other.len().min(10 + i)], own].concat()
            }).collect();
            let inputs: Vec<Input<'_>> = texts.iter().map(|tokens| Input { tokens, group: Some(0) }).collect();
            let trie = Trie::new(&inputs);
            let mut n_child = vec![0; trie.nodes.len()];
            for (i, tokens) in texts.iter().enumerate() {
                let mut path: Vec<usize> = trie.upwards(trie.leaves[i]).collect();
                path.reverse();
                let mut read = Vec::new();
                for &node in &path {
                    let Node { input, range, .. } = trie.nodes[node].clone();
                    prop_assert_eq!(range.start, read.len());
                    read.extend_from_slice(&texts[input][range]);
                }
                prop_assert_eq!(&read, tokens);
            }
            for node in &trie.nodes {
                if let Some(parent) = node.parent {
                    n_child[parent] += 1;
                    prop_assert_eq!(trie.nodes[parent].range.end, node.range.start);
                }
            }
            for (i, node) in trie.nodes.iter().enumerate() {
                prop_assert!(n_child[i] == 0 || node.range.len() >= LEAST_SHARED);
            }
            let mut leaves: Vec<&Vec<u32>> = texts.iter().collect();
            leaves.sort();
            leaves.dedup();
            let mut ends = trie.leaves.clone();
            ends.sort_unstable();
            ends.dedup();
            prop_assert_eq!(ends.len(), leaves.len(), "equal inputs end at one node, others do not");
        }
    }
}
