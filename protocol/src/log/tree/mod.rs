//! The Merkle tree of a log: hashes as in RFC 6962, its right edge, and proofs.
//!
//! A node of the tree has a level, 0 for leaves, and an index in it; it is *complete* if all of its
//! `2^level` leaves are there. Complete nodes never change, so only they are ever asked for.

mod proof;
mod range;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

pub use proof::{
    consistency_roots, prove_consistency, prove_inclusion, prove_prefix, root, verify_consistency,
    verify_inclusion,
};
pub use range::{RANGE_HASHES_MAX, prove_range, verify_range};

/// A SHA-256 hash of a leaf, of a node, or of a whole tree.
pub type Hash = [u8; 32];

/// Largest size of a tree that grows, is stored or is proven: what Go's `int64` holds.
pub const TREE_SIZE_MAX: u64 = i64::MAX as u64;
/// Most hashes of an inclusion or consistency proof.
pub const PROOF_HASHES_MAX: usize = 64;

/// The domain of leaves.
const LEAF_PREFIX: u8 = 0;
/// The domain of nodes.
const NODE_PREFIX: u8 = 1;

/// Why a tree, or a proof of one, is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The tree has no such leaf.
    #[error("leaf {index} is beyond a tree of size {size}")]
    BeyondTree {
        /// Index of the leaf.
        index: u64,
        /// Size of the tree.
        size: u64,
    },
    /// A tree does not shrink.
    #[error("a tree of size {from} does not grow to size {to}")]
    Shrinks {
        /// Size of the earlier tree.
        from: u64,
        /// Size of the later one.
        to: u64,
    },
    /// No tree is that large.
    #[error("a tree of size {size} is larger than any")]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// A proof is too short or too long for what it proves.
    #[error("the proof has {found} hashes, and {expected} are needed")]
    ProofLength {
        /// Hashes that it needs.
        expected: usize,
        /// Hashes that it has.
        found: usize,
    },
    /// A proof leads to another root than the one that was signed.
    #[error("the proof leads to another root of the tree of size {size}")]
    OtherRoot {
        /// Size of the tree whose root it is.
        size: u64,
    },
    /// A node does not begin where the tree ends.
    #[error("no node of level {level} begins at the end of a tree of size {size}")]
    Within {
        /// Level of the node.
        level: u8,
        /// Size of the tree.
        size: u64,
    },
    /// Bytes are not those of a right edge.
    #[error("not the right edge of a tree")]
    MalformedEdge,
}

/// Hashes a leaf.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([LEAF_PREFIX])
        .chain_update(leaf)
        .finalize()
        .into()
}

/// Hashes a node of two halves.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // One buffer, and one update of it instead of three.
    let mut bytes = [NODE_PREFIX; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    Sha256::digest(bytes).into()
}

/// Hashes the node over complete nodes of one level that lie side by side, as many as a power of two.
///
/// # Panics
/// There are none.
#[must_use]
pub fn node_over(nodes: &[Hash]) -> Hash {
    match nodes {
        [node] => *node,
        _ => {
            let (left, right) = nodes.split_at(nodes.len() / 2);
            node_hash(&node_over(left), &node_over(right))
        }
    }
}

/// The root of a tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root over subtrees that lie side by side, the largest first; each hangs to the left of all
/// that follow.
fn fold(subtrees: &[Hash]) -> Option<Hash> {
    let (last, before) = subtrees.split_last()?;
    let join = |root: Hash, left: &Hash| node_hash(left, &root);
    Some(before.iter().rev().fold(*last, join))
}

/// The right edge of a tree: the fewest complete nodes over all of its leaves, which is all that is
/// needed to append to it. (Also called a compact range.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// From left to right, so from the highest level to the lowest: one for each bit of the size.
    nodes: Vec<Hash>,
}

impl Edge {
    /// The edge of a tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(&self.nodes).unwrap_or_else(empty_root)
    }

    /// Appends a leaf by its hash.
    ///
    /// # Errors
    /// No tree is larger.
    pub fn push(&mut self, leaf: Hash) -> Result<(), TreeError> {
        self.push_with(leaf, |_, _, _| {})
    }

    /// Appends a leaf by its hash, and gives each node that it completes, as level, index and hash:
    /// the leaf itself first.
    ///
    /// # Errors
    /// No tree is larger.
    pub fn push_with(
        &mut self,
        leaf: Hash,
        completed: impl FnMut(u8, u64, &Hash),
    ) -> Result<(), TreeError> {
        self.push_node_with(0, leaf, completed)
    }

    /// Appends a complete node, and so all leaves below it, and gives each node that it completes: itself first.
    ///
    /// # Errors
    /// No tree is larger, or the size is no multiple of the leaves that the node is over.
    pub fn push_node_with(
        &mut self,
        mut level: u8,
        mut node: Hash,
        mut completed: impl FnMut(u8, u64, &Hash),
    ) -> Result<(), TreeError> {
        let size = self.size;
        let leaves = 1_u64.checked_shl(level.into()).unwrap_or(u64::MAX);
        if !size.is_multiple_of(leaves) {
            return Err(TreeError::Within { level, size });
        }
        let grown = size.saturating_add(leaves);
        if grown > TREE_SIZE_MAX {
            return Err(TreeError::TooLarge { size });
        }
        completed(level, size >> level, &node);
        while size >> level & 1 == 1
            && let Some(left) = self.nodes.pop()
        {
            node = node_hash(&left, &node);
            level += 1;
            completed(level, size >> level, &node);
        }
        self.nodes.push(node);
        self.size = grown;
        Ok(())
    }

    /// Reads the edge of a tree of some size out of its complete nodes.
    ///
    /// # Errors
    /// The size is too large, or a node cannot be had.
    pub fn read<E: From<TreeError>>(
        size: u64,
        node: impl FnMut(u8, u64) -> Result<Hash, E>,
    ) -> Result<Self, E> {
        let nodes = proof::subtrees(0, proof::checked(size)?, node)?;
        Ok(Self { size, nodes })
    }

    /// Writes the edge: its size in eight bytes, the lowest first, and its nodes from left to right.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let size = self.size.to_le_bytes();
        [&size[..], self.nodes.as_flattened()].concat()
    }

    /// Reads what [`Edge::to_bytes`] writes.
    ///
    /// # Errors
    /// It would not write this.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TreeError> {
        let (size, nodes) = bytes.split_first_chunk().ok_or(TreeError::MalformedEdge)?;
        let size = proof::checked(u64::from_le_bytes(*size))?;
        match nodes.as_chunks() {
            (nodes, []) if nodes.len() == size.count_ones() as usize => Ok(Self {
                size,
                nodes: nodes.to_vec(),
            }),
            _ => Err(TreeError::MalformedEdge),
        }
    }
}
