//! `list`: a line per snapshot, the CID first.

mod souverain;

use souverain::Sandbox;

#[test]
fn a_new_home_lists_nothing() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    assert_eq!(sandbox.ok(&["list"]), "");
    assert_eq!(sandbox.ok(&["list", "--json"]), "");
}

#[test]
fn without_a_home_it_says_to_make_one() {
    Sandbox::new()
        .run(&["list"])
        .failed(1, "Hint: run `souverain init` first");
}

#[test]
fn a_reference_that_names_nothing_is_told() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    let cid = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
    sandbox
        .run(&["verify", cid])
        .failed(1, "is not in this home");
    sandbox
        .run(&["show", "bafybeig"])
        .failed(1, "begins with bafybeig");
    sandbox
        .run(&["show", "none.car"])
        .failed(1, "neither a CID nor a file");
    sandbox
        .run(&["get", cid, "out"])
        .failed(1, "is not in this home");
    assert!(!sandbox.path("out").exists());
}

#[test]
fn what_was_recorded_last_is_listed_last() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    std::fs::create_dir(sandbox.path("tree")).expect("creates");
    let mut made = Vec::new();
    for text in ["1", "2", "3", "4", "5"] {
        std::fs::write(sandbox.path("tree/in"), text).expect("writes");
        made.push(sandbox.ok(&["export", "-q", "tree"]));
    }
    let friend = Sandbox::new().ok(&["init"]);
    let friend = friend
        .lines()
        .find_map(|line| line.strip_prefix("recipient: "))
        .expect("a recipient");
    made.push(sandbox.ok(&["recipients", "add", &made[1], friend]));
    let listed = sandbox.ok(&["list"]);
    let listed: Vec<_> = listed.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(listed, made);
}
