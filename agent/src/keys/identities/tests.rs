//! Every kind of identity file, and each way in which one can fail.

use std::{
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
};

use protocol::keys::{KeyKind, capsule::Capsule};

use super::*;
use crate::keys::{RecipientSet, Silent};

const SSH_ED25519: &str = include_str!("../../../../tests/vectors/age/ssh-ed25519");
const SSH_ED25519_PUBLIC: &str = include_str!("../../../../tests/vectors/age/ssh-ed25519.pub");
const SSH_ED25519_ENCRYPTED: &str =
    include_str!("../../../../tests/vectors/age/ssh-ed25519-encrypted");
const SSH_ED25519_ENCRYPTED_PUBLIC: &str =
    include_str!("../../../../tests/vectors/age/ssh-ed25519-encrypted.pub");
const SSH_ECDSA: &str = include_str!("../../../../tests/vectors/age/ssh-ecdsa");
const SSH_RSA: &str = include_str!("../../../../tests/vectors/age/ssh-rsa");
const SSH_RSA_PUBLIC: &str = include_str!("../../../../tests/vectors/age/ssh-rsa.pub");
const PASSPHRASE: &str = "open sesame";

/// Knows one passphrase, and counts how often it is asked.
struct Asked {
    passphrase: &'static str,
    times: AtomicUsize,
}

impl Asked {
    fn new(passphrase: &'static str) -> Arc<Self> {
        let times = AtomicUsize::new(0);
        Arc::new(Self { passphrase, times })
    }
}

impl Prompt for Asked {
    fn message(&self, _text: &str) {}

    fn confirm(&self, _text: &str, _yes: &str, _no: Option<&str>) -> Option<bool> {
        None
    }

    fn text(&self, _description: &str) -> Option<String> {
        None
    }

    fn passphrase(&self, _description: &str) -> Option<SecretString> {
        self.times.fetch_add(1, Ordering::Relaxed);
        Some(self.passphrase.into())
    }
}

fn file(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    file.write_all(content.as_ref()).expect("writes");
    file
}

fn load(content: impl AsRef<[u8]>) -> Result<Identities, IdentityError> {
    Identities::load(&[file(content).path()], None, Arc::new(Silent))
}

fn load_asking(
    content: impl AsRef<[u8]>,
    passphrase: &'static str,
) -> Result<Identities, IdentityError> {
    Identities::load(&[file(content).path()], None, Asked::new(passphrase))
}

/// An age identity, and the same in a file that is encrypted with [`PASSPHRASE`].
fn encrypted(format: age::armor::Format) -> (ClassIdentity, Vec<u8>) {
    let identity = ClassIdentity::generate(KeyKind::Hybrid);
    let mut recipient = age::scrypt::Recipient::new(PASSPHRASE.into());
    recipient.set_work_factor(4);
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as _));
    let armored = age::armor::ArmoredWriter::wrap_output(Vec::new(), format).expect("writes");
    let mut writer = encryptor
        .expect("one recipient")
        .wrap_output(armored)
        .expect("writes");
    let line = identity.to_secret_string();
    writeln!(writer, "# mine\n{}", line.expose_secret()).expect("writes");
    let armored = writer.finish().expect("finishes");
    (identity, armored.finish().expect("finishes"))
}

fn opens(identities: &Identities, recipient: &str) -> bool {
    let set = RecipientSet::parse(&[recipient]).expect("parses");
    let kind = set.kind().expect("known");
    let sealed = set.seal(&Capsule::default(), kind).expect("seals");
    Capsule::open(identities.iter(), sealed.bytes()).is_ok()
}

#[test]
fn takes_age_identities_of_every_kind() {
    let weak = ClassIdentity::generate(KeyKind::X25519);
    let strong = ClassIdentity::generate(KeyKind::Hybrid);
    let text = format!(
        "# created: once\r\n\r\n{}\r\n{}",
        weak.to_secret_string().expose_secret(),
        strong.to_secret_string().expose_secret()
    );
    let identities = load(text).expect("loads");
    for identity in [weak, strong] {
        assert!(opens(&identities, &identity.to_public().to_string()));
    }
    let other = ClassIdentity::generate(KeyKind::X25519).to_public();
    assert!(!opens(&identities, &other.to_string()));
}

#[test]
fn takes_encrypted_identity_files() {
    for format in [age::armor::Format::Binary, age::armor::Format::AsciiArmor] {
        let (identity, content) = encrypted(format);
        let asked = Asked::new(PASSPHRASE);
        let path = file(&content);
        let identities = Identities::load(&[path.path()], None, asked.clone()).expect("loads");
        assert_eq!(asked.times.load(Ordering::Relaxed), 1);
        assert!(opens(&identities, &identity.to_public().to_string()));
        // A passphrase that was given stands in for asking.
        let given = Identities::load(&[path.path()], Some(PASSPHRASE.into()), asked.clone());
        assert!(given.is_ok());
        assert_eq!(asked.times.load(Ordering::Relaxed), 1);
        assert!(matches!(
            load_asking(&content, "open barley"),
            Err(IdentityError::WrongPassphrase { .. })
        ));
        assert!(matches!(
            load(&content),
            Err(IdentityError::NoPassphrase { .. })
        ));
    }
}

#[test]
fn takes_ssh_keys() {
    for (private, public) in [(SSH_ED25519, SSH_ED25519_PUBLIC), (SSH_RSA, SSH_RSA_PUBLIC)] {
        assert!(opens(&load(private).expect("loads"), public));
    }
    let identities = load_asking(SSH_ED25519_ENCRYPTED, PASSPHRASE).expect("loads");
    assert!(opens(&identities, SSH_ED25519_ENCRYPTED_PUBLIC));
    assert!(!opens(&identities, SSH_ED25519_PUBLIC));
    assert!(matches!(
        load_asking(SSH_ED25519_ENCRYPTED, "open barley"),
        Err(IdentityError::WrongPassphrase { .. })
    ));
    assert!(matches!(
        load(SSH_ED25519_ENCRYPTED),
        Err(IdentityError::NoPassphrase { .. })
    ));
    assert!(matches!(
        load(SSH_ECDSA),
        Err(IdentityError::Ssh { what, .. }) if what.starts_with("ecdsa-sha2-nistp256")
    ));
    assert!(matches!(
        load(&SSH_ED25519[..200]),
        Err(IdentityError::Ssh { .. })
    ));
}

#[test]
fn tells_what_is_wrong_with_a_file() {
    let silent = || Arc::new(Silent);
    assert!(matches!(
        Identities::load(&["/nonexistent/identity.txt"], None, silent()),
        Err(IdentityError::Missing { .. })
    ));
    assert!(matches!(
        Identities::load(&["/"], None, silent()),
        Err(IdentityError::Unreadable { .. })
    ));
    type Expected = fn(&IdentityError) -> bool;
    let (_, sealed) = encrypted(age::armor::Format::Binary);
    let stranger = age::x25519::Identity::generate().to_public();
    let sealed_to_key = age::encrypt(&stranger, b"x").expect("encrypts");
    let plugin = age::plugin::Identity::default_for_plugin("unheardof").expect("a name");
    let cases: Vec<(Vec<u8>, Expected)> = vec![
        (vec![], |e| matches!(e, IdentityError::Empty { .. })),
        (b"# only\n".to_vec(), |e| {
            matches!(e, IdentityError::Empty { .. })
        }),
        (b"\n\nsecret\n".to_vec(), |e| {
            matches!(e, IdentityError::NotAnIdentity { line: 3, .. })
        }),
        (b"AGE-SECRET-KEY-1SECRET\n".to_vec(), |e| {
            matches!(e, IdentityError::NotAnIdentity { line: 1, .. })
        }),
        (vec![0xff; 10], |e| {
            matches!(e, IdentityError::NotAnIdentity { line: 1, .. })
        }),
        (vec![b'\n'; (1 << 20) + 1], |e| {
            matches!(e, IdentityError::TooLarge { .. })
        }),
        (sealed_to_key, |e| {
            matches!(e, IdentityError::Encrypted { .. })
        }),
        (sealed[..60].to_vec(), |e| {
            matches!(e, IdentityError::Encrypted { .. })
        }),
        (
            plugin.to_string().into_bytes(),
            |e| matches!(e, IdentityError::PluginMissing { name, .. } if name == "age-plugin-unheardof"),
        ),
    ];
    for (content, expected) in cases {
        let err = load(&content).expect_err("refused");
        assert!(expected(&err), "{err:?}");
        let shown = format!("{err} {err:?} {:?}", err.hint()).to_lowercase();
        assert!(
            !shown.contains("secret\n") && !shown.contains("key-1secret"),
            "{shown}"
        );
    }
}

#[test]
fn asks_once_for_the_passphrase_of_a_snapshot() {
    let set = RecipientSet::passphrase(PASSPHRASE.into());
    let sealed = set
        .seal(&Capsule::default(), KeyKind::X25519)
        .expect("seals");
    let nobody: [&Path; 0] = [];
    let asked = Asked::new(PASSPHRASE);
    let identities = Identities::load(&nobody, None, asked.clone()).expect("loads");
    assert_eq!(asked.times.load(Ordering::Relaxed), 0);
    for _ in 0..2 {
        assert!(Capsule::open(identities.iter(), sealed.bytes()).is_ok());
    }
    assert_eq!(asked.times.load(Ordering::Relaxed), 1);
    // One that is sealed to a key asks for no passphrase.
    let other = age::x25519::Identity::generate().to_public().to_string();
    let asked = Asked::new(PASSPHRASE);
    let identities = Identities::load(&nobody, None, asked.clone()).expect("loads");
    assert!(!opens(&identities, &other));
    assert_eq!(asked.times.load(Ordering::Relaxed), 0);
}

#[test]
fn shows_nothing_secret() {
    let identity = ClassIdentity::generate(KeyKind::X25519);
    let line = identity.to_secret_string();
    let identities = load(line.expose_secret()).expect("loads");
    assert_eq!(format!("{identities:?}"), "Identities(2)");
}
