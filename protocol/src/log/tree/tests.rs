//! Trees against the definitions of RFC 6962, and proofs against everything near them.

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

/// `MTH` of RFC 6962, section 2.1, as it stands there.
fn mth(leaves: &[Vec<u8>]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => leaf_hash(leaf),
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&mth(left), &mth(right))
        }
    }
}

fn leaves(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("leaf {i}").into()).collect()
}

/// The complete nodes of a tree, and nothing else.
fn nodes(leaves: &[Vec<u8>]) -> impl Fn(u8, u64) -> Result<Hash, TreeError> {
    move |level, index| {
        let (start, end) = (index << level, (index + 1) << level);
        let missing = TreeError::BeyondTree {
            index: end,
            size: leaves.len() as u64,
        };
        let leaves = leaves.get(start as usize..end as usize);
        leaves.map(mth).ok_or(missing)
    }
}

#[test]
fn has_the_hashes_of_rfc_6962() {
    // From the tests of Certificate Transparency: its eight leaves, and the roots over the first of them.
    let leaves = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut edge = Edge::new();
    for (size, root) in roots.iter().enumerate() {
        assert_eq!(HEXLOWER.encode(&edge.root()), *root, "{size}");
        if let Some(leaf) = leaves.get(size) {
            let leaf = HEXLOWER.decode(leaf.as_bytes()).expect("hexadecimal");
            edge.push(leaf_hash(&leaf)).expect("room");
        }
    }
}

#[test]
fn every_leaf_of_every_small_tree_is_proven_and_no_other_proof_is_accepted() {
    let leaves = leaves(34);
    for size in 1..leaves.len() {
        let root = mth(&leaves[..size]);
        for (index, leaf) in leaves[..size].iter().enumerate() {
            let leaf = leaf_hash(leaf);
            let (index, size) = (index as u64, size as u64);
            let source = nodes(&leaves[..size as usize]);
            let proof = prove_inclusion(index, size, source).expect("proven");
            let verify = |leaf, index, size, proof: &[Hash], root| {
                verify_inclusion(leaf, index, size, proof, root)
            };
            assert_eq!(verify(&leaf, index, size, &proof, &root), Ok(()));
            assert!(verify(&[7; 32], index, size, &proof, &root).is_err());
            assert!(verify(&leaf, index, size, &proof, &[7; 32]).is_err());
            assert!(verify(&leaf, index ^ 1, size, &proof, &root).is_err());
            let longer = [&proof[..], &[root]].concat();
            assert!(verify(&leaf, index, size, &longer, &root).is_err());
            for i in 0..proof.len() {
                let mut other = proof.clone();
                other[i][i % 32] ^= 1;
                assert!(verify(&leaf, index, size, &other, &root).is_err());
                other.remove(i);
                assert!(verify(&leaf, index, size, &other, &root).is_err());
            }
        }
    }
}

#[test]
fn every_small_tree_grows_from_every_smaller_one_and_from_no_other() {
    let leaves = leaves(34);
    for to in 0..leaves.len() {
        let to_root = mth(&leaves[..to]);
        for from in 0..=to {
            let from_root = mth(&leaves[..from]);
            let (from, to) = (from as u64, to as u64);
            let proof = prove_consistency(from, to, nodes(&leaves[..to as usize]));
            let proof = proof.expect("proven");
            let verify = |from_root, to_root, proof: &[Hash]| {
                verify_consistency(from, from_root, to, to_root, proof)
            };
            assert_eq!(verify(&from_root, &to_root, &proof), Ok(()), "{from} {to}");
            assert!(verify(&[7; 32], &to_root, &proof).is_err());
            let longer = [&proof[..], &[to_root]].concat();
            assert!(verify(&from_root, &to_root, &longer).is_err());
            if from > 0 {
                assert!(verify(&from_root, &[7; 32], &proof).is_err());
            }
            for i in 0..proof.len() {
                let mut other = proof.clone();
                other[i][i % 32] ^= 1;
                assert!(verify(&from_root, &to_root, &other).is_err());
                other.remove(i);
                assert!(verify(&from_root, &to_root, &other).is_err());
            }
        }
    }
}

#[test]
fn an_edge_is_the_same_appended_and_read_and_gives_every_node_once() {
    let leaves = leaves(70);
    let mut edge = Edge::new();
    let mut completed = Vec::new();
    for (i, leaf) in leaves.iter().enumerate() {
        let source = nodes(&leaves[..i]);
        assert_eq!(edge.root(), mth(&leaves[..i]));
        assert_eq!(root(i as u64, &source), Ok(edge.root()));
        assert_eq!(Edge::read(i as u64, &source), Ok(edge.clone()));
        assert_eq!(Edge::from_bytes(&edge.to_bytes()), Ok(edge.clone()));
        let pushed = edge.push_with(leaf_hash(leaf), |level, index, hash| {
            completed.push((level, index, *hash));
        });
        pushed.expect("room");
    }
    for (level, index, hash) in &completed {
        assert_eq!(nodes(&leaves)(*level, *index).as_ref(), Ok(hash));
    }
    let all: usize = (0..7).map(|level| leaves.len() >> level).sum();
    assert_eq!(completed.len(), all);
}

#[test]
fn an_edge_takes_nodes_for_the_leaves_below_them_and_only_where_they_fit() {
    let leaves = leaves(23);
    let source = nodes(&leaves);
    for before in 0..=16_u64 {
        let mut edge = Edge::new();
        for leaf in &leaves[..before as usize] {
            edge.push(leaf_hash(leaf)).expect("room");
        }
        for level in 0..3_u8 {
            let (mut by_node, mut by_leaf) = (edge.clone(), edge.clone());
            let node = source(level, before >> level).expect("complete");
            let mut of_node = Vec::new();
            let pushed = by_node.push_node_with(level, node, |l, i, h| of_node.push((l, i, *h)));
            let size = before;
            if before % (1 << level) != 0 {
                assert_eq!(pushed, Err(TreeError::Within { level, size }));
                assert_eq!(by_node, edge);
                continue;
            }
            assert_eq!(pushed, Ok(()));
            let mut of_leaf = Vec::new();
            for leaf in &leaves[before as usize..][..1 << level] {
                let pushed = by_leaf.push_with(leaf_hash(leaf), |l, i, h| of_leaf.push((l, i, *h)));
                pushed.expect("room");
            }
            of_leaf.retain(|(above, _, _)| *above >= level);
            assert_eq!((by_node, of_node), (by_leaf, of_leaf));
        }
    }
    for level in [63, 64, 255] {
        let refused = Edge::new().push_node_with(level, [1; 32], |_, _, _| {});
        assert_eq!(refused, Err(TreeError::TooLarge { size: 0 }), "{level}");
    }
}

#[test]
fn rejects_what_is_no_edge() {
    let mut edge = Edge::new();
    for _ in 0..5 {
        edge.push([1; 32]).expect("room");
    }
    let good = edge.to_bytes();
    let mut larger = good.clone();
    larger[0] += 2;
    for bad in [
        &[][..],
        &good[..7],
        &good[..8],
        &good[..good.len() - 1],
        &[&good[..], &[0; 32]].concat(),
        &larger,
        &[0xff; 8 + 64 * 32],
    ] {
        assert!(Edge::from_bytes(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn rejects_sizes_that_no_tree_has() {
    let none = |_, _| -> Result<Hash, TreeError> { Ok([0; 32]) };
    let beyond = TreeError::BeyondTree { index: 4, size: 4 };
    assert_eq!(prove_inclusion(4, 4, none), Err(beyond.clone()));
    assert_eq!(verify_inclusion(&[0; 32], 4, 4, &[], &[0; 32]), Err(beyond));
    let shrinks = TreeError::Shrinks { from: 5, to: 4 };
    assert_eq!(prove_consistency(5, 4, none), Err(shrinks.clone()));
    let shrunk = verify_consistency(5, &[0; 32], 4, &[0; 32], &[[0; 32]]);
    assert_eq!(shrunk, Err(shrinks));
    let size = TREE_SIZE_MAX + 1;
    let large = Err(TreeError::TooLarge { size });
    assert_eq!(prove_inclusion(0, size, none), large);
    assert_eq!(prove_consistency(0, size, none), large);
    assert_eq!(root(size, none), Err(TreeError::TooLarge { size }));
    let mut full = Edge {
        size: TREE_SIZE_MAX,
        nodes: vec![[0; 32]; 63],
    };
    assert!(full.push([0; 32]).is_err());
}

/// A tree too large to have: node hashes that stand for themselves.
fn pretended(level: u8, index: u64) -> Result<Hash, TreeError> {
    Ok(leaf_hash(&[&[level][..], &index.to_le_bytes()].concat()))
}

proptest! {
    #[test]
    fn proofs_of_large_trees_have_no_more_hashes_than_any(
        size in 1..=TREE_SIZE_MAX, a in any::<u64>(), b in any::<u64>(),
    ) {
        let (index, from) = (a % size, b % size + 1);
        let proof = prove_inclusion(index, size, pretended)?;
        prop_assert!(proof.len() <= PROOF_HASHES_MAX);
        // No pretended node is the parent of pretended ones, so only the shape can be right.
        let verified = verify_inclusion(&[0; 32], index, size, &proof, &[0; 32]);
        prop_assert_eq!(verified, Err(TreeError::OtherRoot { size }));
        let proof = prove_consistency(from, size, pretended)?;
        prop_assert!(proof.len() <= PROOF_HASHES_MAX);
        let verified = verify_consistency(from, &[0; 32], size, &[1; 32], &proof);
        let other_root = matches!(verified, Err(TreeError::OtherRoot { .. }));
        prop_assert!(other_root, "{:?}", verified);
    }

    #[test]
    fn checking_any_sizes_and_hashes_never_panics(
        a in any::<u64>(), b in any::<u64>(),
        proof in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        prop_assert!(verify_inclusion(&[1; 32], a, b, &proof, &[2; 32]).is_err());
        prop_assert!(verify_consistency(a, &[1; 32], b, &[2; 32], &proof).is_err());
    }
}
