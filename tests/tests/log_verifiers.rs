//! Logs as verifiers see them that others wrote: golang.org/x/mod/sumdb, transparency-dev's merkle, Tessera's fsck and
//! torchwood read them over HTTP. `docs/log.md` says what each of them sees.

use std::{fs, path::Path, time::Instant};

use agent::{
    home::Home,
    log::{Event, OwnLog, key::LogKey, now_ms},
};
use protocol::log::{
    checkpoint::UnverifiedCheckpoint,
    cosignature::CosignerKey,
    entry::{Action, Outcome},
    fork::{Evidence, Fork, Signer},
};
use souverain_tests::{
    forge_log::{Forgery, Honest, SIZE},
    http::{body, reply},
    log::Signing,
    program::{Sandbox, note},
    running::Running,
    tlog::tlog,
};

/// A home, and the key of its log.
fn home() -> (Sandbox, LogKey) {
    let sandbox = Sandbox::new();
    let key = Home::open(&sandbox.home()).and_then(|home| home.log_key(1));
    (sandbox, key.expect("the key of the log"))
}

/// Indices at both ends of tiles, as far as a log has them; and sizes, if one is added.
fn edges(size: u64) -> Vec<u64> {
    let all = [0, 1, 254, 255, 256, 65_535, 65_536, size / 2, size - 1];
    let mut all: Vec<_> = all.into_iter().filter(|index| *index < size).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn list(numbers: impl IntoIterator<Item = u64>) -> String {
    let texts: Vec<_> = numbers.into_iter().map(|n| n.to_string()).collect();
    texts.join(",")
}

/// Both of the others hold a log to be good.
fn holds_for_others(url: &str, vkey: &str, size: u64) {
    let at = list(edges(size));
    let from = list(edges(size).into_iter().map(|index| index + 1));
    let began = Instant::now();
    let checked = tlog(&["check", "-at", &at, "-from", &from, url, vkey]).succeeded();
    let whole = format!("{size} entries and all tiles over them lead to the root\n");
    assert!(checked.stdout.contains(&whole), "{checked:#?}");
    let lines = 2 + 2 * edges(size).len();
    assert_eq!(checked.stdout.lines().count(), lines, "{checked:#?}");
    let by_tlog = began.elapsed();
    let checked = tlog(&["fsck", url, vkey]).succeeded();
    assert!(checked.stdout.starts_with("fsck: "), "{checked:#?}");
    let by_fsck = began.elapsed() - by_tlog;
    note(format_args!(
        "{size} entries: tlog {by_tlog:.1?}, fsck {by_fsck:.1?}"
    ));
}

/// A running agent that serves logs beside its own, and the URL and key of each.
type Serving = (Sandbox, Running, Vec<(String, String)>);

/// Serves logs of some sizes.
fn serving(sizes: &[u64]) -> Serving {
    let (sandbox, key) = home();
    let logs = sandbox.home().join("log");
    fs::create_dir_all(&logs).expect("makes");
    let mut made = Vec::new();
    for (tenant, size) in (1..).zip(sizes) {
        let began = Instant::now();
        let mut signing = Signing::begin(&key, tenant);
        let cid = signing.genesis().cid().to_string();
        signing.write(&logs.join(&cid), *size);
        note(format_args!(
            "{size} entries made in {:.1?}",
            began.elapsed()
        ));
        made.push((cid, signing.vkey().to_string()));
    }
    let agent = Running::start(&sandbox, &["--http", "127.0.0.1:0"]);
    let urls = made.into_iter();
    let urls = urls.map(|(cid, vkey)| (agent.url(&format!("/log/{cid}")), vkey));
    let urls = urls.collect();
    (sandbox, agent, urls)
}

fn logs_hold(sizes: &[u64]) {
    hold(serving(sizes), sizes);
}

fn hold((sandbox, agent, urls): Serving, sizes: &[u64]) {
    for (size, (url, vkey)) in sizes.iter().zip(urls) {
        std::thread::scope(|scope| {
            scope.spawn(|| holds_for_others(&url, &vkey, *size));
            let began = Instant::now();
            let verified = sandbox.run(&["log", "verify", &url, "--vkey", &vkey, "--json"]);
            let verified = &verified.succeeded().objects()[0];
            assert_eq!(verified["entries"], *size, "{verified}");
            let took = began.elapsed();
            note(format_args!("{size} entries: log verify {took:.1?}"));
        });
    }
    agent.stop();
}

#[test]
fn small_logs_hold_for_all_verifiers() {
    logs_hold(&[1, 2, 255, 256, 257]);
}

#[test]
fn a_log_of_three_levels_of_tiles_holds_for_all_verifiers_out_of_its_archives() {
    let (sandbox, agent, urls) = serving(&[65_537]);
    let args = ["--json", "log", "archive", "--older-than", "0s", "--origin"];
    let (url, _) = &urls[0];
    let cid = url.rsplit('/').next().expect("a CID");
    let archives = sandbox.run(&[&args[..], &[cid]].concat()).succeeded();
    assert_eq!(archives.objects()[0]["to"], 65_535);
    hold((sandbox, agent, urls), &[65_537]);
}

#[test]
fn a_log_of_a_million_entries_holds_for_all_verifiers() {
    logs_hold(&[1_000_000]);
}

/// Makes the home's own log so many entries long.
fn grow_own(sandbox: &Sandbox, size: u64) {
    let home = Home::open(&sandbox.home()).expect("a home");
    let log = OwnLog::new(
        &home,
        *b"\x01\x9b\x7c\x5e\x9d\x08\x7c\xc3\x98\xc4\xdc\x0c\x0c\x07\x39\x8f",
    );
    let event = Event {
        action: Action::EXPORT,
        outcome: Outcome::Ok,
        peer: None,
        subject: Vec::new(),
        details: Vec::new(),
    };
    // The first call makes the first entry too.
    let one = log
        .record(now_ms(), std::slice::from_ref(&event))
        .expect("records");
    let events = vec![event; (size - one.size) as usize];
    let all = log.record(now_ms(), &events).expect("records");
    assert_eq!(all.size, size);
}

#[test]
fn the_log_of_an_agent_holds_while_it_grows_and_so_do_its_proofs() {
    let (sandbox, _) = home();
    grow_own(&sandbox, 255);
    let vkey = sandbox.ok(&["log", "vkey"]);
    // Its start is the last entry of a bundle.
    let agent = Running::start(&sandbox, &["--http", "127.0.0.1:0"]);
    let url = agent.url("/log");
    holds_for_others(&url, &vkey, 256);
    let old = sandbox.run(&["log", "checkpoint"]).succeeded().stdout;
    let old_path = sandbox.path("old");
    fs::write(&old_path, old).expect("writes");
    grow_own(&sandbox, 300);
    holds_for_others(&url, &vkey, 300);
    let old_path = old_path.to_str().expect("UTF-8");
    let grown = tlog(&["check", "-old", old_path, &url, &vkey]).succeeded();
    let text = "the tree begins with that of size 256: ";
    assert!(grown.stdout.contains(text), "{grown:#?}");
    for seq in [0, 255, 256, 299] {
        let name = format!("proof-{seq}");
        sandbox.ok(&["log", "prove", &seq.to_string(), "-o", &name]);
        let path = sandbox.path(&name);
        proof_holds_and_another_does_not(&path, &vkey);
    }
    sandbox.ok(&["log", "key", "rotate"]);
    let new = sandbox.ok(&["log", "vkey"]);
    assert_ne!(new, vkey);
    holds_for_others(&url, &new, 301);
    let given_up = tlog(&["check", &url, &vkey]);
    let text = "note has no verifiable signatures";
    assert!(given_up.stderr.contains(text), "{given_up:#?}");
    sandbox.ok(&["log", "verify", &url, "--vkey", &vkey]);
    agent.stop();
}

fn proof_holds_and_another_does_not(path: &Path, vkey: &str) {
    let name = path.to_str().expect("UTF-8");
    let proven = tlog(&["proof", name, vkey]).succeeded();
    assert!(proven.stdout.ends_with("is in the log\n"), "{proven:#?}");
    let proof = fs::read_to_string(path).expect("reads");
    let extra = proof.lines().find(|line| line.starts_with("extra "));
    let extra = extra.expect("it has the entry in it");
    // Another byte in the middle of the entry.
    let mut changed = extra.to_owned();
    let at = changed.len() / 2;
    let other = if &changed[at..=at] == "A" { "B" } else { "A" };
    changed.replace_range(at..=at, other);
    fs::write(path, proof.replace(extra, &changed)).expect("writes");
    let refused = tlog(&["proof", name, vkey]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
}

#[test]
fn the_vectors_hold_with_their_witness_and_policy() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/log");
    let keys = fs::read_to_string(vectors.join("keys.txt")).expect("reads");
    let key_of = |kind: &str| {
        let line = keys.lines().rfind(|line| line.starts_with(kind));
        let key = line.and_then(|line| line.split(' ').nth(2));
        key.expect("a key").to_owned()
    };
    let (log, witness) = (key_of("log "), key_of("witness "));
    let proof = vectors.join("entry-1.tlog-proof");
    let policy = vectors.join("policy.txt");
    let (proof, policy) = (
        proof.to_str().expect("UTF-8"),
        policy.to_str().expect("UTF-8"),
    );
    let _proven = tlog(&["proof", "-policy", policy, proof, &log]).succeeded();
    let server = souverain_tests::http::HttpServer::start(move |request| {
        let path = vectors.join(request.uri().path().trim_start_matches('/'));
        fs::read(path).map_or_else(|_| reply(404, body("")), |bytes| reply(200, body(bytes)))
    });
    let url = format!("http://{}", server.address);
    let checked = tlog(&["check", "-witness", &witness, &url, &log]).succeeded();
    let first = "checkpoint of size 8 is signed by the log and 1 witnesses\n";
    assert!(checked.stdout.starts_with(first), "{checked:#?}");
    holds_for_others(&url, &log, 8);
    // Another witness has not signed.
    let other = CosignerKey::new("witness.example/w2", &[9; 32]);
    let other = other.expect("a key").to_string();
    let unsigned = tlog(&["check", "-witness", &other, &url, &log]);
    let text = "checkpoint: witness.example/w2 has not signed it";
    assert!(unsigned.stderr.contains(text), "{unsigned:#?}");
    assert_eq!(unsigned.code, Some(1), "{unsigned:#?}");
}

#[test]
fn what_is_forged_is_refused_by_who_can_see_it() {
    let (sandbox, key) = home();
    let (_, stranger) = home();
    let honest = Honest::new(&key);
    let vkey = honest.signing.vkey().to_string();
    let old = sandbox.path("old");
    fs::write(&old, honest.files.checkpoint()).expect("writes");
    let old = old.to_str().expect("UTF-8");
    let server = honest.files.clone().serve();
    let url = format!("http://{}", server.address);
    holds_for_others(&url, &vkey, SIZE);
    sandbox.ok(&["log", "verify", &url, "--vkey", &vkey]);
    let wrong: Vec<_> = honest
        .forgeries(&stranger)
        .into_iter()
        .flat_map(|forgery| seen(&sandbox, &vkey, old, forgery))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Who does not say to a forgery what it should.
fn seen(sandbox: &Sandbox, vkey: &str, old: &str, forgery: Forgery) -> Vec<String> {
    let server = forgery.files.serve();
    let url = format!("http://{}", server.address);
    let verify = ["log", "verify", &url, "--vkey", vkey];
    let all = [
        ("log verify", forgery.ours, sandbox.run(&verify)),
        ("tlog", forgery.tlog, tlog(&["check", &url, vkey])),
        ("fsck", forgery.fsck, tlog(&["fsck", &url, vkey])),
        (
            "tlog with the checkpoint of before",
            forgery.remembering,
            tlog(&["check", "-old", old, &url, vkey]),
        ),
    ];
    let wrong = all
        .into_iter()
        .filter(|(who, expected, ran)| match expected {
            None => ran.code != Some(0),
            Some(text) => {
                let refused = match *who {
                    "log verify" => ran.code == Some(3),
                    // A Go program that falls over ends with 2.
                    _ => matches!(ran.code, Some(1 | 2)),
                };
                !refused || !ran.stderr.contains(text)
            }
        });
    let name = forgery.name;
    wrong
        .map(|(who, expected, ran)| format!("{name}: {who}: {expected:?} {ran:#?}"))
        .collect()
}

#[test]
fn both_sides_of_a_fork_hold_alone_and_prove_it_together() {
    let (_, key) = home();
    let honest = Honest::new(&key);
    let sides = [&honest.files, &honest.other_side()]
        .map(|files| UnverifiedCheckpoint::parse(files.checkpoint()).expect("a checkpoint"));
    let signer = || Signer::Log(honest.signing.vkey().clone());
    let fork = Fork::new(Evidence::Roots(sides.clone()), [signer(), signer()]);
    assert_eq!(fork.expect("a fork").origin(), honest.signing.vkey().name());
    let [side, _] = sides;
    let same = Evidence::Roots([side.clone(), side]);
    assert!(Fork::new(same, [signer(), signer()]).is_err());
}
