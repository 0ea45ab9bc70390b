//! Witnesses: a log that others' witness and ours cosign, and ours as others' client asks it.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use agent::log::key::WitnessKey;
use hyper::header::{HeaderValue, LOCATION};
use protocol::log::checkpoint::{Checkpoint, Origin};
use serde_json::Value;
use souverain_tests::{
    http::{HttpServer, body, endless, reply},
    litewitness::Litewitness,
    program::Sandbox,
    running::Running,
    tlog::tlog,
    witness::ask,
};

/// A home whose log has some entries.
fn logged() -> Sandbox {
    let sandbox = Sandbox::new();
    grow(&sandbox, 3);
    sandbox
}

/// Appends entries: each tells of an export that failed.
fn grow(sandbox: &Sandbox, count: u64) {
    for _ in 0..count {
        let _ran = sandbox.run(&["export", "nothing-there"]).failed(1, "");
    }
}

fn size_of(sandbox: &Sandbox) -> u64 {
    let checkpoint = sandbox.run(&["--json", "log", "checkpoint"]).succeeded();
    checkpoint.objects()[0]["size"].as_u64().expect("a size")
}

/// A copy of a home, as a backup has it.
fn copy_of(sandbox: &Sandbox) -> Sandbox {
    let copy = Sandbox::empty();
    let copied = Command::new("cp")
        .arg("-a")
        .args([sandbox.home(), copy.home()])
        .status();
    assert!(copied.expect("cp runs").success());
    copy
}

/// How long a log may take to be known to who follows it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that follows the log of another, and so cosigns it.
struct Witness {
    agent: Running,
    key: String,
    home: Sandbox,
}

impl Witness {
    /// Starts one, and waits until it knows the log of a node that runs.
    fn of(log: &Sandbox) -> Self {
        let home = Sandbox::new();
        let agent = Running::start(&home, &["--http", "127.0.0.1:0"]);
        for (one, other) in [(log, &home), (&home, log)] {
            one.ok(&["peer", "add", &other.ok(&["peer", "invite"])]);
        }
        let vkey = log.ok(&["log", "vkey"]);
        let origin = vkey.split('+').next().expect("a name");
        let began = Instant::now();
        while home.run(&["log", "checkpoint", "--origin", origin]).code != Some(0) {
            assert!(began.elapsed() < PATIENCE, "the log does not arrive");
        }
        let invite = home.ok(&["peer", "invite"]);
        let key = invite
            .split(' ')
            .find(|word| word.starts_with("souverain-witness/"));
        let key = key.expect("a key").to_owned();
        Self { agent, key, home }
    }

    fn url(&self) -> String {
        self.agent.url("/witness")
    }

    fn stop(self) {
        self.agent.stop();
        self.home.ok(&["log", "verify"]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_log_is_cosigned_by_the_witness_of_others_and_a_home_from_a_backup_is_found_out() {
    let sandbox = logged();
    let vkey = sandbox.ok(&["log", "vkey"]);
    let _none = sandbox.run(&["log", "cosign"]).failed(1, "no policy");
    let witness = Litewitness::start("witness.example/lite");
    let policy = sandbox.path("policy.txt");
    witness.write_policy(&policy, &vkey);
    assert_eq!(
        sandbox
            .run(&["log", "policy", text(&policy)])
            .succeeded()
            .stdout,
        fs::read_to_string(&policy).expect("reads")
    );
    let last = sandbox.run(&["--json", "log", "show", "--action", "policy"]);
    assert_eq!(last.succeeded().objects().len(), 1);
    let unknown = sandbox.run(&["log", "cosign"]).failed(3, "no quorum");
    assert!(
        unknown
            .stdout
            .starts_with("lite did not cosign: it answers 404"),
        "{unknown:#?}"
    );
    witness.add_log(&vkey);
    let verify = ["log", "verify", "--policy", text(&policy)];
    let _uncosigned = sandbox.run(&verify).failed(3, "no quorum");
    let first = size_of(&sandbox);
    let expected =
        format!("lite cosigned\n{first} entries are cosigned by 1 witnesses, which is a quorum\n");
    assert_eq!(sandbox.run(&["log", "cosign"]).succeeded().stdout, expected);
    let _cosigned = sandbox.run(&verify).succeeded();
    let backup = copy_of(&sandbox);
    let other = copy_of(&sandbox);
    // It grows, and is cosigned again, and again at the same size.
    grow(&sandbox, 2);
    let _uncosigned = sandbox.run(&verify).failed(3, "no quorum");
    for _ in 0..2 {
        let answers = sandbox
            .run(&["--json", "log", "cosign"])
            .succeeded()
            .objects();
        assert_eq!(answers[0]["cosigned"], true, "{answers:?}");
        assert_eq!(answers[1]["cosigned"], 1, "{answers:?}");
        let checkpoint = sandbox.run(&["log", "checkpoint"]).succeeded().stdout;
        assert_eq!(
            checkpoint.matches("\u{2014} witness.example/lite ").count(),
            1
        );
    }
    let verified = sandbox.run(&verify).succeeded();
    assert!(
        verified.stdout.contains("cosigned by 1 witnesses"),
        "{verified:#?}"
    );
    proofs_are_witnessed(&sandbox, &policy, &vkey);
    // A backup says less, or goes on with another history.
    let last = size_of(&sandbox);
    let behind = backup.run(&["log", "cosign"]);
    let behind = behind.failed(
        3,
        &format!("it cosigned {last} entries of this log before, which has {first} now"),
    );
    assert!(
        behind.stdout.starts_with("lite did not cosign: "),
        "{behind:#?}"
    );
    let behind = backup.run(&["--json", "log", "cosign"]);
    assert_eq!(
        (behind.code, &behind.objects()[0]["seen"]),
        (Some(3), &Value::from(last))
    );
    let said = format!("lite says that it cosigned {last} entries of the log");
    let _refused = backup.run(&["export", "nothing-there"]).failed(3, &said);
    // Nobody has to have asked before.
    let _refused = other.run(&["export", "nothing-there"]).failed(3, &said);
    assert_eq!(size_of(&other), first, "nothing was signed");
    // Who cannot be believed is taken out of the policy.
    let policy = other.home().join("log/policy.txt");
    fs::rename(&policy, other.path("aside")).expect("renames");
    grow(&other, 4);
    fs::rename(other.path("aside"), &policy).expect("renames");
    let forked = other.run(&["log", "cosign"]);
    let _forked = forked.failed(
        3,
        &format!("it cosigned {last} other entries of this log before"),
    );
    let refused = other.run(&["export", "nothing-there"]);
    let _refused = refused.failed(3, "which are not those of the home");
    drop(witness);
    let refused = other.run(&["export", "nothing-there"]);
    let _refused = refused.failed(3, "which are not those of the home");
    let nobody = other.path("nobody.txt");
    fs::write(
        &nobody,
        "quorum none
",
    )
    .expect("writes");
    other.ok(&["log", "policy", "nobody.txt"]);
    grow(&other, 1);
    // Where nobody can be asked, a node works all the same.
    let alone = sandbox.run(&["export", "nothing-there"]).failed(1, "");
    assert!(!alone.stderr.contains("nobody could say"), "{alone:#?}");
    let moved = copy_of(&sandbox);
    let alone = moved.run(&["export", "nothing-there"]).failed(1, "");
    assert!(alone.stderr.contains("nobody could say"), "{alone:#?}");
}

#[test]
fn what_a_witness_shows_stops_a_home_from_a_backup_for_good() {
    let sandbox = logged();
    let agent = Running::start(&sandbox, &[]);
    let ours = Witness::of(&sandbox);
    agent.stop();
    let policy = format!(
        "witness ours {} {}
quorum ours
",
        ours.key,
        ours.url()
    );
    fs::write(sandbox.path("policy.txt"), policy).expect("writes");
    sandbox.ok(&["log", "policy", "policy.txt"]);
    sandbox.ok(&["log", "cosign"]);
    let [backup, other] = [(); 2].map(|()| copy_of(&sandbox));
    for home in [&backup, &other] {
        // As a member it would give what is missing.
        fs::remove_file(home.home().join("federation.txt")).expect("removes");
    }
    grow(&sandbox, 1);
    sandbox.ok(&["log", "cosign"]);
    let last = size_of(&sandbox);
    let others = format!(
        "others saw {last} entries of the log, and the home has {}",
        last - 1
    );
    let _refused = backup.run(&["export", "nothing-there"]).failed(3, &others);
    // Out of sight.
    let policy = other.home().join("log/policy.txt");
    fs::rename(&policy, other.path("aside")).expect("renames");
    grow(&other, 2);
    fs::rename(other.path("aside"), &policy).expect("renames");
    let _forked = other
        .run(&["export", "nothing-there"])
        .failed(3, "the log was forked");
    let proof = other.home().join("log/own/forked");
    other.ok(&[
        "log",
        "fork",
        text(&proof),
        "--vkey",
        &other.ok(&["log", "vkey"]),
    ]);
    let listed = other.run(&["log", "fork", "--json"]).succeeded().objects();
    assert_eq!(listed[0]["accuses_log"], true);
    ours.stop();
    for (home, error) in [(&backup, &*others), (&other, "the log was forked")] {
        let _refused = home.run(&["export", "nothing-there"]).failed(3, error);
    }
    assert_eq!(size_of(&backup), last - 1);
}

/// Proofs and bundles carry the cosignature, which is enough for the policy.
fn proofs_are_witnessed(sandbox: &Sandbox, policy: &Path, vkey: &str) {
    sandbox.ok(&["log", "prove", "1", "-o", "proof"]);
    let with_policy = ["--vkey", vkey, "--policy", text(policy)];
    let _ran = sandbox
        .run(&[&["log", "verify", "proof"], &with_policy[..]].concat())
        .succeeded();
    let proof = sandbox.path("proof");
    let _ran = tlog(&["proof", "-policy", text(policy), text(&proof), vkey]).succeeded();
    sandbox.ok(&["log", "bundle", "bundle.car"]);
    let bundle = fs::read(sandbox.path("bundle.car")).expect("reads");
    let named = fs::read(policy).expect("reads");
    assert!(
        bundle.windows(named.len()).any(|part| part == named),
        "the home's policy is in it"
    );
    let _ran = sandbox
        .run(&[&["log", "verify", "bundle.car"], &with_policy[..]].concat())
        .succeeded();
}

/// How many entries others' client says were cosigned, and what it said before.
fn cosigned(said: &str) -> (String, u64) {
    let said = said.strip_suffix(" entries are cosigned\n").expect(said);
    let (before, size) = said.rsplit_once('\n').unwrap_or(("", said));
    (before.to_owned(), size.parse().expect("a size"))
}

#[test]
fn our_witness_answers_the_client_of_others() {
    let sandbox = logged();
    let vkey = sandbox.ok(&["log", "vkey"]);
    let agent = Running::start(&sandbox, &["--http", "127.0.0.1:0"]);
    let witness = Witness::of(&sandbox);
    let (log, url) = (agent.url("/log"), witness.url());
    let asked = [&*log, &vkey, &url, &witness.key];
    let (before, first) = cosigned(&ask(&asked).succeeded().stdout);
    assert_eq!(before, "");
    grow(&sandbox, 2);
    let (before, second) = cosigned(&ask(&asked).succeeded().stdout);
    assert_eq!(before, format!("it cosigned {first} entries last, not 0"));
    assert!(second >= first + 2, "{first} {second}");
    // With what it cosigned last, so that it has nothing to say but that it did.
    let old = second.to_string();
    let (before, _) = cosigned(
        &ask(&[&["-old", &old][..], &asked].concat())
            .succeeded()
            .stdout,
    );
    assert_eq!(before, "");
    // A log that it does not follow.
    let stranger = logged();
    let vkey = stranger.ok(&["log", "vkey"]);
    let other = Running::start(&stranger, &["--http", "127.0.0.1:0"]);
    let refused = ask(&[&other.url("/log"), &vkey, &url, &witness.key]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.contains("unknown log"), "{refused:#?}");
    other.stop();
    agent.stop();
    witness.stop();
}

#[test]
fn a_quorum_of_their_witness_and_ours_cosigns() {
    let sandbox = logged();
    let vkey = sandbox.ok(&["log", "vkey"]);
    let theirs = Litewitness::start("witness.example/lite");
    theirs.add_log(&vkey);
    let agent = Running::start(&sandbox, &[]);
    let ours = Witness::of(&sandbox);
    // A running agent asks them by itself.
    agent.stop();
    let policy = format!(
        "witness theirs {} {}\nwitness ours {} {}\nwitness nobody {}\ngroup both 2 theirs ours\nquorum both\n",
        theirs.vkey,
        theirs.url,
        ours.key,
        ours.url(),
        WitnessKey::new("witness.example/nobody", &[9; 32].into())
            .expect("a key")
            .key(),
    );
    fs::write(sandbox.path("policy.txt"), policy).expect("writes");
    sandbox.ok(&["log", "policy", "policy.txt"]);
    for _ in 0..2 {
        let cosigned = sandbox.ok(&["log", "cosign"]);
        let size = size_of(&sandbox);
        let all = format!(
            "theirs cosigned\nours cosigned\n{size} entries are cosigned by 2 witnesses, which is a quorum"
        );
        assert_eq!(cosigned, all);
        sandbox.ok(&["log", "verify", "--policy", "policy.txt"]);
        grow(&sandbox, 1);
    }
    ours.stop();
}

#[test]
fn what_a_witness_answers_wrongly_is_told_and_harms_nobody() {
    let sandbox = logged();
    let vkey = sandbox.ok(&["log", "vkey"]);
    let origin = Origin::new(vkey.split('+').next().expect("a name")).expect("a name");
    let key = |name: &str| {
        let seed = *blake3::hash(name.as_bytes()).as_bytes();
        WitnessKey::new(name, &seed.into()).expect("a key")
    };
    let elsewhere = Checkpoint::new(origin, 2, [9; 32]).expect("a checkpoint");
    let line_of = move |name: &str| {
        let line = key(name).cosign(&elsewhere, 5).expect("cosigned");
        body(format!("{line}\n"))
    };
    let turns = AtomicU64::new(0);
    let server = HttpServer::start(move |request| {
        let name = request.uri().path().split('/').nth(1).unwrap_or_default();
        match name {
            "moved" => {
                let mut answer = reply(307, body(""));
                let there = HeaderValue::from_static("/wrong/add-checkpoint");
                answer.headers_mut().insert(LOCATION, there);
                answer
            }
            "endless" => reply(200, endless(b"x")),
            "wrong" | "stranger" => {
                reply(200, line_of(if name == "wrong" { name } else { "another" }))
            }
            "empty" => reply(200, body("")),
            "turning" => {
                let size = turns.fetch_add(1, Ordering::Relaxed) % 2 + 1;
                reply(409, body(format!("{size}\n")))
            }
            "wordy" => reply(409, body("seven\n")),
            _ => reply(503, body("later\n")),
        }
    });
    let expected = [
        ("moved", "it answers 307: it is elsewhere"),
        ("endless", "its answer cannot be read: longer than"),
        (
            "wrong",
            "its cosignature does not hold: the signature of wrong is wrong",
        ),
        (
            "stranger",
            "its cosignature does not hold: the note is not signed by stranger",
        ),
        ("empty", "its answer cannot be read"),
        ("turning", "the log is cosigned for others at the same time"),
        ("wordy", "its answer cannot be read"),
        ("busy", "it answers 503: it is busy"),
        ("absent", "it cannot be asked"),
    ];
    let mut policy = String::new();
    for (name, _) in expected {
        let port = if name == "absent" {
            1
        } else {
            server.address.port()
        };
        let vkey = key(name);
        let vkey = vkey.key();
        policy.push_str(&format!(
            "witness {name} {vkey} http://127.0.0.1:{port}/{name}\n"
        ));
    }
    policy.push_str("quorum wrong\n");
    fs::write(sandbox.path("policy.txt"), policy).expect("writes");
    sandbox.ok(&["log", "policy", "policy.txt"]);
    let before = sandbox.run(&["log", "checkpoint"]).succeeded().stdout;
    let ran = sandbox.run(&["--json", "log", "cosign"]);
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    let answers = ran.objects();
    for ((name, text), answer) in expected.iter().zip(&answers) {
        assert_eq!(
            (&answer["witness"], &answer["cosigned"]),
            (&Value::from(*name), &Value::from(false))
        );
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.starts_with(text), "{name}: {error}");
    }
    assert_eq!(
        sandbox.run(&["log", "checkpoint"]).succeeded().stdout,
        before
    );
}

#[test]
fn only_a_policy_of_witnesses_that_can_be_asked_is_taken() {
    let sandbox = logged();
    let key = WitnessKey::new("witness.example", &[7; 32].into()).expect("a key");
    let vkey = key.key();
    let path = sandbox.path("policy.txt");
    let none = sandbox.run(&["log", "policy"]).succeeded();
    assert_eq!(
        (none.stdout.as_str(), none.stderr.contains("no policy")),
        ("", true)
    );
    for url in [
        "witness.example",
        "ftp://witness.example/",
        "http://user@witness.example/",
        "http://witness.example/?a",
        "http://witness.example/#a",
    ] {
        fs::write(&path, format!("witness a {vkey} {url}\nquorum a\n")).expect("writes");
        let refused = sandbox.run(&["log", "policy", "policy.txt"]);
        let _refused = refused.failed(2, "is not the http:// or https:// URL of a witness");
    }
    fs::write(&path, "quorum nobody\n").expect("writes");
    let _refused = sandbox
        .run(&["log", "policy", "policy.txt"])
        .failed(2, "is not a policy");
    fs::write(&path, b"# \xff\nquorum none\n").expect("writes");
    let _refused = sandbox
        .run(&["log", "policy", "policy.txt"])
        .failed(2, "is not text");
    let _refused = sandbox
        .run(&["log", "policy", "absent.txt"])
        .failed(1, "cannot read");
    fs::write(&path, "quorum none\n").expect("writes");
    sandbox.ok(&["log", "policy", "policy.txt"]);
    assert_eq!(sandbox.ok(&["log", "policy"]), "quorum none");
    let cosigned = sandbox.ok(&["log", "cosign"]);
    assert!(
        cosigned.ends_with("by 0 witnesses, which is a quorum"),
        "{cosigned}"
    );
}
