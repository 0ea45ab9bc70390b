//! Snapshots go between a node and Helia 7, over Bitswap, both ways, over TCP and QUIC.

use std::fs;

use souverain_tests::{
    helia::Helia,
    program::{Sandbox, noise, note, tree},
    running::Running,
};

const SIZE: usize = 104 << 20;

#[test]
fn a_snapshot_goes_to_helia_and_back_over_tcp_and_quic() {
    let source = Sandbox::new();
    fs::create_dir(source.path("tree")).expect("creates");
    fs::write(source.path("tree/noise"), noise(6, SIZE)).expect("writes");
    let root = source.ok(&["export", "tree"]);
    source.ok(&["share", &root, "--with", "public"]);
    let server = Running::start(&source, &[]);

    for transport in ["/tcp/", "/quic-v1"] {
        let address = server.addresses.iter().find(|a| a.contains(transport));
        let mut helia = Helia::start();
        let fetched = helia.fetch(&root, address.expect("listens there"));
        let fetched = fetched.expect("Helia has everything");
        note(format_args!("{transport} {fetched:?}"));
        assert!(fetched.bytes > SIZE as u64, "{fetched:?}");

        // And from there to another node, which then has what the source had.
        let target = Sandbox::new();
        let from = helia.address(transport);
        let pull = ["pull", &root, "--peer", from, "--json"];
        let report = target.run(&pull).succeeded().objects().remove(0);
        note(&report);
        assert_eq!(report["blocks"], fetched.blocks, "{report}");
        assert_eq!(report["bytes"], fetched.bytes, "{report}");
        target.ok(&["verify", &root, "--keyless"]);
        let identity = source.home().join("identity.txt");
        let identity = identity.to_str().expect("UTF-8");
        target.ok(&["import", &root, "--into", "back", "--identity", identity]);
        assert_eq!(tree(&target.path("back")), tree(&source.path("tree")));
    }
    server.stop();
}
