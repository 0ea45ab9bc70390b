//! Keys and stanzas against those of age 1.3.1, and against malformed ones.

use std::io::Read;

use age::{Identity as _, Recipient as _};

use super::*;

// Made by `age-keygen -pq` and `age` 1.3.1.
const IDENTITY_FILE: &str = include_str!("../../../../tests/vectors/age/hybrid-identity.txt");
const RECIPIENT: &str = include_str!("../../../../tests/vectors/age/hybrid-recipient.txt");
const SEALED: &[u8] = include_bytes!("../../../../tests/vectors/age/hybrid.age");

fn identity_line() -> &'static str {
    let line = IDENTITY_FILE.lines().find(|line| !line.starts_with('#'));
    line.expect("an identity")
}

fn identity() -> Identity {
    identity_line().parse().expect("parses")
}

fn file_key() -> FileKey {
    FileKey::new(Box::new(*b"YELLOW SUBMARINE"))
}

/// A stanza that `identity()` unwraps.
fn stanza() -> Stanza {
    let wrapped = identity().to_public().wrap_file_key(&file_key());
    let (mut stanzas, labels) = wrapped.expect("wraps");
    assert_eq!(labels, HashSet::from(["postquantum".to_owned()]));
    stanzas.pop().expect("one stanza")
}

#[test]
fn reads_and_writes_keys_as_age_does() {
    let recipient: Recipient = RECIPIENT.trim_end().parse().expect("parses");
    assert_eq!(recipient.to_string(), RECIPIENT.trim_end());
    assert_eq!(identity().to_public(), recipient);
    assert_eq!(
        identity().to_secret_string().expose_secret(),
        identity_line()
    );
    assert!(!format!("{:?}", identity()).contains(identity_line()));
}

#[test]
fn opens_a_file_that_age_sealed() {
    let decryptor = age::Decryptor::new_buffered(SEALED).expect("an age file");
    let identity = identity();
    let mut reader = decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .expect("ours");
    let mut plain = String::new();
    reader.read_to_string(&mut plain).expect("decrypts");
    assert_eq!(plain, "sealed by age 1.3.1\n");
}

#[test]
fn unwraps_what_it_wraps_and_passes_over_what_is_for_others() {
    let unwrapped = identity().unwrap_stanza(&stanza()).expect("ours");
    assert_eq!(
        unwrapped.expect("unwraps").expose_secret(),
        file_key().expose_secret()
    );
    assert!(Identity::generate().unwrap_stanza(&stanza()).is_none());
    let (others, _) = age::x25519::Identity::generate()
        .to_public()
        .wrap_file_key(&file_key())
        .expect("wraps");
    assert!(identity().unwrap_stanza(&others[0]).is_none());
}

#[test]
fn rejects_malformed_stanzas() {
    let with = |change: fn(&mut Stanza)| {
        let mut stanza = stanza();
        change(&mut stanza);
        identity().unwrap_stanza(&stanza)
    };
    let point_zero = |stanza: &mut Stanza| {
        let mut encapped = BASE64_NOPAD
            .decode(stanza.args[0].as_bytes())
            .expect("base64");
        let start = encapped.len() - 32;
        encapped[start..].fill(0);
        stanza.args[0] = BASE64_NOPAD.encode(&encapped);
    };
    type Change = fn(&mut Stanza);
    let malformed: [(&str, Change); 9] = [
        ("no argument", |s| s.args.clear()),
        ("two arguments", |s| s.args.push("AA".into())),
        ("empty encapsulated key", |s| s.args[0].clear()),
        ("truncated encapsulated key", |s| s.args[0].truncate(1490)),
        ("long encapsulated key", |s| s.args[0].push_str("AAAA")),
        ("padded base64", |s| s.args[0].push('=')),
        ("trailing bits", |s| {
            let last = s.args[0].pop().expect("not empty");
            s.args[0].push(char::from(last as u8 + 1));
        }),
        ("short body", |s| s.body.truncate(31)),
        ("point of low order", point_zero),
    ];
    for (what, change) in malformed {
        assert!(
            matches!(with(change), Some(Err(age::DecryptError::InvalidHeader))),
            "{what}"
        );
    }
    // Altered in bits, it looks like one for somebody else.
    assert!(with(|s| s.body[0] ^= 1).is_none());
    assert!(
        with(|s| {
            let other = if s.args[0].starts_with('A') { "B" } else { "A" };
            s.args[0].replace_range(0..1, other);
        })
        .is_none()
    );
}

#[test]
fn rejects_malformed_identities() {
    let good = identity_line();
    let longer = bech32_encode(IDENTITY_HRP, &[7; 33]).to_ascii_uppercase();
    let shorter = bech32_encode(IDENTITY_HRP, &[7; 31]).to_ascii_uppercase();
    let other = bech32_encode(Hrp::parse_unchecked("age-secret-key-"), &[7; 32]);
    let bad = [
        String::new(),
        IDENTITY_PREFIX.to_owned(),
        good.to_lowercase(),
        good.replacen("AGE", "age", 1),
        good[..good.len() - 1].to_owned(),
        format!("{good}Q"),
        format!(" {good}"),
        format!("{good}\n"),
        flip_last(good),
        longer,
        shorter,
        other.to_ascii_uppercase(),
        non_canonical(good),
    ];
    for line in bad {
        assert!(line.parse::<Identity>().is_err(), "{line:?}");
    }
}

#[test]
fn rejects_malformed_recipients() {
    let good = RECIPIENT.trim_end();
    let bytes = identity().to_public().0.to_bytes();
    let encode = |bytes: &[u8]| bech32_encode(RECIPIENT_HRP, bytes);
    assert_eq!(encode(&bytes), good);
    let mut unreduced = bytes.to_vec();
    unreduced[0] = 0x01;
    unreduced[1] = unreduced[1] & 0xf0 | 0x0d; // 3329
    let mut unreduced_second = bytes.to_vec();
    unreduced_second[1] = unreduced_second[1] & 0x0f | 0x10;
    unreduced_second[2] = 0xd0;
    let mut low_order = bytes.to_vec();
    low_order[kem::PUBLIC_SIZE - 32..].fill(0);
    let bad = [
        String::new(),
        good.to_uppercase(),
        good.replacen("age", "AGE", 1),
        good[..good.len() - 1].to_owned(),
        format!("{good}q"),
        flip_last(good),
        encode(&bytes[1..]),
        encode(&[bytes.as_slice(), &[0]].concat()),
        encode(&unreduced),
        encode(&unreduced_second),
        encode(&low_order),
        non_canonical(good),
    ];
    for text in bad {
        assert!(text.parse::<Recipient>().is_err(), "{text:?}");
    }
    unreduced[0] = 0x00; // 3328
    assert!(encode(&unreduced).parse::<Recipient>().is_ok());
}

fn flip_last(text: &str) -> String {
    let (start, last) = text.split_at(text.len() - 1);
    let other = if last.eq_ignore_ascii_case("q") {
        "p"
    } else {
        "q"
    };
    let other = if text.starts_with("AGE") {
        other.to_uppercase()
    } else {
        other.to_owned()
    };
    format!("{start}{other}")
}

/// The same key with the bits set that its last character has too many, and the right checksum.
fn non_canonical(text: &str) -> String {
    use bech32::{
        Fe32,
        primitives::{decode::CheckedHrpstring, iter::Fe32IterExt},
    };
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Long {}
    impl bech32::Checksum for Long {
        type MidstateRepr = u32;
        const CODE_LENGTH: usize = usize::MAX;
        const CHECKSUM_LENGTH: usize = 6;
        const GENERATOR_SH: [u32; 5] = bech32::Bech32::GENERATOR_SH;
        const TARGET_RESIDUE: u32 = bech32::Bech32::TARGET_RESIDUE;
    }
    let parsed = CheckedHrpstring::new::<Long>(text).expect("good");
    let data = parsed.data_part_ascii_no_checksum();
    let mut fes: Vec<Fe32> = data
        .iter()
        .map(|&c| Fe32::from_char(c.into()).expect("Bech32"))
        .collect();
    let last = fes.pop().expect("not empty");
    fes.push(Fe32::try_from(last.to_u8() | 1).expect("five bits"));
    let text_out: String = fes
        .into_iter()
        .with_checksum::<Long>(&parsed.hrp())
        .chars()
        .collect();
    assert_ne!(text_out.to_lowercase(), text.to_lowercase());
    if text.starts_with("AGE") {
        text_out.to_uppercase()
    } else {
        text_out
    }
}
