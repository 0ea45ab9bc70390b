//! Nodes that follow each other's logs: what one does, the others have, and a lie is proven.

use std::process::Command;

use agent::log::key::LogKey;
use libp2p::StreamProtocol;
use protocol::log::{
    checkpoint::Origin,
    replica::{Frontiers, Message, Request},
};
use souverain_tests::{
    federation::{befriend, copy, ends, export, kept, origin, own, until, wait_for_all},
    log::Signing,
    peer::RawPeer,
    program::{Sandbox, program},
    running::Running,
};

/// Most memory that a flooded node may have resident, in KiB.
const MEMORY_KIB_MAX: u64 = 256 << 10;
const LOG_PROTOCOL: StreamProtocol = StreamProtocol::new("/souverain/log/1");

#[test]
fn what_one_node_does_the_others_prove_and_an_auditor_needs_no_network() {
    let [a, b, c] = [(); 3].map(|()| Sandbox::new());
    let _agents = [&a, &b, &c].map(|home| Running::start(home, &[]));
    befriend(&a, &b);
    befriend(&a, &c);
    let root = export(&a, "x");
    let (origin, vkey) = (origin(&a), a.ok(&["log", "vkey"]));
    for home in [&b, &c] {
        wait_for_all(home, &a);
        let proof = home.path("proof.txt");
        let proof = proof.to_str().expect("text");
        home.ok(&["log", "prove", &root, "--origin", &origin, "-o", proof]);
        let held = home.ok(&["log", "verify", proof, "--vkey", &vkey]);
        assert!(held.contains(&origin), "{held}");
        let told = home.ok(&["log", "show", "--origin", &origin]);
        assert!(told.contains(&format!("export  {root}")), "{told}");
        let held = home.ok(&["log", "verify", &origin, "--vkey", &vkey]);
        assert!(held.contains("entries hold"), "{held}");
    }
    let bundle = b.path("audit.car");
    let bundle = bundle.to_str().expect("text");
    b.ok(&["log", "bundle", bundle, "--origin", &origin]);
    // A namespace of its own has no network, not even loopback.
    let audit = |file: &str| {
        let mut command = Command::new("unshare");
        command.args(["-r", "-n"]).arg(program());
        let audited = command
            .args(["log", "verify", file, "--vkey", &vkey])
            .output();
        audited.expect("runs").status.code()
    };
    assert_eq!(audit(bundle), Some(0));
    let mut forged = std::fs::read(bundle).expect("reads");
    let middle = forged.len() / 2;
    forged[middle] ^= 1;
    let path = b.path("forged.car");
    std::fs::write(&path, forged).expect("writes");
    assert_eq!(audit(path.to_str().expect("text")), Some(3));
    // Each of them tells of the federation in its own log.
    for (home, times) in [(&a, 2), (&b, 1), (&c, 1)] {
        let told = home.ok(&["log", "show"]);
        assert_eq!(told.matches("federation").count(), times, "{told}");
    }
}

#[test]
fn a_node_that_was_away_gets_what_it_missed_from_whoever_has_it() {
    let [a, b, c] = [(); 3].map(|()| Sandbox::new());
    let first = Running::start(&a, &[]);
    let (_b, away) = (Running::start(&b, &[]), Running::start(&c, &[]));
    befriend(&a, &b);
    befriend(&a, &c);
    befriend(&b, &c);
    wait_for_all(&c, &a);
    away.stop();
    for name in ["x", "y", "z"] {
        export(&a, name);
    }
    wait_for_all(&b, &a);
    let size = own(&a);
    // The one whose log it is has gone when it comes back.
    first.stop();
    let _c = Running::start(&c, &[]);
    let origin = origin(&a);
    until("the log arrives", || {
        (kept(&c, &origin) >= size).then_some(())
    });
    c.ok(&["log", "verify", &origin, "--vkey", &a.ok(&["log", "vkey"])]);
}

#[test]
fn who_was_not_added_is_told_nothing_and_who_was_removed_nothing_more() {
    let [a, b, c] = [(); 3].map(|()| Sandbox::new());
    let _agents = [&a, &b, &c].map(|home| Running::start(home, &[]));
    befriend(&a, &b);
    // It follows, and is not let.
    c.ok(&["peer", "add", &a.ok(&["peer", "invite"])]);
    let origin = origin(&a);
    let stranger = until("they are connected", || {
        let listed = c
            .run(&["peer", "list", "--json"])
            .succeeded()
            .objects()
            .remove(0);
        (listed["connected"] == true).then_some(listed["origin"].clone())
    });
    assert_eq!(stranger, origin.as_str());
    export(&a, "x");
    wait_for_all(&b, &a);
    assert_eq!(kept(&c, &origin), 0);
    a.ok(&["peer", "add", &c.ok(&["peer", "invite"])]);
    wait_for_all(&c, &a);
    let peer = c.run(&["agent", "status", "--json"]).succeeded().objects()[0]["peer"].clone();
    a.ok(&["peer", "remove", peer.as_str().expect("a peer")]);
    let before = kept(&c, &origin);
    export(&a, "y");
    wait_for_all(&b, &a);
    assert!(kept(&c, &origin) <= before + 1, "but for its own removal");
    a.run(&["peer", "remove", "nobody"])
        .failed(1, "is no member of the federation");
    a.run(&["peer", "add", &a.ok(&["peer", "invite"])])
        .failed(2, "this node itself");
}

#[test]
fn two_histories_are_proven_to_all_and_the_log_is_frozen() {
    let [a, b, c] = [(); 3].map(|()| Sandbox::new());
    let (first, _b, _c) = (
        Running::start(&a, &[]),
        Running::start(&b, &[]),
        Running::start(&c, &[]),
    );
    befriend(&a, &b);
    befriend(&a, &c);
    befriend(&b, &c);
    first.stop();
    copy(&a.home(), &a.path("other"));
    // One history, which the others come to know.
    let again = Running::start(&a, &[]);
    export(&a, "x");
    wait_for_all(&b, &a);
    wait_for_all(&c, &a);
    again.stop();
    let size = own(&a);
    // Another one, as long, by the same key, out of sight of all who could object.
    std::fs::rename(a.home(), a.path("one")).expect("renames");
    std::fs::rename(a.path("other"), a.home()).expect("renames");
    let federation = a.home().join("federation.txt");
    std::fs::rename(&federation, a.path("aside")).expect("renames");
    for n in 0.. {
        if own(&a) > size {
            break;
        }
        export(&a, &format!("other {n}"));
    }
    std::fs::rename(a.path("aside"), &federation).expect("renames");
    let ended = ends(a.spawn(&["agent", "run"]));
    ended.failed(3, "the log was forked");
    let (origin, vkey) = (origin(&a), a.ok(&["log", "vkey"]));
    for home in [&b, &c] {
        let listed = until("the proof arrives", || {
            home.run(&["log", "fork", "--json"])
                .succeeded()
                .objects()
                .pop()
        });
        assert_eq!(listed["accuses_log"], true);
        assert_eq!(listed["origin"], origin.as_str());
        let file = listed["file"].as_str().expect("a file");
        let proven = home.ok(&["log", "fork", file, "--vkey", &vkey]);
        assert!(proven.contains("two histories"), "{proven}");
        let members = home.ok(&["peer", "list"]);
        assert!(members.contains("FORKED"), "{members}");
        // Anything else about it proves nothing.
        home.run(&["log", "fork", file, "--vkey", &b.ok(&["log", "vkey"])])
            .failed(3, "");
        let mut text = std::fs::read_to_string(file).expect("reads");
        text.truncate(text.len() - 9);
        std::fs::write(home.path("cut.txt"), text).expect("writes");
        home.run(&["log", "fork", "cut.txt"]).failed(3, "");
    }
    a.run(&["export", "data"]).failed(3, "the log was forked");
    // The proof stays when the log goes.
    c.ok(&["peer", "remove", &origin]);
    let forgotten = c.run(&["log", "forget", &origin, "--json"]).succeeded();
    assert_eq!(forgotten.objects()[0]["forks"], 1);
    let listed = c.run(&["log", "fork", "--json"]).succeeded().objects();
    let file = listed[0]["file"].as_str().expect("a file");
    c.ok(&["log", "fork", file, "--vkey", &vkey]);
}

#[test]
fn the_log_of_who_was_removed_can_be_forgotten_and_is_fetched_again_when_it_is_followed_again() {
    let [a, b] = [(); 2].map(|()| Sandbox::new());
    let _agents = [&a, &b].map(|home| Running::start(home, &[]));
    befriend(&a, &b);
    wait_for_all(&a, &b);
    let (origin, genesis) = (origin(&b), origin(&b).replace("souverain/", ""));
    let dir = a.home().join("log").join(&genesis);
    let forget = ["log", "forget", &origin];
    a.run(&forget).failed(1, "a member of the federation");
    let own_origin = souverain_tests::federation::origin(&a);
    a.run(&["log", "forget", &own_origin])
        .failed(2, "this node's own log");
    let invite = b.ok(&["peer", "invite"]);
    a.ok(&["peer", "remove", &origin]);
    let size = kept(&a, &origin);
    let told = |args: &[&str]| {
        let ran = a.run(&[&forget[..], args, &["--json"]].concat());
        ran.succeeded().objects().remove(0)
    };
    let tried = told(&["--dry-run"]);
    assert_eq!(
        (&tried["entries"], &tried["removed"]),
        (&size.into(), &false.into())
    );
    assert_eq!(kept(&a, &origin), size);
    let done = told(&[]);
    assert_eq!(
        (&done["bytes"], &done["removed"]),
        (&tried["bytes"], &true.into())
    );
    assert!(!dir.exists());
    a.run(&forget).failed(1, "no log of");
    let shown = a.ok(&["log", "show"]);
    assert_eq!(shown.matches("federation").count(), 3, "{shown}");
    a.ok(&["peer", "add", &invite]);
    wait_for_all(&a, &b);
}

#[test]
fn nonsense_of_a_member_gets_it_kept_out_and_a_strangers_is_not_read() {
    let [a, b] = [(); 2].map(|()| Sandbox::new());
    let _agents = [&a, &b].map(|home| Running::start(home, &[]));
    befriend(&a, &b);
    let address = a.ok(&["peer", "invite"]);
    let address = address
        .split(' ')
        .find(|word| word.contains("/tcp/"))
        .expect("TCP");
    let peer = address
        .rsplit('/')
        .next()
        .expect("an id")
        .parse()
        .expect("an id");
    let nonsense = [&9_u32.to_be_bytes()[..], b"nonsense!"].concat();
    let long = u32::MAX.to_be_bytes();

    let stranger = RawPeer::start(|_| Vec::new());
    stranger.dial(address);
    for _ in 0..16 {
        let _ = stranger.send_by(peer, LOG_PROTOCOL, &nonsense);
        let _ = stranger.send_by(peer, LOG_PROTOCOL, &long);
    }
    let member = RawPeer::start(|_| Vec::new());
    let key = LogKey::new(&[5; 32].into());
    let vkey = Signing::begin(&key, 5).vkey().to_string();
    a.ok(&["peer", "add", &member.address, &vkey]);
    member.wait_for(|connections| connections > 0);
    until("it is kept out", || {
        for bytes in [&nonsense[..], &long] {
            let _ = member.send_by(peer, LOG_PROTOCOL, bytes);
        }
        (member.connections() == 0).then_some(())
    });
    assert!(stranger.connections() > 0, "what it said was not read");
    export(&a, "x");
    wait_for_all(&b, &a);
}

#[test]
fn witnesses_among_the_members_cosign_and_a_quorum_of_them_is_checked() {
    let [a, b, c] = [(); 3].map(|()| Sandbox::new());
    let (_a, _b) = (Running::start(&a, &[]), Running::start(&b, &[]));
    let away = Running::start(&c, &[]);
    let witness = |of: &Sandbox| -> String {
        let invite = of.ok(&["peer", "invite"]);
        let mut words = invite.split(' ');
        let key = words.find(|word| word.starts_with("souverain-witness/"));
        key.expect("a key").to_owned()
    };
    let mut policy = format!("log {}\n", a.ok(&["log", "vkey"]));
    for (name, home) in [("b", &b), ("c", &c)] {
        home.ok(&["peer", "add", &a.ok(&["peer", "invite"])]);
        let invite = home.ok(&["peer", "invite"]);
        a.ok(&["peer", "add", &invite, "--role", "witness"]);
        policy.push_str(&format!("witness {name} {}\n", witness(home)));
    }
    for (home, other) in [(&b, &c), (&c, &b)] {
        let invite = other.ok(&["peer", "invite"]);
        home.ok(&["peer", "add", &invite, "--role", "witness"]);
    }
    policy.push_str("group all all b c\nquorum all\n");
    std::fs::write(a.path("policy.txt"), policy).expect("writes");
    let root = export(&a, "x");
    let cosigned = |of: &Sandbox, origin: &str| {
        until("it is cosigned", || {
            let shown = of.run(&["log", "checkpoint", "--origin", origin]);
            let lines = shown.stdout.matches("\u{2014} souverain-witness/").count();
            (shown.code == Some(0) && lines == 2).then_some(())
        });
    };
    until("it is cosigned", || {
        let shown = a.ok(&["log", "checkpoint"]);
        (shown.matches("\u{2014} souverain-witness/").count() == 2).then_some(())
    });
    let vkey = a.ok(&["log", "vkey"]);
    let policed = ["--policy", "policy.txt", "--vkey", &vkey];
    a.ok(&["log", "prove", &root, "-o", "proof.txt"]);
    a.ok(&[&["log", "verify", "proof.txt"][..], &policed].concat());
    // The others hear of the cosignatures, and keep them.
    let origin = origin(&a);
    cosigned(&b, &origin);
    cosigned(&c, &origin);
    away.stop();
    let root = export(&a, "y");
    until("one cosigns it", || {
        let shown = a.ok(&["log", "checkpoint"]);
        (shown.matches("\u{2014} souverain-witness/").count() == 1).then_some(())
    });
    a.ok(&["log", "prove", &root, "-o", "later.txt"]);
    a.run(&[&["log", "verify", "later.txt"][..], &policed].concat())
        .failed(3, "");
    // It cosigns when it is back.
    let _c = Running::start(&c, &[]);
    until("the other cosigns it too", || {
        let shown = a.ok(&["log", "checkpoint"]);
        (shown.matches("\u{2014} souverain-witness/").count() == 2).then_some(())
    });
}

#[test]
fn a_flood_of_a_member_keeps_others_from_nothing() {
    let [a, b] = [(); 2].map(|()| Sandbox::new());
    let (running, _b) = (Running::start(&a, &[]), Running::start(&b, &[]));
    befriend(&a, &b);
    let flooder = RawPeer::start(|_| Vec::new());
    let key = LogKey::new(&[6; 32].into());
    let vkey = Signing::begin(&key, 6).vkey().to_string();
    a.ok(&["peer", "add", &flooder.address, &vkey]);
    flooder.wait_for(|connections| connections > 0);
    let peer = running.tcp().rsplit('/').next().expect("an id");
    let peer = peer.parse().expect("an id");
    let origin = origin(&a);
    let ask = |id| {
        let frontiers = Message::Frontiers(Frontiers {
            heads: Vec::new(),
            all: true,
            reply: true,
        });
        let request = Message::Request(Request {
            id,
            origin: Origin::new(&origin).expect("an origin"),
            from: 0,
            entries_max: u64::MAX,
        });
        [frontiers, request].map(|message| {
            let message = message.encode();
            let length = u32::try_from(message.len()).expect("short");
            [&length.to_be_bytes()[..], &message].concat()
        })
    };
    let flood: Vec<u8> = (0..20_000).flat_map(ask).flatten().collect();
    let flooding = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flooder.send_by(peer, LOG_PROTOCOL, &flood));
        export(&a, "x");
        wait_for_all(&b, &a);
        flooding.join().expect("sends")
    });
    assert!(running.memory_kib() < MEMORY_KIB_MAX);
    export(&a, "y");
    wait_for_all(&b, &a);
    drop(flooding);
}
