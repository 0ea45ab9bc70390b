//! What people and disks do wrong: an error, a hint, the right exit code, and nothing touched.

use std::{
    fs,
    io::Write,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    process::Stdio,
    time::Duration,
};

use protocol::block::CODEC_DAG_PB;
use rustix::process::{Pid, Signal, kill_process};
use souverain_tests::{
    packs::{self, Place},
    program::{Ran, Sandbox, noise, tree},
};
use store::Store;

const UNKNOWN: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";

/// A home with one snapshot of a tree; its CID.
fn exported() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("data")).expect("creates");
    for n in 0..4 {
        fs::write(sandbox.path(&format!("data/{n}")), noise(n, 600 << 10)).expect("writes");
    }
    let cid = sandbox.ok(&["export", "data"]);
    (sandbox, cid)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changes");
}

#[test]
fn what_is_asked_wrongly_is_told() {
    let (sandbox, cid) = exported();
    fs::write(sandbox.path("junk"), noise(9, 5000)).expect("writes");
    fs::write(sandbox.path("empty"), "").expect("writes");
    let before = tree(&sandbox.path("data"));
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["import", UNKNOWN, "--into", "t"],
            1,
            "is not in this home",
        ),
        (&["verify", UNKNOWN], 1, "is not in this home"),
        (&["car", "export", UNKNOWN, "t"], 1, "is not in this home"),
        (&["get", UNKNOWN, "t"], 1, "is not in this home"),
        // A raw block is no snapshot.
        (&["show", "bafkreig"], 1, "begins with"),
        (
            &["import", "absent.car", "--into", "t"],
            1,
            "neither a CID nor a file",
        ),
        (&["import", "junk", "--into", "t"], 3, "junk"),
        (&["import", "empty", "--into", "t"], 3, "cut off"),
        (&["car", "import", "junk"], 3, "CAR"),
        (&["car", "import", "empty"], 3, "cut off"),
        (&["import", &cid, "--into", "data"], 1, "not empty"),
        (&["import", &cid, "--into", "junk"], 1, "not a directory"),
        (
            &["import", &cid, "--into", "postgres://h/d"],
            1,
            "cannot take",
        ),
        (&["import", &cid, "--into", "sqlite:t"], 1, "cannot take"),
        (
            &["import", &cid, "--into", "t", "--stream", "x"],
            1,
            "no stream is called x",
        ),
        (
            &["import", &cid, "--into", "t", "--source", "x"],
            1,
            "no source is called x",
        ),
        (
            &["import", &cid, "--into", "t", "-i", "absent"],
            1,
            "does not exist",
        ),
        (
            &["import", &cid, "--into", "t", "-i", "junk"],
            1,
            "not an identity",
        ),
        (
            &["import", &cid, "--into", "t", "-i", "empty"],
            1,
            "no identity",
        ),
        (&["export", "absent"], 1, "cannot read"),
        (&["export", "ftp://host/x"], 2, "not a source that is known"),
        (
            &["import", &cid, "--into", "ftp://host/t"],
            2,
            "not a target that is known",
        ),
        (&["export", "data", "--to", "age1junk"], 2, "age1junk"),
        (&["get", &cid, "data"], 1, "not empty"),
        (&["car", "export", &cid, "junk"], 1, "exists already"),
        (&["init"], 1, "initialised already"),
    ];
    for (args, code, text) in cases {
        let ran = sandbox.run(args);
        let _ = ran.failed(*code, text);
        assert!(!sandbox.path("t").exists(), "{args:?}");
    }
    for args in [
        &["import", &cid][..],
        &["import", &cid, "--into", "t", "--merge", "--replace"],
        &["verify", &cid, "--sample", "0%"],
        &["export"],
        &["export", "data", "--level", "99"],
        &["export", "data", "--car", "x.car", "--mode", "erasable"],
        &["frobnicate"],
    ] {
        assert_eq!(sandbox.run(args).code, Some(2), "{args:?}");
    }
    assert_eq!(tree(&sandbox.path("data")), before);
    assert_eq!(sandbox.listed(), [cid]);
}

#[test]
fn without_the_right_identity_nothing_opens() {
    let (sandbox, cid) = exported();
    let (other, identity) = (Sandbox::new(), sandbox.home().join("identity.txt"));
    let theirs = other.home().join("identity.txt");
    let kept = fs::read(&identity).expect("reads");
    let import = ["import", &cid, "--into", "t"];
    fs::remove_file(&identity).expect("removes");
    let _ = sandbox.run(&import).failed(1, "no identity");
    fs::copy(&theirs, &identity).expect("copies");
    for args in [
        &import[..],
        &["show", &cid],
        &["diff", &cid, &cid],
        &["verify", &cid],
    ] {
        let _ = sandbox.run(args).failed(1, "identity");
    }
    let _ = sandbox.run(&["verify", "--keyless", &cid]).succeeded();
    fs::write(&identity, &kept).expect("writes");
    set_mode(&identity, 0o644);
    let _ = sandbox
        .run(&import)
        .failed(1, "can be read or changed by others");
    set_mode(&identity, 0o600);
    set_mode(&sandbox.home(), 0o755);
    let _ = sandbox
        .run(&import)
        .failed(1, "can be read or changed by others");
    set_mode(&sandbox.home(), 0o700);
    assert!(!sandbox.path("t").exists());
    sandbox.ok(&import);
}

#[test]
fn a_home_that_is_not_usable_is_told() {
    let (sandbox, cid) = exported();
    let none = Sandbox::empty();
    for args in [
        &["list"][..],
        &["export", "/etc/hostname"],
        &["verify", &cid],
    ] {
        let _ = none.run(args).failed(1, "is not the home of a node");
    }
    let version = sandbox.home().join("version");
    let was = fs::read(&version).expect("reads");
    fs::write(&version, "souverain home 2\n").expect("writes");
    let _ = sandbox.run(&["list"]).failed(1, "is of version");
    fs::write(&version, was).expect("writes");
    let store = Store::open(&sandbox.home(), "a test").expect("opens");
    let ran = sandbox
        .run(&["export", "data"])
        .failed(1, "in use by process");
    assert!(ran.stderr.contains("(a test)"), "{ran:#?}");
    assert_eq!(sandbox.listed(), [cid.as_str()], "others read meanwhile");
    drop(store);
    sandbox.ok(&["export", "data"]);
    let pack = packs::blocks(&sandbox.home())[0].pack.clone();
    let file = fs::File::options().write(true).open(&pack).expect("opens");
    file.set_len(4000).expect("cuts");
    for args in [
        &["list"][..],
        &["import", &cid, "--into", "t"],
        &["export", "data"],
    ] {
        let _ = sandbox.run(args).failed(1, "damaged");
    }
    assert!(!sandbox.path("t").exists());
}

#[test]
fn what_is_undamaged_is_rescued_from_the_packs() {
    fn cut(home: &Path) {
        let last = packs::blocks(home).pop().expect("blocks");
        let file = fs::File::options().write(true).open(&last.pack);
        file.and_then(|file| file.set_len(last.offset + 5))
            .expect("cuts");
    }
    fn overwrite(file: &Path) {
        let file = fs::File::options().write(true).open(file).expect("opens");
        file.write_all_at(&[0x5a; 16], 0).expect("writes");
    }
    /// What it is, whether blocks are lost, and how it is done.
    type HomeDamage = (&'static str, bool, fn(&Path));
    let damages: [HomeDamage; 4] = [
        ("a pack is cut off", true, cut),
        ("the settings of the index are overwritten", false, |home| {
            overwrite(&home.join("index/conf"));
        }),
        ("the index is overwritten", false, |home| {
            overwrite(&home.join("index/db"));
        }),
        ("the index is gone", false, |home| {
            fs::remove_dir_all(home.join("index")).expect("removes");
        }),
    ];
    for (what, loses, damage) in damages {
        let (sandbox, first) = exported();
        fs::write(sandbox.path("data/more"), noise(7, 100_000)).expect("writes");
        let second = sandbox.ok(&["export", "data"]);
        damage(&sandbox.home());
        for args in [&["list"][..], &["export", "data"], &["verify", &first]] {
            let ran = sandbox.run(args).failed(1, "damaged");
            assert!(ran.stderr.contains("car import"), "{what}: {ran:#?}");
            assert!(!ran.stderr.contains("sled"), "{what}: {ran:#?}");
        }
        let other = Sandbox::new();
        let packs = fs::read_dir(sandbox.home().join("packs")).expect("reads");
        let packs = packs.map(|entry| entry.expect("an entry").path());
        let mut args = vec!["car".into(), "import".into()];
        args.extend(packs.map(std::path::PathBuf::into_os_string));
        let ran = other.run(&args);
        let (code, listed) = match loses {
            true => (3, vec![first.clone()]),
            false => (0, vec![first.clone(), second]),
        };
        assert_eq!(ran.code, Some(code), "{what}: {ran:#?}");
        assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), listed, "{what}");
        assert_eq!(other.listed(), listed, "{what}");
        fs::remove_file(sandbox.path("data/more")).expect("removes");
        let identity = sandbox.home().join("identity.txt");
        let identity = identity.to_str().expect("plain");
        other.ok(&["import", &first, "-i", identity, "--into", "back"]);
        assert_eq!(tree(&other.path("back")), tree(&sandbox.path("data")));
    }
}

fn flip(place: &Place, at: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&place.pack)
        .expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, place.offset + at)
        .expect("reads");
    file.write_all_at(&[byte[0] ^ 1], place.offset + at)
        .expect("writes");
}

#[test]
fn damage_to_any_block_is_found_wherever_it_is() {
    let (sandbox, cid) = exported();
    let (car, whole) = (sandbox.path("s.car"), sandbox.path("whole.car"));
    sandbox.ok(&["car", "export", &cid, "whole.car"]);
    let data = tree(&sandbox.path("data"));
    let check = |what: &str| -> bool {
        let car = car.to_str().expect("plain");
        let other = Sandbox::new();
        let _ = other.run(&["car", "import", car]).failed(3, "");
        assert!(other.listed().is_empty(), "{what}");
        for args in [&["verify", car][..], &["verify", "--keyless", car]] {
            let ran = sandbox.run(args).failed(3, "");
            let wrong = what.starts_with("cut") || ran.stderr.contains("verify: 1 thing is wrong");
            assert!(wrong, "{what}: {ran:#?}");
        }
        let ran = sandbox.run(&["import", car, "--into", "t"]);
        if ran.code == Some(0) {
            // The folders below s/ are for those who fetch: an import needs none of them.
            assert_eq!(tree(&sandbox.path("t")), data, "{what}");
            fs::remove_dir_all(sandbox.path("t")).expect("removes");
            return true;
        }
        let _ = ran.failed(3, "");
        assert!(!sandbox.path("t").exists(), "{what}");
        false
    };
    let mut needless = 0;
    for place in packs::of_car(&whole) {
        fs::copy(&whole, &car).expect("copies");
        let flipped = Place {
            pack: car.clone(),
            ..place
        };
        flip(&flipped, flipped.len / 2);
        let what = format!("{} ({} bytes)", flipped.cid, flipped.len);
        // The recovery texts are constant; nothing but verify reads them.
        if flipped.cid.codec() == CODEC_DAG_PB || flipped.len > 30_000 {
            needless += usize::from(check(&what));
        } else {
            let _ = sandbox
                .run(&["verify", "s.car"])
                .failed(3, "verify: 1 thing is wrong");
        }
    }
    let len = fs::metadata(&whole).expect("metadata").len();
    for cut in [1, len / 3, len - 100] {
        fs::copy(&whole, &car).expect("copies");
        fs::File::options()
            .write(true)
            .open(&car)
            .expect("opens")
            .set_len(len - cut)
            .expect("cuts");
        check(&format!("cut off {cut} bytes before the end"));
    }
    assert!((1..20).contains(&needless), "{needless}");
    let mut garbage = sandbox.command(&["car", "import", "-"]);
    garbage
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = garbage.spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("is captured");
    // It may be refused before all of it is read.
    let _ = stdin.write_all(&noise(7, 100_000));
    drop(stdin);
    let _ = Ran::of(child.wait_with_output().expect("ends")).failed(3, "CAR");
}

#[test]
fn damage_in_the_home_is_found_wherever_it_is() {
    let (sandbox, cid) = exported();
    let places = packs::blocks(&sandbox.home());
    for place in &places {
        flip(place, place.len / 2);
        let what = format!("{} ({} bytes)", place.cid, place.len);
        let ran = sandbox.run(&["verify", "--keyless", &cid]);
        assert_eq!(ran.code, Some(3), "{what}: {ran:#?}");
        assert!(
            ran.stdout.contains(&place.cid.to_string()),
            "{what}: {ran:#?}"
        );
        for args in [&["car", "export", &cid, "t"][..], &["get", &cid, "t"]] {
            let _ = sandbox.run(args).failed(3, "");
            assert!(!sandbox.path("t").exists(), "{what}");
        }
        flip(place, place.len / 2);
    }
    let _ = sandbox.run(&["verify", &cid]).succeeded();
}

#[test]
fn an_interrupted_run_leaves_nothing_half_done() {
    let (sandbox, cid) = exported();
    fs::create_dir(sandbox.path("large")).expect("creates");
    for n in 0..60 {
        let bytes = noise(100 + n, 1 << 20);
        fs::write(sandbox.path(&format!("large/{n}")), bytes).expect("writes");
    }
    let interrupt = |child: &std::process::Child| {
        let pid = Pid::from_child(child);
        kill_process(pid, Signal::INT).expect("signals");
    };
    let wait = |child: &mut std::process::Child, condition: &dyn Fn() -> bool| {
        while !condition() {
            let ended = child.try_wait().expect("waits");
            assert!(ended.is_none(), "it ended too early: {ended:?}");
            std::thread::sleep(Duration::from_micros(300));
        }
    };
    let export = ["export", "large", "--commit-every", "1", "--json"];
    let size = packs::size(&sandbox.home());
    let mut child = sandbox.spawn(&export);
    wait(&mut child, &|| {
        packs::size(&sandbox.home()) > size + (6 << 20)
    });
    interrupt(&child);
    let ran = Ran::of(child.wait_with_output().expect("ends"));
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stdout.contains("\"error\":\"interrupted\""), "{ran:#?}");
    assert_eq!(sandbox.listed(), [cid.as_str()]);
    let again = sandbox.run(&export).succeeded().objects();
    assert!(again[0]["segments_reused"].as_u64() > Some(2), "{again:?}");
    let large = again[0]["cid"].as_str().expect("a CID");
    let before = tree(&sandbox.path("data"));
    for into in ["new", "data"] {
        let count = || fs::read_dir(sandbox.path("")).expect("reads").count();
        let entries = count();
        let mut child = sandbox.spawn(&["import", large, "--replace", "--into", into]);
        wait(&mut child, &|| count() > entries);
        interrupt(&child);
        let _ = Ran::of(child.wait_with_output().expect("ends")).failed(1, "interrupted");
        assert_eq!(count(), entries, "something is left beside {into}");
        assert!(!sandbox.path("new").exists());
        assert_eq!(tree(&sandbox.path("data")), before);
    }
}

#[test]
fn a_broken_pipe_is_quiet_and_loses_nothing() {
    let (sandbox, cid) = exported();
    for args in [
        &["car", "export", &cid, "-"][..],
        &["list"],
        &["export", "data"],
    ] {
        let mut child = sandbox.spawn(args);
        drop(child.stdout.take());
        let ran = Ran::of(child.wait_with_output().expect("ends"));
        assert_eq!(ran.code, Some(1), "{args:?} {ran:#?}");
        assert!(!ran.stderr.contains("Error"), "{args:?} {ran:#?}");
    }
    for cid in sandbox.listed() {
        let _ = sandbox.run(&["verify", &cid]).succeeded();
    }
}
