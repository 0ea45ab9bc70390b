//! Full disks: told, nothing half done, nothing lost, and work goes on when there is room.

use std::fs;

use souverain_tests::{
    disk::SmallDisk,
    federation::{export, origin, own, until},
    program::{Ran, Sandbox, noise, tree},
    running::Running,
};

const ROOM: &str = "make room";

fn data(sandbox: &Sandbox) {
    fs::create_dir(sandbox.path("data")).expect("creates");
    for n in 0..48 {
        let bytes = noise(n, 1 << 20);
        fs::write(sandbox.path(&format!("data/{n}")), bytes).expect("writes");
    }
}

#[test]
fn an_export_to_a_full_disk_goes_on_when_there_is_room() {
    let sandbox = Sandbox::empty();
    data(&sandbox);
    fs::create_dir(sandbox.home()).expect("creates");
    let Some(disk) = SmallDisk::mount(&sandbox.home(), 56) else {
        return;
    };
    let run = |args: &[&str]| Ran::of(disk.on(&sandbox.command(args)).output().expect("runs"));
    let _ = run(&["init"]).succeeded();
    let small = run(&["export", "data/0"]).succeeded().stdout;
    let export = ["export", "data", "--commit-every", "1", "--json"];
    for _ in 0..2 {
        let ran = run(&["export", "data", "--commit-every", "1"]).failed(1, "no space left");
        assert!(ran.stderr.contains(ROOM), "{ran:#?}");
        assert_eq!(run(&["list"]).succeeded().stdout.lines().count(), 1);
        let _ = run(&["verify", small.trim()]).succeeded();
    }
    disk.grow(200);
    let ran = run(&export).succeeded().objects();
    assert!(ran[0]["segments_reused"].as_u64() > Some(5), "{ran:?}");
    let _ = run(&["verify", ran[0]["cid"].as_str().expect("a CID")]).succeeded();
}

#[test]
fn what_does_not_fit_leaves_nothing() {
    let sandbox = Sandbox::new();
    data(&sandbox);
    let cid = sandbox.ok(&["export", "data"]);
    fs::create_dir(sandbox.path("small")).expect("creates");
    let Some(disk) = SmallDisk::mount(&sandbox.path("small"), 20) else {
        return;
    };
    let run = |args: &[&str]| Ran::of(disk.on(&sandbox.command(args)).output().expect("runs"));
    let small = disk.outside();
    fs::write(small.join("before"), "before").expect("writes");
    let before = tree(&small);
    for args in [
        &["import", &cid, "--into", "small/t"][..],
        &["import", &cid, "--into", "small", "--replace"],
        &["import", &cid, "--into", "small", "--merge"],
        &["get", &cid, "small/t"],
        &["car", "export", &cid, "small/t.car"],
        &["export", "data", "--car", "small/t.car"],
    ] {
        let ran = run(args);
        let ran = ran.failed(1, "No space left");
        assert!(ran.stderr.contains(ROOM), "{args:?} {ran:#?}");
        assert_eq!(tree(&small), before, "{args:?}");
    }
    let full = fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("opens");
    let to_full = sandbox
        .command(&["car", "export", &cid, "-"])
        .stdout(full)
        .output();
    let _ = Ran::of(to_full.expect("runs")).failed(1, "No space left");
    disk.grow(200);
    let _ = run(&["import", &cid, "--into", "small/t"]).succeeded();
    assert_eq!(tree(&small.join("t")), tree(&sandbox.path("data")));
}

#[test]
fn a_follower_says_so_and_goes_on_with_a_log_when_there_is_room() {
    let (follower, followed) = (Sandbox::empty(), Sandbox::new());
    fs::create_dir(follower.home()).expect("creates");
    let Some(disk) = SmallDisk::mount(&follower.home(), 16) else {
        return;
    };
    let run = |args: &[&str]| Ran::of(disk.on(&follower.command(args)).output().expect("runs"));
    let _ = run(&["init"]).succeeded();
    let running = Running::run(&mut disk.on(&follower.command(&["agent", "run"])));
    let _followed = Running::start(&followed, &[]);
    let invite = run(&["peer", "invite"]).succeeded().stdout;
    followed.ok(&["peer", "add", &invite]);
    let invite = followed.ok(&["peer", "invite"]);
    let _ = run(&["peer", "add", &invite]).succeeded();
    let origin = origin(&followed);
    let kept = || {
        let ran = run(&["log", "checkpoint", "--origin", &origin, "--json"]);
        match ran.code {
            Some(0) => ran.objects()[0]["size"].as_u64().expect("a size"),
            _ => 0,
        }
    };
    let wait_for_all = || {
        until("the log arrives", || {
            (kept() == own(&followed)).then_some(())
        });
    };
    wait_for_all();
    let (filler, before) = (disk.fill(), kept());
    export(&followed, "x");
    until("it says so", || {
        let said = running.said();
        let full = said.contains("entries of a log are not kept") && said.contains("o space left");
        full.then_some(())
    });
    let _ = run(&["agent", "status"]).succeeded();
    assert_eq!(kept(), before);
    fs::remove_file(filler).expect("removes");
    export(&followed, "y");
    wait_for_all();
    let vkey = followed.ok(&["log", "vkey"]);
    let _ = run(&["log", "verify", &origin, "--vkey", &vkey]).succeeded();
    running.stop();
}
