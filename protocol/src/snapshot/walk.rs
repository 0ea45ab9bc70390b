//! Walks a whole snapshot without a key and checks everything public.

use cid::Cid;

use super::{
    CAPSULE_FILE_SIZE_MAX, DIRECTORIES_MAX, Damage, MANIFEST_FILE_SIZE_MAX, OBJECTS, OBJECTS_MAX,
    Object, TEXT_SIZE_MAX,
    fetch::{self, Get, Place, Stop},
    folder,
    layout::Root,
    own_digest,
};
use crate::{
    block::{BLOCK_SIZE_MAX, Block, CODEC_RAW, UnverifiedBlock},
    recover,
    unixfs::{self, DIRECTORY_SIZE_MAX, Entry, Node, SHARD_DEPTH_MAX, Slot},
};

/// What a walk comes by.
#[derive(Debug)]
pub enum Visit<'a> {
    /// A public block, checked: a directory, a file node, a text, sealed bytes of the capsule
    /// or manifest. Parents come before children.
    Public {
        /// Where it is, from the root; `.` is the root. Blocks of one file share its path.
        path: &'a str,
        /// The block.
        block: &'a Block,
    },
    /// A sealed segment or list, neither fetched nor checked: the caller does that.
    /// It must have exactly the length that is said here.
    Object(Object),
    /// A block that is missing or wrong. What is under it cannot be seen.
    Damage(Damage),
}

/// What a walk came by in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Public blocks that are as they should be.
    pub public_blocks: u64,
    /// Their bytes.
    pub public_bytes: u64,
    /// Segments and lists that were visited.
    pub objects: u64,
    /// Their bytes, as their links say.
    pub object_bytes: u64,
    /// How many times [`Visit::Damage`] was said.
    pub damages: u64,
    /// Whether the recovery texts are not the ones of this version of the program.
    pub other_texts: bool,
}

/// Walks a snapshot, checks every public block and names every segment and list.
///
/// Damage is told to `visit`, and does not end the walk. Needs memory for one
/// directory block per level.
///
/// # Errors
/// `get` or `visit` failed.
pub fn walk<E>(
    root: &Cid,
    get: &mut dyn FnMut(&Cid) -> Result<Option<UnverifiedBlock>, E>,
    visit: &mut dyn FnMut(Visit<'_>) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut walk = Walk {
        get,
        visit,
        summary: Summary::default(),
        directories: 0,
    };
    let result = walk.root(root);
    walk.settle(result)?;
    Ok(walk.summary)
}

struct Walk<'a, E> {
    get: Get<'a, E>,
    visit: &'a mut dyn FnMut(Visit<'_>) -> Result<(), E>,
    summary: Summary,
    directories: u64,
}

/// What is known of a shard and all that is under it, if nothing of that is damaged.
#[derive(Clone, Copy, Default)]
struct Under {
    entries: u64,
    /// Length that the links of the entries would have in one block.
    links_len: u64,
}

/// The slots on the way to a shard, as the first bytes of the hashes of all names in it.
#[derive(Clone, Copy)]
struct Way {
    depth: usize,
    prefix: [u8; SHARD_DEPTH_MAX],
}

impl<E> Walk<'_, E> {
    fn root(&mut self, cid: &Cid) -> Result<(), Stop<E>> {
        let (block, root) = Root::read(cid, self.get)?;
        self.public(".", &block)?;
        let texts = [&root.recover_md, &root.recover_sh];
        for (entry, (_, ours)) in texts.into_iter().zip(recover::blocks()) {
            self.summary.other_texts |= entry.cid != *ours.cid();
            self.file(entry, TEXT_SIZE_MAX)?;
        }
        if let Some(capsule) = &root.capsule {
            self.file(capsule, CAPSULE_FILE_SIZE_MAX)?;
        }
        self.file(&root.manifest, MANIFEST_FILE_SIZE_MAX)?;
        let result = self.folders(&root.objects);
        self.settle(result).map_err(Stop::Caller)
    }

    fn file(&mut self, entry: &Entry, max: u64) -> Result<(), Stop<E>> {
        let (visit, summary) = (&mut *self.visit, &mut self.summary);
        let sink = &mut |block: Result<Block, Box<Damage>>| {
            let told = match block {
                Ok(block) => public(visit, summary, &entry.name, &block),
                Err(damage) => damaged(visit, summary, *damage),
            };
            told.map_err(Stop::Caller)
        };
        let result = fetch::file(self.get, Place::new(&entry.name, entry), max, sink);
        self.settle(result).map_err(Stop::Caller)
    }

    fn folders(&mut self, entry: &Entry) -> Result<(), Stop<E>> {
        let place = Place::new(OBJECTS, entry);
        let (block, node) = self.directory(place)?;
        let Node::Directory(folders) = node else {
            return Err(place.unexpected("not a directory of folders").into());
        };
        self.public(OBJECTS, &block)?;
        drop(block);
        for entry in &folders {
            let path = format!("{OBJECTS}/{}", entry.name);
            let result = self.folder(&path, entry);
            self.settle(result).map_err(Stop::Caller)?;
        }
        Ok(())
    }

    fn folder(&mut self, path: &str, entry: &Entry) -> Result<(), Stop<E>> {
        let place = Place::new(path, entry);
        let known = (0..=u8::MAX).any(|last| {
            let mut digest = [0; 32];
            digest[31] = last;
            folder(&digest) == entry.name
        });
        if !known {
            return Err(place.unexpected("a folder of another name").into());
        }
        let (block, node) = self.directory(place)?;
        match node {
            Node::Directory(entries) if entries.is_empty() => {
                Err(place.unexpected("an empty folder").into())
            }
            Node::Directory(_) if block.bytes().len() > DIRECTORY_SIZE_MAX => Err(place
                .unexpected("a large folder that is not sharded")
                .into()),
            Node::Directory(entries) => {
                self.public(path, &block)?;
                drop(block);
                entries
                    .iter()
                    .try_for_each(|e| self.object(path, &entry.name, e))
            }
            Node::Shard(slots) => {
                self.public(path, &block)?;
                drop(block);
                let way = Way {
                    depth: 0,
                    prefix: [0; SHARD_DEPTH_MAX],
                };
                let under = self.shard(place, &entry.name, &slots, way)?;
                match under {
                    Some(under) if under.fits_one_block() => {
                        Err(place.unexpected("a small folder that is sharded").into())
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(place.unexpected("not a folder").into()),
        }
    }

    /// Walks a shard; its entries must belong where they are.
    fn shard(
        &mut self,
        place: Place<'_>,
        folder: &str,
        slots: &[(u8, Slot)],
        way: Way,
    ) -> Result<Option<Under>, Stop<E>> {
        let mut all = Some(Under::default());
        for (index, slot) in slots {
            let under = match slot {
                Slot::Entry(entry) => {
                    let hash = unixfs::name_hash(&entry.name).to_be_bytes();
                    if hash[..way.depth] != way.prefix[..way.depth] || hash[way.depth] != *index {
                        let path = format!("{}/{}", place.path, entry.name);
                        let misplaced = Place::new(&path, entry).unexpected("in a wrong shard");
                        self.damage(misplaced)?;
                        None
                    } else {
                        self.object(place.path, folder, entry)?;
                        Some(Under {
                            entries: 1,
                            links_len: unixfs::link_len(entry),
                        })
                    }
                }
                Slot::Shard(link) => {
                    let place = Place {
                        link: *link,
                        ..place
                    };
                    match self.sub_shard(place, folder, way, *index) {
                        Err(Stop::Damage(damage)) => {
                            self.damage(*damage)?;
                            None
                        }
                        under => under?,
                    }
                }
            };
            all = all.zip(under).map(|(a, b)| Under {
                entries: a.entries + b.entries,
                links_len: a.links_len + b.links_len,
            });
        }
        Ok(all)
    }

    fn sub_shard(
        &mut self,
        place: Place<'_>,
        folder: &str,
        mut way: Way,
        index: u8,
    ) -> Result<Option<Under>, Stop<E>> {
        way.prefix[way.depth] = index;
        way.depth += 1;
        if way.depth == SHARD_DEPTH_MAX {
            return Err(place.unexpected("shards that are too deep").into());
        }
        let (block, node) = self.directory(place)?;
        let Node::Shard(slots) = node else {
            return Err(place.unexpected("not a shard").into());
        };
        self.public(place.path, &block)?;
        drop(block);
        let under = self.shard(place, folder, &slots, way)?;
        if under.is_some_and(|under| under.entries < 2) {
            return Err(place.unexpected("a shard for a single entry").into());
        }
        Ok(under)
    }

    fn directory(&mut self, place: Place<'_>) -> Result<(Block, Node), Stop<E>> {
        self.directories += 1;
        if self.directories > DIRECTORIES_MAX {
            return Err(place.unexpected("more directories than the limit").into());
        }
        fetch::node(self.get, place)
    }

    fn object(&mut self, path: &str, folder: &str, entry: &Entry) -> Result<(), Stop<E>> {
        match object(folder, entry) {
            Ok(_) if self.summary.objects == OBJECTS_MAX => {
                let path = format!("{path}/{}", entry.name);
                let place = Place::new(&path, entry);
                self.damage(place.unexpected("more objects than the limit"))
            }
            Ok(object) => {
                self.summary.objects += 1;
                self.summary.object_bytes += u64::from(object.len);
                (self.visit)(Visit::Object(object)).map_err(Stop::Caller)
            }
            Err(what) => {
                let path = format!("{path}/{}", entry.name);
                self.damage(Place::new(&path, entry).unexpected(what))
            }
        }
    }

    fn public(&mut self, path: &str, block: &Block) -> Result<(), Stop<E>> {
        public(self.visit, &mut self.summary, path, block).map_err(Stop::Caller)
    }

    fn damage(&mut self, damage: Damage) -> Result<(), Stop<E>> {
        self.settle(Err(damage.into())).map_err(Stop::Caller)
    }

    /// Reports damage, and lets the walk go on.
    fn settle(&mut self, result: Result<(), Stop<E>>) -> Result<(), E> {
        match result {
            Ok(()) => Ok(()),
            Err(Stop::Caller(error)) => Err(error),
            Err(Stop::Damage(damage)) => damaged(self.visit, &mut self.summary, *damage),
        }
    }
}

impl Under {
    fn fits_one_block(self) -> bool {
        unixfs::basic_len(std::iter::empty()) + self.links_len <= DIRECTORY_SIZE_MAX as u64
    }
}

fn public<E>(
    visit: &mut dyn FnMut(Visit<'_>) -> Result<(), E>,
    summary: &mut Summary,
    path: &str,
    block: &Block,
) -> Result<(), E> {
    summary.public_blocks += 1;
    summary.public_bytes += block.bytes().len() as u64;
    visit(Visit::Public { path, block })
}

fn damaged<E>(
    visit: &mut dyn FnMut(Visit<'_>) -> Result<(), E>,
    summary: &mut Summary,
    damage: Damage,
) -> Result<(), E> {
    summary.damages += 1;
    visit(Visit::Damage(damage))
}

/// The object that an entry of a folder stands for.
fn object(folder: &str, entry: &Entry) -> Result<Object, &'static str> {
    let block = own_digest(&entry.cid, CODEC_RAW).ok_or("not a raw SHA-256 CID")?;
    if entry.name != entry.cid.to_string() {
        return Err("a name that is not its CID");
    }
    if folder != super::folder(&block) {
        return Err("in a wrong folder");
    }
    let len = u32::try_from(entry.tsize).ok();
    let len = len.filter(|&len| (1..=BLOCK_SIZE_MAX).contains(&(len as usize)));
    Ok(Object {
        block,
        len: len.ok_or("an impossible size")?,
    })
}
