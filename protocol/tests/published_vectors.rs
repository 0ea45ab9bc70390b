//! Vectors that others published: proofs of transparency-dev's merkle, and the edge cases of Ed25519 of the C2SP's CCTV.

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::Value;
use souverain_protocol::{
    block::sha256,
    log::tree::{Hash, verify_consistency, verify_inclusion},
    note::PublicKey,
};

const PROOFS: &str = include_str!("../../tests/vectors/merkle/proofs.json");
const ED25519: &str = include_str!("../../tests/vectors/ed25519/ed25519vectors.json");

fn number(vector: &Value, field: &str) -> u64 {
    vector[field].as_u64().expect("a number")
}

fn bytes(value: &Value) -> Vec<u8> {
    let bytes = BASE64.decode(value.as_str().unwrap_or("").as_bytes());
    bytes.expect("Base64")
}

/// A hash, if it is as long as one.
fn hash(value: &Value) -> Option<Hash> {
    bytes(value).try_into().ok()
}

/// A root; what is not as long as one stands for some other.
fn root(value: &Value) -> Hash {
    hash(value).unwrap_or_else(|| sha256(&bytes(value)))
}

/// The hashes of a proof, if each is as long as one: no others can be read.
fn proof(vector: &Value) -> Option<Vec<Hash>> {
    let hashes = vector["proof"].as_array();
    hashes.map_or(Some(Vec::new()), |hashes| hashes.iter().map(hash).collect())
}

fn includes(vector: &Value, start: u64, end: u64) -> Option<()> {
    let index = number(vector, "leafIdx").checked_sub(start)?;
    let (leaf, root) = (hash(&vector["leafHash"])?, root(&vector["root"]));
    verify_inclusion(&leaf, index, end - start, &proof(vector)?, &root).ok()
}

fn grew(vector: &Value, from: u64, to: u64) -> Option<()> {
    let (before, after) = (root(&vector["root1"]), root(&vector["root2"]));
    verify_consistency(from, &before, to, &after, &proof(vector)?).ok()
}

/// How a vector comes out; nothing if it asks what is not known here.
fn outcome(kind: &str, vector: &Value) -> Option<bool> {
    let held = match kind {
        "inclusion" => includes(vector, 0, number(vector, "treeSize")),
        "consistency" => match (number(vector, "size1"), number(vector, "size2")) {
            // That any tree has grown out of the empty one is nothing to prove for them.
            (0, _) => return None,
            (from, to) => grew(vector, from, to),
        },
        // A subtree that is one is a tree of its own.
        "subtreeinclusion" => {
            let (start, end) = (number(vector, "start"), number(vector, "end"));
            let width = end.checked_sub(start).filter(|width| *width > 0)?;
            if !start.is_multiple_of(width.checked_next_power_of_two()?) {
                return None;
            }
            includes(vector, start, end)
        }
        // One that a tree begins with is an earlier tree.
        "subtreeconsistency" => match (number(vector, "start"), number(vector, "end")) {
            (0, end @ 1..) => grew(vector, end, number(vector, "size")),
            _ => return None,
        },
        kind => panic!("{kind}"),
    };
    Some(held.is_some())
}

#[test]
fn the_proofs_of_transparency_dev_come_out_as_published() {
    let vectors: Value = serde_json::from_str(PROOFS).expect("JSON");
    let mut checked = Vec::new();
    for (kind, vectors) in vectors.as_object().expect("an object") {
        let vectors = vectors.as_array().expect("a list");
        let mut known = 0;
        for vector in vectors {
            if let Some(held) = outcome(kind, vector) {
                let wrong = vector["wantErr"].as_bool().expect("true or false");
                assert_eq!(held, !wrong, "{kind} {vector}");
                known += 1;
            }
        }
        checked.push((kind.as_str(), known, vectors.len()));
    }
    // What is left is about subtrees that no earlier tree was, and trees that were empty.
    let expected = [
        ("consistency", 89, 98),
        ("inclusion", 98, 98),
        ("subtreeconsistency", 91, 118),
        ("subtreeinclusion", 185, 204),
    ];
    assert_eq!(checked, expected);
}

#[test]
fn ed25519_is_verified_without_leeway() {
    let vectors: Vec<Value> = serde_json::from_str(ED25519).expect("JSON");
    let mut accepted = 0;
    for vector in &vectors {
        let bytes = |field: &str| {
            let text = vector[field].as_str().expect("a text");
            HEXLOWER.decode(text.as_bytes()).expect("hexadecimal")
        };
        let has = |wanted: &str| {
            let flags = vector["flags"].as_array();
            flags.is_some_and(|flags| flags.iter().any(|flag| flag == wanted))
        };
        // A part of low order in a key or a signature is no fault of whoever verifies, if no cofactor hides it.
        let good = ![
            "low_order_A",
            "low_order_R",
            "non_canonical_A",
            "non_canonical_R",
            "low_order_residue",
        ]
        .into_iter()
        .any(has);
        let key = bytes("key").try_into().expect("32 bytes");
        let message = vector["msg"].as_str().expect("a text").as_bytes();
        let verified = PublicKey::new(&key).is_ok_and(|key| key.has_signed(message, &bytes("sig")));
        assert_eq!(verified, good, "{vector}");
        let strictly = VerifyingKey::from_bytes(&key).is_ok_and(|key| {
            let signature = Signature::from_slice(&bytes("sig"));
            signature.is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
        });
        assert_eq!(verified, strictly, "{vector}");
        accepted += usize::from(verified);
    }
    assert_eq!((vectors.len(), accepted), (914, 43));
}
