//! What is taken as a recipient, and which go together.

use super::*;

const SSH_ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN alice@host";
const SSH_ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHFliOyIZs1gxGF3fmDxFykQhE88wy6AKDGFBfn0R6ZuvRmENABZQa9+pj9hMki+LX0qDJbmHTiWDbYv/cmFt/Q=";
const PLUGIN: &str = "age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639sqhr95ejj8vu3hyfumptt";

fn x25519() -> String {
    age::x25519::Identity::generate().to_public().to_string()
}

fn hybrid() -> String {
    hybrid::Identity::generate().to_public().to_string()
}

#[test]
fn takes_every_kind_and_writes_it_canonically() {
    let given = [x25519(), SSH_ED25519.to_owned(), PLUGIN.to_owned()];
    let set = RecipientSet::parse(&given).expect("parses");
    let mut expected = given.clone();
    expected[1] = SSH_ED25519.trim_end_matches(" alice@host").to_owned();
    expected.sort();
    assert_eq!(set.strings().collect::<Vec<_>>(), expected);
    assert_eq!(set.kind(), Some(KeyKind::X25519));
    let set = RecipientSet::parse(&[hybrid(), PLUGIN.to_owned()]).expect("parses");
    assert_eq!(set.kind(), Some(KeyKind::Hybrid));
    assert_eq!(RecipientSet::parse(&[PLUGIN]).expect("parses").kind(), None);
}

#[test]
fn takes_files_as_age_does() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("team.txt");
    let (one, two) = (x25519(), x25519());
    std::fs::write(&path, format!("# team\n\n{one}\r\n{two}")).expect("writes");
    let file = path.to_str().expect("UTF-8");
    let set = RecipientSet::parse(&[file]).expect("parses");
    let direct = RecipientSet::parse(&[&two, &one]).expect("parses");
    assert_eq!(set.fingerprint(), direct.fingerprint());
    std::fs::write(&path, format!("{one}\nage1nonsense\n")).expect("writes");
    assert!(matches!(
        RecipientSet::parse(&[file]),
        Err(RecipientError::Line { line: 2, .. })
    ));
    std::fs::write(&path, "# nobody\n").expect("writes");
    assert!(matches!(
        RecipientSet::parse(&[file]),
        Err(RecipientError::None)
    ));
    std::fs::write(&path, vec![b'\n'; (1 << 20) + 1]).expect("writes");
    assert!(matches!(
        RecipientSet::parse(&[file]),
        Err(RecipientError::TooLarge { .. })
    ));
}

#[test]
fn fingerprints_tell_sets_apart_and_not_orders() {
    let (one, two) = (x25519(), x25519());
    let of = |strings: &[&str]| RecipientSet::parse(strings).expect("parses").fingerprint();
    assert_eq!(of(&[&one, &two]), of(&[&two, &one, &two]));
    assert_ne!(of(&[&one, &two]), of(&[&one]));
    let passphrase = |text: &str| RecipientSet::passphrase(text.into()).fingerprint();
    assert_eq!(passphrase("a"), passphrase("b"));
    assert_ne!(passphrase("a"), of(&[&one]));
}

#[test]
fn rejects_what_is_no_recipient() {
    let too_many: Vec<String> = (0..=RECIPIENTS_MAX).map(|_| x25519()).collect();
    let secret = age::x25519::Identity::generate().to_string();
    let secret = age::secrecy::ExposeSecret::expose_secret(&secret);
    type Expected = fn(&RecipientError) -> bool;
    let cases: [(&[&str], Expected); 7] = [
        (&[], |e| matches!(e, RecipientError::None)),
        (&["age1nonsense"], |e| {
            matches!(e, RecipientError::Unknown { .. })
        }),
        (&["age1pq1nonsense"], |e| {
            matches!(e, RecipientError::Unknown { .. })
        }),
        (&["/nonexistent"], |e| {
            matches!(e, RecipientError::Unknown { .. })
        }),
        (&[SSH_ECDSA], |e| matches!(e, RecipientError::Ssh { .. })),
        (&[secret], |e| matches!(e, RecipientError::Secret)),
        (&["AGE-PLUGIN-YUBIKEY-1X"], |e| {
            matches!(e, RecipientError::Secret)
        }),
    ];
    for (given, expected) in cases {
        let err = RecipientSet::parse(given).expect_err("refused");
        assert!(expected(&err), "{err:?}");
        assert!(!format!("{err:?} {err} {:?}", err.hint()).contains(secret));
    }
    assert!(matches!(
        RecipientSet::parse(&too_many),
        Err(RecipientError::TooMany)
    ));
}

#[test]
fn never_mixes_post_quantum_with_weaker() {
    let weak = x25519();
    for other in [weak.as_str(), SSH_ED25519] {
        assert!(matches!(
            RecipientSet::parse(&[&hybrid(), other]),
            Err(RecipientError::Mixed { .. })
        ));
    }
    let weak = RecipientSet::parse(&[weak]).expect("parses");
    let strong = RecipientSet::parse(&[hybrid()]).expect("parses");
    let passphrase = RecipientSet::passphrase("x".into());
    assert!(matches!(
        weak.union(&strong),
        Err(RecipientError::Mixed { .. })
    ));
    assert!(matches!(
        weak.union(&passphrase),
        Err(RecipientError::Mixed { .. })
    ));
    let capsule = Capsule::default();
    assert!(matches!(
        weak.seal(&capsule, KeyKind::Hybrid),
        Err(RecipientSealError::Recipients(
            RecipientError::NotPostQuantum { .. }
        ))
    ));
    assert!(matches!(
        strong.seal(&capsule, KeyKind::X25519),
        Err(RecipientSealError::Recipients(
            RecipientError::ClassNotPostQuantum
        ))
    ));
    strong.seal(&capsule, KeyKind::Hybrid).expect("seals");
    passphrase.seal(&capsule, KeyKind::Hybrid).expect("seals");
}

#[test]
fn says_which_plugin_is_missing() {
    let set = RecipientSet::parse(&[PLUGIN]).expect("parses");
    assert!(matches!(
        set.seal(&Capsule::default(), KeyKind::X25519),
        Err(RecipientSealError::Recipients(RecipientError::PluginMissing { name }))
            if name == "age-plugin-yubikey"
    ));
}
