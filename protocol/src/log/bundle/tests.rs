//! Bundles of a log that changed its keys, and all that is near them.

use super::*;
use crate::log::{
    checkpoint::Checkpoint,
    detail::{Detail, Details},
    entry::Action,
    testing::{Log, sign, signed},
    tree::{Edge, prove_inclusion, prove_range},
};

type Nodes = std::collections::BTreeMap<(u8, u64), Hash>;

/// A log whose key gave way to another, and was taken back later.
fn log() -> Log {
    let mut log = Log::new();
    log.push(Action::EXPORT);
    log.rotate(2);
    log.push(Action::SHARE);
    log.push(Action::PULL);
    log.recover(4, 3);
    log.push(Action::EXPORT);
    log.push(Action::EXPORT);
    log
}

fn nodes(log: &Log) -> (Nodes, Edge) {
    let (mut nodes, mut edge) = (Nodes::new(), Edge::new());
    for entry in &log.entries {
        let leaf = tree::leaf_hash(entry.bytes());
        edge.push_with(leaf, |level, index, hash| {
            nodes.insert((level, index), *hash);
        })
        .expect("room");
    }
    (nodes, edge)
}

/// A bundle of a part of it, and the entries that come after its root.
fn bundled(log: &Log, first: u64, count: u64) -> (Bundle, Vec<UnverifiedEntry>) {
    let (nodes, edge) = nodes(log);
    let node = |level, index| Ok::<_, TreeError>(nodes[&(level, index)]);
    let size = edge.size();
    let checkpoint = Checkpoint::new(log.chain.keys().origin().clone(), size, edge.root());
    let signed = checkpoint
        .expect("a checkpoint")
        .sign(log.chain.keys().key(), sign(log.key))
        .expect("signed");
    let range = first..first + count;
    let is_control = |index: &u64| {
        let entry = &log.entries[*index as usize];
        entry.draft_unverified().control.is_some() && !range.contains(index)
    };
    let controls: Vec<u64> = (0..size).filter(is_control).collect();
    let entries = controls.iter().copied().chain(range.clone());
    let entries = entries.map(|index| log.entries[index as usize].clone());
    let entries = entries.collect();
    let proof = |index| prove_inclusion(index, size, node).expect("proves");
    let bundle = Bundle {
        checkpoint: signed.to_string(),
        first,
        count,
        range: prove_range(range, size, node).expect("proves"),
        controls: controls
            .iter()
            .map(|index| (*index, proof(*index)))
            .collect(),
        policy: None,
        forks: Vec::new(),
        disclosures: Vec::new(),
        sealed: 0,
    };
    (bundle, entries)
}

fn refused(bundle: &Bundle, entries: &[UnverifiedEntry]) -> BundleError {
    verify(bundle, entries.to_vec(), Trust::default()).expect_err("refused")
}

#[test]
fn each_part_of_a_log_is_proven_by_its_bundle() {
    let log = log();
    let size = log.entries.len() as u64;
    let vkey = log.chain.keys().keys().next().expect("a key").clone();
    for first in 0..size {
        for count in 1..=size - first {
            let (bundle, entries) = bundled(&log, first, count);
            let bytes = bundle.block().expect("short").bytes().to_vec();
            assert_eq!(Bundle::parse(&bytes).expect("a bundle"), bundle);
            let trust = Trust {
                vkey: Some(&vkey),
                policy: None,
            };
            let audited = verify(&bundle, entries, trust).expect("holds");
            let found: Vec<u64> = audited.entries.iter().map(|(e, _)| e.draft().seq).collect();
            assert_eq!(found, (first..first + count).collect::<Vec<_>>());
            for (entry, standing) in &audited.entries {
                let revoked = entry.draft().seq == 4;
                assert_eq!(*standing != Standing::Vouched, revoked);
            }
        }
    }
}

#[test]
fn a_bundle_that_was_changed_is_refused_and_says_where() {
    let log = log();
    let (good, entries) = bundled(&log, 3, 2);
    assert!(verify(&good, entries.clone(), Trust::default()).is_ok());
    let with = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        refused(&bundle, &entries)
    };
    assert!(matches!(
        with(&|b| b.range[0][0] ^= 1),
        BundleError::Range {
            first: 3,
            last: 4,
            ..
        }
    ));
    assert!(matches!(
        with(&|b| b.range.truncate(b.range.len() - 1)),
        BundleError::Range { .. }
    ));
    assert!(matches!(
        with(&|b| b.controls[1].1[0][0] ^= 1),
        BundleError::Control { index: 2, .. }
    ));
    assert!(matches!(
        with(&|b| b.controls[1].0 = 1),
        BundleError::NoControl { index: 1 }
    ));
    assert!(matches!(with(&|b| b.count = 1), BundleError::Count { .. }));
    assert!(matches!(
        with(&|b| b.first = 2),
        BundleError::NoControl { .. }
    ));
    let other = good.checkpoint.replacen("\n8\n", "\n9\n", 1);
    assert!(matches!(
        with(&|b| b.checkpoint = other.clone()),
        BundleError::Checkpoint(_)
    ));
    assert!(matches!(
        with(&|b| b.forks = vec!["x".to_owned()]),
        BundleError::Fork(_)
    ));
    // Left out, swapped, or of another log.
    let left_out = |at: usize| {
        let mut some = entries.clone();
        some.remove(at);
        refused(&good, &some)
    };
    (0..entries.len()).for_each(|at| {
        assert!(matches!(left_out(at), BundleError::Count { .. }));
    });
    for (one, two) in [(0, 1), (2, 3), (1, 4)] {
        let mut swapped = entries.clone();
        swapped.swap(one, two);
        refused(&good, &swapped);
    }
    let mut without = good.clone();
    without.controls.pop();
    let mut fewer = entries.clone();
    fewer.remove(2);
    assert!(matches!(
        refused(&without, &fewer),
        BundleError::Checkpoint(_)
    ));
}

#[test]
fn only_the_key_that_is_trusted_vouches() {
    let log = log();
    let (bundle, entries) = bundled(&log, 6, 1);
    let name = log.chain.keys().origin().as_str();
    let stranger = crate::log::testing::public(9);
    let same_name = VerifierKey::new(name, stranger.as_bytes()).expect("a key");
    let other_name = VerifierKey::new("example.com", stranger.as_bytes()).expect("a key");
    for (vkey, is_name) in [(same_name, true), (other_name, false)] {
        let trust = Trust {
            vkey: Some(&vkey),
            policy: None,
        };
        match verify(&bundle, entries.clone(), trust).expect_err("refused") {
            BundleError::OtherKey { .. } => assert!(is_name),
            BundleError::OtherLog { .. } => assert!(!is_name),
            other => panic!("{other:?}"),
        }
    }
    let text = "quorum none\n";
    let policy = Policy::parse(text.as_bytes()).expect("a policy");
    let trust = Trust {
        vkey: None,
        policy: Some(&policy),
    };
    assert!(verify(&bundle, entries, trust).is_ok());
}

#[test]
fn a_detail_is_disclosed_if_the_entry_commits_to_it() {
    let detail = Detail {
        value: b"/home/ada".to_vec(),
        salt: [5; 32],
    };
    let details = [("source".to_owned(), detail)].into_iter().collect();
    let details = Details::new(details).expect("short");
    let mut log = Log::new();
    let mut draft = log.draft(Action::EXPORT);
    draft.commit = details.commitments();
    log.add(signed(draft, 1));
    let (mut bundle, entries) = bundled(&log, 1, 1);
    bundle.disclosures = vec![details.disclose(1, "source").expect("it is there")];
    let bundle = Bundle::parse(bundle.block().expect("short").bytes()).expect("a bundle");
    let audited = verify(&bundle, entries.clone(), Trust::default()).expect("holds");
    let expected = (1, "source".to_owned(), b"/home/ada".to_vec());
    assert_eq!(audited.disclosed, [expected]);
    let mut other = bundle.clone();
    other.disclosures = vec![details.disclose(0, "source").expect("it is there")];
    assert!(matches!(
        refused(&other, &entries),
        BundleError::NoEntry { index: 0 }
    ));
    let mut lie = Detail {
        value: b"/home/eve".to_vec(),
        salt: [5; 32],
    };
    lie.salt[0] = 5;
    let lies = Details::new([("source".to_owned(), lie)].into_iter().collect()).expect("short");
    other.disclosures = vec![lies.disclose(1, "source").expect("it is there")];
    assert!(matches!(refused(&other, &entries), BundleError::Detail(_)));
}

#[test]
fn rejects_what_it_would_not_write() {
    let (bundle, _) = bundled(&log(), 1, 3);
    let good = bundle.encode();
    assert!(Bundle::parse(&good).is_ok());
    for cut in 0..good.len() {
        assert!(Bundle::parse(&good[..cut]).is_err(), "{cut}");
    }
    assert!(Bundle::parse(&[&good[..], &[0]].concat()).is_err());
    let later = serde_ipld_dagcbor::to_vec(&std::collections::BTreeMap::from([("v", 2)]));
    let later = Bundle::parse(&later.expect("serializes"));
    assert!(matches!(
        later,
        Err(BundleError::LaterVersion { version: 2 })
    ));
    let mut none = bundle.clone();
    none.count = 0;
    assert!(none.block().is_err());
    let mut many = bundle;
    many.count = BUNDLE_ENTRIES_MAX + 1;
    assert!(matches!(
        many.block(),
        Err(BundleError::TooLong { what: "range" })
    ));
}
