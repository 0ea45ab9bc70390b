//! Where a replica's logs and fork proofs are kept, and how they are read again.
//!
//! Loading is the same after a crash as after a clean end. A log's `target` is the checkpoint that entries without one
//! of their own were checked against; without it they are taken from others again.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use data_encoding::HEXLOWER;
use protocol::{
    log::{
        chain::Chain,
        checkpoint::{Origin, SignedCheckpoint, UnverifiedCheckpoint},
        fork::{Blame, FORK_SIZE_MAX, Fork, Signer, UnverifiedFork},
        keys::ORIGIN_PREFIX,
        replica::{Kept, Reading, Stretch, read_stretch},
        tree::Edge,
    },
    note::VerifierKey,
};
use sha2::{Digest, Sha256};
use store::{
    Disk, StoreError,
    log::{BUNDLE_WIDTH, LogReader, LogWriter},
};

use crate::log::{
    LogError, keys_of,
    own::{go_on, is_control, signed_head},
    places::{cosigned_dir, cosigned_file, own_dir},
};

/// Logs that are held open to append to.
const WRITERS_MAX: usize = 16;
/// Fork proofs about a log that are read.
const FORKS_READ_MAX: usize = 64;
/// Largest checkpoint that is read, in bytes.
const NOTE_SIZE_MAX: u64 = 1 << 20;

/// The files of the logs of a home.
#[derive(Debug)]
pub(super) struct Files {
    home: PathBuf,
    own: Origin,
    disk: Arc<Disk>,
    /// Those that were appended to last, the latest last.
    writers: VecDeque<(Origin, LogWriter)>,
}

impl Files {
    pub(super) fn new(home: &Path, own: Origin, disk: Arc<Disk>) -> Self {
        Self {
            home: home.to_owned(),
            own,
            disk,
            writers: VecDeque::new(),
        }
    }

    /// The node's own log.
    pub(super) fn own(&self) -> &Origin {
        &self.own
    }

    pub(super) fn dir(&self, origin: &Origin) -> PathBuf {
        if *origin == self.own {
            return own_dir(&self.home);
        }
        let genesis = origin.as_str().trim_start_matches(ORIGIN_PREFIX);
        self.home.join("log").join(genesis)
    }

    /// What is kept of a log, if anything is.
    ///
    /// # Errors
    /// The files cannot be read, or are damaged.
    pub(super) fn load(&mut self, origin: &Origin) -> Result<Option<Kept>, LogError> {
        let dir = self.dir(origin);
        let kept = if *origin == self.own {
            covered(&dir)?
        } else if dir.join("checkpoint").exists() || dir.join("target").exists() {
            self.release(origin);
            let (writer, kept) = open(&dir, u64::MAX, &self.disk)?;
            if kept.as_ref().is_some_and(|kept| kept.target.is_some()) {
                self.hold(origin.clone(), writer);
            }
            kept
        } else {
            None
        };
        let Some(mut kept) = kept else {
            return Ok(None);
        };
        let about = forks(&dir)?.into_iter().map(|(_, fork)| fork);
        let known: Vec<Signer> = kept.keys.keys().cloned().map(Signer::Log).collect();
        let mut proven = about.filter_map(|fork| fork.verify(&known).ok());
        kept.fork = proven.find(|fork| fork.blame(&kept.keys) == Blame::Log);
        Ok(Some(kept))
    }

    /// Appends entries that are a log's next ones, and makes them durable with the checkpoint that covers them.
    ///
    /// # Errors
    /// With [`StoreError::LogFull`] nothing of it counts. After another error it is not known what does, until
    /// the log is loaded again.
    pub(super) fn keep(
        &mut self,
        origin: &Origin,
        first: u64,
        entries: &[Vec<u8>],
        checkpoint: &SignedCheckpoint,
    ) -> Result<(), LogError> {
        let dir = self.dir(origin);
        let held = self.writers.iter().position(|(other, _)| other == origin);
        let held = held.and_then(|at| self.writers.remove(at));
        let mut writer = match held {
            Some((_, writer)) if writer.size() == first => writer,
            held => {
                drop(held);
                open(&dir, first, &self.disk)?.0
            }
        };
        let note = checkpoint.to_string();
        let size = first + entries.len() as u64;
        let covers = size == checkpoint.checkpoint().size();
        if !covers {
            self.disk
                .replace(&dir.join("target"), note.as_bytes())
                .map_err(|cause| not_written(&dir.join("target"), cause))?;
        }
        if !entries.is_empty() {
            writer.stage(entries)?;
        }
        if covers {
            writer.publish(note.as_bytes())?;
            let target = dir.join("target");
            if target.exists()
                && let Err(error) = self.disk.remove(&target)
            {
                tracing::debug!(%error, "a file that is not needed any more stays");
            }
        }
        // Others append to the own log as well.
        if !covers || *origin != self.own {
            self.hold(origin.clone(), writer);
        }
        Ok(())
    }

    /// Lets others append to a log, or take it away.
    pub(super) fn release(&mut self, origin: &Origin) {
        self.writers.retain(|(other, _)| other != origin);
    }

    /// Whether there are fork proofs about a log, whatever else there is of it.
    pub(super) fn has_forks(&self, origin: &Origin) -> bool {
        self.dir(origin).join("forks").exists()
    }

    fn hold(&mut self, origin: Origin, writer: LogWriter) {
        self.writers.push_back((origin, writer));
        if self.writers.len() > WRITERS_MAX {
            self.writers.pop_front();
        }
    }

    /// Reads what a peer is to be told of a log; nothing if that is not here.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(&self, wanted: &Reading) -> Result<Option<Stretch>, StoreError> {
        let Some(reader) = LogReader::open(&self.dir(&wanted.origin))? else {
            return Ok(None);
        };
        if reader.head().size < wanted.size {
            return Ok(None);
        }
        let mut bundle: (u64, Vec<Vec<u8>>) = (u64::MAX, Vec::new());
        let entry = |index: u64| -> Result<Vec<u8>, StoreError> {
            let number = index / BUNDLE_WIDTH;
            if bundle.0 != number {
                let first = number * BUNDLE_WIDTH;
                let end = wanted.size.min(first + BUNDLE_WIDTH);
                bundle = (number, reader.entries(first..end)?);
            }
            let at = (index % BUNDLE_WIDTH) as usize;
            Ok(bundle.1.get(at).cloned().unwrap_or_default())
        };
        let node = |level, index| reader.node(level, index);
        read_stretch(wanted, entry, node, reader.marks()?).map(Some)
    }

    /// Keeps a proof about a log for ever.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn keep_fork(&self, origin: &Origin, fork: &Fork) -> io::Result<()> {
        let dir = self.dir(origin);
        self.make_dir(&dir)?;
        self.make_dir(&dir.join("forks"))?;
        let text = fork.to_string();
        let name = HEXLOWER.encode(&Sha256::digest(&text)[..16]);
        let path = dir.join("forks").join(format!("{name}.txt"));
        self.disk.replace(&path, text.as_bytes())
    }

    /// The last checkpoint of each log that the node cosigned, or was about to.
    ///
    /// # Errors
    /// One of them cannot be read. Then nothing may be cosigned: it could contradict it.
    pub(super) fn cosigned(&self) -> Result<BTreeMap<Origin, SignedCheckpoint>, LogError> {
        let dir = cosigned_dir(&self.home);
        let failed = |cause| not_written(&dir, cause);
        let listed = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            listed => listed.map_err(failed)?,
        };
        let mut cosigned = BTreeMap::new();
        for file in listed {
            let path = file.map_err(failed)?.path();
            if !is_whole(&path) {
                continue;
            }
            let mut text = String::new();
            File::open(&path)
                .and_then(|file| file.take(NOTE_SIZE_MAX).read_to_string(&mut text))
                .map_err(failed)?;
            let damaged = || StoreError::Damaged {
                path: path.clone(),
                what: "it is not what was cosigned".to_owned(),
            };
            let (key, note) = text.split_once('\n').ok_or_else(damaged)?;
            let key: VerifierKey = key.parse().map_err(|_| damaged())?;
            let signed = UnverifiedCheckpoint::parse(note.as_bytes())
                .and_then(|checkpoint| checkpoint.verify(&key))
                .map_err(|_| damaged())?;
            cosigned.insert(signed.checkpoint().origin().clone(), signed);
        }
        Ok(cosigned)
    }

    /// Remembers what is about to be cosigned, in place of what was of this log; `key` signed it for the log.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn keep_cosigned(
        &self,
        key: &VerifierKey,
        signed: &SignedCheckpoint,
    ) -> io::Result<()> {
        self.make_dir(&cosigned_dir(&self.home))?;
        let origin = signed.checkpoint().origin().as_str();
        let genesis = origin.trim_start_matches(ORIGIN_PREFIX);
        let text = format!("{key}\n{signed}");
        self.disk
            .replace(&cosigned_file(&self.home, genesis), text.as_bytes())
    }

    /// Makes a directory of the owner's alone, durably, unless there is one.
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.exists() {
            return Ok(());
        }
        self.disk.create_dir(dir)?;
        self.disk.sync_dir(dir.parent().unwrap_or(dir))
    }
}

/// Whether a file was put in its place, and is not one that is being written, or that a crash left so.
fn is_whole(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "txt")
}

/// The fork proofs that are kept beside a log, and their files; what is none is left out.
///
/// # Errors
/// They cannot be read.
pub(crate) fn forks(dir: &Path) -> Result<Vec<(PathBuf, UnverifiedFork)>, LogError> {
    let dir = dir.join("forks");
    let failed = |cause| not_written(&dir, cause);
    let listed = match fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed)?,
    };
    let mut found = Vec::new();
    for file in listed.take(FORKS_READ_MAX) {
        let path = file.map_err(failed)?.path();
        if !is_whole(&path) {
            continue;
        }
        let mut text = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(FORK_SIZE_MAX as u64 + 1).read_to_end(&mut text))
            .map_err(failed)?;
        match UnverifiedFork::parse(&text) {
            Ok(fork) => found.push((path, fork)),
            Err(error) => tracing::warn!(path = %path.display(), %error, "not a fork proof"),
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// What the checkpoint of a log covers.
fn covered(dir: &Path) -> Result<Option<Kept>, LogError> {
    let Some(reader) = LogReader::open(dir)? else {
        return Ok(None);
    };
    let keys = keys_of(&reader)?;
    let head = reader.head();
    let edge = Edge::read(head.size, |level, index| reader.node(level, index))?;
    if edge.root() != head.root {
        return Err(LogError::Store(StoreError::Damaged {
            path: dir.to_owned(),
            what: "its tree is not that of its checkpoint".to_owned(),
        }));
    }
    Ok(Some(Kept {
        checkpoint: Some(signed_head(&reader, &keys)?),
        keys,
        edge,
        target: None,
        fork: None,
    }))
}

/// Opens a log to append to it, with what a crash left, but no entry from an index on.
fn open(dir: &Path, end: u64, disk: &Arc<Disk>) -> Result<(LogWriter, Option<Kept>), LogError> {
    let (mut writer, recovered) = LogWriter::open_on(dir, is_control, disk.clone())?;
    // The tree is whole now, if it was not.
    let mut kept = covered(dir)?;
    if recovered.is_empty() {
        return Ok((writer, kept));
    }
    let Some(target) = target(dir)? else {
        return Ok((writer, kept));
    };
    let mut chain = kept.as_ref().map(|kept| Chain::resume(kept.keys.clone()));
    let room = end.saturating_sub(writer.size());
    let whole = go_on(&mut chain, recovered, room)?;
    let Some(chain) = chain.filter(|_| !whole.is_empty()) else {
        return Ok((writer, kept));
    };
    let keys = chain.keys().clone();
    let size = writer.size() + whole.len() as u64;
    let signed = keys.verify(&target).ok().map(|(_, signed)| signed);
    let signed = signed.filter(|signed| signed.checkpoint().size() > size);
    // A caller that names an end knows that it was checked.
    if signed.is_some() || end < u64::MAX {
        writer.stage(&whole)?;
        kept = Some(Kept {
            keys,
            edge: writer.edge().clone(),
            checkpoint: kept.and_then(|kept| kept.checkpoint),
            target: signed,
            fork: None,
        });
    }
    Ok((writer, kept))
}

fn target(dir: &Path) -> Result<Option<UnverifiedCheckpoint>, LogError> {
    let path = dir.join("target");
    let mut note = Vec::new();
    match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened
            .and_then(|file| file.take(NOTE_SIZE_MAX).read_to_end(&mut note))
            .map_err(|cause| not_written(&path, cause))?,
    };
    Ok(UnverifiedCheckpoint::parse(&note).ok())
}

fn not_written(path: &Path, cause: io::Error) -> LogError {
    LogError::Store(StoreError::Io {
        what: "use",
        path: path.to_owned(),
        cause,
    })
}
