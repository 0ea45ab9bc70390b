//! What owners do with keys, and what thieves cannot.

use super::*;
use crate::{
    log::{
        chain::ChainReason,
        checkpoint::Checkpoint,
        entry::{Action, Draft},
        testing::{Log, public, sign, signed},
    },
    note::PublicKey,
};

/// Why a log does not take an entry as its next.
fn refused(log: &Log, draft: Draft, seed: u8) -> KeyError {
    let entry = signed(draft, seed);
    let mut chain = log.chain.clone();
    let error = chain.push(entry).expect_err("refused");
    assert_eq!(chain, log.chain);
    match error.reason {
        ChainReason::Keys(reason) => reason,
        other => panic!("{other}"),
    }
}

fn wrong() -> KeyError {
    EntryError::WrongSignature.into()
}

/// The keys whose checkpoints of each size count.
fn checkpoint_keys(log: &Log, sizes: std::ops::Range<u64>) -> Vec<Vec<PublicKey>> {
    let keys = log.chain.keys();
    let of = |size| keys.checkpoint_keys(size).into_iter();
    sizes
        .map(|size| of(size).map(|key| *key.public()).collect())
        .collect()
}

#[test]
fn the_origin_is_of_the_first_entry_and_stays_when_keys_do_not() {
    let mut log = Log::new();
    let origin = log.chain.keys().origin().clone();
    let genesis = log.chain.keys().head().to_string();
    assert_eq!(origin.as_str(), format!("souverain/{genesis}"));
    log.rotate(2);
    log.recover(1, 3);
    let keys = log.chain.keys();
    assert_eq!(keys.origin(), &origin);
    assert_eq!(keys.key().name(), origin.as_str());
    assert_eq!(keys.key().public(), &public(3));
    let vkey = keys.key().to_string();
    assert_eq!(vkey.parse().as_ref(), Ok(keys.key()));
}

#[test]
fn a_rotated_key_signs_from_the_next_entry_on_and_the_one_before_no_more() {
    let mut log = Log::new();
    log.push(Action::EXPORT);
    log.rotate(2);
    log.push(Action::PULL);
    let keys = log.chain.keys();
    let signers = [0, 1, 2, 3, 9].map(|index| *keys.key_at(index));
    assert_eq!(signers, [1, 1, 1, 2, 2].map(public));
    assert_eq!(keys.epoch(), 2);
    // A checkpoint up to the rotation may be signed by either.
    let [one, two] = [1, 2].map(public);
    let expected: [&[_]; 6] = [&[one], &[one], &[one], &[one, two], &[two], &[two]];
    assert_eq!(checkpoint_keys(&log, 0..6), expected);
}

#[test]
fn a_thief_of_an_old_key_gains_nothing() {
    let mut log = Log::new();
    log.push(Action::EXPORT);
    log.rotate(2);
    log.push(Action::PULL);
    assert_eq!(refused(&log, log.draft(Action::EXPORT), 1), wrong());
    let mut old = log.draft(Action::EXPORT);
    old.epoch = 1;
    let epoch = KeyError::Epoch {
        expected: 2,
        found: 1,
    };
    assert_eq!(refused(&log, old, 1), epoch);
    // Nor can it rotate, recover, or sign a checkpoint of what came after.
    assert_eq!(refused(&log, log.rotation(9), 1), wrong());
    assert_eq!(refused(&log, log.recovery(1, 9), 1), wrong());
    assert!(
        checkpoint_keys(&log, 4..20)
            .iter()
            .all(|keys| *keys == [public(2)])
    );
}

#[test]
fn a_thief_of_the_key_is_undone_by_the_recovery_key() {
    let mut log = Log::new();
    log.push(Action::EXPORT);
    // The thief writes, and makes way for a key of its own.
    log.push(Action::ERASE);
    log.rotate(66);
    log.push(Action::ERASE);
    let stolen = log.clone();
    log.recover(2, 3);
    log.push(Action::EXPORT);
    let keys = log.chain.keys();
    let by = Standing::Revoked { by: 5 };
    let standing = [0, 1, 2, 3, 4, 5, 6].map(|index| keys.standing(index));
    let vouched = Standing::Vouched;
    assert_eq!(standing, [vouched, vouched, by, by, by, vouched, vouched]);
    let revoked = [0, 2, 3, 4, 5, 7, u64::MAX].map(|size| keys.revoked_of(size));
    assert_eq!(revoked, [0, 0, 1, 2, 3, 3, 3]);
    assert_eq!(keys.epoch(), 3);
    let signers = [1, 2, 4, 5, 6].map(|index| *keys.key_at(index));
    assert_eq!(signers, [1, 1, 66, 101, 3].map(public));
    // What is on record goes on being checked, and counts for nothing.
    let (mut chain, _) = crate::log::chain::Chain::begin(log.entries[0].clone()).expect("begins");
    for entry in &log.entries[1..] {
        chain.push(entry.clone()).expect("the next");
    }
    let expected: [&[_]; 8] = [
        &[public(1)],
        &[public(1)],
        &[public(1)],
        &[],
        &[],
        &[],
        &[public(3)],
        &[public(3)],
    ];
    assert_eq!(checkpoint_keys(&log, 0..8), expected);
    // Both of the thief's keys are worth nothing from here on.
    for seed in [1, 66] {
        assert_eq!(refused(&log, log.draft(Action::ERASE), seed), wrong());
        assert_eq!(refused(&log, log.rotation(9), seed), wrong());
        assert_eq!(refused(&log, log.recovery(6, 9), seed), wrong());
    }
    // Without the recovery key it could not have done the same.
    assert_eq!(refused(&stolen, stolen.recovery(2, 9), 66), wrong());
    let mut other = stolen.clone();
    other.recovery = 66;
    assert_eq!(
        refused(&other, other.recovery(2, 9), 66),
        KeyError::OtherRecovery
    );
}

#[test]
fn an_entry_of_a_thief_at_the_index_of_a_recovery_is_of_another_epoch() {
    let mut log = Log::new();
    log.push(Action::EXPORT);
    let thief = log.draft(Action::ERASE);
    log.recover(1, 3);
    let recovery = log.entries[2].draft_unverified();
    assert_eq!((recovery.seq, recovery.epoch), (thief.seq, thief.epoch + 1));
}

#[test]
fn rejects_keys_that_are_not_new_or_did_not_sign_for_the_log() {
    let mut log = Log::new();
    log.rotate(2);
    log.recover(1, 3);
    for seed in [1, 2, 3, 101] {
        assert_eq!(
            refused(&log, log.rotation(seed), 3),
            KeyError::Reused,
            "{seed}"
        );
    }
    let changed = |change: &dyn Fn(&mut [u8; 32], &mut [u8; 64])| {
        let mut draft = log.rotation(4);
        if let Some(Control::Rotate { key, proof }) = &mut draft.control {
            change(key, proof);
        }
        refused(&log, draft, 3)
    };
    assert_eq!(changed(&|_, proof| *proof = [0; 64]), KeyError::NoProof);
    assert_eq!(
        changed(&|_, proof| *proof = log.proof(5)),
        KeyError::NoProof
    );
    assert_eq!(
        changed(&|key, _| *key = *public(5).as_bytes()),
        KeyError::NoProof
    );
    assert!(matches!(
        changed(&|key, _| *key = [0; 32]),
        KeyError::Key(_)
    ));
    // The proof is of one place in one log.
    let mut earlier = log.clone();
    earlier.push(Action::EXPORT);
    let proof_then = log.proof(4);
    let mut draft = earlier.rotation(4);
    if let Some(Control::Rotate { proof, .. }) = &mut draft.control {
        *proof = proof_then;
    }
    assert_eq!(refused(&earlier, draft, 3), KeyError::NoProof);
}

#[test]
fn rejects_recoveries_that_go_too_far_or_repeat_themselves() {
    let mut log = Log::new();
    log.push(Action::EXPORT);
    log.recover(1, 2);
    log.push(Action::EXPORT);
    for from in [0, 1, 2, 5, u64::MAX] {
        let revokes = KeyError::Revokes { seq: 4, from };
        assert_eq!(refused(&log, log.recovery(from, 3), 102), revokes, "{from}");
    }
    let mut spent = log.clone();
    spent.recovery = 101;
    assert_eq!(
        refused(&spent, spent.recovery(3, 3), 101),
        KeyError::OtherRecovery
    );
    let mut again = log.recovery(3, 3);
    if let Some(Control::Recover { recovery, .. }) = &mut again.control {
        *recovery = *log.chain.keys().commitment();
    }
    assert_eq!(refused(&log, again, 102), KeyError::Reused);
    // Revoking nothing but the key itself is fine, and so is all since the last recovery.
    for from in [3, 4] {
        let entry = signed(log.recovery(from, 3), 102);
        assert!(log.chain.clone().push(entry).is_ok(), "{from}");
    }
}

#[test]
fn rejects_another_genesis_and_entries_out_of_order() {
    let mut log = Log::new();
    log.push(Action::EXPORT);
    log.push(Action::EXPORT);
    let mut keys = log.chain.keys().clone();
    for (seq, entry) in log.entries.iter().enumerate() {
        let order = KeyError::OutOfOrder {
            last: 2,
            found: seq as u64,
        };
        assert_eq!(keys.admit(entry.clone()), Err(order));
    }
    // A first entry that another key signed than it names.
    let genesis = log.entries[0].draft_unverified().clone();
    let begun = KeyHistory::begin(signed(genesis, 2));
    assert_eq!(begun, Err(wrong()));
}

#[test]
fn checkpoints_of_a_log_are_signed_in_its_name() {
    let log = Log::new();
    let keys = log.chain.keys();
    let checkpoint = Checkpoint::new(keys.origin().clone(), 1, [9; 32]).expect("a checkpoint");
    let signed = checkpoint.sign(keys.key(), sign(1)).expect("signed");
    let first = signed.to_string();
    assert!(first.starts_with("souverain/bafyrei"), "{first}");
    // What a log's key signs of one kind is never of another.
    assert!(!first.starts_with("souverain/log-"));
}
