//! Where the blocks of a snapshot are read from: the store, or a CAR file.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use cid::Cid;
use protocol::{
    block::UnverifiedBlock,
    car::{CarError, Reader},
};
use store::{Store, StoreError};

use crate::pull::Arrivals;

/// Blocks by CID.
#[derive(Debug)]
pub enum Blocks<'a> {
    /// Those of the node's store.
    Store(&'a Store),
    /// Those of a CAR file.
    Car(CarFile),
    /// Those of the node's store, into which they are being pulled: each is waited for.
    Arriving(Arriving<'a>),
}

/// A store that blocks are pulled into.
#[derive(Clone, Copy, Debug)]
pub struct Arriving<'a> {
    /// The store.
    pub store: &'a Store,
    /// Where word of them comes.
    pub arrivals: &'a Arrivals,
    /// Set to wait no more.
    pub stop: &'a AtomicBool,
}

/// Why blocks cannot be read. A block that is not there is no error.
#[derive(Debug, thiserror::Error)]
pub enum BlocksError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CAR is malformed, or a block in it does not match its CID.
    #[error("{} cannot be read as a CAR", path.display())]
    Car {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: CarError,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The CAR names no root, and its last block is not one.
    #[error("{} names no root", path.display())]
    NoRoot {
        /// The file.
        path: PathBuf,
    },
}

impl Blocks<'_> {
    /// The block of a CID, if it is here; not checked yet.
    ///
    /// # Errors
    /// The store or the file failed.
    pub fn block(&self, cid: &Cid) -> Result<Option<UnverifiedBlock>, BlocksError> {
        match self {
            Self::Store(store) => Ok(store.get(cid)?),
            Self::Car(car) => car.block(cid),
            Self::Arriving(on) => Ok(on.arrivals.wait(on.store, cid, on.stop)?),
        }
    }
}

/// An open CAR file and where its blocks are.
#[derive(Debug)]
pub struct CarFile {
    path: PathBuf,
    file: File,
    places: HashMap<Vec<u8>, (u64, u32)>,
    root: Cid,
}

impl CarFile {
    /// Opens a CAR file and notes where its blocks are. Blocks are not checked here; a section
    /// that is cut off ends the index, and its blocks are missing.
    ///
    /// # Errors
    /// The file cannot be read, or does not begin as a CAR.
    pub fn open(path: &Path) -> Result<Self, BlocksError> {
        let io = |cause| BlocksError::Io {
            path: path.to_owned(),
            cause,
        };
        let car = |cause| BlocksError::Car {
            path: path.to_owned(),
            cause,
        };
        let file = File::open(path).map_err(io)?;
        let reader = BufReader::with_capacity(1 << 20, file.try_clone().map_err(io)?);
        let mut reader = Reader::new(reader).map_err(car)?;
        let mut places = HashMap::new();
        loop {
            match reader.next_unverified() {
                Ok(Some(block)) => {
                    let len = u32::try_from(block.bytes.len()).expect("sections are below 4 GiB");
                    places.insert(
                        block.cid.hash().to_bytes(),
                        (reader.offset() - u64::from(len), len),
                    );
                }
                Ok(None) | Err(CarError::CutOff { .. }) => break,
                Err(cause) => return Err(car(cause)),
            }
        }
        // A CAR that was written to a pipe names no root; its last node is the root.
        let root = reader.roots().first().or(reader.last_node()).copied();
        let root = root.ok_or(BlocksError::NoRoot {
            path: path.to_owned(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            places,
            root,
        })
    }

    /// The root that the CAR is about.
    #[must_use]
    pub fn root(&self) -> Cid {
        self.root
    }

    fn block(&self, cid: &Cid) -> Result<Option<UnverifiedBlock>, BlocksError> {
        let Some(&(offset, len)) = self.places.get(&cid.hash().to_bytes()) else {
            return Ok(None);
        };
        let mut bytes = vec![0; len as usize];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|cause| BlocksError::Io {
                path: self.path.clone(),
                cause,
            })?;
        Ok(Some(UnverifiedBlock { cid: *cid, bytes }))
    }
}
