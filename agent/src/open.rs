//! Opening a snapshot: root -> capsule -> class identities -> manifest.

use cid::Cid;
use protocol::{
    keys::{
        ClassIdentity,
        capsule::{Capsule, CapsuleError},
    },
    manifest::{Manifest, ManifestError},
    seal::{OpenError, Opener},
    snapshot::{Damage, Layout},
};

use crate::{
    blocks::{Blocks, BlocksError},
    keys::Identities,
    names,
};

/// A snapshot whose manifest was read.
#[derive(Debug)]
pub struct OpenSnapshot {
    /// Its root.
    pub root: Cid,
    /// What it holds.
    pub manifest: Manifest,
    /// What opens its segments.
    pub identities: Vec<ClassIdentity>,
}

/// Why a snapshot cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenSnapshotError {
    /// Blocks cannot be read.
    #[error(transparent)]
    Blocks(#[from] BlocksError),
    /// The root, or what it names, is damaged, missing or no snapshot.
    #[error("{root} cannot be read as a snapshot")]
    Layout {
        /// The root.
        root: Cid,
        /// Why.
        #[source]
        cause: Box<Damage>,
    },
    /// The snapshot carries no capsule, and none was given.
    #[error("{root} is erasable, and its capsule is not in this home")]
    NoCapsule {
        /// The root.
        root: Cid,
    },
    /// The capsule does not open.
    #[error("cannot open the capsule of {root}")]
    Capsule {
        /// The root.
        root: Cid,
        /// Why.
        #[source]
        cause: CapsuleError,
    },
    /// It is sealed to a passphrase, and there is none.
    #[error("{root} is sealed to a passphrase, and none was given")]
    NoPassphrase {
        /// The root.
        root: Cid,
    },
    /// It is sealed to another passphrase.
    #[error("the passphrase does not open {root}")]
    WrongPassphrase {
        /// The root.
        root: Cid,
    },
    /// The manifest does not open.
    #[error("cannot open the manifest of {root}")]
    Manifest {
        /// The root.
        root: Cid,
        /// Why.
        #[source]
        cause: OpenError,
    },
    /// The manifest opens, and is not one.
    #[error("the manifest of {root} is not valid")]
    Malformed {
        /// The root.
        root: Cid,
        /// Why.
        #[source]
        cause: ManifestError,
    },
}

/// Reads the public files at the root of a snapshot.
///
/// # Errors
/// Blocks are missing or damaged, or the root is no snapshot.
pub fn layout(blocks: &Blocks<'_>, root: &Cid) -> Result<Layout, OpenSnapshotError> {
    enum Stop {
        Damage(Damage),
        Blocks(BlocksError),
    }
    impl From<Damage> for Stop {
        fn from(damage: Damage) -> Self {
            Self::Damage(damage)
        }
    }
    Layout::read(root, &mut |cid| blocks.block(cid).map_err(Stop::Blocks)).map_err(
        |stop| match stop {
            Stop::Damage(cause) => OpenSnapshotError::Layout {
                root: *root,
                cause: Box::new(cause),
            },
            Stop::Blocks(err) => err.into(),
        },
    )
}

/// Opens a snapshot. `kept_capsule` stands in for the capsule that an erasable snapshot lacks.
///
/// # Errors
/// See [`OpenSnapshotError`].
pub fn open(
    blocks: &Blocks<'_>,
    root: &Cid,
    identities: &Identities,
    kept_capsule: Option<Vec<u8>>,
) -> Result<OpenSnapshot, OpenSnapshotError> {
    let layout = layout(blocks, root)?;
    let sealed = layout
        .capsule
        .or(kept_capsule)
        .ok_or(OpenSnapshotError::NoCapsule { root: *root })?;
    let capsule = Capsule::open(identities.iter(), &sealed)
        .map_err(|cause| why_closed(*root, &sealed, cause))?;
    let class = capsule.identities();
    let text = Opener::new(&class)
        .and_then(|mut opener| opener.open_bounded(&layout.manifest))
        .map_err(|cause| OpenSnapshotError::Manifest { root: *root, cause })?;
    let mut manifest = Manifest::parse(&text)
        .map_err(|cause| OpenSnapshotError::Malformed { root: *root, cause })?;
    // Others may have named two alike; what cannot be told apart could not be chosen.
    names::make_distinct(&mut manifest.sources);
    Ok(OpenSnapshot {
        root: *root,
        manifest,
        identities: class,
    })
}

/// Tells a passphrase that is missing or wrong from an identity that is.
fn why_closed(root: Cid, sealed: &[u8], cause: CapsuleError) -> OpenSnapshotError {
    use age::DecryptError as Decrypt;
    // A capsule that is sealed to a passphrase is sealed to nothing else.
    let is_passphrase = sealed.starts_with(b"age-encryption.org/v1\n-> scrypt ");
    match cause {
        CapsuleError::Open(
            OpenError::NoMatchingIdentity | OpenError::Decrypt(Decrypt::NoMatchingKeys),
        ) if is_passphrase => OpenSnapshotError::NoPassphrase { root },
        CapsuleError::Open(OpenError::Decrypt(
            Decrypt::DecryptionFailed | Decrypt::KeyDecryptionFailed,
        )) if is_passphrase => OpenSnapshotError::WrongPassphrase { root },
        cause => OpenSnapshotError::Capsule { root, cause },
    }
}
