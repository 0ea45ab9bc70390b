//! Proofs that leaves which follow each other are in a tree: one for all of them.
//!
//! The root is computed as RFC 6962 defines it, from the leaves of the range and, for each largest subtree
//! without any of them, its hash. These hashes are the proof, from left to right.

use std::ops::Range;

use super::{
    Hash, TreeError, empty_root, fold, node_hash,
    proof::{checked, subtrees},
};

/// Most hashes of a proof: one a level on either side.
pub const RANGE_HASHES_MAX: usize = 2 * 64;

/// Proves that the leaves of a range are in a tree of some size, out of the tree's complete nodes.
///
/// # Errors
/// The range is empty or not in the tree, or the tree is too large; or a node cannot be had.
pub fn prove_range<E: From<TreeError>>(
    range: Range<u64>,
    size: u64,
    mut node: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    check(&range, size)?;
    let mut hashes = Vec::new();
    for outside in outside(&range, size) {
        let level = (outside.end - outside.start).next_power_of_two().ilog2() as u8;
        let hash = if (outside.end - outside.start).is_power_of_two() {
            node(level, outside.start >> level)?
        } else {
            let parts = subtrees(outside.start, outside.end, &mut node)?;
            fold(&parts).unwrap_or_else(empty_root)
        };
        hashes.push(hash);
    }
    Ok(hashes)
}

/// Checks that leaves, by their hashes, are in the tree of this size and root, from an index on.
///
/// # Errors
/// There are none, the tree has no such leaves, or the proof does not show it.
pub fn verify_range(
    first: u64,
    leaves: &[Hash],
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), TreeError> {
    let end = first.checked_add(leaves.len() as u64);
    let end = end.ok_or(TreeError::TooLarge { size: u64::MAX })?;
    check(&(first..end), size)?;
    let expected = outside(&(first..end), size).len();
    if proof.len() != expected {
        let found = proof.len();
        return Err(TreeError::ProofLength { expected, found });
    }
    let mut inside = Inside {
        range: first..end,
        leaves,
        proof: proof.iter(),
    };
    match inside.root(0..size) {
        Some(found) if found == *root => Ok(()),
        _ => Err(TreeError::OtherRoot { size }),
    }
}

fn check(range: &Range<u64>, size: u64) -> Result<(), TreeError> {
    checked(size)?;
    if range.is_empty() || range.end > size {
        let index = range.end.saturating_sub(1).max(range.start);
        return Err(TreeError::BeyondTree { index, size });
    }
    Ok(())
}

/// The two halves of a tree over more than one leaf.
fn halves(of: &Range<u64>) -> (Range<u64>, Range<u64>) {
    let left = (of.end - of.start).next_power_of_two() / 2;
    let middle = of.start + left;
    (of.start..middle, middle..of.end)
}

fn is_outside(of: &Range<u64>, range: &Range<u64>) -> bool {
    of.end <= range.start || range.end <= of.start
}

/// The largest subtrees without a leaf of the range, from left to right.
fn outside(range: &Range<u64>, size: u64) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut todo: Vec<_> = std::iter::once(0..size).collect();
    while let Some(subtree) = todo.pop() {
        if is_outside(&subtree, range) {
            found.push(subtree);
        } else if subtree.start < range.start || range.end < subtree.end {
            let (left, right) = halves(&subtree);
            todo.extend([right, left]);
        }
    }
    found
}

struct Inside<'a> {
    range: Range<u64>,
    leaves: &'a [Hash],
    proof: std::slice::Iter<'a, Hash>,
}

impl Inside<'_> {
    /// The hash of a subtree. As deep as the tree is high, so that is 64 at most.
    fn root(&mut self, of: Range<u64>) -> Option<Hash> {
        if is_outside(&of, &self.range) {
            return self.proof.next().copied();
        }
        if of.end - of.start == 1 {
            return self
                .leaves
                .get((of.start - self.range.start) as usize)
                .copied();
        }
        let (left, right) = halves(&of);
        let left = self.root(left)?;
        Some(node_hash(&left, &self.root(right)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tree::{Edge, leaf_hash};

    /// The leaves' hashes, and all nodes over them.
    fn tree(size: u64) -> (Vec<Hash>, std::collections::BTreeMap<(u8, u64), Hash>, Hash) {
        let (mut edge, mut nodes, mut leaves) = (Edge::new(), Default::default(), Vec::new());
        for leaf in 0..size {
            let hash = leaf_hash(&leaf.to_be_bytes());
            leaves.push(hash);
            let completed = |level, index, hash: &Hash| {
                let nodes: &mut std::collections::BTreeMap<_, _> = &mut nodes;
                nodes.insert((level, index), *hash);
            };
            edge.push_with(hash, completed).expect("room");
        }
        (leaves, nodes, edge.root())
    }

    #[test]
    fn each_range_of_each_small_tree_is_proven_and_nothing_near_it() {
        for size in 1..=33 {
            let (leaves, nodes, root) = tree(size);
            for first in 0..size {
                for end in first + 1..=size {
                    let node =
                        |level, index| -> Result<Hash, TreeError> { Ok(nodes[&(level, index)]) };
                    let proof = prove_range(first..end, size, node).expect("proves");
                    assert!(proof.len() <= RANGE_HASHES_MAX);
                    let range = &leaves[first as usize..end as usize];
                    let verify = |first, leaves: &[Hash], size, proof: &[Hash]| {
                        verify_range(first, leaves, size, proof, &root)
                    };
                    verify(first, range, size, &proof).expect("proven");
                    let mut other = range.to_vec();
                    other[0][0] ^= 1;
                    assert!(verify(first, &other, size, &proof).is_err());
                    assert!(verify(first + 1, range, size, &proof).is_err());
                    assert!(verify(first, &range[1..], size, &proof).is_err());
                    if let Some((_, shorter)) = proof.split_last() {
                        assert!(verify(first, range, size, shorter).is_err());
                    }
                    let longer = [&proof[..], &[[0; 32]]].concat();
                    assert!(verify(first, range, size, &longer).is_err());
                }
            }
        }
    }

    #[test]
    fn what_is_no_range_of_a_tree_is_refused() {
        let (leaves, _, root) = tree(5);
        let none = |range| prove_range(range, 5, |_, _| Ok::<_, TreeError>([0; 32]));
        for range in [0..0, 3..3, 4..6, 6..7, u64::MAX - 1..u64::MAX] {
            assert!(none(range.clone()).is_err(), "{range:?}");
            assert!(verify_range(range.start, &leaves[..0], 5, &[], &root).is_err());
        }
        assert!(verify_range(u64::MAX, &leaves, 5, &[], &root).is_err());
        assert!(verify_range(0, &leaves, u64::MAX, &[], &root).is_err());
        assert!(verify_range(0, &leaves, 5, &[], &root).is_ok());
    }
}
