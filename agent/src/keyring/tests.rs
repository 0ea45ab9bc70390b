//! Each way from one epoch to the next, over a real store.

use std::sync::Arc;

use age::x25519;
use protocol::block::Block;

use super::*;
use crate::keys::Silent;

struct Node {
    directory: tempfile::TempDir,
    store: Store,
}

/// Somebody with an identity file.
struct Person {
    recipient: String,
    identities: Identities,
}

impl Person {
    fn new() -> Self {
        Self::with(KeyKind::X25519)
    }

    fn with(kind: KeyKind) -> Self {
        let identity = ClassIdentity::generate(kind);
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let line = identity.to_secret_string();
        let line = secrecy::ExposeSecret::expose_secret(&line);
        std::fs::write(file.path(), line).expect("writes");
        Self {
            recipient: identity.to_public().to_string(),
            identities: Identities::load(&[file.path()], None, Arc::new(Silent)).expect("loads"),
        }
    }

    fn opens(&self, capsule: &[u8]) -> Option<Capsule> {
        Capsule::open(self.identities.iter(), capsule).ok()
    }
}

fn set(people: &[&Person]) -> RecipientSet {
    let strings: Vec<&str> = people.iter().map(|p| &*p.recipient).collect();
    RecipientSet::parse(&strings).expect("recipients")
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        let store = Store::open(directory.path(), "test").expect("store");
        Self { directory, store }
    }

    /// Ends the process, as it were, and starts it again.
    fn restart(self) -> Self {
        let Self { directory, store } = self;
        store.commit().expect("commits");
        drop(store);
        let store = Store::open(directory.path(), "test").expect("store");
        Self { directory, store }
    }

    fn export(
        &self,
        mode: Mode,
        recipients: &RecipientSet,
        opener: Option<&Person>,
    ) -> Result<ExportKeys, KeyringError> {
        let kind = recipients.kind().unwrap_or(KeyKind::X25519);
        let identities = opener.map(|person| &person.identities);
        Keyring::new(&self.store).for_export(mode, kind, recipients, identities)
    }

    fn portable(&self, people: &[&Person], opener: Option<&Person>) -> ExportKeys {
        let keys = self.export(Mode::Portable, &set(people), opener);
        keys.expect("keys")
    }

    fn keyring(&self) -> Keyring<'_> {
        Keyring::new(&self.store)
    }
}

fn numbers(keys: &ExportKeys) -> Vec<u32> {
    keys.reusable.iter().map(|epoch| epoch.number).collect()
}

fn bytes(keys: &ExportKeys) -> &[u8] {
    keys.capsule.as_ref().expect("portable").bytes()
}

#[test]
fn same_recipients_find_the_same_capsule_without_any_identity() {
    let (me, node) = (Person::new(), Node::new());
    let first = node.portable(&[&me], None);
    let node = node.restart();
    let second = node.portable(&[&me], None);
    assert_eq!(second.epoch, first.epoch);
    assert_eq!(second.recipient, first.recipient);
    assert_eq!(bytes(&second), bytes(&first));
    assert_eq!(numbers(&second), [1]);
    let opened = me.opens(bytes(&second)).expect("opens");
    let identity = opened.identity(second.epoch).expect("identity");
    assert_eq!(identity.to_public(), second.recipient);
}

#[test]
fn what_is_not_committed_leaves_no_epoch() {
    let (me, node) = (Person::new(), Node::new());
    let first = node.portable(&[&me], None);
    let Node { directory, store } = node;
    drop(store);
    let store = Store::open(directory.path(), "test").expect("store");
    let again = Node { directory, store }.portable(&[&me], None);
    assert_eq!(again.epoch, first.epoch);
    assert_ne!(again.recipient, first.recipient);
}

#[test]
fn a_new_recipient_cannot_open_what_was_exported_before() {
    let (me, you, node) = (Person::new(), Person::new(), Node::new());
    let first = node.portable(&[&me], None);
    let second = node.portable(&[&me, &you], Some(&me));
    assert_eq!(numbers(&second), [2]);
    assert_ne!(second.recipient, first.recipient);
    for person in [&me, &you] {
        let opened = person.opens(bytes(&second)).expect("opens");
        assert_eq!(opened.iter().count(), 1);
    }
    let third = node.portable(&[&you, &me], None);
    assert_eq!(bytes(&third), bytes(&second));
}

#[test]
fn more_recipients_begin_an_epoch_on_a_write_only_node() {
    let (me, you, node) = (Person::new(), Person::new(), Node::new());
    let first = node.portable(&[&me], None);
    for opener in [None, Some(&you)] {
        let next = node.portable(&[&me, &you], opener);
        assert_eq!(next.epoch.number, 2);
        assert_ne!(next.recipient, first.recipient);
        assert_eq!(numbers(&next), [2]);
    }
}

#[test]
fn fewer_recipients_begin_an_epoch_that_the_removed_cannot_open() {
    let (me, you, node) = (Person::new(), Person::new(), Node::new());
    let first = node.portable(&[&me, &you], None);
    let second = node.portable(&[&me], Some(&me));
    assert_eq!(second.epoch.number, 2);
    assert_ne!(second.recipient, first.recipient);
    assert_eq!(numbers(&second), [2, 1]);
    assert!(you.opens(bytes(&second)).is_none());
    let opened = me.opens(bytes(&second)).expect("opens");
    let older = opened.identity(first.epoch).expect("older identity");
    assert_eq!(older.to_public(), first.recipient);
}

#[test]
fn fewer_recipients_reuse_nothing_on_a_write_only_node() {
    let (me, you, node) = (Person::new(), Person::new(), Node::new());
    node.portable(&[&me, &you], None);
    assert_eq!(numbers(&node.portable(&[&me], None)), [2]);
    // Nor if another's identity is at hand.
    let node = Node::new();
    node.portable(&[&me, &you], None);
    assert_eq!(numbers(&node.portable(&[&me], Some(&Person::new()))), [2]);
}

#[test]
fn others_are_not_given_the_keys_of_what_came_before() {
    let (me, you, node) = (Person::new(), Person::new(), Node::new());
    node.portable(&[&me], None);
    let second = node.portable(&[&you], Some(&me));
    assert_eq!(numbers(&second), [2]);
    let opened = you.opens(bytes(&second)).expect("opens");
    assert_eq!(opened.iter().count(), 1);
    // Back again: a third epoch; the first can be reused, the second not.
    let third = node.portable(&[&me], Some(&me));
    assert_eq!(numbers(&third), [3, 1]);
}

#[test]
fn another_kind_begins_an_epoch_and_reuses_only_its_own() {
    let (me, node) = (Person::new(), Node::new());
    let strong = Person::with(KeyKind::Hybrid);
    node.portable(&[&me], None);
    let hybrid = node.portable(&[&strong], Some(&strong));
    assert_eq!(hybrid.epoch.number, 2);
    assert_eq!(hybrid.recipient.kind(), KeyKind::Hybrid);
    assert_eq!(numbers(&hybrid), [2]);
    let back = node.portable(&[&me], Some(&me));
    assert_eq!(back.recipient.kind(), KeyKind::X25519);
    assert_eq!(numbers(&back), [3, 1]);
}

#[test]
fn post_quantum_needs_both_levels() {
    let (me, node) = (Person::new(), Node::new());
    let strong = Person::with(KeyKind::Hybrid);
    let keys = |kind, person: &Person| {
        node.keyring()
            .for_export(Mode::Portable, kind, &set(&[person]), None)
    };
    assert!(matches!(
        keys(KeyKind::Hybrid, &me),
        Err(KeyringError::Recipients(
            RecipientError::NotPostQuantum { .. }
        ))
    ));
    assert!(matches!(
        keys(KeyKind::X25519, &strong),
        Err(KeyringError::Recipients(
            RecipientError::ClassNotPostQuantum
        ))
    ));
}

#[test]
fn a_passphrase_alone_is_recognised_by_opening() {
    let node = Node::new();
    let of = |text: &str| RecipientSet::passphrase(text.into());
    let export = |text| node.export(Mode::Portable, &of(text), None).expect("keys");
    let first = export("correct horse");
    let second = export("correct horse");
    assert_eq!(bytes(&second), bytes(&first));
    let other = export("battery staple");
    assert_eq!(numbers(&other), [2]);
    let opens = |text: &str, keys: &ExportKeys| {
        Capsule::open(Identities::passphrase(text.into()).iter(), bytes(keys))
    };
    assert!(opens("correct horse", &first).is_ok());
    assert!(opens("battery staple", &other).is_ok());
    assert!(matches!(
        opens("battery staple", &first),
        Err(CapsuleError::Open(OpenError::Decrypt(
            age::DecryptError::KeyDecryptionFailed
        )))
    ));
}

#[test]
fn an_erasable_capsule_is_never_handed_out_as_sealed_bytes() {
    let (me, you, node) = (Person::new(), Person::new(), Node::new());
    let erasable = |people: &[&Person], opener| {
        let keys = node.export(Mode::Erasable, &set(people), opener);
        keys.expect("keys")
    };
    let first = erasable(&[&me], None);
    let grown = erasable(&[&me, &you], Some(&me));
    let same = erasable(&[&me, &you], None);
    let shrunk = erasable(&[&me], Some(&me));
    for keys in [&first, &grown, &same, &shrunk] {
        assert!(keys.capsule.is_none());
    }
    let portable = node.portable(&[&me], Some(&me));
    assert_eq!(numbers(&portable), [1]);
    assert_ne!(portable.recipient, first.recipient);

    let node = node.restart();
    let stored = node.keyring().capsule_for(shrunk.epoch);
    let stored = stored.expect("reads").expect("stored");
    assert!(me.opens(&stored).is_some() && you.opens(&stored).is_none());
    let changed = node
        .keyring()
        .change(&stored, &me.identities, &Change::Add(set(&[&you])));
    assert!(changed.expect("changes").is_none());
    let replaced = node.keyring().capsule_for(shrunk.epoch);
    let replaced = replaced.expect("reads").expect("stored");
    assert!(you.opens(&replaced).is_some());
    node.store.commit().expect("commits");
    for capsule in [stored, replaced] {
        let cid = *Block::sealed(Sealed::from_age(capsule).expect("age")).cid();
        assert!(!node.store.contains(&cid).expect("reads"));
    }
    assert_eq!(node.store.blocks().expect("reads").count, 0);
}

#[test]
fn lists_what_is_known_of_recipients() {
    let (me, node) = (Person::new(), Node::new());
    let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
    let recipients = RecipientSet::parse(&[&me.recipient, ssh]).expect("parses");
    let keys = node
        .export(Mode::Portable, &recipients, None)
        .expect("keys");
    let listed = node.keyring().recipients(bytes(&keys)).expect("lists");
    assert_eq!(listed.stanzas, ["X25519", "ssh-ed25519 PYX4ow"]);
    let known: Vec<String> = recipients.strings().map(str::to_owned).collect();
    assert_eq!(listed.known, Some(known));
    // Another node sees the stanzas only.
    let listed = Node::new().keyring().recipients(bytes(&keys));
    let listed = listed.expect("lists");
    assert_eq!((listed.stanzas.len(), listed.known), (2, None));
}

#[test]
fn adding_a_recipient_to_a_snapshot_ends_the_epoch_for_others() {
    let (me, you, node) = (Person::new(), Person::new(), Node::new());
    let first = node.portable(&[&me], None);
    let add = Change::Add(set(&[&you]));
    let changed = node.keyring().change(bytes(&first), &me.identities, &add);
    let changed = changed.expect("changes").expect("portable");
    for person in [&me, &you] {
        let opened = person.opens(changed.bytes()).expect("opens");
        assert!(opened.identity(first.epoch).is_some());
    }
    let listed = node.keyring().recipients(changed.bytes()).expect("lists");
    assert_eq!(listed.known.map(|known| known.len()), Some(2));
    // You must not be able to open what is sealed to me alone from now on.
    let second = node.portable(&[&me], Some(&me));
    assert_eq!(numbers(&second), [2, 1]);
    assert!(you.opens(bytes(&second)).is_none());
}

#[test]
fn a_snapshot_shared_before_goes_on_with_all_its_recipients() {
    let (me, you, node) = (Person::new(), Person::new(), Node::new());
    let first = node.portable(&[&me], None);
    let add = Change::Add(set(&[&you]));
    let changed = node.keyring().change(bytes(&first), &me.identities, &add);
    changed.expect("changes");
    let second = node.portable(&[&me, &you], Some(&me));
    assert_eq!(second.epoch, first.epoch);
}

#[test]
fn removing_a_recipient_ends_the_epoch() {
    let (me, you, node) = (Person::new(), Person::new(), Node::new());
    let first = node.portable(&[&me, &you], None);
    let remove = Change::Remove(set(&[&you]));
    let changed = node
        .keyring()
        .change(bytes(&first), &me.identities, &remove);
    let changed = changed.expect("changes").expect("portable");
    assert!(me.opens(changed.bytes()).is_some() && you.opens(changed.bytes()).is_none());
    let node = node.restart();
    // Even if the same recipients are asked for again.
    let second = node.portable(&[&me, &you], Some(&me));
    assert_eq!(numbers(&second), [2, 1]);
}

#[test]
fn changes_that_cannot_be_made_are_refused() {
    let (me, you, node) = (Person::new(), Person::new(), Node::new());
    let strong = Person::with(KeyKind::Hybrid);
    let keys = node.portable(&[&me], None);
    let change = |opener: &Person, change: Change| {
        let changed = node
            .keyring()
            .change(bytes(&keys), &opener.identities, &change);
        changed.expect_err("refused")
    };
    assert!(matches!(
        change(&me, Change::Remove(set(&[&me]))),
        KeyringError::LastRecipient
    ));
    assert!(matches!(
        change(&me, Change::Remove(set(&[&you]))),
        KeyringError::NotARecipient { given } if given == you.recipient
    ));
    assert!(matches!(
        change(&me, Change::Add(set(&[&strong]))),
        KeyringError::Recipients(RecipientError::Mixed { .. })
    ));
    assert!(matches!(
        change(&me, Change::Add(RecipientSet::passphrase("x".into()))),
        KeyringError::PassphraseAlone
    ));
    let wrong = change(&you, Change::Add(set(&[&you])));
    assert!(matches!(
        wrong,
        KeyringError::Capsule(CapsuleError::Open(OpenError::NoMatchingIdentity))
    ));
    assert!(wrong.hint().is_some_and(|hint| hint.contains("--identity")));
    let foreign = Node::new();
    let foreign =
        foreign
            .keyring()
            .change(bytes(&keys), &me.identities, &Change::Add(set(&[&you])));
    assert!(matches!(foreign, Err(KeyringError::HoldersUnknown)));
}

#[test]
fn nothing_secret_is_stored_in_clear() {
    let (me, node) = (Person::new(), Node::new());
    let keys = node.portable(&[&me], None);
    let opened = me.opens(bytes(&keys)).expect("opens");
    let secret = opened.identity(keys.epoch).expect("identity");
    let secret = secret.to_secret_string();
    let secret = secrecy::ExposeSecret::expose_secret(&secret).as_bytes();
    node.store.commit().expect("commits");
    let mut values = 0;
    for entry in node.store.scan(Table::Epochs) {
        let (key, value) = entry.expect("reads");
        assert!(!value.windows(secret.len()).any(|window| window == secret));
        assert!(!key.windows(secret.len()).any(|window| window == secret));
        values += 1;
    }
    assert_eq!(values, 4);
}

#[test]
fn damaged_records_are_fatal() {
    let me = Person::new();
    for key in ["current/portable", "epoch/portable/1", "capsule/portable/1"] {
        let node = Node::new();
        node.portable(&[&me], None);
        node.store
            .set(Table::Epochs, key.as_bytes(), b"nonsense")
            .expect("sets");
        let err = node.export(Mode::Portable, &set(&[&me]), None);
        assert!(matches!(err, Err(KeyringError::Damaged { .. })), "{key}");
    }
}

#[test]
fn a_stanza_list_needs_no_key_and_no_trust() {
    let header = b"age-encryption.org/v1\n-> X25519 abc\nbody\n-> xyz-grease a b\n\n-> piv-p256 t e\nb\n--- mac\n-> not\n";
    let node = Node::new();
    let listed = |file: &[u8]| node.keyring().recipients(file).expect("lists").stanzas;
    assert_eq!(listed(header), ["X25519", "piv-p256"]);
    for hostile in [
        &b""[..],
        b"\n",
        b"-> X25519\n",
        b"age-encryption.org/v2\n-> X\n",
        &[0xff; 99],
    ] {
        assert!(listed(hostile).is_empty());
    }
    let mine = x25519::Identity::generate().to_public();
    let file = age::encrypt(&mine, b"x").expect("encrypts");
    assert_eq!(listed(&file), ["X25519"]);
}
