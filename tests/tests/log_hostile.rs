//! What a member of the federation says of logs that is not so, too long, said before or never made good: a node believes
//! none of it, passes none of it on, and goes on following.

use std::{
    collections::HashMap,
    process::Command,
    sync::{Arc, Mutex, OnceLock},
};

use agent::{
    federation::witness_name,
    log::key::{LogKey, WitnessKey},
};
use data_encoding::BASE64;
use protocol::{
    log::{
        checkpoint::UnverifiedCheckpoint,
        fork::UnverifiedFork,
        replica::{
            Frontiers, Message, Request,
            limits::{GOSSIP_SIZE_MAX, HEAD_SIZE_MAX, HEADS_PER_MESSAGE_MAX, MESSAGE_SIZE_MAX},
        },
    },
    note::VerifierKey,
};
use souverain_tests::{
    federation::{befriend, export, kept, origin, peer, until, wait_for_all},
    log::{Branch, Signing, checkpoint},
    member::RawMember,
    program::{Sandbox, program},
    running::Running,
};

/// Most memory that a node may have resident that is told too much, in KiB.
const MEMORY_KIB_MAX: u64 = 256 << 10;

fn key(seed: u8) -> &'static LogKey {
    Box::leak(Box::new(LogKey::new(&[seed; 32].into())))
}

/// A member of a home's federation that answers nothing, and is connected.
fn join(home: &Sandbox, seed: u8) -> RawMember {
    let member = RawMember::start(|_, _| Vec::new());
    let log = Signing::begin(key(seed), seed);
    home.ok(&["peer", "add", &member.invite(log.vkey())]);
    until("it is connected", || {
        (member.connections() > 0).then_some(())
    });
    member
}

/// The checkpoint that a home's own log has.
fn head(of: &Sandbox) -> UnverifiedCheckpoint {
    let note = of.run(&["log", "checkpoint"]).succeeded().stdout;
    UnverifiedCheckpoint::parse(note.as_bytes()).expect("a checkpoint")
}

fn announced(checkpoint: impl Into<UnverifiedCheckpoint>) -> Vec<u8> {
    Message::Announce(checkpoint.into()).encode()
}

/// Waits until a member has heard, as gossip, of the latest of a log.
fn hears_of(member: &RawMember, of: &Sandbox) {
    until("it is gossiped", || {
        member.heard().contains(&announced(head(of))).then_some(())
    });
}

/// The same checkpoint with another root, under the signatures that it has.
fn changed(head: &UnverifiedCheckpoint, root: u8) -> UnverifiedCheckpoint {
    let said = head.checkpoint_unverified().root();
    let text = head.to_string();
    let text = text.replace(&BASE64.encode(said), &BASE64.encode(&[root; 32]));
    UnverifiedCheckpoint::parse(text.as_bytes()).expect("a checkpoint")
}

/// A fork proof of two checkpoints, the one with the lesser root first, which need not be one.
fn fork(signer: &str, checkpoints: [&UnverifiedCheckpoint; 2]) -> Vec<u8> {
    let [first, second] = checkpoints.map(|one| BASE64.encode(one.to_string().as_bytes()));
    let proof = format!(
        "souverain log fork 1\nsigner {signer}\nkind roots\nfirst {first}\nsecond {second}\n"
    );
    let proof = UnverifiedFork::parse(proof.as_bytes()).expect("its form is good");
    Message::Fork(Box::new(proof)).encode()
}

/// A lie about a log with this key and these checkpoints, the latest last; for each number it is another one.
type Lie = fn(&str, &[UnverifiedCheckpoint], usize) -> Vec<u8>;

/// Lies that whoever hears them knows to be some.
const LIES: [(&str, Lie); 5] = [
    ("ForgedCheckpoint", |_, heads, n| {
        announced(changed(latest(heads), n as u8))
    }),
    ("ForgedCheckpoint", |_, heads, n| {
        let said = latest(heads).checkpoint_unverified();
        let name = said.origin().as_str();
        announced(checkpoint(key(9), name, said.size(), [n as u8; 32]))
    }),
    // The text of one log, with the signature of another.
    ("ForgedCheckpoint", |_, heads, n| {
        let root = [n as u8; 32];
        let other = Signing::begin(key(9), 9).checkpoint(3, root);
        let line = &other.note().signatures()[0];
        let said = changed(latest(heads), n as u8);
        let note = format!("{}\n{line}\n", said.note().text_unverified());
        announced(UnverifiedCheckpoint::parse(note.as_bytes()).expect("a checkpoint"))
    }),
    // The two statements go together.
    ("WrongFork", |vkey, heads, n| {
        let head = &heads[n % heads.len()];
        fork(vkey, [head, head])
    }),
    // The log signed one of them only.
    ("WrongFork", |vkey, heads, n| {
        let head = &heads[n % heads.len()];
        fork(vkey, [&changed(head, 0), head])
    }),
];

/// What may be so, as far as who hears it knows: a key that it has not heard of yet may have signed it.
fn unproven(heads: &[UnverifiedCheckpoint], n: u8) -> [Vec<u8>; 2] {
    let said = latest(heads).checkpoint_unverified();
    let name = said.origin().as_str();
    let signed = |size, root| checkpoint(key(9), name, size, [root; 32]);
    let signer = VerifierKey::new(name, key(9).public().as_bytes()).expect("a key");
    let two = [signed(3, 1).into(), signed(3, n.max(2)).into()];
    [
        announced(signed(said.size() + 1, n)),
        fork(&signer.to_string(), [&two[0], &two[1]]),
    ]
}

fn latest(heads: &[UnverifiedCheckpoint]) -> &UnverifiedCheckpoint {
    heads.last().expect("some")
}

#[test]
fn a_lie_is_not_passed_on_and_who_gossips_it_is_kept_out() {
    let [a, b] = [(); 2].map(|()| Sandbox::new());
    let (running, _b) = (Running::start(&a, &[]), Running::start(&b, &[]));
    befriend(&a, &b);
    // It hears what the node passes on: first of all what is true.
    let neighbour = join(&a, 1);
    let heads: Vec<_> = (0..8)
        .map(|n| {
            export(&b, &format!("{n}"));
            head(&b)
        })
        .collect();
    wait_for_all(&a, &b);
    hears_of(&neighbour, &b);
    let vkey = b.ok(&["log", "vkey"]);
    let mut told = Vec::new();
    let doubtful = join(&a, 2);
    for n in 0..8 {
        for lie in unproven(&heads, n) {
            doubtful.gossip(&lie);
            told.push(lie);
        }
    }
    for (seed, (_, lie)) in (10..).zip(LIES) {
        let liar = join(&a, seed);
        let mut lies = (1..).map(|n| lie(&vkey, &heads, n));
        until("it is kept out", || {
            // Each is heard once.
            told.push(lies.next().expect("one more"));
            let _ = liar.try_gossip(told.last().expect("one"));
            (liar.connections() == 0).then_some(())
        });
    }
    assert!(
        doubtful.connections() > 0,
        "it may have been lied to itself"
    );
    export(&b, "later");
    wait_for_all(&a, &b);
    hears_of(&neighbour, &b);
    let heard = neighbour.heard();
    let passed_on = told.iter().filter(|lie| heard.contains(lie)).count();
    assert_eq!(passed_on, 0, "of {}", told.len());
    assert_eq!(a.ok(&["log", "fork"]), "");
    a.ok(&["log", "verify", &origin(&b), "--vkey", &vkey]);
    let said = running.stop();
    for (because, _) in LIES {
        assert!(said.matches(because).count() >= 4, "{said}");
    }
}

#[test]
fn a_witness_that_cosigns_two_histories_is_proven_to_have_done_so() {
    let [a, b] = [(); 2].map(|()| Sandbox::new());
    let (running, _b) = (Running::start(&a, &[]), Running::start(&b, &[]));
    befriend(&a, &b);
    // A log and a witness in one, who shows each of them another history.
    let common = Branch::new(Signing::begin(key(3), 3), 5);
    let mut histories = HashMap::new();
    for (home, time_ms) in [(&a, 1), (&b, 2)] {
        let mut history = common.clone();
        history.push(time_ms);
        histories.insert(peer(home), history);
    }
    let cosigner: Arc<OnceLock<WitnessKey>> = Arc::default();
    let cosigns = cosigner.clone();
    let liar = RawMember::start(move |to, message| {
        let (Some(history), Some(witness)) = (histories.get(&to), cosigns.get()) else {
            return Vec::new();
        };
        let mut checkpoint = history.checkpoint();
        let line = witness.cosign(checkpoint.checkpoint(), 1).expect("a time");
        checkpoint.push(line).expect("room");
        match message {
            Message::Frontiers(_) => vec![Message::Announce(checkpoint.into())],
            Message::Request(request) => vec![history.answer(&request, checkpoint)],
            _ => Vec::new(),
        }
    });
    let witness = WitnessKey::new(&witness_name(&liar.id), &[4; 32].into()).expect("a key");
    let log = common.vkey().to_string();
    let accused = [log.clone(), witness.key().to_string()];
    let invite = format!("{} {}", liar.invite(common.vkey()), witness.key());
    cosigner.set(witness).expect("once");
    for home in [&a, &b] {
        home.ok(&["peer", "add", &invite, "--role", "witness"]);
    }
    let proven = |home: &Sandbox| {
        let listed = until("the proofs arrive", || {
            let listed = home.run(&["log", "fork", "--json"]).succeeded().objects();
            (listed.len() == 2).then_some(listed)
        });
        for (signer, accuses_log) in accused.iter().zip([true, false]) {
            let proof = listed.iter().find(|one| one["accuses_log"] == accuses_log);
            let proof = proof.expect("one of each");
            assert_eq!(proof["origin"], common.vkey().name());
            let file = proof["file"].as_str().expect("a file");
            for vkey in &accused {
                // A namespace of its own has no network.
                let checked = Command::new("unshare")
                    .args(["-r", "-n"])
                    .arg(program())
                    .args(["log", "fork", file, "--vkey", vkey])
                    .output();
                let expected = if vkey == signer { 0 } else { 3 };
                assert_eq!(checked.expect("runs").status.code(), Some(expected));
            }
        }
        assert!(home.ok(&["peer", "list"]).contains("FORKED"));
    };
    proven(&a);
    proven(&b);
    running.stop();
    let _a = Running::start(&a, &[]);
    proven(&a);
    export(&b, "later");
    wait_for_all(&a, &b);
}

#[test]
fn what_is_too_long_is_refused_and_what_was_said_before_changes_nothing() {
    let [a, b] = [(); 2].map(|()| Sandbox::new());
    let (running, _b) = (Running::start(&a, &[]), Running::start(&b, &[]));
    befriend(&a, &b);
    wait_for_all(&a, &b);
    let (neighbour, parrot) = (join(&a, 1), join(&a, 2));
    let node = peer(&a);
    export(&b, "heard");
    hears_of(&neighbour, &b);
    let before = announced(head(&b));
    export(&b, "more");
    hears_of(&neighbour, &b);
    let size = kept(&a, &origin(&b));
    for _ in 0..5_000 {
        parrot.say_raw(node, &before);
    }
    for _ in 0..500 {
        parrot.gossip(&before);
    }
    // A list of heads that is as long as any may be is read.
    let frontiers = |count: usize| {
        let heads = vec![head(&b); count];
        let (all, reply) = (true, true);
        Message::Frontiers(Frontiers { heads, all, reply }).encode()
    };
    parrot.say_raw(node, &frontiers(HEADS_PER_MESSAGE_MAX));
    let mut note = head(&b).to_string();
    while note.len() < 2 * HEAD_SIZE_MAX {
        let line = note.lines().last().expect("a signature").to_owned();
        note.push_str(&format!("{line}\n"));
    }
    let note = UnverifiedCheckpoint::parse(note.as_bytes()).expect("a checkpoint");
    let too_long = [
        announced(note),
        frontiers(HEADS_PER_MESSAGE_MAX + 1),
        vec![0; MESSAGE_SIZE_MAX],
    ];
    for (seed, said) in (10..).zip(too_long) {
        let talker = join(&a, seed);
        until("it is kept out", || {
            talker.say_raw(node, &said);
            (talker.connections() == 0).then_some(())
        });
    }
    let gossip = join(&a, 20);
    let long = frontiers(150);
    assert!((GOSSIP_SIZE_MAX..2 * GOSSIP_SIZE_MAX).contains(&long.len()));
    let mut ends = (0..=u8::MAX).cycle();
    until("it is kept out", || {
        // The same is heard once.
        let one = [&long[..], &[ends.next().expect("one more")]].concat();
        let _ = gossip.try_gossip(&one);
        (gossip.connections() == 0).then_some(())
    });
    // What is longer yet is not even taken in.
    let flooder = join(&a, 21);
    for _ in 0..200 {
        let _ = flooder.try_gossip(&vec![0; 2 * GOSSIP_SIZE_MAX + 1]);
    }
    assert!(parrot.connections() > 0, "it said nothing that is not so");
    assert!(kept(&a, &origin(&b)) >= size);
    export(&b, "later");
    wait_for_all(&a, &b);
    hears_of(&neighbour, &b);
    let heard = neighbour.heard();
    assert_eq!(heard.iter().filter(|one| **one == before).count(), 1);
    assert!(running.memory_kib() < MEMORY_KIB_MAX);
}

#[test]
fn a_log_that_its_teller_does_not_give_in_whole_is_taken_on_from_another() {
    let a = Sandbox::new();
    let _a = Running::start(&a, &[]);
    for (seed, vanishes) in [(3, false), (5, true)] {
        let log = Branch::new(Signing::begin(key(seed), seed), 400);
        let origin = log.vkey().name().to_owned();
        // Says that it has all of it, and gives it up to an index.
        let gives = |end: u64| {
            let (log, asked) = (log.clone(), Arc::new(Mutex::new(Vec::new())));
            let from = asked.clone();
            let member = RawMember::start(move |_, message| match message {
                Message::Frontiers(_) => vec![Message::Announce(log.checkpoint().into())],
                Message::Request(request) => {
                    from.lock().expect("no panic").push(request.from);
                    let entries_max = end.saturating_sub(request.from);
                    let given = Request {
                        entries_max,
                        ..request
                    };
                    let answer = || log.answer(&given, log.checkpoint());
                    (entries_max > 0).then(answer).into_iter().collect()
                }
                _ => Vec::new(),
            });
            (member, asked)
        };
        let (teller, asked) = gives(64);
        a.ok(&["peer", "add", &teller.invite(log.vkey())]);
        until("it asks for the rest", || {
            (*asked.lock().expect("no panic") == [0, 64]).then_some(())
        });
        assert_eq!(kept(&a, &origin), 0);
        let teller = (!vanishes).then_some(teller);
        let (other, asked) = gives(400);
        let its_own = Signing::begin(key(seed + 1), seed + 1);
        a.ok(&["peer", "add", &other.invite(its_own.vkey())]);
        until("the log arrives", || {
            (kept(&a, &origin) == 400).then_some(())
        });
        assert_eq!(asked.lock().expect("no panic")[0], 64);
        // Who does not answer may be slow only.
        assert!(teller.is_none_or(|teller| teller.connections() > 0));
        a.ok(&["log", "verify", &origin, "--vkey", &log.vkey().to_string()]);
    }
}
