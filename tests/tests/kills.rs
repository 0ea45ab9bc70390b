//! Exports, imports and pulls that are killed at random moments: what was acknowledged stays, nothing
//! half is listed, and the next run goes on. `SOUVERAIN_KILLS` says how many exports are killed.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::Path,
    process::{Child, Output},
    time::{Duration, Instant},
};

use protocol::block::{CODEC_DAG_PB, CODEC_RAW};
use souverain_tests::{
    packs,
    program::{Ran, Random, Sandbox, noise, note, tree},
    running::Running,
};
use store::Store;

const EXPORT: [&str; 6] = [
    "export",
    "data",
    "--commit-every",
    "1",
    "--json",
    "--no-progress",
];
/// Files of the tree that change from round to round, and those that never do.
const CHANGING: u64 = 6;
const CONSTANT: u64 = 10;
/// Exports of a round that are killed before one may finish.
const KILLS_OF_ROUND: u64 = 5;
/// Pulls that are killed and started again.
const PULLS_KILLED: usize = 6;

fn kills() -> u64 {
    std::env::var("SOUVERAIN_KILLS").map_or(100, |text| text.parse().expect("a number"))
}

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After this time.
    After(Duration),
    /// When the packs have this many bytes.
    Packs(u64),
    /// When it has printed something.
    Answer,
}

/// Waits for the moment or the end, whichever is first, then kills, and returns the output.
fn kill_at(mut child: Child, moment: Moment, home: &Path) -> Output {
    let begun = Instant::now();
    let mut answer = Vec::new();
    if matches!(moment, Moment::Answer) {
        let mut first = [0];
        let stdout = child.stdout.as_mut().expect("is captured");
        let read = stdout.read(&mut first).expect("reads");
        answer.extend_from_slice(&first[..read]);
    }
    let is_time = || match moment {
        Moment::After(delay) => begun.elapsed() >= delay,
        Moment::Packs(size) => packs::size(home) >= size,
        Moment::Answer => true,
    };
    while !is_time() && child.try_wait().expect("waits").is_none() {
        std::thread::sleep(Duration::from_micros(500));
    }
    // One that has ended is not there to be killed.
    let _ = child.kill();
    let mut output = child.wait_with_output().expect("ends");
    answer.append(&mut output.stdout);
    output.stdout = answer;
    output
}

/// The CID that was printed, if one was.
fn acknowledged(output: &Output) -> Option<String> {
    let line = output.stdout.split_inclusive(|b| *b == b'\n').next()?;
    let object: serde_json::Value = serde_json::from_slice(line).ok()?;
    Some(object["cid"].as_str()?.to_owned())
}

fn write_files(data: &Path, round: u64) {
    fs::create_dir_all(data.join("sub")).expect("creates");
    for n in 0..CHANGING {
        let bytes = noise(round * 100 + n, 700 << 10);
        fs::write(data.join(format!("changing-{n}")), bytes).expect("writes");
    }
    if round > 0 {
        return;
    }
    for n in 0..CONSTANT {
        let name = format!("sub/constant-{n}");
        fs::write(data.join(name), noise(1_000_000 + n, 800 << 10)).expect("writes");
    }
    for n in 0..200 {
        let text = format!("note {n}\n").repeat(40);
        fs::write(data.join(format!("sub/note-{n}.txt")), text).expect("writes");
    }
}

/// What was acknowledged is listed; and whatever is listed is whole.
fn check(home: &Path, promised: &BTreeSet<String>) -> usize {
    let Ok(store) = Store::open(home, "a test") else {
        panic!("the store does not open");
    };
    let listed = packs::check_listed(&store);
    let listed: BTreeSet<String> = listed.iter().map(ToString::to_string).collect();
    let lost: Vec<&String> = promised.difference(&listed).collect();
    assert!(lost.is_empty(), "acknowledged and not listed: {lost:?}");
    listed.len() - promised.len()
}

#[test]
fn killed_exports_lose_nothing_and_seal_nothing_twice() {
    let mut random = Random::printed("kills");
    let sandbox = Sandbox::new();
    let (home, data) = (sandbox.home(), sandbox.path("data"));
    write_files(&data, 0);
    let begun = Instant::now();
    let first = sandbox.run(&EXPORT).succeeded().objects();
    let mut usual = begun.elapsed();
    let mut promised = BTreeSet::from([first[0]["cid"].as_str().expect("a CID").to_owned()]);
    let (mut killed, mut round, mut unacknowledged) = (0, 0, 0);
    let (mut went_on, mut newest) = (0, String::new());
    while killed < kills() {
        round += 1;
        write_files(&data, round);
        for _ in 0..KILLS_OF_ROUND {
            let changed = CHANGING * (700 << 10);
            let moment = match random.below(8) {
                0 => Moment::Answer,
                1..4 => Moment::Packs(packs::size(&home) + random.below(changed)),
                _ => Moment::After(usual.mul_f64(random.below(1000) as f64 / 900.0)),
            };
            let output = kill_at(sandbox.spawn(&EXPORT), moment, &home);
            if let Some(cid) = acknowledged(&output) {
                promised.insert(cid);
                round += 1;
                write_files(&data, round);
            }
            let ran = Ran::of(output);
            if ran.signal.is_some() {
                killed += 1;
            } else {
                assert_eq!(ran.code, Some(0), "{moment:?}: {ran:#?}");
            }
            unacknowledged = unacknowledged.max(check(&home, &promised));
        }
        let begun = Instant::now();
        let last = sandbox.run(&EXPORT).succeeded().objects();
        usual = begun.elapsed().max(usual.mul_f64(0.5));
        let reused = last[0]["segments_reused"].as_u64().expect("a number");
        assert!(reused > 0, "{last:?}");
        went_on += u64::from(last[0]["bytes_written"].as_u64() < Some(2 << 20));
        last[0]["cid"]
            .as_str()
            .expect("a CID")
            .clone_into(&mut newest);
        promised.insert(newest.clone());
    }
    for cid in &promised {
        let _ = sandbox.run(&["verify", cid]).succeeded();
    }
    assert!(went_on > 0, "no killed export left anything durable");
    // A manifest that was durable when its snapshot was not listed yet is sealed again.
    let unnamed = packs::unnamed(&home);
    let raw = unnamed.get(&CODEC_RAW).copied().unwrap_or_default();
    let nodes = unnamed.get(&CODEC_DAG_PB).copied().unwrap_or_default();
    assert!(
        raw <= nodes,
        "{raw} sealed blocks that nothing names, {nodes} nodes"
    );
    note(format!(
        "{killed} exports killed; {} snapshots, {unacknowledged} more not acknowledged; \
         {went_on} rounds finished with what was durable; {raw} blocks unnamed",
        promised.len()
    ));
    sandbox.ok(&["import", &newest, "--into", "restored"]);
    assert_eq!(tree(&sandbox.path("restored")), tree(&data));
}

#[test]
fn a_pull_over_quic_that_is_killed_and_started_again_keeps_its_honest_peer() {
    let mut random = Random::printed("pull kills");
    let provider = Sandbox::new();
    let roots = [1, 2].map(|seed| {
        let name = format!("tree-{seed}");
        fs::create_dir(provider.path(&name)).expect("creates");
        let file = provider.path(&name).join("noise");
        fs::write(file, noise(seed, 32 << 20)).expect("writes");
        let root = provider.ok(&["export", &name]);
        provider.ok(&["share", &root, "--with", "public"]);
        root
    });
    // So slow that wants of the killed pulls wait here.
    let server = Running::start(&provider, &["--limit-upload", "16MiB"]);
    let quic = server.addresses.iter().find(|a| a.contains("/quic-v1"));
    let quic = quic.expect("listens there").as_str();
    let sandbox = Sandbox::new();
    let home = sandbox.home();
    for n in 0..PULLS_KILLED {
        // What the pull before wanted is nothing that this one wants.
        let args = ["pull", &roots[n % 2], "--peer", quic, "--json"];
        let enough = packs::size(&home) + (1 << 20) + random.below(3 << 20);
        let ran = Ran::of(kill_at(sandbox.spawn(&args), Moment::Packs(enough), &home));
        assert!(ran.signal.is_some(), "{n}: {ran:#?}");
    }
    for root in roots.iter().rev() {
        let ran = sandbox.run(&["pull", root, "--peer", quic, "--json"]);
        let ran = ran.succeeded();
        assert!(!ran.stderr.contains("kept out"), "{ran:#?}");
        sandbox.ok(&["verify", root, "--keyless"]);
    }
    let said = server.stop();
    assert!(!said.contains("kept out"), "{said}");
}

fn make_database(path: &Path, seed: u64) {
    let database = rusqlite::Connection::open(path).expect("opens");
    let sql = "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB); CREATE TABLE u (c TEXT)";
    database.execute_batch(sql).expect("creates");
    for n in 0..600 {
        let row = (noise(seed + n, 8 << 10),);
        database
            .execute("INSERT INTO t (b) VALUES (?)", row)
            .expect("inserts");
    }
}

/// All that a database holds, as SQL would say it.
fn rows(path: &Path) -> Vec<(i64, Vec<u8>)> {
    let database = rusqlite::Connection::open(path).expect("opens");
    let mut query = database
        .prepare("SELECT a, b FROM t ORDER BY a")
        .expect("prepares");
    let found = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    found
        .expect("runs")
        .map(|row| row.expect("a row"))
        .collect()
}

#[test]
fn a_killed_import_leaves_the_target_as_it_was_or_complete() {
    let mut random = Random::printed("import kills");
    let sandbox = Sandbox::new();
    let data = sandbox.path("data");
    write_files(&data, 0);
    make_database(&sandbox.path("new.sqlite"), 0);
    make_database(&sandbox.path("old.sqlite"), 10_000);
    let files = sandbox.ok(&["export", "data"]);
    let database = sandbox.ok(&["export", "sqlite:new.sqlite"]);
    let (old, new) = (
        rows(&sandbox.path("old.sqlite")),
        rows(&sandbox.path("new.sqlite")),
    );
    let (whole, mut usual) = (tree(&data), Duration::from_secs(1));
    let mut done = [0, 0];
    for n in 0..kills() / 4 {
        // Into nothing, over a tree, over a database.
        let target = sandbox.path(&format!("target-{n}"));
        let into = target.to_str().expect("plain");
        let args: Vec<&str> = match n % 3 {
            0 => vec!["import", &files, "--into", into],
            1 => vec!["import", &files, "--replace", "--into", into],
            _ => vec!["import", &database, "--replace", "--into", into],
        };
        match n % 3 {
            0 => {}
            1 => {
                fs::create_dir(&target).expect("creates");
                fs::write(target.join("before"), "before").expect("writes");
            }
            _ => drop(fs::copy(sandbox.path("old.sqlite"), &target).expect("copies")),
        }
        if n < 3 {
            let (begun, _) = (Instant::now(), sandbox.ok(&args));
            usual = begun.elapsed();
            continue;
        }
        let moment = Moment::After(usual.mul_f64(random.below(1000) as f64 / 800.0));
        let ran = Ran::of(kill_at(sandbox.spawn(&args), moment, &sandbox.home()));
        let complete = match n % 3 {
            0 => target.exists(),
            1 => !target.join("before").exists(),
            _ => rows(&target) != old,
        };
        assert!(complete || ran.code != Some(0), "{ran:#?}");
        done[usize::from(complete)] += 1;
        match (complete, n % 3) {
            (true, 0 | 1) => assert_eq!(tree(&target), whole, "{moment:?}"),
            (true, _) => assert_eq!(rows(&target), new, "{moment:?}"),
            (false, 1) => assert_eq!(tree(&target).len(), 1, "{moment:?}"),
            (false, _) => {}
        }
        if !complete {
            sandbox.ok(&args);
        }
    }
    note(format!(
        "imports killed: {} left the target, {} were complete",
        done[0], done[1]
    ));
    assert!(done[0] > 0, "no import was killed in time");
}
