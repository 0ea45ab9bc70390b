//! Who may have which snapshot: records in the store, none of them for who may have nothing.

use std::collections::BTreeSet;

use cid::Cid;
use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use store::{Store, StoreError, Table};

/// Most peers that a snapshot is shared with by name.
pub const PEERS_MAX: usize = 1024;
/// What the keys of records begin with.
const KEY_PREFIX: &[u8] = b"share/";
/// The key of the number of changes, so that an agent sees that there was one.
const KEY_CHANGES: &[u8] = b"shares";

/// Who may have a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// Everyone who asks.
    pub public: bool,
    /// These peers.
    pub peers: BTreeSet<PeerId>,
}

/// Why it cannot be said or changed who may have a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SharingError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is not as this program writes it.
    #[error("the record of who may have {root} is malformed")]
    Malformed {
        /// The snapshot.
        root: String,
    },
    /// There are too many peers.
    #[error("a snapshot is shared with at most {PEERS_MAX} peers by name")]
    TooMany,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u8,
    public: bool,
    peers: Vec<String>,
}

const RECORD_VERSION: u8 = 1;

impl Share {
    /// Whether a peer may have what is shared so.
    #[must_use]
    pub fn allows(&self, peer: &PeerId) -> bool {
        self.public || self.peers.contains(peer)
    }

    /// Whether nobody may have it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.public && self.peers.is_empty()
    }

    fn decode(root: &str, value: &[u8]) -> Result<Self, SharingError> {
        let malformed = || SharingError::Malformed {
            root: root.to_owned(),
        };
        let record: Record = serde_json::from_slice(value).map_err(|_| malformed())?;
        if record.v != RECORD_VERSION || record.peers.len() > PEERS_MAX {
            return Err(malformed());
        }
        let peers = record.peers.iter().map(|peer| peer.parse());
        Ok(Self {
            public: record.public,
            peers: peers.collect::<Result<_, _>>().map_err(|_| malformed())?,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let record = Record {
            v: RECORD_VERSION,
            public: self.public,
            peers: self.peers.iter().map(ToString::to_string).collect(),
        };
        serde_json::to_vec(&record).expect("plain structures serialize")
    }
}

fn key(root: &Cid) -> Vec<u8> {
    [KEY_PREFIX, &root.to_bytes()].concat()
}

/// Who may have a snapshot.
///
/// # Errors
/// The store failed, or the record is malformed.
pub fn share(store: &Store, root: &Cid) -> Result<Share, SharingError> {
    match store.value(Table::Config, &key(root))? {
        Some(value) => Share::decode(&root.to_string(), &value),
        None => Ok(Share::default()),
    }
}

/// All snapshots that somebody may have.
///
/// # Errors
/// The store failed, or a record is malformed.
pub fn shares(store: &Store) -> Result<Vec<(Cid, Share)>, SharingError> {
    let mut found = Vec::new();
    for entry in store.scan(Table::Config) {
        let (key, value) = entry?;
        let Some(root) = key.strip_prefix(KEY_PREFIX) else {
            continue;
        };
        let root = Cid::try_from(root).map_err(|_| SharingError::Malformed {
            root: format!("{root:02x?}"),
        })?;
        found.push((root, Share::decode(&root.to_string(), &value)?));
    }
    Ok(found)
}

/// How often it was changed who may have what.
///
/// # Errors
/// The store failed.
pub fn changes(store: &Store) -> Result<u64, StoreError> {
    let value = store.value(Table::Config, KEY_CHANGES)?;
    let bytes: Option<[u8; 8]> = value.and_then(|value| value.try_into().ok());
    Ok(bytes.map_or(0, u64::from_be_bytes))
}

/// Sets who may have a snapshot. Durable on return.
///
/// # Errors
/// There are too many peers, or the store failed.
pub fn set_share(store: &Store, root: &Cid, share: &Share) -> Result<(), SharingError> {
    if share.peers.len() > PEERS_MAX {
        return Err(SharingError::TooMany);
    }
    if share.is_empty() {
        store.remove(Table::Config, &key(root))?;
    } else {
        store.set(Table::Config, &key(root), &share.encode())?;
    }
    let changes = changes(store)?.wrapping_add(1);
    store.set(Table::Config, KEY_CHANGES, &changes.to_be_bytes())?;
    Ok(store.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_changed_and_forgotten() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path(), "test").expect("opens");
        let root = |n: u8| protocol::block::raw_cid(&[n; 32]);
        let (friend, stranger) = (PeerId::random(), PeerId::random());
        assert_eq!(share(&store, &root(1)).expect("reads"), Share::default());
        let named = Share {
            public: false,
            peers: [friend].into(),
        };
        let public = Share {
            public: true,
            ..Share::default()
        };
        set_share(&store, &root(1), &named).expect("sets");
        set_share(&store, &root(2), &public).expect("sets");
        assert_eq!(share(&store, &root(1)).expect("reads"), named);
        let mut all = shares(&store).expect("reads");
        all.sort();
        assert_eq!(all, [(root(1), named.clone()), (root(2), public.clone())]);
        assert!(named.allows(&friend) && !named.allows(&stranger));
        assert!(public.allows(&stranger) && !Share::default().allows(&friend));
        assert_eq!(changes(&store).expect("reads"), 2);
        set_share(&store, &root(1), &Share::default()).expect("sets");
        assert_eq!(shares(&store).expect("reads"), [(root(2), public)]);
        assert_eq!(changes(&store).expect("reads"), 3);
    }

    #[test]
    fn a_record_of_another_form_shares_nothing() {
        for value in [
            "",
            "{}",
            r#"{"v":2,"public":true,"peers":[]}"#,
            r#"{"v":1,"public":true,"peers":["me"]}"#,
            r#"{"v":1,"public":true,"peers":[],"x":1}"#,
        ] {
            assert!(Share::decode("root", value.as_bytes()).is_err(), "{value}");
        }
        let many = Share {
            public: false,
            peers: (0..=PEERS_MAX).map(|_| PeerId::random()).collect(),
        };
        assert!(Share::decode("root", &many.encode()).is_err());
    }
}
