//! Entries in bytes, and everything that is none.

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::log::testing::{Log, public, secret, sign};

/// An entry with every field.
fn full() -> Draft {
    let raw = |seed: u8| crate::block::raw_cid(&[seed; 32]);
    let commit = [("error", [3; 32]), ("file.name", [4; 32])];
    Draft {
        subject: vec![raw(1), raw(2)],
        commit: commit.map(|(k, v)| (k.to_owned(), v)).into(),
        sealed: Some(raw(5)),
        outcome: Outcome::Failed,
        ..Log::new().rotation(2)
    }
}

fn parse(bytes: &[u8]) -> Result<UnverifiedEntry, EntryError> {
    UnverifiedEntry::parse(bytes)
}

#[test]
fn has_the_bytes_of_canonical_dag_cbor() {
    let log = Log::new();
    let entry = log.draft(Action::EXPORT).sign(&public(1), sign(1));
    let entry = entry.expect("signs");
    let keys = [
        "v", "seq", "sig", "prev", "time", "actor", "epoch", "action", "tenant", "outcome",
        "session",
    ];
    let mut at = 0;
    for key in keys {
        let key = [&[0x60 + key.len() as u8], key.as_bytes()].concat();
        let found = entry.bytes()[at..]
            .windows(key.len())
            .position(|w| w == key);
        at += found.unwrap_or_else(|| panic!("{key:?} after {at}"));
    }
    let begin = HEXLOWER.encode(&entry.bytes()[..12]);
    assert_eq!(begin, "ab61760163736571".to_owned() + "01637369");
    assert!(entry.cid().to_string().starts_with("bafyrei"));
    assert_eq!(entry.block().cid(), &entry.cid());
    assert_eq!(entry.leaf_hash(), tree::leaf_hash(entry.bytes()));
}

#[test]
fn the_signature_stands_where_its_key_sorts() {
    for seq in [
        1,
        23,
        24,
        255,
        256,
        65_535,
        65_536,
        u64::from(u32::MAX),
        1 << 32,
        tree::TREE_SIZE_MAX - 1,
    ] {
        let draft = Draft { seq, ..full() };
        let message = wire::message(&draft);
        let signed = wire::encode(&draft, &[9; 64]);
        assert_eq!(wire::message_of(&signed, seq), message, "{seq}");
        // The codec refuses keys that are not sorted.
        let read = wire::decode(&signed).expect("an entry");
        assert_eq!(read, (draft.clone(), Some([9; 64])), "{seq}");
        let read = wire::decode(&message[ENTRY_DOMAIN.len()..]).expect("an entry");
        assert_eq!(read, (draft, None), "{seq}");
    }
}

#[test]
fn verifies_what_it_signs_and_nothing_that_was_changed() {
    let entry = full().sign(&public(1), sign(1)).expect("signs");
    let parsed = parse(entry.bytes()).expect("an entry");
    assert_eq!(parsed.draft_unverified(), &full());
    assert_eq!(parsed.clone().verify(&public(1)), Ok(entry.clone()));
    let wrong = Err(EntryError::WrongSignature);
    assert_eq!(parsed.verify(&public(2)), wrong);
    assert_eq!(full().sign(&public(1), |_| [0; 64]), wrong);
    for at in 0..entry.bytes().len() {
        let mut changed = entry.bytes().to_vec();
        changed[at] ^= 1;
        let verified = parse(&changed).and_then(|entry| entry.verify(&public(1)));
        assert!(verified.is_err(), "{at}");
        assert!(parse(&changed[..at]).is_err(), "{at}");
    }
    let longer = [entry.bytes(), &[0]].concat();
    assert!(parse(&longer).is_err());
}

#[test]
fn knows_which_key_signed_it_and_takes_no_other_for_it() {
    let signed = full().sign_with(&secret(1)).expect("signs");
    assert_eq!(Ok(signed.clone()), full().sign(&public(1), sign(1)));
    let read = parse(signed.bytes()).expect("an entry");
    let wrong = Err(EntryError::WrongSignature);
    for mut entry in [signed.into(), read] {
        assert_eq!(entry.check(&public(2)), wrong);
        assert_eq!(entry.check(&public(1)), Ok(()));
        assert_eq!(entry.check(&public(1)), Ok(()));
        assert_eq!(entry.check(&public(2)), wrong);
        assert_eq!(
            entry.clone().verify(&public(2)),
            Err(EntryError::WrongSignature)
        );
        assert!(entry.verify(&public(1)).is_ok());
    }
}

#[test]
fn unknown_actions_are_kept_and_known_as_such() {
    let action = Action::new("quantum.leap").expect("a name");
    let draft = Log::new().draft(action.clone());
    let entry = draft.sign(&public(1), sign(1)).expect("signs");
    let parsed = parse(entry.bytes()).expect("an entry");
    assert_eq!(parsed.draft_unverified().action, action);
    assert!(!action.is_known() && Action::EXPORT.is_known());
    assert!(Action::KNOWN.iter().all(|known| is_word(known.as_str())));
    for bad in ["", "Export", "1a", ".a", "a b", "a_b", "é", &"a".repeat(65)] {
        assert!(Action::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn rejects_fields_with_values_that_they_may_not_have() {
    let other = Cid::new_v1(0x70, *crate::block::raw_cid(&[1; 32]).hash());
    let short = |draft: &mut Draft| draft.commit = [("A".to_owned(), [0; 32])].into();
    let many = |draft: &mut Draft| {
        draft.commit = (0..=COMMITS_MAX)
            .map(|i| (format!("c{i}"), [0; 32]))
            .collect();
    };
    type Change<'a> = &'a dyn Fn(&mut Draft);
    let changes: [(&str, Change<'_>); 15] = [
        ("epoch", &|draft| draft.epoch = 0),
        ("seq", &|draft| draft.seq = 0),
        ("seq", &|draft| draft.seq = u64::MAX),
        ("prev", &|draft| draft.prev = None),
        ("prev", &|draft| draft.prev = Some(other)),
        ("session", &|draft| draft.session = Session([0; 16])),
        ("actor", &|draft| draft.actor = String::new()),
        ("actor", &|draft| draft.actor = "a person".into()),
        ("actor", &|draft| {
            draft.actor = "x".repeat(ACTOR_SIZE_MAX + 1)
        }),
        ("subject", &|draft| {
            draft.subject = vec![other; SUBJECTS_MAX + 1]
        }),
        ("commit", &short),
        ("commit", &many),
        ("control", &|draft| draft.control = None),
        ("control", &|draft| draft.action = Action::KEY_RECOVER),
        ("control", &|draft| draft.action = Action::EXPORT),
    ];
    for (field, change) in changes {
        let mut draft = full();
        change(&mut draft);
        let bytes = wire::encode(&draft, &[0; 64]);
        let refused = EntryError::Field(field);
        assert_eq!(draft.sign(&public(1), sign(1)), Err(refused), "{field}");
        assert_eq!(parse(&bytes), Err(EntryError::Field(field)));
    }
    let message = wire::message(&full());
    let unsigned = parse(&message[ENTRY_DOMAIN.len()..]);
    assert_eq!(unsigned, Err(EntryError::Unsigned));
    let size = ENTRY_SIZE_MAX + 1;
    assert_eq!(parse(&vec![0; size]), Err(EntryError::TooLong { size }));
}

#[test]
fn no_entry_that_may_be_written_is_longer_than_the_limit() {
    let mut draft = full();
    draft.actor = "x".repeat(ACTOR_SIZE_MAX);
    draft.subject = vec![crate::block::raw_cid(&[1; 32]); SUBJECTS_MAX];
    let name = |i| format!("{}{i:03}", "c".repeat(WORD_SIZE_MAX - 3));
    draft.commit = (0..COMMITS_MAX).map(|i| (name(i), [0; 32])).collect();
    let entry = draft.clone().sign(&public(1), sign(1)).expect("signs");
    assert!(entry.bytes().len() <= ENTRY_SIZE_MAX);
    // The largest CID that the `cid` crate reads.
    let long = multihash::Multihash::wrap(u64::MAX >> 1, &[0; 64]).expect("fits");
    draft.subject = vec![Cid::new_v1(u64::MAX >> 1, long); SUBJECTS_MAX];
    let entry = draft.sign(&public(1), sign(1)).expect("signs");
    assert!(entry.bytes().len() <= ENTRY_SIZE_MAX);
}
/// The bytes of a small entry with one piece replaced.
fn replaced(from: &str, to: &str) -> Result<UnverifiedEntry, EntryError> {
    let draft = Log::new().draft(Action::EXPORT);
    let entry = draft.sign(&public(1), sign(1)).expect("signs");
    let hex = HEXLOWER.encode(entry.bytes());
    assert!(hex.contains(from), "{from} in {hex}");
    let hex = hex.replacen(from, to, 1);
    parse(&HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal"))
}

#[test]
fn rejects_what_is_not_canonical() {
    assert!(replaced("ab6176", "ab6176").is_ok());
    for (what, from, to) in [
        ("no map", "ab6176", "8b6176"),
        ("another count", "ab6176", "aa6176"),
        ("a longer count", "ab6176", "b80b6176"),
        ("an indefinite map", "ab6176", "bf6176"),
        ("a longer number", "61760163736571", "6176180163736571"),
        (
            "a number in 8 bytes",
            "6373657101",
            "637365711b0000000000000001",
        ),
        ("a float", "6373657101", "63736571fb3ff0000000000000"),
        ("a short float", "6373657101", "63736571f93c00"),
        ("a negative number", "6373657101", "6373657120"),
        ("a tag", "6373657101", "63736571c101"),
        ("null", "6373657101", "63736571f6"),
        ("a key twice", "6373657101", "63736571016373657101"),
        (
            "keys in another order",
            "6176016373657101",
            "6373657101617601",
        ),
        ("an unknown key", "ab617601", "ac617501617601"),
        ("an absent key", "ab6176016373657101", "aa617601"),
        ("a longer key", "63736571", "7803736571"),
        ("an indefinite key", "63736571", "7f63736571ff"),
        ("bytes for text", "666578706f7274", "466578706f7274"),
        ("no UTF-8", "666578706f7274", "66ff78706f7274"),
        ("another outcome", "626f6b", "626f6c"),
    ] {
        let parsed = replaced(from, to);
        assert!(parsed.is_err(), "{what}");
    }
}

#[test]
fn rejects_empty_fields_that_are_there() {
    let draft = Log::new().draft(Action::EXPORT);
    let entry = draft.sign(&public(1), sign(1)).expect("signs");
    let hex = HEXLOWER.encode(entry.bytes()).replacen("ab", "ac", 1);
    let tenant = "6674656e616e74";
    for (what, changed) in [
        ("subject", hex.clone() + "677375626a65637480"),
        (
            "commit",
            hex.replacen(tenant, &format!("66636f6d6d6974a0{tenant}"), 1),
        ),
        (
            "sealed",
            hex.replacen(tenant, &format!("667365616c6564f6{tenant}"), 1),
        ),
    ] {
        let parsed = parse(&HEXLOWER.decode(changed.as_bytes()).expect("hexadecimal"));
        assert_eq!(parsed, Err(EntryError::NotCanonical), "{what}");
    }
}

#[test]
fn a_later_version_is_told_from_garbage() {
    let later = |version| Err(EntryError::LaterVersion { version });
    assert_eq!(replaced("617601", "617602"), later(2));
    assert_eq!(replaced("ab617601", "ac6176026178a0"), later(2));
    assert!(matches!(
        replaced("617601", "617600"),
        Err(EntryError::NotCanonical)
    ));
    assert!(matches!(
        replaced("ab617601", "ac6176016178a0"),
        Err(EntryError::Malformed(_))
    ));
}

proptest! {
    #[test]
    fn reading_any_bytes_gives_them_back_or_nothing(at in 0..400_usize, byte in any::<u8>(), cut in 0..4_usize) {
        let entry = full().sign(&public(1), sign(1)).expect("signs");
        let mut bytes = entry.bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.drain(at..(at + cut).min(entry.bytes().len()));
        if let Ok(parsed) = parse(&bytes) {
            prop_assert_eq!(parsed.bytes(), bytes);
        }
    }
}
