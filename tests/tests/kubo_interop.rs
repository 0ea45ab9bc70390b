//! What else Kubo can do with a snapshot: CARs, pins, files, recovery without this program; the same
//! CIDs as Kubo's; and private networks.

use std::{fs, path::Path, process::Command};

use cid::Cid;
use protocol::{
    block::{Block, raw_cid, sha256},
    unixfs::{BuildError, Entry, directory, file},
};
use souverain_tests::{
    kubo::Kubo,
    program::{Sandbox, noise, tree},
    running::Running,
};

const MIB: u64 = 1 << 20;

/// A home with a snapshot of a tree.
fn exported(mib: usize) -> (Sandbox, String) {
    let source = Sandbox::new();
    fs::create_dir(source.path("tree")).expect("creates");
    fs::write(source.path("tree/noise"), noise(8, mib << 20)).expect("writes");
    fs::write(source.path("tree/text"), "a line\n").expect("writes");
    let root = source.ok(&["export", "tree"]);
    (source, root)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn kubo_imports_a_car_pins_it_and_gives_a_folder_that_recovers() {
    let (source, root) = exported(5);
    source.ok(&["car", "export", &root, "snapshot.car"]);
    source.ok(&["get", &root, "ours"]);
    let kubo = Kubo::start();
    let imported = kubo.ok(&["dag", "import", text(&source.path("snapshot.car"))]);
    assert!(imported.contains(&root), "{imported}");
    let pinned = kubo.ok(&["pin", "ls", "--type=recursive", &root]);
    assert_eq!(pinned, format!("{root} recursive"));
    kubo.ok(&["pin", "rm", &root]);
    kubo.ok(&["pin", "add", "--progress=false", &root]);

    let cat = kubo.run(&["cat", &format!("{root}/manifest.age")]);
    let manifest = fs::read(source.path("ours/manifest.age")).expect("reads");
    assert!(cat.status.success() && cat.stdout == manifest, "{cat:?}");
    let folder = source.path("folder");
    kubo.ok(&["get", "--progress=false", "-o", text(&folder), &root]);
    assert_eq!(tree(&folder), tree(&source.path("ours")));

    let identity = source.home().join("identity.txt");
    let recovered = Command::new("sh")
        .current_dir(&folder)
        .args(["recover.sh", text(&identity), "../out"])
        .output()
        .expect("runs");
    assert!(recovered.status.success(), "{recovered:?}");
    let back = source.path("back");
    fs::create_dir(&back).expect("creates");
    let untarred = Command::new("tar")
        .args(["-xf", text(&source.path("out/0-tree.tar"))])
        .args(["-C", text(&back)])
        .status();
    assert!(untarred.expect("runs").success());
    assert_eq!(tree(&back), tree(&source.path("tree")));
}

/// What Kubo makes of a path by the profile, without keeping it.
fn kubo_cid(kubo: &Kubo, path: &Path) -> String {
    kubo.ok(&["add", "-r", "-Q", "--only-hash", text(path)])
}

fn drop_block(_: Block) -> Result<(), BuildError> {
    Ok(())
}

/// A snapshot's own files have at most 1,024 leaves; that of 1,025 is out of its form, and the encoder
/// is the same.
#[test]
fn files_have_the_cids_that_kubo_gives_them() {
    let kubo = Kubo::start();
    kubo.ok(&["config", "profile", "apply", "unixfs-v1-2025"]);
    let place = Sandbox::empty();
    let path = place.path("zeros");
    for len in [
        0,
        1,
        MIB - 1,
        MIB,
        MIB + 1,
        3 * MIB,
        1024 * MIB,
        1024 * MIB + 1,
    ] {
        let zeros = fs::File::create(&path).expect("creates");
        zeros.set_len(len).expect("grows");
        let leaf = |len: u64| (raw_cid(&sha256(&vec![0; len as usize])), len);
        let mut leaves = vec![leaf(MIB); (len / MIB) as usize];
        if len % MIB > 0 || len == 0 {
            leaves.push(leaf(len % MIB));
        }
        let link = file(&leaves, &mut drop_block).expect("builds");
        assert_eq!(kubo_cid(&kubo, &path), link.cid.to_string(), "{len} bytes");
    }
}

#[test]
fn directories_have_the_cids_that_kubo_gives_them() {
    let kubo = Kubo::start();
    kubo.ok(&["config", "profile", "apply", "unixfs-v1-2025"]);
    let place = Sandbox::empty();
    let path = place.path("many");
    fs::create_dir(&path).expect("creates");
    let mut entries: Vec<Entry> = Vec::new();
    // Entries of segments: 2,527 of them are one block of 256 KiB at most, and 2,528 are shards.
    for count in [0, 1, 100, 2527, 2528, 4000] {
        while entries.len() < count {
            let bytes = (entries.len() as u64).to_be_bytes();
            let cid: Cid = raw_cid(&sha256(&bytes));
            let (name, tsize) = (cid.to_string(), bytes.len() as u64);
            fs::write(path.join(&name), bytes).expect("writes");
            entries.push(Entry { name, cid, tsize });
        }
        let link = directory(entries.clone(), &mut drop_block).expect("builds");
        let cid = link.cid.to_string();
        assert_eq!(kubo_cid(&kubo, &path), cid, "{count} entries");
    }
}

#[test]
fn a_private_network_has_kubo_in_it_and_nobody_without_the_key() {
    let (source, root) = exported(5);
    source.ok(&["share", &root, "--with", "public"]);
    let key = source.path("swarm.key");
    let secret: String = noise(9, 32).iter().map(|b| format!("{b:02x}")).collect();
    fs::write(&key, format!("/key/swarm/psk/1.0.0/\n/base16/\n{secret}\n")).expect("writes");
    let server = Running::start(
        &source,
        &[
            "--swarm-key",
            text(&key),
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
        ],
    );

    let outside = Kubo::start();
    let refused = outside.run(&["--timeout=20s", "swarm", "connect", server.tcp()]);
    assert!(!refused.status.success(), "{refused:?}");

    let inside = Kubo::start_in_private_network(&key);
    inside.ok(&["swarm", "connect", server.tcp()]);
    inside.ok(&["pin", "add", "--progress=false", &root]);

    let target = Sandbox::new();
    let from = inside.address("/tcp/");
    let ran = target.run(&["pull", &root, "--peer", &from]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    target.ok(&["pull", &root, "--peer", &from, "--swarm-key", text(&key)]);
    target.ok(&["verify", &root, "--keyless"]);
    server.stop();
}
