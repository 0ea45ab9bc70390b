//! Reads what stands in front of the segments: texts, capsule, manifest.

use cid::Cid;

use super::{
    CAPSULE, CAPSULE_FILE_SIZE_MAX, Damage, MANIFEST, MANIFEST_FILE_SIZE_MAX, OBJECTS,
    SnapshotError, TEXT_SIZE_MAX, assemble,
    fetch::{self, Get, Place, Stop},
};
use crate::{
    block::{Block, CODEC_DAG_PB, CODEC_RAW},
    recover::{RECOVER_MD_NAME, RECOVER_SH_NAME},
    seal::Sealed,
    unixfs::{self, BuildError, Entry, Link, Node},
};

/// The files of a snapshot but for its segments, all checked against the root.
#[derive(Clone, Debug)]
pub struct Layout {
    /// `RECOVER.md`, in the words of the program that wrote it.
    pub recover_md: Vec<u8>,
    /// `recover.sh`, as the program that wrote it wrote it.
    pub recover_sh: Vec<u8>,
    /// The sealed class identities, in portable mode.
    pub capsule: Option<Vec<u8>>,
    /// The sealed manifest.
    pub manifest: Vec<u8>,
    root: Root,
}

/// The entries of a snapshot's root.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) recover_md: Entry,
    pub(super) recover_sh: Entry,
    pub(super) capsule: Option<Entry>,
    pub(super) manifest: Entry,
    pub(super) objects: Entry,
}

impl Layout {
    /// Reads the root and all files next to `s/`; of `s/` nothing.
    ///
    /// # Errors
    /// A block is missing or not what it should be; or `get` failed.
    pub fn read<E: From<Damage>>(
        root: &Cid,
        get: &mut dyn FnMut(&Cid) -> Result<Option<crate::block::UnverifiedBlock>, E>,
    ) -> Result<Self, E> {
        Self::read_all(root, get).map_err(|stop| match stop {
            Stop::Damage(damage) => (*damage).into(),
            Stop::Caller(error) => error,
        })
    }

    fn read_all<E>(root: &Cid, get: Get<'_, E>) -> Result<Self, Stop<E>> {
        let (_, root) = Root::read(root, get)?;
        let capsule = root.capsule.as_ref();
        Ok(Self {
            recover_md: bytes(get, &root.recover_md, TEXT_SIZE_MAX)?,
            recover_sh: bytes(get, &root.recover_sh, TEXT_SIZE_MAX)?,
            capsule: capsule
                .map(|entry| bytes(get, entry, CAPSULE_FILE_SIZE_MAX))
                .transpose()?,
            manifest: bytes(get, &root.manifest, MANIFEST_FILE_SIZE_MAX)?,
            root,
        })
    }

    /// Puts another capsule in place of the one there, and returns the new root.
    ///
    /// `emit` is given the blocks of the capsule and of the root; all others stay.
    ///
    /// # Errors
    /// The capsule is too large; or `emit` failed.
    pub fn replace_capsule<E: From<BuildError> + From<SnapshotError>>(
        &self,
        capsule: Sealed,
        emit: &mut dyn FnMut(Block) -> Result<(), E>,
    ) -> Result<Cid, E> {
        let capsule = assemble::capsule_file(capsule, emit)?;
        let entries = vec![
            self.root.recover_md.clone(),
            self.root.recover_sh.clone(),
            capsule,
            self.root.manifest.clone(),
            self.root.objects.clone(),
        ];
        Ok(unixfs::directory(entries, emit)?.cid)
    }
}

impl Root {
    /// Fetches the root and finds its entries, which may be no others.
    pub(super) fn read<E>(cid: &Cid, get: Get<'_, E>) -> Result<(Block, Self), Stop<E>> {
        let link = Link {
            cid: *cid,
            tsize: 0,
        };
        let place = Place { path: ".", link };
        let block = fetch::block(get, place, CODEC_DAG_PB)?;
        let node = Node::decode(&block);
        let node = node.map_err(|error| place.damage(super::Reason::Malformed(error)))?;
        let root = Self::of(node).map_err(|what| place.unexpected(what))?;
        Ok((block, root))
    }

    fn of(node: Node) -> Result<Self, &'static str> {
        let Node::Directory(entries) = node else {
            return Err("a root that is not a directory");
        };
        let mut entries = entries.into_iter().peekable();
        let mut next = |name| entries.next_if(|entry| entry.name == name);
        // In the order of their names, which decoding has checked.
        let recover_md = next(RECOVER_MD_NAME).ok_or("no RECOVER.md where it should be")?;
        let capsule = next(CAPSULE);
        let manifest = next(MANIFEST).ok_or("no manifest.age where it should be")?;
        let recover_sh = next(RECOVER_SH_NAME).ok_or("no recover.sh where it should be")?;
        let objects = next(OBJECTS).ok_or("no s where it should be")?;
        if entries.next().is_some() {
            return Err("a name that no snapshot has");
        }
        let texts = [&recover_md, &recover_sh];
        if texts.iter().any(|text| text.cid.codec() != CODEC_RAW) {
            return Err("a recovery text that is not a raw block");
        }
        Ok(Self {
            recover_md,
            recover_sh,
            capsule,
            manifest,
            objects,
        })
    }
}

fn bytes<E>(get: Get<'_, E>, entry: &Entry, max: u64) -> Result<Vec<u8>, Stop<E>> {
    let mut out = Vec::new();
    fetch::file(get, Place::new(&entry.name, entry), max, &mut |block| {
        let block = block.map_err(Stop::Damage)?;
        if block.cid().codec() == CODEC_RAW {
            out.extend_from_slice(block.bytes());
        }
        Ok(())
    })?;
    Ok(out)
}
