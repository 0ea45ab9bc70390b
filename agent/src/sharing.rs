//! Who may have which snapshot: records in the store, none of them for who may have nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use cid::Cid;
use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use store::{Store, StoreError, Table};

/// Most peers that a snapshot is shared with by name, and most of a group.
pub const PEERS_MAX: usize = 1024;
/// Most groups that a snapshot is shared with, and most of a home.
pub const GROUPS_MAX: usize = 64;
/// Most characters of the name of a group.
const GROUP_NAME_LEN_MAX: usize = 64;
/// What the keys of records of snapshots begin with.
const KEY_PREFIX: &[u8] = b"share/";
/// What the keys of records of groups begin with.
const KEY_PREFIX_GROUP: &[u8] = b"group/";
/// The key of the number of changes, so that an agent sees that there was one.
const KEY_CHANGES: &[u8] = b"shares";

/// Who may have a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// Everyone who asks.
    pub public: bool,
    /// These peers.
    pub peers: BTreeSet<PeerId>,
    /// The peers of these groups, whoever is in them.
    pub groups: BTreeSet<GroupName>,
}

/// The name of peers who may have the same: lower-case letters, digits, and `-`, `_` and `.` after the
/// first of them. `public` and `all` are none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupName(String);

/// Why a word is not the name of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a group is named by at most {GROUP_NAME_LEN_MAX} of a-z, 0-9, `-`, `_` and `.`, and not `public` or `all`"
)]
pub struct GroupNameError;

impl FromStr for GroupName {
    type Err = GroupNameError;

    fn from_str(text: &str) -> Result<Self, GroupNameError> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_name = (1..=GROUP_NAME_LEN_MAX).contains(&text.len())
            && text.starts_with(is_plain)
            && text.chars().all(|c| is_plain(c) || "-_.".contains(c))
            && !["public", "all"].contains(&text);
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err(GroupNameError)
        }
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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
    /// The record of a group is not as this program writes it.
    #[error("the record of the group {group} is malformed")]
    MalformedGroup {
        /// Its name.
        group: String,
    },
    /// There are too many peers.
    #[error("a snapshot is shared with at most {PEERS_MAX} peers by name, and a group has no more")]
    TooMany,
    /// There are too many groups.
    #[error("there are at most {GROUPS_MAX} groups")]
    TooManyGroups,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u8,
    public: bool,
    peers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupRecord {
    v: u8,
    peers: Vec<String>,
}

const RECORD_VERSION: u8 = 1;

impl Share {
    /// Whether nobody may have it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.public && self.peers.is_empty() && self.groups.is_empty()
    }

    fn decode(root: &str, value: &[u8]) -> Result<Self, SharingError> {
        let malformed = || SharingError::Malformed {
            root: root.to_owned(),
        };
        let record: Record = serde_json::from_slice(value).map_err(|_| malformed())?;
        if record.v != RECORD_VERSION
            || record.peers.len() > PEERS_MAX
            || record.groups.len() > GROUPS_MAX
        {
            return Err(malformed());
        }
        let groups = record.groups.iter().map(|group| group.parse());
        Ok(Self {
            public: record.public,
            peers: parsed(&record.peers).ok_or_else(malformed)?,
            groups: groups.collect::<Result<_, _>>().map_err(|_| malformed())?,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let record = Record {
            v: RECORD_VERSION,
            public: self.public,
            peers: self.peers.iter().map(ToString::to_string).collect(),
            groups: self.groups.iter().map(ToString::to_string).collect(),
        };
        serde_json::to_vec(&record).expect("plain structures serialize")
    }
}

fn parsed(peers: &[String]) -> Option<BTreeSet<PeerId>> {
    peers.iter().map(|peer| peer.parse().ok()).collect()
}

fn key(root: &Cid) -> Vec<u8> {
    [KEY_PREFIX, &root.to_bytes()].concat()
}

fn key_of_group(group: &GroupName) -> Vec<u8> {
    [KEY_PREFIX_GROUP, group.0.as_bytes()].concat()
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
    if share.groups.len() > GROUPS_MAX {
        return Err(SharingError::TooManyGroups);
    }
    if share.is_empty() {
        store.remove(Table::Config, &key(root))?;
    } else {
        store.set(Table::Config, &key(root), &share.encode())?;
    }
    commit_change(store)
}

/// The groups that have peers.
///
/// # Errors
/// The store failed, or a record is malformed.
pub fn groups(store: &Store) -> Result<BTreeMap<GroupName, BTreeSet<PeerId>>, SharingError> {
    let mut found = BTreeMap::new();
    for entry in store.scan(Table::Config) {
        let (key, value) = entry?;
        let Some(name) = key.strip_prefix(KEY_PREFIX_GROUP) else {
            continue;
        };
        let name = String::from_utf8_lossy(name);
        let malformed = || SharingError::MalformedGroup {
            group: name.escape_debug().to_string(),
        };
        let record: GroupRecord = serde_json::from_slice(&value).map_err(|_| malformed())?;
        if record.v != RECORD_VERSION || record.peers.len() > PEERS_MAX {
            return Err(malformed());
        }
        let peers = parsed(&record.peers).ok_or_else(malformed)?;
        found.insert(name.parse().map_err(|_| malformed())?, peers);
    }
    Ok(found)
}

/// Sets who is in a group, and with that who may have what is shared with it. Without peers there is no
/// such group. Durable on return.
///
/// # Errors
/// There are too many peers or groups, or the store failed.
pub fn set_group(
    store: &Store,
    group: &GroupName,
    peers: &BTreeSet<PeerId>,
) -> Result<(), SharingError> {
    if peers.len() > PEERS_MAX {
        return Err(SharingError::TooMany);
    }
    let known = groups(store)?;
    if known.len() >= GROUPS_MAX && !known.contains_key(group) {
        return Err(SharingError::TooManyGroups);
    }
    if peers.is_empty() {
        store.remove(Table::Config, &key_of_group(group))?;
    } else {
        let record = GroupRecord {
            v: RECORD_VERSION,
            peers: peers.iter().map(ToString::to_string).collect(),
        };
        let record = serde_json::to_vec(&record).expect("plain structures serialize");
        store.set(Table::Config, &key_of_group(group), &record)?;
    }
    commit_change(store)
}

fn commit_change(store: &Store) -> Result<(), SharingError> {
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
            peers: [friend, stranger].into(),
            groups: ["team".parse().expect("a name")].into(),
            ..Share::default()
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
        assert_eq!(changes(&store).expect("reads"), 2);
        set_share(&store, &root(1), &Share::default()).expect("sets");
        assert_eq!(shares(&store).expect("reads"), [(root(2), public)]);
        assert_eq!(changes(&store).expect("reads"), 3);
    }

    #[test]
    fn groups_are_kept_changed_and_forgotten() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path(), "test").expect("opens");
        let team: GroupName = "team-1".parse().expect("a name");
        let peers: BTreeSet<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        assert!(groups(&store).expect("reads").is_empty());
        set_group(&store, &team, &peers).expect("sets");
        assert_eq!(
            groups(&store).expect("reads"),
            [(team.clone(), peers)].into()
        );
        assert_eq!(changes(&store).expect("reads"), 1);
        set_group(&store, &team, &BTreeSet::new()).expect("sets");
        assert!(groups(&store).expect("reads").is_empty());
        assert_eq!(changes(&store).expect("reads"), 2);
        for bad in [
            "",
            "public",
            "all",
            "Team",
            "-team",
            "a b",
            "é",
            &"a".repeat(65),
        ] {
            assert_eq!(bad.parse::<GroupName>(), Err(GroupNameError), "{bad}");
        }
        let one = |_| BTreeSet::from([PeerId::random()]);
        for n in 0..GROUPS_MAX {
            let name = format!("g{n}").parse().expect("a name");
            set_group(&store, &name, &one(n)).expect("sets");
        }
        let refused = set_group(&store, &team, &one(0));
        assert!(matches!(refused, Err(SharingError::TooManyGroups)));
    }

    #[test]
    fn a_record_of_another_form_shares_nothing() {
        for value in [
            "",
            "{}",
            r#"{"v":2,"public":true,"peers":[]}"#,
            r#"{"v":1,"public":true,"peers":["me"]}"#,
            r#"{"v":1,"public":true,"peers":[],"x":1}"#,
            r#"{"v":1,"public":true,"peers":[],"groups":["all"]}"#,
        ] {
            assert!(Share::decode("root", value.as_bytes()).is_err(), "{value}");
        }
        let many = Share {
            peers: (0..=PEERS_MAX).map(|_| PeerId::random()).collect(),
            ..Share::default()
        };
        assert!(Share::decode("root", &many.encode()).is_err());
    }
}
