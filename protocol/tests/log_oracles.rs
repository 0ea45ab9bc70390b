//! The log's tree, tiles, checkpoints and notes against implementations of others.

use std::collections::BTreeMap;

use ct_merkle::{ConsistencyProof, InclusionProof, mem_backed_tree::MemoryBackedTree};
use ed25519_dalek::{Signer, SigningKey};
use sha2::Sha256;
use signed_note::{Note, StandardVerifier, VerifierList};
use souverain_protocol::{
    log::{
        checkpoint::{Checkpoint, Origin},
        tile::{TileKind, tiles_grown},
        tree::{self, Edge, Hash, TreeError, leaf_hash},
    },
    note::VerifierKey,
};
use tlog_tiles::{Tile, TileHashReader, TileReader};

fn leaf(index: u64) -> Vec<u8> {
    format!("leaf {index}").into_bytes()
}

/// The complete nodes of a tree, by level and index.
fn nodes(size: u64) -> (Edge, BTreeMap<(u8, u64), Hash>) {
    let mut edge = Edge::new();
    let mut nodes = BTreeMap::new();
    for index in 0..size {
        let pushed = edge.push_with(leaf_hash(&leaf(index)), |level, index, hash| {
            nodes.insert((level, index), *hash);
        });
        pushed.expect("room");
    }
    (edge, nodes)
}

#[test]
fn roots_and_proofs_are_those_of_ct_merkle() {
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut roots = vec![theirs.root()];
    for size in 1..=130 {
        theirs.push(leaf(size - 1));
        roots.push(theirs.root());
        let (edge, nodes) = nodes(size);
        let node = |level, index| Ok::<_, TreeError>(nodes[&(level, index)]);
        let root = theirs.root();
        assert_eq!(edge.root()[..], root.as_bytes()[..]);
        for at in 0..size {
            let proof = tree::prove_inclusion(at, size, node).expect("proven");
            let their_proof = theirs.prove_inclusion(at as usize);
            assert_eq!(proof.as_flattened(), their_proof.as_bytes());
            let proof = InclusionProof::<Sha256>::from_bytes(their_proof.as_bytes().to_vec());
            assert!(root.verify_inclusion(&leaf(at), at, &proof).is_ok());
            let from = at + 1;
            let proof = tree::prove_consistency(from, size, node).expect("proven");
            let their_proof = theirs.prove_consistency((size - from) as usize);
            assert_eq!(proof.as_flattened(), their_proof.as_bytes());
            let proof = ConsistencyProof::try_from_bytes(proof.as_flattened().to_vec());
            let verified = root.verify_consistency(&roots[from as usize], &proof.expect("hashes"));
            assert!(verified.is_ok(), "{from} {size}");
        }
    }
}

/// What we wrote, as `tlog_tiles` reads it.
struct Written(BTreeMap<String, Vec<u8>>);

impl TileReader for Written {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &Tile| self.0.get(&path(tile)).cloned();
        let all: Option<_> = tiles.iter().map(read).collect();
        all.ok_or(tlog_tiles::Error::InvalidProof)
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

/// Go's paths have the height of tiles in them, those of C2SP do not.
fn path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

#[test]
fn tiles_and_their_paths_are_those_of_tlog_tiles() {
    for (from, size) in [
        (0, 1),
        (1, 255),
        (255, 256),
        (256, 257),
        (0, 70_000),
        (70_000, 70_400),
    ] {
        let (edge, nodes) = nodes(size);
        let hashes = |level: u8, start: u64, width: u16| -> Vec<u8> {
            let each = start..start + u64::from(width);
            each.flat_map(|index| nodes[&(8 * level, index)]).collect()
        };
        let written = |from| {
            tiles_grown(from, size).filter_map(|path| match path.kind() {
                TileKind::Hashes(level) => {
                    let bytes = hashes(level, path.index() * 256, path.width());
                    Some((path.to_string(), bytes))
                }
                TileKind::Entries => None,
            })
        };
        let theirs = Tile::new_tiles(8, from, size);
        let theirs: Vec<String> = theirs.iter().map(path).collect();
        let ours: Vec<String> = written(from).map(|(path, _)| path).collect();
        assert_eq!(ours, theirs, "{from} {size}");
        let written = Written(written(0).collect());
        let root = tlog_tiles::Hash(edge.root());
        let reader = TileHashReader::new(size, root, &written);
        for index in [0, size / 2, size - 1] {
            let proof = tlog_tiles::prove_record(size, index, &reader);
            let theirs: Vec<Hash> = proof.expect("proven").iter().map(|hash| hash.0).collect();
            let node = |level, index| Ok::<_, TreeError>(nodes[&(level, index)]);
            assert_eq!(tree::prove_inclusion(index, size, node), Ok(theirs));
        }
    }
}

#[test]
fn checkpoints_are_read_by_tlog_tiles_and_signed_note() {
    let secret = SigningKey::from_bytes(&[7; 32]);
    let name = "souverain/bafyreigy5kndxu6vsyh6hrxzjmuqd5x2mvctmdcq7tybllmzwuqcz4uuyu";
    let key = VerifierKey::new(name, secret.verifying_key().as_bytes()).expect("a key");
    let (edge, _) = nodes(300);
    let origin = Origin::new(name).expect("a name");
    let checkpoint = Checkpoint::new(origin, 300, edge.root()).expect("a checkpoint");
    let sign = |text: &[u8]| secret.sign(text).to_bytes();
    let signed = checkpoint.sign(&key, sign).expect("signed").to_string();

    let note = Note::from_bytes(signed.as_bytes()).expect("a note");
    let verifier = StandardVerifier::new(&key.to_string()).expect("a verifier key");
    let (verified, rest) = note
        .verify(&VerifierList::new(vec![Box::new(verifier)]))
        .expect("signed");
    assert_eq!((verified.len(), rest.len()), (1, 0));
    let theirs = tlog_tiles::Checkpoint::from_bytes(note.text()).expect("a checkpoint");
    assert_eq!((theirs.origin(), theirs.size()), (name, 300));
    assert_eq!(theirs.hash().0, edge.root());
    assert_eq!(note.to_bytes(), signed.as_bytes());
}
