//! What the agent gives away: blocks of the store, to who may have them.
//!
//! Nobody may have anything, but for the blocks of shared snapshots. Which blocks these are is found
//! by walking each shared snapshot once, reading its directories alone, and kept in memory: for each
//! group of snapshots that are shared with the same peers, the sorted halves of digests, 16 bytes a block.
//! Directories that several snapshots have in common are walked once.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;
use protocol::block::{Block, BlockError, CODEC_DAG_PB, UnverifiedBlock};
use store::{Store, StoreError};

use crate::{
    bitswap::Answer,
    buffers::Buffers,
    dag,
    log::recorder::Recorder,
    sharing::{self, GroupName, Share, SharingError},
};

/// Most blocks of shared snapshots: 16 bytes of memory each. What is beyond is not given away.
pub(crate) const SHARED_BLOCKS_MAX: usize = 8 << 20;
/// Most peers and snapshots of which it is remembered that the log tells of them.
const SERVED_MAX: usize = 64 << 10;
/// How old the knowledge of who may have what may be, where nobody tells of a change.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Blocks, and who may have them.
#[derive(Debug)]
pub(crate) struct Shelf {
    store: Arc<Store>,
    /// What blocks are read into.
    buffers: Buffers,
    index: RwLock<Arc<Index>>,
    /// When it was last seen that nothing changed; held while that is looked at.
    looked: Mutex<Option<Instant>>,
    record: Option<Record>,
}

/// What the log is to tell of.
#[derive(Debug)]
struct Record {
    recorder: Recorder,
    /// Who was served what, so that it is told once.
    served: Mutex<HashSet<(PeerId, Option<[u8; 16]>)>>,
}

/// What everyone who asks may have, as of when this was taken.
#[derive(Clone, Debug)]
pub(crate) struct Public {
    store: Arc<Store>,
    index: Arc<Index>,
}

/// Why a block that is here cannot be given away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not what its CID says.
    #[error("a block of the store is damaged")]
    Damaged(#[source] BlockError),
}

/// Which blocks are shared with whom.
#[derive(Debug, Default)]
struct Index {
    /// The number of changes that this is as of.
    changes: u64,
    groups: Vec<Group>,
    /// Roots of what everyone may have.
    public: Vec<Cid>,
    /// All roots, sorted.
    roots: Vec<[u8; 16]>,
}

/// Who may have something, groups being the peers that are in them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Audience {
    public: bool,
    peers: BTreeSet<PeerId>,
}

/// Snapshots that are shared with the same peers.
#[derive(Debug)]
struct Group {
    with: Audience,
    /// Sorted.
    blocks: Vec<[u8; 16]>,
}

impl Shelf {
    /// What is shared of a store.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            buffers: Buffers::default(),
            index: RwLock::default(),
            looked: Mutex::default(),
            record: None,
        }
    }

    /// The same, and the log tells whom the first block of all is given to, and the root of a snapshot.
    pub(crate) fn recorded(store: Arc<Store>, recorder: Recorder) -> Self {
        Self {
            record: Some(Record {
                recorder,
                served: Mutex::default(),
            }),
            ..Self::new(store)
        }
    }

    /// Says of each block whether a peer may have it, and whether it is here.
    pub(crate) fn answers(&self, peer: &PeerId, cids: &[Cid]) -> Vec<Answer> {
        let index = self.index();
        cids.iter()
            .map(|cid| {
                if !index.allows(peer, cid) {
                    return Answer::Denied;
                }
                match self.store.block_len(cid) {
                    Ok(Some(len)) => u32::try_from(len).map_or(Answer::Absent, Answer::Here),
                    Ok(None) => Answer::Absent,
                    Err(error) => {
                        tracing::warn!(%cid, %error, "a block cannot be looked up");
                        Answer::Absent
                    }
                }
            })
            .collect()
    }

    /// Reads blocks for a peer that may have them, each checked.
    pub(crate) fn load(&self, peer: &PeerId, cids: &[Cid]) -> Vec<Option<Bytes>> {
        let index = self.index();
        let load = |cid: &Cid| -> Option<Bytes> {
            if !index.allows(peer, cid) {
                return None;
            }
            let buffer = |size| self.buffers.take(size);
            match self.store.get_checked(cid, buffer) {
                Ok(bytes) => bytes.map(|bytes| self.buffers.lend(bytes)),
                Err(error @ StoreError::DamagedBlock { .. }) => {
                    tracing::error!(%cid, %error, "a block of the store is damaged");
                    None
                }
                Err(error) => {
                    tracing::warn!(%cid, %error, "a block cannot be read");
                    None
                }
            }
        };
        let blocks: Vec<Option<Bytes>> = cids.iter().map(load).collect();
        if let Some(record) = &self.record {
            let given = cids
                .iter()
                .zip(&blocks)
                .filter(|(_, block)| block.is_some());
            record.given(&index, peer, given.map(|(cid, _)| cid));
        }
        blocks
    }

    /// What everyone may have, as of a moment ago at most.
    pub(crate) fn for_everyone(&self) -> Public {
        Public {
            store: self.store.clone(),
            index: self.index(),
        }
    }

    /// Takes in changes of who may have what, before it returns.
    ///
    /// # Errors
    /// The store failed, or a record is malformed; then what was known stays.
    pub(crate) fn refresh(&self) -> Result<(), SharingError> {
        let mut looked = self.looked.lock().expect("no panic while it is held");
        self.look()?;
        *looked = Some(Instant::now());
        Ok(())
    }

    /// The roots of what everyone may have.
    pub(crate) fn public(&self) -> Vec<Cid> {
        self.current().public.clone()
    }

    fn look(&self) -> Result<(), SharingError> {
        let changes = sharing::changes(&self.store)?;
        if self.current().changes == changes {
            return Ok(());
        }
        let index = Arc::new(Index::build(&self.store, changes)?);
        *self.index.write().expect("no panic while it is held") = index;
        Ok(())
    }

    fn current(&self) -> Arc<Index> {
        self.index
            .read()
            .expect("no panic while it is held")
            .clone()
    }

    /// What is shared, as of a moment ago at most.
    fn index(&self) -> Arc<Index> {
        // If another thread is looking, what was known a moment ago has to do.
        if let Ok(mut looked) = self.looked.try_lock()
            && looked.is_none_or(|at| at.elapsed() > LOOK_EVERY)
        {
            if let Err(error) = self.look() {
                tracing::error!(%error, "it is not known who may have what");
            }
            *looked = Some(Instant::now());
        }
        self.current()
    }
}

impl Record {
    /// Tells of the first block that a peer is given, and of the first time it is given a root: before it is.
    fn given<'a>(&self, index: &Index, peer: &PeerId, cids: impl Iterator<Item = &'a Cid>) {
        let mut served = self.served.lock().expect("no panic while it is held");
        for cid in cids {
            let root = dag::short(cid).filter(|short| index.roots.binary_search(short).is_ok());
            let is_first = !served.contains(&(*peer, None));
            let is_new = root.is_some() && !served.contains(&(*peer, root));
            if !is_first && !is_new {
                continue;
            }
            if served.len() >= SERVED_MAX {
                // It is told again of those who come back.
                served.clear();
            }
            served.insert((*peer, None));
            served.insert((*peer, root));
            self.recorder.served(peer.to_string(), *cid);
        }
    }
}

impl Public {
    /// The number of a block that everyone may have, below [`Public::count`]; nothing for others.
    pub(crate) fn number(&self, cid: &Cid) -> Option<usize> {
        let short = dag::short(cid)?;
        let mut before = 0;
        for group in self.index.groups.iter().filter(|group| group.with.public) {
            if let Ok(at) = group.blocks.binary_search(&short) {
                return Some(before + at);
            }
            before += group.blocks.len();
        }
        None
    }

    /// How many numbers there are.
    pub(crate) fn count(&self) -> usize {
        let groups = self.index.groups.iter().filter(|group| group.with.public);
        groups.map(|group| group.blocks.len()).sum()
    }

    /// The size in bytes of a block that is here and that everyone may have.
    pub(crate) fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        match self.number(cid) {
            Some(_) => self.store.block_len(cid),
            None => Ok(None),
        }
    }

    /// Reads a block that everyone may have, checked.
    pub(crate) fn load(&self, cid: &Cid) -> Result<Option<Block>, LoadError> {
        if self.number(cid).is_none() {
            return Ok(None);
        }
        let block = self.store.get(cid)?.map(UnverifiedBlock::verify);
        block.transpose().map_err(LoadError::Damaged)
    }
}

impl Audience {
    fn new(share: Share, members: &BTreeMap<GroupName, BTreeSet<PeerId>>) -> Self {
        let mut peers = share.peers;
        for group in &share.groups {
            peers.extend(members.get(group).into_iter().flatten());
        }
        Self {
            public: share.public,
            peers,
        }
    }

    fn allows(&self, peer: &PeerId) -> bool {
        self.public || self.peers.contains(peer)
    }
}

impl Index {
    fn allows(&self, peer: &PeerId, cid: &Cid) -> bool {
        let Some(short) = dag::short(cid) else {
            return false;
        };
        self.groups
            .iter()
            .any(|group| group.with.allows(peer) && group.blocks.binary_search(&short).is_ok())
    }

    fn build(store: &Store, changes: u64) -> Result<Self, SharingError> {
        let members = sharing::groups(store)?;
        let mut by_audience: BTreeMap<Audience, Vec<Cid>> = BTreeMap::new();
        for (root, share) in sharing::shares(store)? {
            let audience = Audience::new(share, &members);
            by_audience.entry(audience).or_default().push(root);
        }
        let of_public = by_audience.iter().filter(|(audience, _)| audience.public);
        let public = of_public.flat_map(|(_, roots)| roots.clone()).collect();
        let all = by_audience.values().flatten();
        let mut roots: Vec<[u8; 16]> = all.filter_map(dag::short).collect();
        roots.sort_unstable();
        let mut left = SHARED_BLOCKS_MAX;
        let mut groups = Vec::new();
        for (with, under) in by_audience {
            let blocks = blocks_under(store, under, left)?;
            left -= blocks.len();
            groups.push(Group { with, blocks });
        }
        if left == 0 {
            tracing::error!(
                limit = SHARED_BLOCKS_MAX,
                "more blocks are shared than can be; some are not given away"
            );
        }
        Ok(Self {
            changes,
            groups,
            public,
            roots,
        })
    }
}

/// All blocks under some roots that are here, at most `max`, sorted.
pub(crate) fn blocks_under(
    store: &Store,
    roots: Vec<Cid>,
    max: usize,
) -> Result<Vec<[u8; 16]>, StoreError> {
    let mut blocks = Vec::new();
    let mut nodes = HashSet::new();
    let mut todo = roots;
    while let Some(cid) = todo.pop() {
        let Some(short) = dag::short(&cid) else {
            continue;
        };
        if cid.codec() != CODEC_DAG_PB {
            blocks.push(short);
        } else if nodes.insert(short) {
            let block = store.get(&cid)?.and_then(|block| block.verify().ok());
            match block.as_ref().map(dag::links) {
                Some(Ok(links)) => todo.extend(links.into_iter().map(|link| link.cid)),
                Some(Err(_)) | None => tracing::warn!(%cid, "a shared snapshot is not whole"),
            }
        }
        if blocks.len() + nodes.len() >= 2 * max {
            break;
        }
    }
    blocks.extend(nodes);
    blocks.sort_unstable();
    blocks.dedup();
    blocks.truncate(max);
    blocks.shrink_to_fit();
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use protocol::unixfs::{BuildError, Entry, directory};

    use super::*;

    /// Puts a directory of raw blocks into the store, and returns the CIDs of all its blocks, the
    /// root last.
    fn tree(store: &Store, texts: &[&str]) -> Vec<Cid> {
        let mut all = Vec::new();
        let mut entries = Vec::new();
        for text in texts {
            let bytes = text.as_bytes().to_vec();
            let cid = protocol::block::raw_cid(&protocol::block::sha256(&bytes));
            entries.push(Entry {
                name: (*text).to_owned(),
                cid,
                tsize: bytes.len() as u64,
            });
            all.push(cid);
            let block = Block::verify(cid, bytes).expect("its own hash");
            store.put(block).expect("puts");
        }
        directory::<BuildError>(entries, &mut |block| {
            all.push(*block.cid());
            store.put(block).expect("puts");
            Ok(())
        })
        .expect("builds");
        all
    }

    #[test]
    fn only_blocks_of_shared_snapshots_are_given_to_those_they_are_shared_with() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path(), "test").expect("opens");
        let mine = tree(&store, &["both", "mine"]);
        let theirs = tree(&store, &["both", "theirs"]);
        let open = tree(&store, &["both", "open"]);
        store.commit().expect("commits");
        let (friend, stranger) = (PeerId::random(), PeerId::random());
        let store = Arc::new(store);
        let shelf = Shelf::new(store.clone());
        let may = |peer: &PeerId, cids: &[Cid]| -> Vec<bool> {
            let loaded = shelf.load(peer, cids);
            let answers = shelf.answers(peer, cids);
            for ((cid, answer), bytes) in cids.iter().zip(&answers).zip(&loaded) {
                let size = bytes.as_ref().map(|bytes| bytes.len() as u32);
                let expected = size.map_or(Answer::Denied, Answer::Here);
                assert_eq!(*answer, expected, "{cid}");
            }
            loaded.iter().map(Option::is_some).collect()
        };
        let team: GroupName = "team".parse().expect("a name");
        let set = |root: &Cid, public, peers: &[PeerId]| {
            let share = Share {
                public,
                peers: peers.iter().copied().collect(),
                groups: [team.clone()].into(),
            };
            sharing::set_share(&store, root, &share).expect("sets");
            shelf.refresh().expect("refreshes");
        };
        assert_eq!(may(&friend, &mine), [false; 3]);

        set(&theirs[2], false, &[friend]);
        assert_eq!(may(&friend, &theirs), [true; 3]);
        assert_eq!(may(&stranger, &theirs), [false; 3]);
        assert_eq!(may(&friend, &mine), [true, false, false], "one is in both");

        set(&open[2], true, &[]);
        assert_eq!(may(&stranger, &open), [true; 3]);
        assert_eq!(may(&stranger, &theirs), [true, false, false]);
        assert_eq!(may(&friend, &theirs), [true; 3]);

        // Who has no peer id gets what is public, and nothing of the rest.
        let public = shelf.for_everyone();
        for cid in &open {
            let block = public.load(cid).expect("reads").expect("it is public");
            assert_eq!(
                public.size(cid).expect("reads"),
                Some(block.bytes().len() as u64)
            );
            assert!(public.number(cid) < Some(public.count()));
        }
        for cid in [&mine[1], &mine[2], &theirs[1], &theirs[2]] {
            assert!(public.load(cid).expect("reads").is_none());
            assert_eq!(public.size(cid).expect("reads"), None);
        }

        set(&theirs[2], false, &[]);
        assert_eq!(may(&friend, &theirs), [true, false, false]);
        // The group that all of it is shared with has nobody yet.
        for (members, theirs_are) in [(vec![stranger], [true; 3]), (vec![], [true, false, false])] {
            let members = members.into_iter().collect();
            sharing::set_group(&store, &team, &members).expect("sets");
            shelf.refresh().expect("refreshes");
            assert_eq!(may(&stranger, &theirs), theirs_are);
            assert_eq!(may(&friend, &theirs), [true, false, false]);
        }
        let absent = protocol::block::raw_cid(&[9; 32]);
        assert_eq!(shelf.answers(&friend, &[absent]), [Answer::Denied]);
    }

    #[test]
    fn blocks_beyond_the_limit_are_not_given_away() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path(), "test").expect("opens");
        let all = tree(&store, &["a", "b", "c"]);
        store.commit().expect("commits");
        for max in 0..=4 {
            let found = blocks_under(&store, vec![all[3]], max).expect("walks");
            assert_eq!(found.len(), max);
        }
    }
}
