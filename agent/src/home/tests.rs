use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path)
        .expect("exists")
        .permissions()
        .mode()
        & 0o7777
}

fn home(options: &InitOptions) -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().expect("tempdir");
    let home = Home::init(&directory.path().join("home"), options).expect("init");
    (directory, home)
}

#[test]
fn init_makes_private_files_that_open_again() {
    let (_directory, home) = home(&InitOptions::default());
    assert_eq!(mode(home.path()), 0o700);
    let files = [NODE_KEY, SECRET_KEY, LOG_KEY_1, LOG_RECOVERY_1, WITNESS_KEY];
    for file in files.into_iter().chain([IDENTITY, RECIPIENTS, VERSION]) {
        assert_eq!(mode(&home.path().join(file)), 0o600, "{file}");
    }
    let names = std::fs::read_dir(home.path()).expect("read").count();
    assert_eq!(names, 8);
    let again = Home::open(home.path()).expect("opens");
    assert_eq!(again.peer_id(), home.peer_id());
    assert_eq!(
        again.class_secrets(Mode::Portable).cut,
        home.class_secrets(Mode::Portable).cut
    );
    let recipients = home.default_recipients().expect("recipients");
    let text = std::fs::read_to_string(home.path().join(IDENTITY)).expect("identity");
    let public = format!("# public key: {recipients}\n");
    assert!(
        text.starts_with("# created: 2") && text.contains(&public),
        "{public}"
    );
    assert!(!format!("{home:?}").contains("secret"));
}

#[test]
fn a_home_without_the_key_of_a_witness_makes_one_and_keeps_it() {
    let (_directory, home) = home(&InitOptions::default());
    let path = home.path().join(WITNESS_KEY);
    let first = home.witness_key().expect("a key").key().clone();
    let peer = home.peer_id().to_string();
    let name = format!("souverain-witness/{}", &peer[peer.len() - 16..]);
    assert_eq!(first.name(), name);
    std::fs::remove_file(&path).expect("removes");
    let made = home.witness_key().expect("is made");
    assert_ne!(made.key(), &first);
    assert_eq!(mode(&path), 0o600);
    let again = home.witness_key().expect("is kept");
    assert_eq!(made.key(), again.key());
    assert_eq!(format!("{made:?}"), "WitnessKey");
    std::fs::write(&path, [1; 31]).expect("writes");
    let damaged = home.witness_key();
    assert!(matches!(damaged, Err(HomeError::Damaged { .. })));
}

#[test]
fn secrets_of_classes_and_purposes_differ() {
    let (_directory, home) = home(&InitOptions::default());
    let portable = home.class_secrets(Mode::Portable);
    let erasable = home.class_secrets(Mode::Erasable);
    let all = [portable.cut, portable.dedup, erasable.cut, erasable.dedup];
    let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
    assert_eq!(distinct.len(), 4);
}

#[test]
fn post_quantum_home_has_a_hybrid_recipient() {
    let (_directory, home) = home(&InitOptions {
        post_quantum: true,
        ..InitOptions::default()
    });
    let recipients = home.default_recipients().expect("recipients");
    assert_eq!(recipients.kind(), Some(KeyKind::Hybrid));
}

#[test]
fn write_only_home_has_no_identity() {
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let (_directory, home) = home(&InitOptions {
        recipients_only: vec![recipient.clone()],
        post_quantum: false,
    });
    assert_eq!(home.identity_path(), None);
    let recipients = home.default_recipients().expect("recipients");
    assert_eq!(recipients.to_string(), recipient);
}

#[test]
fn refuses_weak_recipients_where_post_quantum_is_asked_for() {
    let directory = tempfile::tempdir().expect("tempdir");
    let options = InitOptions {
        recipients_only: vec![age::x25519::Identity::generate().to_public().to_string()],
        post_quantum: true,
    };
    let refused = Home::init(directory.path(), &options);
    assert!(matches!(
        refused,
        Err(HomeError::Recipients(RecipientError::NotPostQuantum { .. }))
    ));
    assert_eq!(
        std::fs::read_dir(directory.path()).expect("read").count(),
        0
    );
}

#[test]
fn refuses_a_second_init_and_keeps_the_keys() {
    let (_directory, home) = home(&InitOptions::default());
    let again = Home::init(home.path(), &InitOptions::default());
    assert!(matches!(again, Err(HomeError::Initialised { .. })));
    let same = Home::open(home.path()).expect("opens");
    assert_eq!(same.peer_id(), home.peer_id());
}

#[test]
fn completes_an_init_that_was_interrupted() {
    let (_directory, home) = home(&InitOptions::default());
    let recipients = home.default_recipients().expect("recipients").to_string();
    for file in [RECIPIENTS, VERSION] {
        std::fs::remove_file(home.path().join(file)).expect("removes");
    }
    std::fs::write(home.path().join(".new-x"), "").expect("writes");
    assert!(matches!(
        Home::open(home.path()),
        Err(HomeError::NotInitialised { .. })
    ));
    let completed = Home::init(home.path(), &InitOptions::default()).expect("completes");
    assert_eq!(completed.peer_id(), home.peer_id());
    let kept = completed.default_recipients().expect("recipients");
    assert_eq!(kept.to_string(), recipients);
}

#[test]
fn refuses_a_directory_with_other_things_in_it() {
    let directory = tempfile::tempdir().expect("tempdir");
    std::fs::write(directory.path().join("thesis.txt"), "mine").expect("writes");
    assert!(matches!(
        Home::init(directory.path(), &InitOptions::default()),
        Err(HomeError::Occupied { found, .. }) if found == "thesis.txt"
    ));
}

#[test]
fn refuses_secrets_that_others_can_read() {
    let (_directory, home) = home(&InitOptions::default());
    let private = [
        ("", 0o700),
        (NODE_KEY, 0o600),
        (SECRET_KEY, 0o600),
        (IDENTITY, 0o600),
    ];
    for (file, good) in private {
        let path = home.path().join(file);
        for bad in [0o040, 0o004, 0o020] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(good | bad)).expect("chmod");
            let refused = Home::open(home.path()).expect_err("refused");
            let hint = refused.hint().expect("hint");
            assert!(hint.starts_with(&format!("run `chmod {good:o} ")), "{hint}");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(good)).expect("chmod");
    }
    Home::open(home.path()).expect("opens again");
}

#[test]
fn refuses_unknown_versions_and_damage() {
    let (_directory, home) = home(&InitOptions::default());
    for version in [
        "souverain home 2\n",
        "",
        "souverain home 1",
        "souverain home 1\nx",
    ] {
        std::fs::write(home.path().join(VERSION), version).expect("writes");
        assert!(
            matches!(
                Home::open(home.path()),
                Err(HomeError::UnknownVersion { .. })
            ),
            "{version:?}"
        );
    }
    std::fs::write(home.path().join(VERSION), VERSION_1).expect("writes");
    for file in [NODE_KEY, SECRET_KEY] {
        let good = std::fs::read(home.path().join(file)).expect("reads");
        for bad in [&good[1..], &[], &[good.as_slice(), b"x"].concat()] {
            std::fs::write(home.path().join(file), bad).expect("writes");
            assert!(
                matches!(Home::open(home.path()), Err(HomeError::Damaged { .. })),
                "{file}"
            );
        }
        std::fs::write(home.path().join(file), good).expect("writes");
    }
    assert!(matches!(
        Home::open(Path::new("/nonexistent")),
        Err(HomeError::NotInitialised { .. })
    ));
}
