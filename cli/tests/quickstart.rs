//! `quickstart`: the whole story, and nothing left behind.

mod souverain;

use std::fs;

use souverain::Sandbox;

#[test]
fn tells_the_whole_story_and_cleans_up() {
    let sandbox = Sandbox::new();
    let temporary = sandbox.path("tmp");
    fs::create_dir(&temporary).expect("makes");
    let mut command = sandbox.command(&["quickstart"]);
    let output = command.env("TMPDIR", &temporary).output().expect("runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for part in [
        "$ souverain --home here export data/files sqlite:data/shop.sqlite",
        "verified: bafy",
        "$ souverain --home here agent run",
        "are the same on both sides",
        "entries hold",
        ": export bafy",
        "$ souverain --home here peer add \"$(souverain --home there peer invite)\"",
        "$ souverain --home beside log prove bafy",
        "log verify proof-there.txt",
        "entries 0 to ",
        "Error: the bundle",
        "restored/files differ in 0 places",
        "sh recover.sh ../here/identity.txt ../recovered",
        "Done.",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(fs::read_dir(temporary).expect("reads").count(), 0);
    assert!(!sandbox.home().exists(), "it uses homes of its own");
}

#[test]
fn keeps_its_directory_if_asked_and_tells_scripts_each_step() {
    let sandbox = Sandbox::new();
    let ran = sandbox
        .run(&["quickstart", "--keep", "kept", "--json"])
        .succeeded();
    let steps = ran.objects();
    assert!(steps.len() >= 20, "{steps:?}");
    assert!(
        steps.iter().all(|s| s["v"] == 1 && s["type"] == "step"),
        "{steps:?}"
    );
    assert!(sandbox.path("kept/restored/shop.sqlite").is_file());
    assert!(sandbox.path("kept/folder/recover.sh").is_file());
    for home in ["here", "there", "beside"] {
        let socket = sandbox.path("kept").join(home).join("agent.sock");
        assert!(!socket.exists(), "all agents stopped cleanly");
    }
    assert!(
        sandbox.path("kept/recovered").is_dir(),
        "age and zstd are here"
    );
    sandbox
        .run(&["quickstart", "--keep", "kept"])
        .failed(1, "Hint: name a directory that does not exist yet");
}
