//! Proofs that a leaf is in a tree, and that a tree grew from another: making and checking them.

use super::{Hash, TREE_SIZE_MAX, TreeError, empty_root, fold, node_hash};

/// The root of a tree of some size, out of its complete nodes.
///
/// # Errors
/// The size is too large, or a node cannot be had.
pub fn root<E: From<TreeError>>(
    size: u64,
    node: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Hash, E> {
    let subtrees = subtrees(0, checked(size)?, node)?;
    Ok(fold(&subtrees).unwrap_or_else(empty_root))
}

/// Proves that a leaf is in a tree of some size, out of the tree's complete nodes.
///
/// # Errors
/// The tree is too large, or has no such leaf; or a node cannot be had.
pub fn prove_inclusion<E: From<TreeError>>(
    index: u64,
    size: u64,
    node: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if index >= checked(size)? {
        return Err(TreeError::BeyondTree { index, size }.into());
    }
    path(index, 0, size, node)
}

/// Proves that a tree of one size is the beginning of a tree of another, out of the complete nodes
/// of the larger one.
///
/// # Errors
/// The first size is the larger one, or the second is too large; or a node cannot be had.
pub fn prove_consistency<E: From<TreeError>>(
    from: u64,
    to: u64,
    node: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if from > checked(to)? {
        return Err(TreeError::Shrinks { from, to }.into());
    }
    if from == 0 || from == to {
        return Ok(Vec::new());
    }
    let mut hashes = prove_prefix(from, to, node)?;
    // If the smaller tree is one complete node, who checks the proof has it: it is the root.
    if from.is_power_of_two() {
        hashes.remove(0);
    }
    Ok(hashes)
}

/// Gives what [`consistency_roots`] needs to find the root of the smaller tree in the larger one: its
/// seed, and then the rest of the consistency proof; `0 < from < to`.
///
/// # Errors
/// The sizes are not so, or the second is too large; or a node cannot be had.
pub fn prove_prefix<E: From<TreeError>>(
    from: u64,
    to: u64,
    mut node: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if from == 0 || from >= checked(to)? {
        return Err(TreeError::Shrinks { from, to }.into());
    }
    let level = from.trailing_zeros() as u8;
    let last = (from >> level) - 1;
    let mut hashes = vec![node(level, last)?];
    hashes.append(&mut path(last, level, to, node)?);
    Ok(hashes)
}

/// Checks that a leaf is in the tree that has this size and root.
///
/// # Errors
/// The tree has no such leaf, or the proof does not show it.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), TreeError> {
    if index >= size {
        return Err(TreeError::BeyondTree { index, size });
    }
    let shape = Shape::of(index, 0, size);
    let (inner, border) = shape.split(proof)?;
    let found = join_left(join(*leaf, inner, index), border);
    same(&found, root, size)
}

/// Checks that the tree of one size and root is the beginning of the tree of another.
///
/// Every tree begins with the one without leaves, whose proof is empty.
///
/// # Errors
/// The first size is the larger one, or the proof does not show it.
pub fn verify_consistency(
    from: u64,
    from_root: &Hash,
    to: u64,
    to_root: &Hash,
    proof: &[Hash],
) -> Result<(), TreeError> {
    if from == 0 || from == to {
        if from == 0 {
            same(from_root, &empty_root(), 0)?;
        }
        if to == from {
            same(to_root, from_root, to)?;
        }
        return match proof.len() {
            0 => Ok(()),
            found => Err(TreeError::ProofLength { expected: 0, found }),
        };
    }
    let (seed, rest) = match proof.split_first() {
        _ if from.is_power_of_two() => (from_root, proof),
        Some(split) => split,
        None => {
            return Err(TreeError::ProofLength {
                expected: 1,
                found: 0,
            });
        }
    };
    let (found_from, found_to) = consistency_roots(from, to, seed, rest)?;
    same(&found_from, from_root, from)?;
    same(&found_to, to_root, to)
}

/// The roots of the trees of two sizes that a consistency proof leads to, `0 < from < to`.
///
/// `seed` is the last complete node of the smaller tree: the proof's first hash, or if the smaller
/// size is a power of two, its root. As long as nobody finds two inputs of one SHA-256, a root of the
/// larger tree goes with one seed and proof only, and so with one root of the smaller tree.
///
/// # Errors
/// The sizes are not so, or the proof has not as many hashes as they need.
pub fn consistency_roots(
    from: u64,
    to: u64,
    seed: &Hash,
    proof: &[Hash],
) -> Result<(Hash, Hash), TreeError> {
    if from == 0 || from >= to {
        return Err(TreeError::Shrinks { from, to });
    }
    let level = from.trailing_zeros() as u8;
    let last = (from >> level) - 1;
    let (inner, border) = Shape::of(last, level, to).split(proof)?;
    // The smaller tree ends here: what hangs to the right is not in it.
    let lefts = inner.iter().enumerate();
    let lefts = lefts.filter(|(i, _)| last >> i & 1 == 1).map(|(_, h)| h);
    let from_root = lefts
        .chain(border)
        .fold(*seed, |root, left| node_hash(left, &root));
    let to_root = join_left(join(*seed, inner, last), border);
    Ok((from_root, to_root))
}

/// How many hashes of either kind lie on the way from a node to the root.
struct Shape {
    /// Siblings on either side, below where the way meets the tree's last leaf.
    inner: usize,
    /// Siblings above, all of them to the left.
    border: usize,
}

impl Shape {
    /// For the node of a level with leaves in a tree of `size` leaves.
    fn of(index: u64, level: u8, size: u64) -> Self {
        let inner = u64::BITS - (index ^ (size - 1) >> level).leading_zeros();
        Self {
            inner: inner as usize,
            border: index.checked_shr(inner).unwrap_or(0).count_ones() as usize,
        }
    }

    fn split<'a>(&self, proof: &'a [Hash]) -> Result<(&'a [Hash], &'a [Hash]), TreeError> {
        if proof.len() != self.inner + self.border {
            return Err(TreeError::ProofLength {
                expected: self.inner + self.border,
                found: proof.len(),
            });
        }
        Ok(proof.split_at(self.inner))
    }
}

fn join(node: Hash, siblings: &[Hash], index: u64) -> Hash {
    let levels = siblings.iter().enumerate();
    levels.fold(node, |node, (level, sibling)| {
        if index >> level & 1 == 0 {
            node_hash(&node, sibling)
        } else {
            node_hash(sibling, &node)
        }
    })
}

fn join_left(node: Hash, siblings: &[Hash]) -> Hash {
    let join = |node: Hash, left: &Hash| node_hash(left, &node);
    siblings.iter().fold(node, join)
}

fn same(found: &Hash, expected: &Hash, size: u64) -> Result<(), TreeError> {
    if found == expected {
        Ok(())
    } else {
        Err(TreeError::OtherRoot { size })
    }
}

pub(super) fn checked(size: u64) -> Result<u64, TreeError> {
    if size > TREE_SIZE_MAX {
        return Err(TreeError::TooLarge { size });
    }
    Ok(size)
}

/// The siblings on the way from a complete node to the root of a tree of `size` leaves.
fn path<E>(
    index: u64,
    level: u8,
    size: u64,
    mut node: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let shape = Shape::of(index, level, size);
    let mut hashes = Vec::with_capacity(shape.inner + shape.border);
    for up in 0..shape.inner {
        let sibling = index >> up ^ 1;
        let level = level + up as u8;
        let start = sibling << level;
        let end = size.min(start + (1 << level));
        if end - start == 1 << level {
            hashes.push(node(level, sibling)?);
        } else {
            hashes.extend(fold(&subtrees(start, end, &mut node)?));
        }
    }
    let mut left = index.checked_shr(shape.inner as u32).unwrap_or(0);
    let mut level = level + shape.inner as u8;
    while left > 0 {
        if left & 1 == 1 {
            hashes.push(node(level, left - 1)?);
        }
        left >>= 1;
        level += 1;
    }
    Ok(hashes)
}

/// The fewest complete nodes over the leaves from `start` to `end`, the largest first, where `start`
/// is where a node of at least as many leaves begins.
pub(super) fn subtrees<E>(
    mut start: u64,
    end: u64,
    mut node: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut hashes = Vec::with_capacity((end - start).count_ones() as usize);
    while start < end {
        let level = (end - start).ilog2() as u8;
        hashes.push(node(level, start >> level)?);
        start += 1 << level;
    }
    Ok(hashes)
}
