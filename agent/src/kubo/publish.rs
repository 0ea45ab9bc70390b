//! Publishing: the blocks that a Kubo lacks go there in a few streams, then it pins the root.

use std::{
    collections::HashSet,
    io::{self, Write},
    thread,
};

use bytes::BytesMut;
use cid::Cid;
use libp2p::futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use libp2p_identity::PeerId;
use protocol::{block::CODEC_RAW, car};
use store::Store;
use tokio::sync::mpsc::{self, Sender};

use super::{
    Kubo, KuboError,
    rpc::{Car, ImportStats},
};
use crate::{
    blocks::{Blocks, BlocksError},
    dag,
    handover::{self, Check, HandoverError},
    pinning::pin_name,
    progress::Progress,
    shelf,
};

/// Bytes that are sent at once.
const PART_SIZE: usize = 256 << 10;
/// Parts of one CAR that wait to be sent.
const PARTS_MAX: usize = 8;
/// CARs that are sent at once: Kubo takes in each of them on one core, hashing and writing in turn.
const CARS: usize = 2;
/// Snapshots whose blocks are known to be there because they are pinned: the latest ones.
const KNOWN_ROOTS_MAX: usize = 8;
/// Blocks of snapshots that are remembered to be there, 16 bytes each.
const KNOWN_BLOCKS_MAX: usize = shelf::SHARED_BLOCKS_MAX;
/// Blocks that Kubo is asked for at once.
const ASKED_MAX: usize = 16;

/// What publishing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Blocks that were sent.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether it was pinned there before, under whatever name.
    pub was_pinned: bool,
}

impl Kubo {
    /// Sends what a Kubo lacks of a snapshot, and has it pin the root under the home's name.
    ///
    /// What snapshots of the home that are pinned there hold is not sent again. When an earlier run did not come
    /// to its end, the Kubo is asked which blocks it has. A snapshot that is pinned there under another name is
    /// left as it is.
    ///
    /// # Errors
    /// The snapshot is not whole, or the Kubo fails or lies. What it has by then is not sent by a second run.
    pub fn publish(
        &self,
        store: &Store,
        root: &Cid,
        home: &PeerId,
        progress: &Progress,
    ) -> Result<Published, KuboError> {
        let text = root.to_string();
        if self.runtime.block_on(self.rpc.is_pinned(&text))? {
            return Ok(Published {
                was_pinned: true,
                ..Published::default()
            });
        }
        let mut there = self.known(store, home)?;
        if self.runtime.block_on(self.rpc.has(&text))? {
            there.extend(self.ask(store, root, &there)?);
        }
        tracing::debug!(%root, known = there.len(), "publishing");
        let published = self.send(store, root, &there, progress)?;
        let name = pin_name(home);
        let pinned = self.rpc.pin_add(&text, &name);
        let pinned = self.runtime.block_on(pinned).map_err(|cause| match cause {
            // Another run, or the collection of garbage, came between.
            KuboError::Said { .. } => KuboError::NotThere {
                root: *root,
                cause: Box::new(cause),
            },
            other => other,
        })?;
        self.check_root(root, &pinned)?;
        Ok(published)
    }

    /// Blocks that are there for certain: those under the latest roots of this home that are pinned there.
    fn known(&self, store: &Store, home: &PeerId) -> Result<HashSet<[u8; 16]>, KuboError> {
        let pinned: HashSet<Cid> = self.pins(home)?.into_iter().collect();
        let listed = crate::catalog::snapshots(store).map_err(HandoverError::from)?;
        let roots = listed.into_iter().rev().map(|(root, _)| root);
        let roots = roots.filter(|root| pinned.contains(root));
        let roots = roots.take(KNOWN_ROOTS_MAX).collect();
        let blocks =
            shelf::blocks_under(store, roots, KNOWN_BLOCKS_MAX).map_err(HandoverError::from)?;
        Ok(blocks.into_iter().collect())
    }

    /// Asks which blocks of a snapshot are there, of those that are not known to be.
    fn ask(
        &self,
        store: &Store,
        root: &Cid,
        known: &HashSet<[u8; 16]>,
    ) -> Result<Vec<[u8; 16]>, KuboError> {
        let mut unknown = Vec::new();
        let mut nodes = HashSet::from([*root]);
        let mut todo = vec![*root];
        while let Some(cid) = todo.pop() {
            let block = store.get(&cid).map_err(BlocksError::from)?;
            // What is missing or damaged here is told when it is read to be sent.
            let node = block.and_then(|block| block.verify().ok());
            let links = node
                .and_then(|node| dag::links(&node).ok())
                .unwrap_or_default();
            unknown.push(cid);
            for link in links {
                let is_known = dag::short(&link.cid).is_some_and(|short| known.contains(&short));
                if link.cid.codec() == CODEC_RAW {
                    if !is_known {
                        unknown.push(link.cid);
                    }
                } else if !is_known && nodes.insert(link.cid) {
                    todo.push(link.cid);
                }
            }
            if unknown.len() > KNOWN_BLOCKS_MAX {
                break;
            }
        }
        let rpc = &self.rpc;
        let answers = stream::iter(unknown)
            .map(|cid| async move {
                let is_there = rpc.has(&cid.to_string()).await?;
                Ok::<_, KuboError>(dag::short(&cid).filter(|_| is_there))
            })
            .buffer_unordered(ASKED_MAX)
            .try_filter_map(|found| async move { Ok(found) });
        self.runtime.block_on(answers.try_collect())
    }

    /// Sends all blocks but those that are there, by turns in several CARs. A thread reads and checks ahead of the network.
    fn send(
        &self,
        store: &Store,
        root: &Cid,
        there: &HashSet<[u8; 16]>,
        progress: &Progress,
    ) -> Result<Published, KuboError> {
        let (mut forms, mut cars) = (Vec::new(), Vec::new());
        for _ in 0..CARS {
            let boundary = boundary()?;
            let kind = format!("multipart/form-data; boundary={boundary}");
            let (sender, parts) = mpsc::channel(PARTS_MAX);
            forms.push(Form::new(sender, boundary));
            cars.push(Car { kind, parts });
        }
        thread::scope(|scope| {
            let reading = thread::Builder::new()
                .name("publish".into())
                .spawn_scoped(scope, move || {
                    let is_wanted =
                        |cid: &Cid| dag::short(cid).is_none_or(|short| !there.contains(&short));
                    write(store, root, &is_wanted, forms, progress)
                })
                .map_err(KuboError::Thread)?;
            // When one fails the others are given up.
            let sent = try_join_all(cars.into_iter().map(|car| self.rpc.dag_import(car)));
            let sent = self.runtime.block_on(sent);
            let written = reading.join().expect("the thread does not panic");
            match (written, sent) {
                (Ok((counts, bytes)), Ok(stats)) => {
                    for (blocks, ImportStats { block_count: came }) in counts.iter().zip(stats) {
                        if came != *blocks {
                            return Err(KuboError::Malformed {
                                call: "dag/import",
                                what: format!("{came} blocks came of {blocks}"),
                            });
                        }
                    }
                    Ok(Published {
                        blocks: counts.iter().sum(),
                        bytes,
                        was_pinned: false,
                    })
                }
                (Err(error), _) if !is_hung_up(&error) => Err(error.into()),
                (_, Err(error)) => Err(error),
                (Err(error), Ok(_)) => Err(error.into()),
            }
        })
    }
}

/// Writes what is wanted of a snapshot into the forms by turns, the root into the first one. Returns how many blocks
/// each has, and the bytes of all.
fn write(
    store: &Store,
    root: &Cid,
    is_wanted: &dyn Fn(&Cid) -> bool,
    forms: Vec<Form>,
    progress: &Progress,
) -> Result<([u64; CARS], u64), HandoverError> {
    let mut cars = Vec::new();
    for mut form in forms {
        form.begin().map_err(form_error)?;
        cars.push(car::Writer::new(form, &[*root]).map_err(form_error)?);
    }
    let mut counts = [0; CARS];
    let mut turns = (0..CARS).cycle();
    let take = |cid: &Cid, bytes: &[u8]| {
        let turn = turns.next().expect("it goes round");
        counts[turn] += 1;
        cars[turn].write_checked(cid, bytes).map_err(form_error)
    };
    let blocks = Blocks::Store(store);
    let written = handover::each_once(&blocks, root, Check::Checksum, is_wanted, progress, take);
    for car in cars {
        let form = car.finish().map_err(form_error)?;
        match &written {
            Ok(_) => form.end().map_err(form_error)?,
            Err(_) => form.abort(),
        }
    }
    written.map(|(_, bytes)| (counts, bytes))
}

/// What ends the parts of the form: bytes that nobody can know before, as anyone may have made the blocks.
fn boundary() -> Result<String, KuboError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|cause| KuboError::Client(Box::new(cause)))?;
    Ok(format!("souverain-{:032x}", u128::from_be_bytes(random)))
}

fn form_error(cause: io::Error) -> HandoverError {
    let path = "the CAR".into();
    HandoverError::Write { path, cause }
}

/// Whether nobody takes what is sent any more: why, the other side says.
fn is_hung_up(error: &HandoverError) -> bool {
    matches!(error, HandoverError::Write { cause, .. } if cause.kind() == io::ErrorKind::BrokenPipe)
}

/// The form that a CAR is sent as, in parts of one size.
struct Form {
    sender: Sender<Result<bytes::Bytes, io::Error>>,
    boundary: String,
    buffer: BytesMut,
}

impl Form {
    fn new(sender: Sender<Result<bytes::Bytes, io::Error>>, boundary: String) -> Self {
        let buffer = BytesMut::with_capacity(PART_SIZE);
        Self {
            sender,
            boundary,
            buffer,
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        let head = format!(
            "--{}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"snapshot.car\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            self.boundary
        );
        self.write_all(head.as_bytes())
    }

    fn end(mut self) -> io::Result<()> {
        let tail = format!("\r\n--{}--\r\n", self.boundary);
        self.write_all(tail.as_bytes())?;
        self.send()
    }

    /// Ends the request before its end.
    fn abort(self) {
        let error = io::Error::other("the snapshot cannot be read");
        // If nobody is there to be told, it has ended already.
        let _ = self.sender.blocking_send(Err(error));
    }

    fn send(&mut self) -> io::Result<()> {
        let part = self.buffer.split().freeze();
        self.buffer.reserve(PART_SIZE);
        self.sender
            .blocking_send(Ok(part))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Form {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART_SIZE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == PART_SIZE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
