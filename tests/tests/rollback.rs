//! Homes that were put back from a backup, and what others remember of their logs. Apart from other tests, as a verb waits for
//! others for some seconds only.

use souverain_tests::{
    federation::{befriend, copy, ends, export, kept, origin, own, until, wait_for_all},
    program::Sandbox,
    running::Running,
};

/// Two nodes that follow each other, of which one has grown since it was copied to `backup`, and is stopped then. How many
/// entries it has, and how many of them the other.
fn outgrown(a: &Sandbox, b: &Sandbox, grow: impl FnOnce()) -> (u64, u64) {
    let first = Running::start(a, &[]);
    befriend(a, b);
    wait_for_all(b, a);
    first.stop();
    copy(&a.home(), &a.path("backup"));
    let again = Running::start(a, &[]);
    grow();
    wait_for_all(b, a);
    again.stop();
    (own(a), kept(b, &origin(a)))
}

fn put_back(home: &Sandbox, from: &str) {
    std::fs::remove_dir_all(home.home()).expect("removes");
    std::fs::rename(home.path(from), home.home()).expect("renames");
}

#[test]
fn a_home_from_a_backup_gets_what_is_missing_of_its_log_and_goes_on() {
    let [a, b] = [(); 2].map(|()| Sandbox::new());
    let _b = Running::start(&b, &[]);
    let (_, known) = outgrown(&a, &b, || {
        for name in ["x", "y"] {
            export(&a, name);
        }
    });
    put_back(&a, "backup");
    assert!(own(&a) < known);
    let again = Running::start(&a, &[]);
    // The entry of this start comes after all that it had lost.
    until("it goes on", || (own(&a) > known).then_some(()));
    let root = export(&a, "z");
    wait_for_all(&b, &a);
    let vkey = a.ok(&["log", "vkey"]);
    for (home, log) in [(&a, None), (&b, Some(origin(&a)))] {
        let log: Vec<&str> = log.as_deref().into_iter().collect();
        home.ok(&[&["log", "verify", "--vkey", &vkey], &log[..]].concat());
        assert_eq!(home.run(&["log", "fork", "--json"]).objects().len(), 0);
    }
    let told = a.ok(&["log", "show"]);
    assert!(told.contains(&format!("export  {root}")), "{told}");
    assert_eq!(told.matches("export").count(), 3, "{told}");
    again.stop();
}

#[test]
fn a_verb_that_runs_alone_asks_the_members_first_and_gets_what_is_missing() {
    let [a, b] = [(); 2].map(|()| Sandbox::new());
    let other = Running::start(&b, &[]);
    let (_, known) = outgrown(&a, &b, || {
        export(&a, "x");
    });
    put_back(&a, "backup");
    // What is missing may take longer than a verb waits.
    until("it has what was missing", || {
        (a.run(&["export", "data"]).code == Some(0)).then_some(())
    });
    assert_eq!(own(&a), known + 1, "it comes after all that was lost");
    // Nobody is asked again: there is nobody.
    other.stop();
    let again = a.run(&["export", "data"]).succeeded();
    assert!(!again.stderr.contains("nobody could say"), "{again:#?}");
    let _agents = [&b, &a].map(|home| Running::start(home, &[]));
    // Both are elsewhere now.
    befriend(&a, &b);
    wait_for_all(&b, &a);
    b.ok(&[
        "log",
        "verify",
        &origin(&a),
        "--vkey",
        &a.ok(&["log", "vkey"]),
    ]);
    for home in [&a, &b] {
        assert_eq!(home.run(&["log", "fork", "--json"]).objects().len(), 0);
    }
}

#[test]
fn a_home_that_is_behind_signs_nothing_until_the_latest_is_put_back() {
    let [a, b] = [(); 2].map(|()| Sandbox::new());
    let _b = Running::start(&b, &[]);
    let (size, known) = outgrown(&a, &b, || {
        export(&a, "x");
    });
    std::fs::rename(a.home(), a.path("latest")).expect("renames");
    std::fs::rename(a.path("backup"), a.home()).expect("renames");
    // It heard of that, and nobody gives it the rest.
    std::fs::remove_file(a.home().join("federation.txt")).expect("removes");
    let seen = b.ok(&["log", "checkpoint", "--origin", &origin(&a)]) + "\n";
    std::fs::write(a.home().join("log/own/behind"), seen).expect("writes");
    let add = [
        "log",
        "auditor",
        "add",
        "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj",
    ];
    let others = format!("others saw {known} entries of the log");
    a.run(&add).failed(3, &others);
    ends(a.spawn(&["agent", "run"])).failed(3, &others);
    assert!(own(&a) < known, "nothing was appended");
    put_back(&a, "latest");
    let _a = Running::start(&a, &[]);
    let origin = origin(&a);
    until("it goes on", || (kept(&b, &origin) > size).then_some(()));
}

#[test]
fn a_home_from_a_backup_without_the_keys_key_says_so() {
    let [a, b] = [(); 2].map(|()| Sandbox::new());
    let _b = Running::start(&b, &[]);
    let (_, known) = outgrown(&a, &b, || {
        a.ok(&["log", "key", "rotate"]);
    });
    copy(&a.home().join("log-2.key"), &a.path("log-2.key"));
    put_back(&a, "backup");
    let ended = ends(a.spawn(&["agent", "run"]));
    ended.failed(1, "the home does not have key number 2 of its log");
    assert_eq!(own(&a), known, "what the member has, and nothing more");
    copy(&a.path("log-2.key"), &a.home().join("log-2.key"));
    let again = Running::start(&a, &[]);
    until("it goes on", || (own(&a) > known).then_some(()));
    again.stop();
    a.ok(&["log", "verify"]);
}
