//! Cosignatures: the word of a witness that a checkpoint is consistent with all it saw before.
//!
//! Version 1, with Ed25519 and a time: see <https://c2sp.org/tlog-cosignature>.

use super::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::note::{NoteError, SignatureLine, SignerKey, UnverifiedNote};

/// The signature type of timestamped Ed25519 cosignatures.
pub const TYPE_COSIGNATURE_V1: u8 = 4;
/// Latest time of a cosignature, in seconds since 1970.
pub const COSIGNATURE_TIME_MAX_S: u64 = i64::MAX as u64;

/// The key of a witness.
pub type CosignerKey = SignerKey<TYPE_COSIGNATURE_V1>;

/// Why a checkpoint is not cosigned.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// A witness did not sign, or its signature is wrong.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// There is no room for another.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A time is later than any may be.
    #[error("a cosignature of second {time_s} is of no time")]
    Time {
        /// The time in seconds since 1970.
        time_s: u64,
    },
}

/// Cosigns a checkpoint at a time: `sign` is given the message and returns the signature of `key`'s
/// secret half. The line is what a witness answers with, and what goes under the checkpoint.
///
/// # Errors
/// The time is none, or what was signed is not the key's.
pub fn cosign(
    checkpoint: &Checkpoint,
    key: &CosignerKey,
    time_s: u64,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> Result<SignatureLine, CosignatureError> {
    let message = message(&checkpoint.to_string(), time_s)?;
    let signature = sign(&message);
    if !key.public().has_signed(&message, &signature) {
        return Err(NoteError::Wrong(key.name().to_owned()).into());
    }
    let signature = [&time_s.to_be_bytes()[..], &signature].concat();
    Ok(SignatureLine::new(key, &signature))
}

/// Checks that a witness cosigned the checkpoint in a note, and gives the time in seconds since 1970.
///
/// # Errors
/// It did not, or its cosignature is wrong.
pub fn verify(note: &UnverifiedNote, key: &CosignerKey) -> Result<u64, CosignatureError> {
    let wrong = || NoteError::Wrong(key.name().to_owned());
    let signature = note.signature_of(key)?.split_first_chunk();
    let (time_s, signature) = signature.ok_or_else(wrong)?;
    let time_s = u64::from_be_bytes(*time_s);
    if !key
        .public()
        .has_signed(&message(note.text_unverified(), time_s)?, signature)
    {
        return Err(wrong().into());
    }
    Ok(time_s)
}

/// Puts the cosignature of a witness under a checkpoint, in the place of an earlier one of it, and gives the
/// time in seconds since 1970.
///
/// # Errors
/// It is not the witness's of this checkpoint, or there is no room; the checkpoint is as it was.
pub fn put(
    checkpoint: &mut SignedCheckpoint,
    key: &CosignerKey,
    line: SignatureLine,
) -> Result<u64, CosignatureError> {
    let mut cosigned = checkpoint.clone();
    cosigned.replace(key, line)?;
    let time_s = verify(cosigned.note(), key)?;
    *checkpoint = cosigned;
    Ok(time_s)
}

fn message(text: &str, time_s: u64) -> Result<Vec<u8>, CosignatureError> {
    if time_s > COSIGNATURE_TIME_MAX_S {
        return Err(CosignatureError::Time { time_s });
    }
    Ok(format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;
    use crate::{
        log::checkpoint::{Origin, SignedCheckpoint, UnverifiedCheckpoint},
        note::VerifierKey,
    };

    fn secret(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn witness(seed: u8) -> CosignerKey {
        let name = format!("witness.example/{seed}");
        CosignerKey::new(&name, secret(seed).verifying_key().as_bytes()).expect("a key")
    }

    fn checkpoint() -> SignedCheckpoint {
        let public = secret(1).verifying_key();
        let key = VerifierKey::new("example.com/log", public.as_bytes()).expect("a key");
        let origin = Origin::new(key.name()).expect("a name");
        let checkpoint = Checkpoint::new(origin, 7, [9; 32]).expect("a checkpoint");
        let sign = |text: &[u8]| secret(1).sign(text).to_bytes();
        checkpoint.sign(&key, sign).expect("signed")
    }

    fn cosigned(seed: u8, time_s: u64) -> SignatureLine {
        let sign = |message: &[u8]| secret(seed).sign(message).to_bytes();
        cosign(checkpoint().checkpoint(), &witness(seed), time_s, sign).expect("signed")
    }

    #[test]
    fn a_cosignature_verifies_at_its_time_with_its_key_only() {
        let mut checkpoint = checkpoint();
        for seed in [2, 3] {
            checkpoint
                .push(cosigned(seed, 1_679_315_147))
                .expect("room");
        }
        let note = checkpoint.to_string();
        let note = UnverifiedCheckpoint::parse(note.as_bytes()).expect("a checkpoint");
        assert_eq!(verify(note.note(), &witness(2)), Ok(1_679_315_147));
        assert_eq!(verify(note.note(), &witness(3)), Ok(1_679_315_147));
        let unsigned = NoteError::Unsigned("witness.example/4".into());
        assert_eq!(verify(note.note(), &witness(4)), Err(unsigned.into()));
    }

    #[test]
    fn a_later_cosignature_takes_the_place_of_the_one_before() {
        let mut both = checkpoint();
        for (seed, time_s) in [(2, 5), (3, 6), (2, 7), (3, 8)] {
            let put = put(&mut both, &witness(seed), cosigned(seed, time_s));
            assert_eq!(put, Ok(time_s));
        }
        assert_eq!(both.note().signatures().len(), 3);
        assert_eq!(verify(both.note(), &witness(2)), Ok(7));
        let before = both.clone();
        // Of another witness, or of another checkpoint.
        let unsigned = NoteError::Unsigned("witness.example/2".into());
        let other = put(&mut both, &witness(2), cosigned(4, 9));
        assert_eq!(other, Err(unsigned.into()));
        let origin = Origin::new("example.com/log").expect("a name");
        let larger = Checkpoint::new(origin, 8, [9; 32]).expect("a checkpoint");
        let sign = |message: &[u8]| secret(2).sign(message).to_bytes();
        let line = cosign(&larger, &witness(2), 9, sign).expect("cosigned");
        let wrong = NoteError::Wrong("witness.example/2".into());
        assert_eq!(put(&mut both, &witness(2), line), Err(wrong.into()));
        assert_eq!(both, before);
    }

    #[test]
    fn rejects_a_cosignature_of_another_time_text_or_form() {
        let wrong = || Err(NoteError::Wrong("witness.example/2".into()).into());
        let mut good = vec![0; 7];
        good.push(5);
        good.extend(
            secret(2)
                .sign(&message("text\n", 5).expect("a time"))
                .to_bytes(),
        );
        let verified = |text: &str, signature: &[u8]| {
            let line = SignatureLine::new(&witness(2), signature);
            let note = format!("{text}\n{line}\n");
            let note = UnverifiedNote::parse(note.as_bytes()).expect("a note");
            verify(&note, &witness(2))
        };
        assert_eq!(verified("text\n", &good), Ok(5));
        assert_eq!(verified("other\n", &good), wrong());
        for at in [7, 8, 40, 71] {
            let mut other = good.clone();
            other[at] ^= 1;
            assert_eq!(verified("text\n", &other), wrong(), "{at}");
        }
        assert_eq!(verified("text\n", &good[..71]), wrong());
        assert_eq!(verified("text\n", &good[..7]), wrong());
        assert_eq!(verified("text\n", &[&good[..], &[0]].concat()), wrong());
        good[0] = 0x80;
        let time_s = COSIGNATURE_TIME_MAX_S + 6;
        let time = Err(CosignatureError::Time { time_s });
        assert_eq!(verified("text\n", &good), time);
        // A signature of the other type is of another key.
        let plain =
            VerifierKey::new("witness.example/2", witness(2).public().as_bytes()).expect("a key");
        assert_ne!(plain.id(), witness(2).id());
        assert!(plain.to_string().parse::<CosignerKey>().is_err());
        assert_eq!(witness(2).to_string().parse(), Ok(witness(2)));
    }

    #[test]
    fn rejects_what_the_key_did_not_sign() {
        let cosigned = cosign(checkpoint().checkpoint(), &witness(2), 5, |_| [0; 64]);
        let wrong = NoteError::Wrong("witness.example/2".into());
        assert_eq!(cosigned, Err(wrong.into()));
        let sign = |message: &[u8]| secret(2).sign(message).to_bytes();
        let late = cosign(checkpoint().checkpoint(), &witness(2), u64::MAX, sign);
        let time = CosignatureError::Time { time_s: u64::MAX };
        assert_eq!(late, Err(time));
    }
}
