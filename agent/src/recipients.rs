//! Who can open a snapshot: a change writes a new capsule, and of a portable snapshot a new root.

use cid::Cid;
use protocol::{block::Block, keys::capsule::Epoch, snapshot::SnapshotError, unixfs::BuildError};
use store::{Store, StoreError};

use crate::{
    blocks::Blocks,
    catalog::{self, CatalogError, SnapshotRecord},
    keyring::{CapsuleRecipients, Change, Keyring, KeyringError},
    keys::Identities,
    open::{self, OpenSnapshotError},
};

/// Why recipients cannot be listed or changed.
#[derive(Debug, thiserror::Error)]
pub enum RecipientsError {
    /// The snapshot cannot be read.
    #[error(transparent)]
    Open(#[from] OpenSnapshotError),
    /// The capsule cannot be changed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record of the store is malformed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The new root cannot be assembled.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The new root cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The snapshot is not one of the store's.
    #[error("{root} is not a finished snapshot of this home")]
    Unlisted {
        /// Its root.
        root: Cid,
    },
}

/// The capsule that a snapshot lacks because it is erasable, if this store holds it.
///
/// # Errors
/// The store failed, or a record is malformed.
pub fn kept_capsule(store: &Store, root: &Cid) -> Result<Option<Vec<u8>>, RecipientsError> {
    let Some(record) = catalog::snapshot(store, root)? else {
        return Ok(None);
    };
    let (class, number) = (record.mode, record.epoch);
    Ok(Keyring::new(store).capsule_for(Epoch { class, number })?)
}

/// Tells who can open a snapshot, as far as that can be known.
///
/// # Errors
/// The snapshot is damaged or lacks its capsule, or the store failed.
pub fn list(store: &Store, root: &Cid) -> Result<CapsuleRecipients, RecipientsError> {
    let capsule = open::layout(&Blocks::Store(store), root)?.capsule;
    let capsule = match capsule {
        Some(capsule) => capsule,
        None => kept_capsule(store, root)?.ok_or(OpenSnapshotError::NoCapsule { root: *root })?,
    };
    Ok(Keyring::new(store).recipients(&capsule)?)
}

/// Changes who can open a snapshot, and returns its new root: the old one if it is erasable.
/// Durable on return. Segments, lists and manifest stay as they are.
///
/// # Errors
/// `identities` do not open the capsule, the keyring refuses, or the store failed.
pub fn change(
    store: &Store,
    root: &Cid,
    identities: &Identities,
    change: &Change,
) -> Result<Cid, RecipientsError> {
    let record = record(store, root)?;
    let layout = open::layout(&Blocks::Store(store), root)?;
    let kept = match &layout.capsule {
        Some(_) => None,
        None => kept_capsule(store, root)?,
    };
    let capsule = layout.capsule.as_ref().or(kept.as_ref());
    let capsule = capsule.ok_or(OpenSnapshotError::NoCapsule { root: *root })?;
    let Some(sealed) = Keyring::new(store).change(capsule, identities, change)? else {
        store.commit()?;
        return Ok(*root);
    };
    let changed = layout.replace_capsule(sealed, &mut |block: Block| {
        store.put(block)?;
        Ok::<(), RecipientsError>(())
    })?;
    // Blocks first: a crash between the two leaves blocks that nothing names.
    store.commit()?;
    catalog::set_snapshot(store, &changed, &record)?;
    store.commit()?;
    Ok(changed)
}

fn record(store: &Store, root: &Cid) -> Result<SnapshotRecord, RecipientsError> {
    catalog::snapshot(store, root)?.ok_or(RecipientsError::Unlisted { root: *root })
}
