//! `car`: what is no CAR is refused.

mod souverain;

use souverain::Sandbox;

#[test]
fn what_is_no_car_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    std::fs::write(
        sandbox.path("text.car"),
        "this is no CAR at all, only text\n",
    )
    .expect("writes");
    for args in [
        &["car", "import", "text.car"][..],
        &["verify", "text.car"],
        &["show", "text.car"],
    ] {
        let ran = sandbox.run(args);
        assert!(matches!(ran.code, Some(1 | 3)), "{ran:?}");
        assert!(ran.stderr.starts_with("Error: "), "{ran:?}");
    }
    assert_eq!(sandbox.ok(&["list"]), "");
}

#[test]
fn json_and_a_car_do_not_share_standard_output() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    let ran = sandbox.run(&["car", "export", "bafybeig", "-", "--json"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
}
