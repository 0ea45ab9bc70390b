//! The files of `tests/vectors/log`: made again, and compared byte for byte.
//!
//! To write them after a change of the format: `SOUVERAIN_WRITE_VECTORS=1 cargo test -p
//! souverain-protocol log::vectors`.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use data_encoding::HEXLOWER;

use super::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    cosignature::{CosignerKey, cosign},
    detail::{Detail, Details},
    entry::{Action, EntryError, Outcome, UnverifiedEntry},
    fork::{Evidence, Fork, Signer, UnverifiedFork},
    keys::{KeyHistory, Standing},
    policy::Policy,
    proof::UnverifiedProof,
    testing::{Log, public, secret, sign, signed},
    tile::{TileKind, encode_bundle, tiles},
    tree::{self, Edge, Hash, TreeError},
};
use crate::{block::raw_cid, note::VerifierKey};

type Files = BTreeMap<String, Vec<u8>>;

fn details() -> Details {
    let detail = |value: &str, salt| Detail {
        value: value.as_bytes().to_vec(),
        salt: [salt; 32],
    };
    let all = [
        ("source".to_owned(), detail("postgres://db.example/shop", 1)),
        ("warning".to_owned(), detail("", 2)),
    ];
    Details::new(all.into()).expect("few and short")
}

/// Eight entries: a rotation at 3, a thief at 5, a recovery at 6.
fn example() -> Log {
    let mut log = Log::new();
    let mut export = log.draft(Action::EXPORT);
    export.subject = vec![raw_cid(&[1; 32]), raw_cid(&[2; 32])];
    export.commit = details().commitments();
    export.sealed = Some(raw_cid(&[3; 32]));
    log.add(signed(export, 1));
    let mut share = log.draft(Action::SHARE);
    share.outcome = Outcome::Refused;
    log.add(signed(share, 1));
    log.rotate(2);
    let mut pull = log.draft(Action::PULL);
    pull.outcome = Outcome::Failed;
    log.add(signed(pull, 2));
    log.push(Action::ERASE);
    log.recover(5, 3);
    log.push(Action::new("quantum.leap").expect("a name"));
    log
}

fn leaves(entries: &[UnverifiedEntry]) -> Vec<Hash> {
    let leaves = entries.iter();
    leaves.map(|entry| tree::leaf_hash(entry.bytes())).collect()
}

fn node(leaves: &[Hash], level: u8, index: u64) -> Result<Hash, TreeError> {
    match level.checked_sub(1) {
        None => Ok(leaves[index as usize]),
        Some(below) => Ok(tree::node_hash(
            &node(leaves, below, index * 2)?,
            &node(leaves, below, index * 2 + 1)?,
        )),
    }
}

fn witness() -> CosignerKey {
    CosignerKey::new("witness.example/w1", public(50).as_bytes()).expect("a key")
}

/// The checkpoint over some leaves, by a key of the log and by the witness.
fn checkpoint(keys: &KeyHistory, leaves: &[Hash], seed: u8) -> SignedCheckpoint {
    let mut edge = Edge::new();
    for leaf in leaves {
        edge.push(*leaf).expect("room");
    }
    let size = edge.size();
    let checkpoint = Checkpoint::new(keys.origin().clone(), size, edge.root());
    let key = VerifierKey::new(keys.origin().as_str(), public(seed).as_bytes()).expect("a key");
    let signed = checkpoint.expect("a checkpoint").sign(&key, sign(seed));
    let mut signed = signed.expect("signed");
    let line = cosign(signed.checkpoint(), &witness(), 1_767_323_060, sign(50));
    signed.push(line.expect("cosigned")).expect("room");
    signed
}

fn keys_file(log: &Log) -> String {
    let keys = log.chain.keys();
    let mut text = format!("origin {}\ntenant {}\n", keys.origin(), keys.tenant());
    for seed in [1, 2, 3] {
        let key = VerifierKey::new(keys.origin().as_str(), public(seed).as_bytes());
        let secret = HEXLOWER.encode(secret(seed).as_bytes());
        writeln!(text, "log {secret} {}", key.expect("a key")).expect("a string takes all writes");
    }
    for seed in [101, 102] {
        let secret = HEXLOWER.encode(secret(seed).as_bytes());
        let public = HEXLOWER.encode(public(seed).as_bytes());
        writeln!(text, "recovery {secret} {public}").expect("a string takes all writes");
    }
    let secret = HEXLOWER.encode(secret(50).as_bytes());
    writeln!(text, "witness {secret} {}", witness()).expect("a string takes all writes");
    text
}

fn entries_file(log: &Log) -> String {
    let keys = log.chain.keys();
    let mut text = String::new();
    for (index, entry) in log.entries.iter().enumerate() {
        let entry = entry.clone().verify(keys.key_at(index as u64));
        let entry = entry.expect("signed");
        let standing = match keys.standing(index as u64) {
            Standing::Vouched => "vouched",
            Standing::Revoked { .. } => "revoked",
        };
        let leaf = HEXLOWER.encode(&entry.leaf_hash());
        let bytes = HEXLOWER.encode(entry.bytes());
        writeln!(text, "{index} {standing} {} {leaf} {bytes}", entry.cid())
            .expect("a string takes all writes");
    }
    text
}

/// Entries that a reader refuses, by what is wrong with them.
fn refused_file(log: &Log) -> String {
    let good = HEXLOWER.encode(log.entries[2].bytes());
    let mut text = String::new();
    for (what, from, to) in [
        ("later-version", "617601", "617602"),
        ("longer-number", "6373657102", "637365711802"),
        ("float", "6373657102", "63736571fb4000000000000000"),
        ("indefinite-map", "ab617601", "bf617601"),
        ("unknown-key", "ab617601", "ac617501617601"),
        ("keys-unsorted", "6176016373657102", "6373657102617601"),
        ("key-twice", "ab617601", "ac617601617601"),
        ("null", "6373657102", "63736571f6"),
        ("action-in-capitals", "657368617265", "655348415245"),
        ("unknown-outcome", "6772656675736564", "6772656675736566"),
        ("wrong-signature", "6772656675736564", "66666169 6c6564"),
        ("no-session", "50019b7c5e9d087c", "50019b7c5e9d084c"),
    ] {
        let to = to.replace(' ', "");
        assert!(good.contains(from), "{what}");
        let bad = good.replacen(from, &to, 1);
        writeln!(text, "{what} {bad}").expect("a string takes all writes");
    }
    text
}

fn forks(log: &Log) -> [(&'static str, Fork); 3] {
    let keys = log.chain.keys();
    let key = |seed| VerifierKey::new(keys.origin().as_str(), public(seed).as_bytes());
    let signer = |seed| Signer::Log(key(seed).expect("a key"));
    let mut other = log.entries[7].draft_unverified().clone();
    other.outcome = Outcome::Failed;
    let entries = Box::new([log.entries[7].clone(), signed(other, 3)]);
    let honest = leaves(&log.entries);
    let mut forked = honest.clone();
    forked[6] = [9; 32];
    let at = |leaves: &[Hash], size: usize| checkpoint(keys, &leaves[..size], 3).into();
    let growth = Evidence::Growth {
        checkpoints: [at(&honest, 7), at(&forked, 8)],
        hashes: tree::prove_prefix(7, 8, |l, i| node(&forked, l, i)).expect("proven"),
    };
    let roots = Evidence::Roots([at(&honest, 8), at(&forked, 8)]);
    let fork = |evidence, signer: Signer| Fork::new(evidence, [signer.clone(), signer]);
    [
        (
            "fork-entries.txt",
            fork(Evidence::Entries(entries), signer(3)),
        ),
        ("fork-roots.txt", fork(roots, Signer::Witness(witness()))),
        ("fork-growth.txt", fork(growth, signer(3))),
    ]
    .map(|(name, fork)| (name, fork.expect("a fork")))
}

fn files() -> Files {
    let log = example();
    let keys = log.chain.keys();
    let leaves = leaves(&log.entries);
    let checkpoint = checkpoint(keys, &leaves, 3);
    let hashes = tree::prove_inclusion(1, 8, |l, i| node(&leaves, l, i)).expect("proven");
    let extra = Some(log.entries[1].bytes().to_vec());
    let proof = UnverifiedProof::new(1, hashes, checkpoint.clone(), extra).expect("short");
    let policy = format!("log {}\nwitness w1 {}\nquorum w1\n", keys.key(), witness());
    let disclosure = details().disclose(1, "source").expect("there");
    let mut files: Files = [
        ("keys.txt", keys_file(&log).into_bytes()),
        ("entries.txt", entries_file(&log).into_bytes()),
        ("refused.txt", refused_file(&log).into_bytes()),
        ("checkpoint", checkpoint.to_string().into_bytes()),
        ("policy.txt", policy.into_bytes()),
        ("entry-1.tlog-proof", proof.to_string().into_bytes()),
        ("details.cbor", details().encode()),
        ("disclosure.cbor", disclosure.encode()),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into();
    for (name, fork) in forks(&log) {
        files.insert(name.to_owned(), fork.to_string().into_bytes());
    }
    for path in tiles(8) {
        let entries: Vec<_> = log.entries.iter().map(UnverifiedEntry::bytes).collect();
        let bytes = match path.kind() {
            TileKind::Entries => encode_bundle(&entries).expect("short"),
            TileKind::Hashes(_) => leaves.as_flattened().to_vec(),
        };
        files.insert(path.to_string(), bytes);
    }
    files
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "tests", "vectors", "log"]
        .iter()
        .collect()
}

#[test]
fn vectors_are_what_is_written() {
    let write = std::env::var_os("SOUVERAIN_WRITE_VECTORS").is_some();
    for (name, bytes) in files() {
        let path = folder().join(&name);
        if write {
            fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
            fs::write(&path, &bytes).expect("written");
        }
        let read = fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read == bytes, "{name}");
    }
}

#[test]
fn vectors_verify_and_those_refused_do_not() {
    let files = files();
    let policy = Policy::parse(&files["policy.txt"]).expect("a policy");
    let proof = UnverifiedProof::parse(&files["entry-1.tlog-proof"]).expect("a proof");
    let entry = proof.extra_unverified().expect("the entry").to_vec();
    let witnessed = proof.verify_by(&tree::leaf_hash(&entry), &policy);
    assert_eq!(
        witnessed
            .expect("in the log")
            .checkpoint
            .checkpoint()
            .size(),
        8
    );
    for (name, fork) in forks(&example()) {
        let parsed = UnverifiedFork::parse(&files[name]).expect("a fork proof");
        assert_eq!(parsed.verify(fork.signers()), Ok(fork), "{name}");
    }
    let refused = String::from_utf8(files["refused.txt"].clone()).expect("UTF-8");
    for line in refused.lines() {
        let (what, hex) = line.split_once(' ').expect("two words");
        let bytes = HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
        let verified = UnverifiedEntry::parse(&bytes).and_then(|entry| entry.verify(&public(1)));
        let error = verified.expect_err(what);
        let wrong = error == EntryError::WrongSignature;
        assert_eq!(wrong, what == "wrong-signature", "{what}: {error}");
    }
}
