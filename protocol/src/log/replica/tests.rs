//! One replica, and what it is told by hand; networks of them are in `tests/log_simulation`.

use std::collections::BTreeMap;

use super::{limits::*, *};
use crate::log::{
    checkpoint::{Checkpoint, UnverifiedCheckpoint},
    cosignature::cosign,
    entry::Action,
    fork::{Evidence, Signer},
    testing::{Log as Author, public, sign},
    tree::{Edge, TreeError, leaf_hash, prove_consistency},
};

const PEER: Peer = Peer(1);

/// The complete nodes of the tree over some entries, and its edge.
fn tree(log: &Author) -> (Edge, BTreeMap<(u8, u64), [u8; 32]>) {
    let (mut edge, mut nodes) = (Edge::new(), BTreeMap::new());
    for entry in &log.entries {
        let pushed = edge.push_with(leaf_hash(entry.bytes()), |level, index, hash| {
            nodes.insert((level, index), *hash);
        });
        pushed.expect("room");
    }
    (edge, nodes)
}

fn signed(log: &Author) -> SignedCheckpoint {
    let (edge, keys) = (tree(log).0, log.chain.keys());
    let checkpoint = Checkpoint::new(keys.origin().clone(), edge.size(), edge.root());
    let checkpoint = checkpoint.expect("a checkpoint");
    checkpoint.sign(keys.key(), sign(log.key)).expect("signs")
}

fn kept(log: &Author) -> Kept {
    Kept {
        keys: log.chain.keys().clone(),
        edge: tree(log).0,
        checkpoint: Some(signed(log)),
        target: None,
        fork: None,
    }
}

/// A log of some entries; another `salt` makes other ones after the first three.
fn log(entries: usize, salt: u64) -> Author {
    let mut log = Author::new();
    while log.entries.len() < entries {
        let mut draft = log.draft(Action::EXPORT);
        if log.entries.len() >= 3 {
            draft.time_ms += salt;
        }
        log.add(crate::log::testing::signed(draft, log.key));
    }
    log
}

fn stretch(log: &Author, from: u64, entries_max: u64) -> Stretch {
    let (edge, nodes) = tree(log);
    let wanted = Reading {
        origin: log.chain.keys().origin().clone(),
        from,
        size: edge.size(),
        entries_max,
    };
    let entry = |index: u64| Ok::<_, TreeError>(log.entries[index as usize].bytes().to_vec());
    let changes = log.entries.iter().filter(|entry| {
        let draft = entry.draft_unverified();
        draft.control.is_some()
    });
    let changes = changes.map(|entry| entry.draft_unverified().seq);
    read_stretch(&wanted, entry, |l, i| Ok(nodes[&(l, i)]), changes).expect("read")
}

fn range(log: &Author, id: u64, from: u64, entries_max: u64) -> Message {
    let stretch = stretch(log, from, entries_max);
    Message::Range(Box::new(Range {
        id,
        checkpoint: signed(log).into(),
        entries: stretch.entries,
        grown: stretch.grown,
        rest: stretch.rest,
        changes: stretch.changes,
    }))
}

fn member(log: &Author, roles: Vec<Role>) -> Member {
    let origin = log.chain.keys().origin().clone();
    Member { origin, roles }
}

/// A replica that follows a log, of which it has something, and has one peer.
fn following(has: Option<&Author>, all: &Author, config: Config) -> Replica {
    let mut replica = Replica::new(config);
    let follow = Input::Follow {
        member: member(all, Vec::new()),
        kept: has.map(|log| Box::new(kept(log))),
    };
    replica.handle(0, follow);
    replica.handle(
        0,
        Input::Connected {
            peer: PEER,
            late: false,
        },
    );
    replica
}

fn say(replica: &mut Replica, now: u64, message: Message) -> Vec<Effect> {
    let peer = PEER;
    replica.handle(now, Input::Message { peer, message })
}

fn announce(log: &Author) -> Message {
    Message::Announce(signed(log).into())
}

fn asked(effects: &[Effect]) -> Option<Request> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send {
            message: Message::Request(request),
            ..
        } => Some(request.clone()),
        _ => None,
    })
}

fn ticket(effects: &[Effect]) -> Option<Ticket> {
    effects.iter().find_map(|effect| match effect {
        Effect::Keep { ticket, .. }
        | Effect::KeepFork { ticket, .. }
        | Effect::KeepCosigned { ticket, .. } => Some(*ticket),
        _ => None,
    })
}

fn scored(effects: &[Effect]) -> Vec<Misbehaviour> {
    let scores = effects.iter().filter_map(|effect| match effect {
        Effect::Score { because, .. } => Some(*because),
        _ => None,
    });
    scores.collect()
}

fn announced(effects: &[Effect]) -> bool {
    let told = |effect: &Effect| matches!(effect, Effect::Announce { .. });
    effects.iter().any(told)
}

#[test]
fn a_log_is_fetched_in_pieces_over_a_change_of_keys_and_told_of_when_it_is_kept() {
    let mut log = log(4, 0);
    log.rotate(2);
    log.push(Action::PULL);
    log.push(Action::PULL);
    let origin = log.chain.keys().origin().clone();
    let mut replica = following(None, &log, Config::default());
    let mut effects = say(&mut replica, 0, announce(&log));
    for (from, size) in [(0, 2), (2, 4), (4, 6), (6, 7)] {
        let request = asked(&effects).expect("asked");
        assert_eq!((request.from, replica.checkpoint(&origin)), (from, None));
        let effects_then = say(&mut replica, 0, range(&log, request.id, from, 2));
        let Some(Effect::Keep {
            ticket,
            first,
            entries,
            checkpoint,
            ..
        }) = effects_then.first()
        else {
            panic!("{effects_then:?}");
        };
        assert_eq!((*first, first + entries.len() as u64), (from, size));
        assert_eq!(checkpoint, &signed(&log));
        assert!(!announced(&effects_then));
        effects = replica.handle(0, Input::Kept { ticket: *ticket });
        assert_eq!(announced(&effects), size == 7);
    }
    assert_eq!(asked(&effects), None);
    assert_eq!(replica.checkpoint(&origin), Some(&signed(&log)));
}

#[test]
fn what_was_not_kept_is_fetched_again_when_it_is_heard_of_again() {
    let (short, long) = (log(3, 0), log(5, 0));
    let mut replica = following(Some(&short), &long, Config::default());
    for _ in 0..2 {
        let effects = say(&mut replica, 0, announce(&long));
        let request = asked(&effects).expect("asked");
        let effects = say(&mut replica, 0, range(&long, request.id, 3, 9));
        let ticket = ticket(&effects).expect("to be kept");
        let effects = replica.handle(0, Input::NotKept { ticket });
        assert!(!announced(&effects) && asked(&effects).is_none());
    }
}

#[test]
fn who_answers_wrongly_or_not_at_all_is_scored_and_another_is_asked() {
    let (short, long) = (log(3, 0), log(6, 0));
    let mut replica = following(Some(&short), &long, Config::default());
    let other = Peer(2);
    replica.handle(
        0,
        Input::Connected {
            peer: other,
            late: false,
        },
    );
    let request = asked(&say(&mut replica, 0, announce(&long))).expect("asked");
    let message = announce(&long);
    replica.handle(
        0,
        Input::Message {
            peer: other,
            message,
        },
    );
    let Message::Range(good) = range(&long, request.id, 3, 9) else {
        panic!("a range");
    };
    // Not from whom it was asked, or not asked for: nothing.
    let message = Message::Range(good.clone());
    let peer = other;
    let effects = replica.handle(0, Input::Message { peer, message });
    assert_eq!(effects, []);
    let mut wrong = good.clone();
    wrong.entries.swap(0, 1);
    let effects = say(&mut replica, 0, Message::Range(wrong));
    assert_eq!(scored(&effects), [Misbehaviour::WrongRange]);
    let request = asked(&effects).expect("asked again");
    assert!(effects.iter().any(
        |effect| matches!(effect, Effect::Send { peer, message: Message::Request(_) } if *peer == other)
    ));
    let effects = replica.handle(ANSWER_WAIT_MS, Input::Tick);
    assert_eq!(scored(&effects), [Misbehaviour::Silent]);
    let late = Message::Range(Box::new(Range {
        id: request.id,
        ..*good
    }));
    let peer = other;
    assert_eq!(
        replica.handle(
            ANSWER_WAIT_MS,
            Input::Message {
                peer,
                message: late
            }
        ),
        []
    );
}

#[test]
fn forged_ranges_are_refused() {
    let (short, long) = (log(3, 0), log(8, 0));
    let Message::Range(good) = range(&long, 0, 3, 3) else {
        panic!("a range");
    };
    let other = log(8, 5);
    let refused = |change: &dyn Fn(&mut Range)| {
        let mut replica = following(Some(&short), &long, Config::default());
        let request = asked(&say(&mut replica, 0, announce(&long))).expect("asked");
        let mut range = good.clone();
        range.id = request.id;
        change(&mut range);
        let effects = say(&mut replica, 0, Message::Range(range));
        assert!(ticket(&effects).is_none() || scored(&effects).is_empty());
        scored(&effects) == [Misbehaviour::WrongRange]
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|r| r.entries.clear()));
    assert!(refused(&|r| {
        r.entries.pop();
    }));
    assert!(refused(&|r| r.entries[1][9] ^= 1));
    assert!(refused(
        &|r| r.entries[2] = other.entries[5].bytes().to_vec()
    ));
    assert!(refused(&|r| r.grown.clear()));
    assert!(refused(&|r| r.grown[0] = [0; 32]));
    assert!(refused(&|r| r.rest.clear()));
    assert!(refused(&|r| r.rest[0] = [0; 32]));
    assert!(refused(&|r| r.checkpoint = signed(&other).into()));
    assert!(refused(&|r| {
        r.changes = vec![long.entries[0].bytes().to_vec()];
    }));
    // A stranger's signature.
    let mut stranger = log(8, 0);
    stranger.key = 9;
    let keys = stranger.chain.keys();
    let key = crate::note::VerifierKey::new(keys.origin().as_str(), public(9).as_bytes());
    let (edge, _) = tree(&stranger);
    let checkpoint = Checkpoint::new(keys.origin().clone(), edge.size(), edge.root());
    let forged = checkpoint.expect("a checkpoint");
    let forged: UnverifiedCheckpoint = forged
        .sign(&key.expect("a key"), sign(9))
        .expect("signs")
        .into();
    assert!(refused(&|r| r.checkpoint = forged.clone()));
}

/// Everything that a replica says when it has something of a log and hears something else of it.
fn told(has: &Author, hears: &Author) -> (Replica, Vec<Effect>) {
    let mut replica = following(Some(has), has, Config::default());
    let mut effects = say(&mut replica, 0, announce(hears));
    if let Some(request) = asked(&effects) {
        let answer = range(hears, request.id, request.from, request.entries_max);
        effects = say(&mut replica, 0, answer);
    }
    if let Some(Effect::Read { ticket, wanted }) = effects.first() {
        let stretch = Some(stretch(has, wanted.from, 0));
        let ticket = *ticket;
        effects = replica.handle(0, Input::Read { ticket, stretch });
    }
    effects.retain(|effect| !matches!(effect, Effect::Wake { .. }));
    (replica, effects)
}

#[test]
fn a_log_that_forked_is_frozen_when_the_proof_is_kept_and_others_are_told() {
    let origin = log(1, 0).chain.keys().origin().clone();
    for (has, hears) in [(5, 5), (5, 7), (7, 5)] {
        let (mut replica, effects) = told(&log(has, 0), &log(hears, 1));
        assert!(matches!(
            effects[..],
            [Effect::KeepFork { frozen: true, .. }]
        ));
        let ticket = ticket(&effects).expect("to be kept");
        let effects = replica.handle(0, Input::Kept { ticket });
        let Some(Effect::Announce { message }) = effects.first() else {
            panic!("{effects:?}");
        };
        assert!(effects.contains(&Effect::Frozen {
            origin: origin.clone()
        }));
        // Nothing more is taken of it, and who speaks of it is told.
        let effects = say(&mut replica, 0, announce(&log(9, 0)));
        assert!(asked(&effects).is_none());
        assert_eq!(
            effects,
            [Effect::Send {
                peer: PEER,
                message: message.clone()
            }]
        );
        assert_eq!(say(&mut replica, 1, announce(&log(9, 0))), []);
        // Who hears of the proof believes it when it has checked it.
        let mut other = following(Some(&log(2, 0)), &log(2, 0), Config::default());
        let effects = say(&mut other, 0, message.clone());
        assert!(matches!(
            effects[..],
            [Effect::KeepFork { frozen: true, .. }]
        ));
        assert_eq!(say(&mut other, 0, message.clone()), []);
    }
}

#[test]
fn an_honest_log_is_not_accused_whatever_was_seen_of_it() {
    for (has, hears) in [(5, 5), (5, 7), (7, 5), (7, 1), (1, 7)] {
        let (replica, effects) = told(&log(has, 0), &log(hears, 0));
        let fork = |effect: &Effect| matches!(effect, Effect::KeepFork { .. });
        assert!(!effects.iter().any(fork) && scored(&effects).is_empty());
        assert!(replica.fork(log(1, 0).chain.keys().origin()).is_none());
    }
}

#[test]
fn proofs_by_former_keys_are_kept_and_not_held_against_the_log() {
    let (one, two) = (log(5, 0), log(5, 1));
    let signer = Signer::Log(one.chain.keys().key().clone());
    let evidence = Evidence::Roots([signed(&one).into(), signed(&two).into()]);
    let fork = Fork::new(evidence, [signer.clone(), signer]).expect("a fork");
    let mut rotated = log(5, 0);
    rotated.rotate(2);
    rotated.push(Action::EXPORT);
    let mut replica = following(Some(&rotated), &rotated, Config::default());
    let message = Message::Fork(Box::new(fork.into()));
    let effects = say(&mut replica, 0, message.clone());
    assert!(matches!(
        effects[..],
        [Effect::KeepFork { frozen: false, .. }]
    ));
    assert_eq!(say(&mut replica, 0, message), []);
    assert!(replica.fork(rotated.chain.keys().origin()).is_none());
}

#[test]
fn a_node_whose_own_log_was_rolled_back_signs_nothing_until_it_has_what_others_have() {
    let has = log(3, 0);
    let mut lost = log(3, 0);
    lost.rotate(2);
    lost.push(Action::EXPORT);
    let config = Config {
        own: Some(has.chain.keys().origin().clone()),
        ..Config::default()
    };
    let frontiers = |heads: Vec<UnverifiedCheckpoint>| {
        Message::Frontiers(Frontiers {
            heads,
            all: true,
            reply: false,
        })
    };
    let mut replica = following(Some(&has), &has, config);
    let effects = say(&mut replica, 0, frontiers(vec![signed(&has).into()]));
    assert_eq!(effects, [Effect::Agrees { peer: PEER }]);
    let effects = say(&mut replica, 0, frontiers(vec![signed(&lost).into()]));
    let request = asked(&effects).expect("asked for what it is");
    let seen = |heals| Effect::Behind {
        seen: signed(&lost),
        heals,
    };
    let effects = say(&mut replica, 0, range(&lost, request.id, 3, 1));
    assert!(effects.contains(&seen(true)));
    let ticket = ticket(&effects).expect("to be kept");
    let effects = replica.handle(0, Input::Kept { ticket });
    let request = asked(&effects).expect("asked for the rest");
    // Said once, and nobody agrees before all of it is here.
    let effects = say(&mut replica, 0, frontiers(vec![signed(&lost).into()]));
    assert_eq!(effects, []);
    let effects = say(&mut replica, 0, range(&lost, request.id, 4, 9));
    let ticket = self::ticket(&effects).expect("to be kept");
    assert!(!effects.contains(&Effect::Healed));
    let effects = replica.handle(0, Input::Kept { ticket });
    assert!(effects.contains(&Effect::Healed));
    let effects = say(&mut replica, 0, frontiers(vec![signed(&lost).into()]));
    assert_eq!(effects, [Effect::Agrees { peer: PEER }]);
}

#[test]
fn a_node_that_signed_since_its_start_stops_when_others_have_more() {
    let has = log(3, 0);
    let config = Config {
        own: Some(has.chain.keys().origin().clone()),
        ..Config::default()
    };
    let mut replica = following(Some(&has), &has, config);
    let kept_of = |size| Input::Grew {
        kept: Box::new(kept(&log(size, 0))),
    };
    assert!(announced(&replica.handle(0, kept_of(4))));
    let elsewhere = Input::Seen {
        checkpoint: Box::new(signed(&log(6, 0))),
    };
    let seen = Effect::Behind {
        seen: signed(&log(6, 0)),
        heals: false,
    };
    assert_eq!(replica.handle(0, elsewhere), [seen]);
    assert_eq!(say(&mut replica, 0, announce(&log(7, 0))), []);
    assert!(!announced(&replica.handle(0, kept_of(5))));
}

#[test]
fn what_was_owed_before_a_start_is_owed_after_it() {
    let (has, lost) = (log(3, 0), log(5, 0));
    let config = Config {
        own: Some(has.chain.keys().origin().clone()),
        ..Config::default()
    };
    let mut replica = following(Some(&has), &has, config);
    // The latest was put back meanwhile.
    let effects = replica.handle(0, Input::Owed { size: 3 });
    assert_eq!(effects, [Effect::Healed]);
    assert_eq!(replica.handle(0, Input::Owed { size: 5 }), []);
    let effects = say(&mut replica, 0, announce(&lost));
    let request = asked(&effects).expect("asked for the rest");
    let effects = say(&mut replica, 0, range(&lost, request.id, 3, 9));
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Behind { .. }))
    );
    let ticket = ticket(&effects).expect("to be kept");
    let effects = replica.handle(0, Input::Kept { ticket });
    assert!(effects.contains(&Effect::Healed));
}

#[test]
fn a_witness_remembers_before_it_cosigns_and_cosigns_one_history() {
    let full = log(9, 0);
    let config = Config {
        cosigned: Some(BTreeMap::new()),
        ..Config::default()
    };
    let mut replica = following(Some(&log(2, 0)), &full, config);
    let ask = |replica: &mut Replica, old_size: u64, log: &Author| {
        let (edge, nodes) = tree(log);
        let node = |l, i| Ok::<_, TreeError>(nodes[&(l, i)]);
        let proof = prove_consistency(old_size, edge.size(), node).unwrap_or_default();
        let request = Box::new(AddCheckpoint {
            old_size,
            proof,
            checkpoint: signed(log).into(),
        });
        let all = replica.handle(0, Input::AddCheckpoint { call: 7, request });
        let of_call = |effect: &Effect| {
            matches!(
                effect,
                Effect::Cosign { .. } | Effect::Refuse { .. } | Effect::KeepCosigned { .. }
            )
        };
        all.into_iter().filter(of_call).collect::<Vec<_>>()
    };
    let refused = |because| vec![Effect::Refuse { call: 7, because }];
    let kept = ask(&mut replica, 0, &log(4, 0));
    assert!(matches!(kept[..], [Effect::KeepCosigned { .. }]));
    let busy = ask(&mut replica, 0, &log(4, 0));
    assert_eq!(busy, refused(Refusal::Busy));
    let ticket = ticket(&kept).expect("to be kept");
    let cosign = |size| Effect::Cosign {
        call: 7,
        checkpoint: signed(&log(size, 0)),
    };
    let effects = replica.handle(0, Input::Kept { ticket });
    assert!(effects.contains(&cosign(4)));
    assert_eq!(ask(&mut replica, 4, &log(4, 0)), [cosign(4)]);
    let conflict = Refusal::Conflict { size: 4 };
    assert_eq!(ask(&mut replica, 0, &log(6, 0)), refused(conflict));
    assert_eq!(ask(&mut replica, 5, &log(4, 0)), refused(Refusal::Shrinks));
    assert_eq!(
        ask(&mut replica, 4, &log(8, 1)),
        refused(Refusal::WrongProof)
    );
    let mut other = Author::new();
    other.rotate(3);
    other.key = 3;
    assert_eq!(ask(&mut replica, 4, &other), refused(Refusal::Forbidden));
    let kept = ask(&mut replica, 4, &log(7, 0));
    let ticket = self::ticket(&kept).expect("to be kept");
    let effects = replica.handle(0, Input::NotKept { ticket });
    assert!(effects.contains(&Effect::Refuse {
        call: 7,
        because: Refusal::Busy
    }));
    // It remembers 4, in the next life too.
    let cosigned = BTreeMap::from([(full.chain.keys().origin().clone(), signed(&log(4, 0)))]);
    let config = Config {
        cosigned: Some(cosigned),
        ..Config::default()
    };
    let mut replica = following(Some(&log(2, 0)), &full, config);
    assert_eq!(ask(&mut replica, 0, &log(4, 0)), refused(conflict));
    assert_eq!(
        ask(&mut replica, 4, &log(4, 1)),
        refused(Refusal::WrongProof)
    );
    let mut none = following(Some(&log(2, 0)), &full, Config::default());
    assert_eq!(ask(&mut none, 0, &full), refused(Refusal::UnknownLog));
}

#[test]
fn cosignatures_of_members_are_gathered_and_other_lines_are_not() {
    let has = log(3, 0);
    let key = |seed: u8| {
        let name = format!("witness.example/{seed}");
        CosignerKey::new(&name, public(seed).as_bytes()).expect("a key")
    };
    let line = |seed: u8| {
        let signed = signed(&has);
        cosign(signed.checkpoint(), &key(seed), 5, sign(seed)).expect("signs")
    };
    let mut replica = following(Some(&has), &has, Config::default());
    let roles = vec![Role::Witness(Box::new(key(20)))];
    let follow = Input::Follow {
        member: member(&has, roles),
        kept: None,
    };
    replica.handle(0, follow);
    let (mut all, mut good) = (signed(&has), signed(&has));
    all.push(line(21)).expect("room");
    all.push(line(20)).expect("room");
    good.push(line(20)).expect("room");
    let effects = say(&mut replica, 0, Message::Announce(all.clone().into()));
    let Some(Effect::Keep {
        ticket,
        entries,
        checkpoint,
        ..
    }) = effects.first()
    else {
        panic!("{effects:?}");
    };
    assert_eq!((entries.len(), checkpoint), (0, &good));
    let effects = replica.handle(0, Input::Kept { ticket: *ticket });
    let message = Message::Announce(good.into());
    assert_eq!(effects, [Effect::Announce { message }]);
    assert_eq!(say(&mut replica, 0, Message::Announce(all.into())), []);
}

#[test]
fn a_flood_is_not_looked_at() {
    let has = log(3, 0);
    let mut replica = following(Some(&has), &has, Config::default());
    let request = |id| {
        Message::Request(Request {
            id,
            origin: has.chain.keys().origin().clone(),
            from: 3,
            entries_max: 1,
        })
    };
    for id in 0..CHECKS_SAVED_MAX {
        assert_eq!(say(&mut replica, 0, request(id)).len(), 1);
    }
    let effects = say(&mut replica, 0, request(0));
    assert_eq!(scored(&effects), [Misbehaviour::Flood]);
    assert_eq!(say(&mut replica, 0, request(0)), []);
    assert_eq!(say(&mut replica, 4, request(0)).len(), 1);
    // Strangers are not listened to at all.
    let (peer, message) = (Peer(9), request(0));
    let effects = replica.handle(4, Input::Message { peer, message });
    assert_eq!(effects, []);
}
