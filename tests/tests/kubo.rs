//! Snapshots go between a node and Kubo, over Bitswap, both ways, over TCP and QUIC.

use std::fs;

use souverain_tests::{
    kubo::Kubo,
    program::{Sandbox, noise, tree},
    running::Running,
};

const SIZE: usize = 104 << 20;

#[test]
fn a_snapshot_goes_to_kubo_and_back_over_tcp_and_quic() {
    let source = Sandbox::new();
    fs::create_dir(source.path("tree")).expect("creates");
    fs::write(source.path("tree/noise"), noise(3, SIZE)).expect("writes");
    let root = source.ok(&["export", "tree"]);
    source.ok(&["share", &root, "--with", "public"]);
    let server = Running::start(&source, &[]);
    let manifest = source.path("manifest.age");
    source.ok(&["get", &root, "folder"]);
    fs::rename(source.path("folder/manifest.age"), &manifest).expect("renames");

    for transport in ["/tcp/", "/quic-v1"] {
        let address = server.addresses.iter().find(|a| a.contains(transport));
        let kubo = Kubo::start();
        kubo.ok(&["swarm", "connect", address.expect("listens there")]);
        let peers = kubo.ok(&["swarm", "peers"]);
        assert!(peers.contains(transport), "{peers}");
        kubo.ok(&["pin", "add", "--progress=false", &root]);
        let sealed = source.path("sealed");
        let path = format!("{root}/manifest.age");
        kubo.ok(&["get", "-o", sealed.to_str().expect("UTF-8"), &path]);
        assert_eq!(
            fs::read(&sealed).expect("reads"),
            fs::read(&manifest).expect("reads")
        );
        fs::remove_file(&sealed).expect("removes");

        // And from there to another node, which then has what the source had.
        let target = Sandbox::new();
        target.ok(&["pull", &root, "--peer", &kubo.address(transport)]);
        target.ok(&["verify", &root, "--keyless"]);
        let identity = source.home().join("identity.txt");
        let identity = identity.to_str().expect("UTF-8");
        target.ok(&["import", &root, "--into", "back", "--identity", identity]);
        assert_eq!(tree(&target.path("back")), tree(&source.path("tree")));
    }
    server.stop();
}

#[test]
fn kubo_gets_nothing_that_is_not_shared() {
    let source = Sandbox::new();
    fs::create_dir(source.path("tree")).expect("creates");
    fs::write(source.path("tree/noise"), noise(4, 1 << 20)).expect("writes");
    let root = source.ok(&["export", "tree"]);
    let server = Running::start(&source, &[]);
    let kubo = Kubo::start();
    kubo.ok(&["swarm", "connect", server.tcp()]);
    let refused = kubo.run(&["--timeout=3s", "block", "stat", &root]);
    assert!(!refused.status.success(), "{refused:?}");
    let kubo_id = kubo.ok(&["id", "-f", "<id>"]);
    source.ok(&["share", &root, "--with", &kubo_id]);
    kubo.ok(&["--timeout=60s", "block", "stat", &root]);
    server.stop();
}

#[test]
fn kubo_fetches_the_log_as_a_folder_of_tiles_that_verifies() {
    let source = Sandbox::new();
    let server = Running::start(&source, &[]);
    let vkey = source.ok(&["log", "vkey"]);
    let kubo = Kubo::start();
    kubo.ok(&["swarm", "connect", server.tcp()]);
    let mut before = None;
    for round in ["one", "two"] {
        fs::create_dir_all(source.path("tree")).expect("creates");
        fs::write(source.path("tree").join(round), round).expect("writes");
        source.ok(&["export", "tree"]);
        let published = source.run(&["log", "publish", "--json"]).succeeded();
        let published = published.objects().remove(0);
        let root = published["cid"].as_str().expect("a CID").to_owned();
        let folder = source.path(round).with_extension("log");
        let folder = folder.to_str().expect("UTF-8");
        kubo.ok(&["--timeout=60s", "get", "-o", folder, &root]);
        let held = source.ok(&["log", "verify", folder, "--vkey", &vkey]);
        let size = published["size"].as_u64().expect("a size");
        assert!(held.contains(&format!("{size} entries hold")), "{held}");
        // The one before is nobody's any more, but for who has it.
        if let Some(before) = before.replace(root) {
            let other = Kubo::start();
            other.ok(&["swarm", "connect", server.tcp()]);
            let refused = other.run(&["--timeout=3s", "block", "stat", &before]);
            assert!(!refused.status.success(), "{refused:?}");
        }
    }
    server.stop();
}
