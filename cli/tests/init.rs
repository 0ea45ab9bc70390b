//! `init`: a home that its owner alone can read.

mod souverain;

use std::{fs, os::unix::fs::PermissionsExt};

use souverain::Sandbox;

#[test]
fn prints_peer_and_recipient_and_keeps_the_identity_private() {
    let sandbox = Sandbox::new();
    let ran = sandbox.run(&["init"]).succeeded();
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("peer: 12D3KooW"), "{ran:?}");
    assert!(lines[1].starts_with("recipient: age1"), "{ran:?}");
    assert!(lines[2].starts_with("log: souverain/bafyrei"), "{ran:?}");
    assert!(ran.stderr.contains("offline"), "{ran:?}");
    let identity = sandbox.home().join("identity.txt");
    let mode = fs::metadata(&identity).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = fs::read_to_string(identity).expect("reads");
    let secret = secret.lines().last().expect("a line");
    assert!(secret.starts_with("AGE-SECRET-KEY-1"));
    assert!(!format!("{ran:?}").contains(secret));
}

#[test]
fn in_json_it_is_one_object() {
    let ran = Sandbox::new()
        .run(&["init", "--json", "--post-quantum"])
        .succeeded();
    let [made] = &ran.objects()[..] else {
        panic!("{ran:?}")
    };
    assert_eq!(made["type"], "init");
    let recipient = made["recipients"][0].as_str().expect("a recipient");
    assert!(recipient.starts_with("age1pq1"), "{recipient}");
    assert!(ran.stderr.is_empty(), "{ran:?}");
}

#[test]
fn refuses_a_second_time() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    sandbox
        .run(&["init"])
        .failed(1, "is initialised already\nHint: ");
}

#[test]
fn a_node_can_be_write_only() {
    let sandbox = Sandbox::new();
    let other = Sandbox::new().ok(&["init"]);
    let recipient = other
        .lines()
        .find_map(|line| line.strip_prefix("recipient: "))
        .expect("one");
    let printed = sandbox.ok(&["init", "--recipient-only", "--to", recipient]);
    assert!(printed.contains(recipient), "{printed}");
    assert!(!sandbox.home().join("identity.txt").exists());
}

#[test]
fn an_identity_is_no_recipient_and_is_not_repeated() {
    let sandbox = Sandbox::new();
    let secret = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    let ran = sandbox
        .run(&["init", "--recipient-only", "--to", secret])
        .failed(2, "Error: ");
    assert!(!ran.stderr.contains(secret), "{ran:?}");
}
