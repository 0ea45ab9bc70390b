//! Forks that are proven, and honest logs that cannot be accused.

use data_encoding::BASE64;
use proptest::prelude::*;

use super::*;
use crate::log::{
    checkpoint::Origin,
    cosignature::cosign,
    entry::{Action, Draft, Outcome},
    testing::{Log, public, sign, signed},
    tree::{Edge, leaf_hash},
};

const ORIGIN: &str = "souverain/bafy";

fn log_key(name: &str, seed: u8) -> VerifierKey {
    VerifierKey::new(name, public(seed).as_bytes()).expect("a key")
}

fn log(seed: u8) -> Signer {
    Signer::Log(log_key(ORIGIN, seed))
}

fn witness_key() -> CosignerKey {
    CosignerKey::new("witness.example", public(50).as_bytes()).expect("a key")
}

fn witness() -> Signer {
    Signer::Witness(witness_key())
}

/// Leaves of a log of which a second history differs from some index on.
#[derive(Clone, Copy)]
struct History {
    fork: u64,
    side: u8,
}

/// One that never forked.
const HONEST: History = History {
    fork: u64::MAX,
    side: 0,
};

impl History {
    fn leaf(self, index: u64) -> Hash {
        let side = if index < self.fork { 0 } else { self.side };
        leaf_hash(&[&[side][..], &index.to_le_bytes()].concat())
    }

    fn node(self, level: u8, index: u64) -> Result<Hash, TreeError> {
        match level.checked_sub(1) {
            None => Ok(self.leaf(index)),
            Some(below) => Ok(tree::node_hash(
                &self.node(below, index * 2)?,
                &self.node(below, index * 2 + 1)?,
            )),
        }
    }

    /// The checkpoint of a size, signed by a key of the log and by the witness.
    fn checkpoint(self, size: u64, seed: u8) -> UnverifiedCheckpoint {
        let mut edge = Edge::new();
        for index in 0..size {
            edge.push(self.leaf(index)).expect("room");
        }
        let origin = Origin::new(ORIGIN).expect("a name");
        let checkpoint = Checkpoint::new(origin, size, edge.root()).expect("a checkpoint");
        let key = log_key(ORIGIN, seed);
        let mut signed = checkpoint.sign(&key, sign(seed)).expect("signed");
        let line = cosign(signed.checkpoint(), &witness_key(), size, sign(50));
        signed.push(line.expect("cosigned")).expect("room");
        signed.into()
    }

    fn prefix(self, from: u64, to: u64) -> Vec<Hash> {
        tree::prove_prefix(from, to, |level, index| self.node(level, index)).expect("proven")
    }
}

fn both(signer: Signer) -> [Signer; 2] {
    [signer.clone(), signer]
}

/// Checks that a fork is read back from its text and verifies with its keys only.
fn travels(fork: &Fork) {
    let text = fork.to_string();
    let parsed = UnverifiedFork::parse(text.as_bytes()).expect("a fork proof");
    assert_eq!(
        &parsed.clone().verify(fork.signers()).expect("verifies"),
        fork
    );
    let other = parsed.clone().verify(&[log(99)]);
    assert!(matches!(other, Err(ForkError::OtherSigner { .. })));
    assert_eq!(parsed.signers_unverified(), fork.signers());
}

#[test]
fn two_entries_at_one_place_are_a_fork() {
    let mut log = Log::new();
    log.push(Action::EXPORT);
    let (one, two) = (log.draft(Action::PULL), log.draft(Action::ERASE));
    let signer = Signer::Log(log.chain.keys().key().clone());
    let prove = |one: Draft, two: Draft, seed| {
        let entries = [signed(one, 1), signed(two, seed)];
        Fork::new(Evidence::Entries(Box::new(entries)), both(signer.clone()))
    };
    let fork = prove(one.clone(), two.clone(), 1).expect("a fork");
    travels(&fork);
    assert_eq!(fork.origin(), log.chain.keys().origin().as_str());
    assert_eq!(prove(two.clone(), one.clone(), 1), Ok(fork.clone()));
    assert_eq!(fork.blame(log.chain.keys()), Blame::Log);
    log.rotate(2);
    assert_eq!(fork.blame(log.chain.keys()), Blame::FormerKey);
    assert_eq!(prove(one.clone(), one.clone(), 1), Err(ForkError::NoFork));
    let wrong = EntryError::WrongSignature;
    assert_eq!(prove(one.clone(), two.clone(), 2), Err(wrong.into()));
    type Change<'a> = &'a dyn Fn(&mut Draft);
    let changes: [Change<'_>; 3] = [
        &|draft| draft.tenant.0[0] ^= 1,
        &|draft| draft.epoch += 1,
        &|draft| draft.seq += 1,
    ];
    for change in changes {
        let mut other = two.clone();
        change(&mut other);
        assert_eq!(prove(one.clone(), other, 1), Err(ForkError::Unrelated));
    }
    let entries = Evidence::Entries(Box::new([signed(one, 1), signed(two, 1)]));
    let by_witness = Fork::new(entries, both(witness()));
    assert_eq!(by_witness, Err(ForkError::TwoSigners));
}

#[test]
fn two_roots_of_one_size_are_a_fork_of_log_and_witness() {
    let fork = 5;
    let other = History { fork, side: 1 };
    for signer in [log(1), witness()] {
        for size in 1..12 {
            let roots = [HONEST.checkpoint(size, 1), other.checkpoint(size, 1)];
            let proven = Fork::new(Evidence::Roots(roots), both(signer.clone()));
            if size > fork {
                let proven = proven.expect("a fork");
                assert_eq!(proven.origin(), ORIGIN);
                travels(&proven);
            } else {
                assert_eq!(proven, Err(ForkError::NoFork));
            }
        }
    }
}

#[test]
fn two_sizes_without_consistency_are_a_fork_of_log_and_witness() {
    let fork = 5;
    let other = History { fork, side: 1 };
    for signer in [log(1), witness()] {
        for to in 2..17 {
            for from in 1..to {
                let checkpoints = [HONEST.checkpoint(from, 1), other.checkpoint(to, 1)];
                let hashes = other.prefix(from, to);
                let growth = Evidence::Growth {
                    checkpoints,
                    hashes,
                };
                let proven = Fork::new(growth, both(signer.clone()));
                if from > fork {
                    travels(&proven.expect("a fork"));
                } else {
                    assert_eq!(proven, Err(ForkError::NoFork), "{from} {to}");
                }
            }
        }
    }
}

#[test]
fn a_log_answers_for_all_its_keys_and_a_witness_for_itself() {
    let other = History { fork: 5, side: 1 };
    let growth = |seed| Evidence::Growth {
        checkpoints: [HONEST.checkpoint(7, 1), other.checkpoint(9, seed)],
        hashes: other.prefix(7, 9),
    };
    let fork = Fork::new(growth(2), [log(1), log(2)]).expect("a fork");
    travels(&fork);
    let text = fork.to_string();
    assert_eq!(text.matches("signer ").count(), 2);
    let known = [log(1)];
    let parsed = UnverifiedFork::parse(text.as_bytes()).expect("a fork proof");
    assert!(matches!(
        parsed.verify(&known),
        Err(ForkError::OtherSigner { .. })
    ));
    let mixed = Fork::new(growth(2), [log(1), witness()]);
    assert_eq!(mixed, Err(ForkError::TwoSigners));
    let elsewhere = Signer::Log(log_key("souverain/other", 2));
    assert!(Fork::new(growth(2), [log(1), elsewhere]).is_err());
    assert!(Fork::new(growth(2), both(log(1))).is_err());
}

/// The keys of another log.
fn other_log() -> KeyHistory {
    let genesis = Draft {
        time_ms: 0,
        ..Log::new().entries[0].draft_unverified().clone()
    };
    KeyHistory::begin(signed(genesis, 1)).expect("begins").0
}

#[test]
fn what_a_former_key_signs_does_not_accuse_the_log() {
    let mut owner = Log::new();
    owner.push(Action::EXPORT);
    let name = owner.chain.keys().origin().as_str().to_owned();
    let checkpoint = |root, seed| {
        let origin = Origin::new(&name).expect("a name");
        let checkpoint = Checkpoint::new(origin, 2, root).expect("a checkpoint");
        let signed = checkpoint.sign(&log_key(&name, seed), sign(seed));
        signed.expect("signed").into()
    };
    let roots = |seeds: [u8; 2]| {
        let roots = [checkpoint([1; 32], seeds[0]), checkpoint([2; 32], seeds[1])];
        let signers = seeds.map(|seed| Signer::Log(log_key(&name, seed)));
        Fork::new(Evidence::Roots(roots), signers).expect("a fork")
    };
    assert_eq!(roots([1, 1]).blame(owner.chain.keys()), Blame::Log);
    owner.rotate(2);
    let keys = owner.chain.keys();
    assert_eq!(roots([1, 1]).blame(keys), Blame::FormerKey);
    assert_eq!(roots([1, 2]).blame(keys), Blame::FormerKey);
    assert_eq!(roots([2, 2]).blame(keys), Blame::Log);
    assert_eq!(roots([3, 3]).blame(keys), Blame::Stranger);
    assert_eq!(roots([2, 2]).blame(&other_log()), Blame::Stranger);
    owner.recover(1, 3);
    assert_eq!(roots([2, 2]).blame(owner.chain.keys()), Blame::FormerKey);
    let other = History { fork: 0, side: 1 };
    let both_roots = [HONEST.checkpoint(3, 1), other.checkpoint(3, 1)];
    let cosigned = Fork::new(Evidence::Roots(both_roots), both(witness())).expect("a fork");
    assert_eq!(cosigned.blame(owner.chain.keys()), Blame::Witness);
}

#[test]
fn rejects_what_it_would_not_write() {
    let other = History { fork: 5, side: 1 };
    let checkpoints = [HONEST.checkpoint(7, 1), other.checkpoint(9, 1)];
    let growth = Evidence::Growth {
        checkpoints: checkpoints.clone(),
        hashes: other.prefix(7, 9),
    };
    let good = Fork::new(growth, both(log(1))).expect("a fork").to_string();
    let line = |n: usize| good.lines().nth(n).expect("a line").to_owned();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let (first, second) = (line(3), line(4));
    let cosigned = BASE64.encode(checkpoints[0].to_string().as_bytes());
    let more = format!("{}\n", line(5)).repeat(tree::PROOF_HASHES_MAX);
    for bad in [
        String::new(),
        with("fork 1", "fork 2"),
        with("signer ", "singer "),
        with("signer ", "signer  "),
        with(&line(1), &format!("{}\n{}", line(1), line(1))),
        with(&format!("{}\n", line(1)), ""),
        with("kind growth", "kind roots"),
        with("kind growth", "kind entries"),
        with("kind growth", "kind none"),
        with(&first, &format!("first {cosigned}")),
        with(&format!("{first}\n"), ""),
        with(&format!("{first}\n{second}"), &format!("{second}\n{first}")),
        with("hash ", "hash  "),
        with("hash ", "hash A"),
        format!("{good}{more}"),
        format!("{good}\n"),
        good.trim_end().to_owned(),
    ] {
        assert!(UnverifiedFork::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    let long = UnverifiedFork::parse(&vec![b'\n'; FORK_SIZE_MAX + 1]);
    assert_eq!(long, Err(ForkError::TooLong));
}

#[test]
fn no_change_of_a_fork_proof_is_a_fork_proof() {
    let mut owner = Log::new();
    let mut other = owner.draft(Action::EXPORT);
    other.outcome = Outcome::Failed;
    let entries = [signed(owner.draft(Action::EXPORT), 1), signed(other, 1)];
    let signer = Signer::Log(owner.chain.keys().key().clone());
    let entries = Fork::new(Evidence::Entries(Box::new(entries)), both(signer)).expect("a fork");
    owner.push(Action::EXPORT);
    let history = History { fork: 5, side: 1 };
    let growth = Evidence::Growth {
        checkpoints: [HONEST.checkpoint(7, 1), history.checkpoint(9, 1)],
        hashes: history.prefix(7, 9),
    };
    let growth = Fork::new(growth, both(witness())).expect("a fork");
    for fork in [entries, growth] {
        let good = fork.to_string();
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            let parsed = UnverifiedFork::parse(&bytes);
            let verified = parsed.and_then(|parsed| parsed.verify(fork.signers()));
            assert!(verified.is_err(), "{at}");
        }
    }
}

proptest! {
    #[test]
    fn an_honest_log_cannot_be_accused(
        from in 1..40_u64, more in 0..40_u64, by_witness in any::<bool>(),
        edits in proptest::collection::vec((any::<usize>(), any::<usize>(), any::<[u8; 32]>()), 0..4),
        drop in 0..3_usize,
    ) {
        let to = from + more;
        let signer = if by_witness { witness() } else { log(1) };
        let checkpoints = [HONEST.checkpoint(from, 1), HONEST.checkpoint(to, 1)];
        let mut hashes = if more > 0 { HONEST.prefix(from, to) } else { Vec::new() };
        for (at, kind, hash) in edits {
            let at = at % (hashes.len() + 1);
            match kind % 4 {
                0 => hashes.insert(at, hash),
                _ if at == hashes.len() => {}
                1 => hashes[at] = hash,
                2 => {
                    let to = kind % hashes.len();
                    hashes.swap(at, to);
                }
                _ => hashes[at][kind % 32] ^= 1 << (kind % 8),
            }
        }
        hashes.truncate(hashes.len().saturating_sub(drop));
        let roots = Evidence::Roots(checkpoints.clone());
        prop_assert!(Fork::new(roots, both(signer.clone())).is_err());
        let growth = Evidence::Growth { checkpoints, hashes };
        prop_assert!(Fork::new(growth, both(signer)).is_err());
    }
}
