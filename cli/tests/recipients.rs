//! `recipients`: who can open a snapshot, listed and changed.

mod souverain;

use souverain::{Sandbox, write_tree};

fn recipient_of(sandbox: &Sandbox) -> String {
    let printed = sandbox.ok(&["init"]);
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("recipient: "));
    line.expect("a recipient").to_owned()
}

#[test]
fn adds_and_removes_without_sealing_again() {
    let (mine, other) = (Sandbox::new(), Sandbox::new());
    let (me, them) = (recipient_of(&mine), recipient_of(&other));
    write_tree(&mine.path("tree"));
    let cid = mine.ok(&["export", "tree"]);
    assert_eq!(mine.ok(&["recipients", "list", &cid]), me);
    let both = mine.ok(&["recipients", "add", &cid, &them]);
    assert_ne!(both, cid);
    let listed = mine.ok(&["recipients", "list", &both]);
    assert!(listed.contains(&me) && listed.contains(&them), "{listed}");
    mine.ok(&["car", "export", &both, "x.car"]);
    other.ok(&["verify", &mine.path("x.car").display().to_string()]);

    let without = mine.ok(&["recipients", "remove", &both, &them]);
    mine.ok(&["verify", &without]);
    mine.ok(&["car", "export", &without, "y.car"]);
    other
        .run(&["show", &mine.path("y.car").display().to_string()])
        .failed(1, "no identity matches");
    mine.run(&["recipients", "remove", &without, &me])
        .failed(1, "Hint: add another recipient first");
    mine.run(&["recipients", "remove", &without, &them])
        .failed(1, "Hint: ");
}

#[test]
fn of_what_others_sealed_only_the_kinds_are_known() {
    let (mine, other) = (Sandbox::new(), Sandbox::new());
    recipient_of(&mine);
    recipient_of(&other);
    write_tree(&mine.path("tree"));
    mine.ok(&["export", "tree", "--car", "x.car"]);
    let car = mine.path("x.car").display().to_string();
    let cid = other.ok(&["car", "import", &car]);
    assert_eq!(
        other.ok(&["recipients", "list", &cid]),
        "a key of kind X25519"
    );
}
