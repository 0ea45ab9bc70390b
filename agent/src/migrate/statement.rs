//! The signed statement of a migration.

use libp2p_identity::{Keypair, PeerId, PublicKey};
use protocol::{
    migration::{Migration, MigrationError},
    note::{self, NoteError, UnverifiedNote, VerifierKey},
};

/// Why a statement cannot be made, or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// It is no note, or not signed by who it says.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// It is not a statement of a migration.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The node that it names has no Ed25519 key.
    #[error("{peer:?} is not the id of a node that signs statements")]
    Signer {
        /// What it names.
        peer: String,
    },
}

/// Signs a statement with a node's key.
///
/// # Errors
/// The key is not an Ed25519 key, or the statement names something with control characters.
pub fn sign(migration: &Migration, key: &Keypair) -> Result<String, StatementError> {
    let signer = verifier(&key.public().to_peer_id().to_string())?;
    let signer_failed = || StatementError::Signer {
        peer: signer.name().to_owned(),
    };
    let text = migration.encode();
    let signature = key.sign(text.as_bytes()).ok();
    let signature = signature.and_then(|signature| signature.try_into().ok());
    let signature = signature.ok_or_else(signer_failed)?;
    Ok(note::sign(&text, &signer, |_| signature)?)
}

/// Reads a statement, if the node signed it that it names as the one that migrated.
///
/// # Errors
/// It did not, or this is not a statement.
pub fn verify(note: &[u8]) -> Result<Migration, StatementError> {
    let note = UnverifiedNote::parse(note)?;
    let migration = Migration::parse(note.text_unverified())?;
    note.verify(&verifier(&migration.target)?)?;
    Ok(migration)
}

/// What checks a node's signatures: a peer id holds the key, and is the name.
fn verifier(peer: &str) -> Result<VerifierKey, StatementError> {
    let key = || {
        let id: PeerId = peer.parse().ok()?;
        let key = PublicKey::try_decode_protobuf(id.as_ref().digest()).ok()?;
        let is_same = key.to_peer_id() == id && id.to_string() == peer;
        key.try_into_ed25519().ok().filter(|_| is_same)
    };
    let key = key().ok_or_else(|| StatementError::Signer {
        peer: peer.to_owned(),
    })?;
    Ok(VerifierKey::new(peer, &key.to_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_holds_as_signed_and_in_no_other_form() {
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id().to_string();
        let migration = Migration {
            root: "bafyroot".into(),
            source: "12D3source".into(),
            target: peer.clone(),
            began: "2026-01-02T03:04:05Z".into(),
            ended: "2026-01-02T03:04:06Z".into(),
            streams: Vec::new(),
        };
        let note = sign(&migration, &key).expect("signs");
        assert_eq!(verify(note.as_bytes()).expect("holds"), migration);
        let other = Keypair::generate_ed25519();
        let other_peer = other.public().to_peer_id().to_string();
        for bad in [
            note.replace("bafyroot", "bafyroof"),
            note.replace(&peer, &other_peer),
            note.replace(&format!("target {peer}"), &format!("target {other_peer}")),
            note.replace(&format!("target {peer}"), "target 12D3target"),
        ] {
            assert!(verify(bad.as_bytes()).is_err(), "{bad}");
        }
        let in_the_name_of_another = sign(&migration, &other).expect("signs");
        assert!(matches!(
            verify(in_the_name_of_another.as_bytes()),
            Err(StatementError::Note(NoteError::Unsigned(_)))
        ));
    }
}
