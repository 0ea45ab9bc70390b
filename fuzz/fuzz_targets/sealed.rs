//! A sealed object: an age file as it comes, or any frame and padding in a good age file.
#![no_main]

use std::{io::Write, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use souverain_protocol::{
    cut::PIECE_SIZE_MAX,
    keys::{ClassIdentity, ClassRecipient},
    seal::{Opener, PLAIN_SIZE_MAX, Sealer},
};

static IDENTITY: LazyLock<[ClassIdentity; 1]> = LazyLock::new(|| {
    let line = include_str!("../seeds/sealed.identity");
    [line.trim_end().parse().expect("an identity")]
});

fn encrypt(recipient: &ClassRecipient, plain: &[u8]) -> Vec<u8> {
    let recipients = std::iter::once(recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).expect("one recipient");
    let mut out = Vec::new();
    let mut writer = encryptor.wrap_output(&mut out).expect("written to memory");
    writer.write_all(plain).expect("written to memory");
    writer.finish().expect("written to memory");
    out
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, content)) = bytes.split_first() else {
        return;
    };
    let recipient = IDENTITY[0].to_public();
    let sealed = match kind {
        b'a' => content.to_vec(),
        _ => encrypt(&recipient, content),
    };
    let mut opener = Opener::new(&*IDENTITY).expect("memory");
    let Ok(plain) = opener.open_bounded(&sealed) else {
        return;
    };
    assert!(plain.len() <= PLAIN_SIZE_MAX);
    let exact = opener.open(&sealed, plain.len());
    assert_eq!(exact.is_ok(), plain.len() <= PIECE_SIZE_MAX);
    assert!(opener.open(&sealed, plain.len() + 1).is_err());
    if plain.len() <= PIECE_SIZE_MAX {
        let padded = kind % 2 == 0;
        let mut sealer = Sealer::new(Box::new(recipient), 1, padded).expect("level 1");
        let again = sealer.seal(&plain).expect("seals");
        let opened = opener.open(again.bytes(), plain.len()).expect("opens");
        assert!(opened == plain);
    }
});
