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
