//! Flipped bytes in a store: each is reported by stream and segment, and everything else can
//! still be restored.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use agent::blocks::Blocks;
use cid::Cid;
use rusqlite::Connection;
use souverain_tests::{
    packs::{self, Place},
    program::{Ran, Random, Sandbox, noise, note, tree},
};
use store::{Store, Table};

const FILES: u64 = 400;
const ROWS: u64 = 60_000;
/// More segments than this may not be hit, or nothing would be left to restore.
const HITS: usize = 8;

fn write_data(sandbox: &Sandbox) {
    for n in 0..FILES {
        let directory = sandbox.path(&format!("data/{}", n % 7));
        fs::create_dir_all(&directory).expect("creates");
        fs::write(directory.join(format!("{n}")), noise(n, 60 << 10)).expect("writes");
    }
    let mut database = Connection::open(sandbox.path("shop.sqlite")).expect("opens");
    let schema = "CREATE TABLE a (id INTEGER PRIMARY KEY, b BLOB); CREATE TABLE c (d TEXT);
                  CREATE INDEX i ON c (d); INSERT INTO c VALUES ('one'), ('two')";
    database.execute_batch(schema).expect("creates");
    let rows = database.transaction().expect("begins");
    for n in 0..ROWS {
        let row = (n.cast_signed(), noise(1_000_000 + n, 64));
        rows.execute("INSERT INTO a VALUES (?, ?)", row)
            .expect("inserts");
    }
    rows.commit().expect("commits");
}

fn rows(path: &Path) -> BTreeSet<(i64, Vec<u8>)> {
    let database = Connection::open(path).expect("opens");
    let mut query = database.prepare("SELECT id, b FROM a").expect("prepares");
    let found = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    found
        .expect("runs")
        .map(|row| row.expect("a row"))
        .collect()
}

/// Places of the segments of a snapshot; lists and everything public are not among them.
fn segments(home: &Path, cid: &str) -> Vec<Place> {
    let store = Store::open(home, "a test").expect("opens");
    let mut named: BTreeSet<Cid> = BTreeSet::new();
    let root: Cid = cid.parse().expect("a CID");
    packs::each_object(&Blocks::Store(&store), &root, &mut |object| {
        named.insert(object.cid());
    });
    for entry in store.scan(Table::Pieces) {
        let (key, _) = entry.expect("reads");
        let key = key.as_slice().try_into().expect("32 bytes");
        let kept = agent::catalog::piece(&store, &key)
            .expect("reads")
            .expect("is there");
        // A list is short for its number of segments, and has no rows.
        if kept.segment.len < 40_000 {
            named.remove(&kept.segment.cid());
        }
    }
    let mut places = packs::blocks(home);
    places.retain(|place| named.contains(&place.cid));
    places
}

/// Flips bytes at random places of `count` segments, and returns their CIDs.
fn flip(random: &mut Random, places: &[Place], count: usize) -> BTreeSet<String> {
    let mut hit = BTreeMap::new();
    while hit.len() < count {
        let place = &places[random.below(places.len() as u64) as usize];
        hit.insert(place.cid.to_string(), place);
    }
    for place in hit.values() {
        let file = fs::File::options().read(true).write(true).open(&place.pack);
        let file = file.expect("opens");
        let at = place.offset + random.below(place.len);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("reads");
        let other = byte[0] ^ (1 + random.below(255) as u8);
        file.write_all_at(&[other], at).expect("writes");
    }
    hit.into_keys().collect()
}

/// The CIDs of what was reported; if `inside`, only what was reported with stream and segment.
fn reported(ran: &Ran, inside: bool) -> BTreeSet<String> {
    let objects = ran.objects();
    let damage = objects.iter().filter(|object| object["type"] == "damage");
    let fits = |object: &&serde_json::Value| {
        let named = object["stream"].is_string() && object["segment"].is_u64();
        let place = object["path"].is_string();
        if inside { named } else { place }
    };
    let cid = |object: &serde_json::Value| object["cid"].as_str().expect("a CID").to_owned();
    damage.filter(fits).map(cid).collect()
}

#[test]
fn damage_is_reported_and_all_else_is_restored() {
    let mut random = Random::printed("damage");
    let sandbox = Sandbox::new();
    write_data(&sandbox);
    let files = sandbox.ok(&["export", "data"]);
    let database = sandbox.ok(&["export", "sqlite:shop.sqlite"]);
    let hit_files = flip(&mut random, &segments(&sandbox.home(), &files), HITS);
    let hit_rows = flip(&mut random, &segments(&sandbox.home(), &database), 3);
    for (cid, hit) in [(&files, &hit_files), (&database, &hit_rows)] {
        let keyless = sandbox.run(&["verify", cid, "--keyless", "--json"]);
        assert_eq!(keyless.code, Some(3), "{keyless:#?}");
        assert_eq!(reported(&keyless, false), *hit);
        let opened = sandbox.run(&["verify", cid, "--json"]);
        assert_eq!(opened.code, Some(3), "{opened:#?}");
        assert_eq!(reported(&opened, true), *hit);
        let sampled = sandbox.run(&["verify", cid, "--json", "--sample", "100%"]);
        assert_eq!(reported(&sampled, true), *hit);
        let whole = sandbox.run(&["import", cid, "--into", "whole"]);
        let _ = whole.failed(3, "does not match its CID");
        assert!(!sandbox.path("whole").exists());
    }
    files_but_damaged(&sandbox, &files, &hit_files);
    rows_but_damaged(&sandbox, &database, &hit_rows);
}

fn skip_damaged(sandbox: &Sandbox, cid: &str, hit: &BTreeSet<String>) -> Ran {
    let args = ["import", cid, "--skip-damaged", "--into", "rest", "--json"];
    let ran = sandbox.run(&args);
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    for cid in hit {
        assert!(ran.stdout.contains(cid), "{cid} is not in {ran:#?}");
    }
    ran
}

fn files_but_damaged(sandbox: &Sandbox, cid: &str, hit: &BTreeSet<String>) {
    let ran = skip_damaged(sandbox, cid, hit);
    let (expected, found) = (tree(&sandbox.path("data")), tree(&sandbox.path("rest")));
    let mut lost: Vec<&PathBuf> = Vec::new();
    for (path, what) in &expected {
        if found.get(path) != Some(what) {
            lost.push(path);
        }
    }
    for path in &lost {
        // Damaged headers have no name; damaged contents are told by theirs.
        if found.contains_key(*path) {
            let name = path.to_str().expect("plain");
            assert!(
                ran.stdout.contains(name),
                "{name} is damaged, and not told in {ran:#?}"
            );
        }
    }
    for path in found.keys() {
        assert!(
            expected.contains_key(path),
            "{} was invented",
            path.display()
        );
    }
    // 960 KiB and two ends touch no more than 18 files of 60 KiB.
    assert!(
        !lost.is_empty() && lost.len() <= hit.len() * 18,
        "{} lost: {lost:?}",
        lost.len()
    );
    fs::remove_dir_all(sandbox.path("rest")).expect("removes");
}

fn rows_but_damaged(sandbox: &Sandbox, cid: &str, hit: &BTreeSet<String>) {
    let verified = sandbox.run(&["verify", cid, "--json"]).objects();
    let summary = verified.iter().find(|object| object["type"] == "verified");
    let summary = summary.expect("a summary");
    let _ = skip_damaged(sandbox, cid, hit);
    let (expected, found) = (
        rows(&sandbox.path("shop.sqlite")),
        rows(&sandbox.path("rest")),
    );
    assert!(found.is_subset(&expected), "rows were invented");
    assert!(found.len() < expected.len() && found.len() > expected.len() / 4);
    note(format!(
        "{} of {} rows restored; {summary}",
        found.len(),
        expected.len()
    ));
    let others: i64 = Connection::open(sandbox.path("rest"))
        .and_then(|c| c.query_row("SELECT count(*) FROM c", [], |row| row.get(0)))
        .expect("the other table is there");
    assert_eq!(others, 2);
}

#[test]
fn a_sample_reads_its_share() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("data")).expect("creates");
    for n in 0..60 {
        let bytes = noise(n, 1 << 20);
        fs::write(sandbox.path(&format!("data/{n}")), bytes).expect("writes");
    }
    let cid = sandbox.ok(&["export", "data"]);
    let summary = |args: &[&str]| {
        let ran = sandbox.run(args).succeeded().objects();
        let last = ran.last().expect("a summary").clone();
        (last["bytes"].as_u64(), last["opened"]["segments"].as_u64())
    };
    let (whole, _) = summary(&["verify", &cid, "--json"]);
    let whole = whole.expect("bytes");
    let (mut bytes, mut opened, times) = (0, 0, 20);
    let mut chosen = BTreeSet::new();
    for _ in 0..times {
        let (read, segments) = summary(&["verify", &cid, "--json", "--sample", "5%"]);
        bytes += read.expect("bytes");
        opened += segments.expect("segments");
        chosen.insert(read);
    }
    let share = bytes as f64 / (whole * times) as f64;
    note(format!(
        "{:.2} % read, {opened} segments opened",
        share * 100.0
    ));
    assert!((0.025..0.09).contains(&share), "{share}");
    assert!(chosen.len() > 3, "every run chose the same");
}

#[test]
fn what_is_damaged_is_not_counted_on_and_can_be_mended() {
    let sandbox = Sandbox::new();
    write_data(&sandbox);
    let cid = sandbox.ok(&["export", "data"]);
    sandbox.ok(&["car", "export", &cid, "good.car"]);
    let home = sandbox.home();
    let mut random = Random::printed("mending");
    flip(&mut random, &segments(&home, &cid), HITS);
    // A text that every snapshot has.
    let text = packs::blocks(&home)
        .into_iter()
        .find(|place| place.cid == *protocol::recover::blocks()[1].1.cid());
    flip(&mut random, &[text.expect("is stored")], 1);
    sandbox.run(&["verify", &cid]).failed(3, "did not verify");
    fs::write(sandbox.path("data/0/more"), "more").expect("writes");
    let later = sandbox.ok(&["export", "data"]);
    sandbox.ok(&["verify", &later]);
    sandbox.run(&["verify", &cid]).failed(3, "car import");
    sandbox.ok(&["car", "import", "good.car"]);
    sandbox.ok(&["verify", &cid]);
    let size = packs::size(&home);
    sandbox.ok(&["car", "import", "good.car"]);
    assert_eq!(
        packs::size(&home),
        size,
        "what is sound is not written again"
    );
}
