//! Pull: a snapshot from peers into the store, checked as it comes, durable as it comes.
//!
//! The directories say which blocks there are. What is in the store is not asked for again, so that
//! a pull that was killed goes on where it was. The snapshot is listed when it is whole.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use cid::Cid;
use crossbeam_channel::{Sender, TrySendError, bounded};
use protocol::{
    block::{Block, CODEC_DAG_PB},
    car::CarError,
    snapshot::OBJECTS,
    unixfs::{Link, NodeError},
};
use serde::{Deserialize, Serialize};
use store::{Store, StoreError};

use crate::{
    bitswap::{RefusedBecause, Wanted},
    catalog, dag,
    handover::{self, HandoverError},
    node::{SessionEvent, Stopped},
    progress::Progress,
};

mod arrivals;
mod car;
mod fetch;
mod gateways;
mod peers;
mod puller;
mod scope;
mod sources;
mod streams;

pub use arrivals::Arrivals;
pub use fetch::{GatewayUrl, GatewayUrlError};
pub(crate) use gateways::Fetched;
use peers::{Peers, Provider};
pub use puller::{Puller, PullerError};
pub use scope::{PullRequest, Scope};
pub(crate) use sources::Named;
use sources::Sources;
pub use streams::pull_streams;

pub(crate) use car::CarPull;

/// Blocks that are wanted at once.
const WANTED_MAX: usize = 2048;
/// Most directories and file nodes of a snapshot.
const NODES_MAX: usize = protocol::snapshot::DIRECTORIES_MAX as usize;
/// Bytes after which what came is made durable.
const COMMIT_EVERY: u64 = 64 << 20;
/// What a block counts beside its bytes.
const COMMIT_COST: u64 = 16 << 10;
/// Time after which what came is made durable, however little it is.
const COMMIT_AFTER: Duration = Duration::from_secs(1);
/// How long to wait for something to come before looking whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a pull did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullReport {
    /// Blocks that came.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks that were here already.
    pub blocks_kept: u64,
    /// What each peer sent.
    pub peers: Vec<PeerShare>,
}

impl PullReport {
    /// Adds what another pull of the same snapshot did.
    pub fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.blocks_kept += other.blocks_kept;
        for share in other.peers {
            match self.peers.iter_mut().find(|own| own.peer == share.peer) {
                Some(own) => {
                    own.blocks += share.blocks;
                    own.bytes += share.bytes;
                }
                None => self.peers.push(share),
            }
        }
    }
}

/// What a peer sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerShare {
    /// Its peer id, or its URL.
    pub peer: String,
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a snapshot could not be pulled. What was durable is kept, and not asked for again.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// None of the peers could be reached.
    #[error("nobody can be reached who was named or found: {}", why.join("; "))]
    Unreachable {
        /// Why, of each peer.
        why: Vec<String>,
    },
    /// Nobody is known who could have it.
    #[error("no peer of this node has {root}, and none is known that has")]
    NoProvider {
        /// The snapshot.
        root: Cid,
    },
    /// No peer has a block, or gives it.
    #[error("nobody who was asked has {cid}, or gives it to this node")]
    Missing {
        /// The block.
        cid: Cid,
    },
    /// Peers are connected, and nothing comes.
    #[error("nothing came for {} s", after.as_secs())]
    Stalled {
        /// How long.
        after: Duration,
    },
    /// The exchange cannot want a block.
    #[error("cannot ask for {cid}")]
    Refused {
        /// The block.
        cid: Cid,
        /// Why not.
        #[source]
        because: RefusedBecause,
    },
    /// A directory is none that this program reads.
    #[error("{cid} is no directory or file of IPFS that this program reads")]
    Node {
        /// The block.
        cid: Cid,
        /// What is wrong with it.
        #[source]
        cause: NodeError,
    },
    /// What came is no snapshot.
    #[error("{root} is no snapshot: {reason}")]
    NotSnapshot {
        /// The root.
        root: Cid,
        /// What is wrong with it.
        reason: String,
    },
    /// A block came that nobody asked for.
    #[error("{cid} came, and was not asked for")]
    Unwanted {
        /// The block.
        cid: Cid,
    },
    /// A CAR that came is malformed, or a block in it does not match its CID.
    #[error("what came is no CAR, or not a whole one")]
    Car(#[source] CarError),
    /// There are too many gateways.
    #[error(
        "a snapshot is pulled from at most {} gateways",
        gateways::GATEWAYS_MAX
    )]
    TooManyGateways,
    /// HTTP cannot be spoken.
    #[error("cannot ask gateways")]
    Client(#[source] reqwest::Error),
    /// There are more directories than a snapshot has.
    #[error("more than {NODES_MAX} directories")]
    TooManyNodes,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot cannot be listed.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The node stopped meanwhile.
    #[error("the node has stopped")]
    Stopped,
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

impl From<Stopped> for PullError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Where what is pulled goes, and who is told.
#[derive(Clone, Copy)]
pub(crate) struct Keeping<'a> {
    /// Where blocks are kept.
    pub(crate) store: &'a Store,
    /// The time to list the snapshot under.
    pub(crate) created: &'a str,
    /// Who waits for blocks.
    pub(crate) arrivals: &'a Arrivals,
    pub(crate) progress: &'a Progress,
}

/// Pulls a snapshot, or a part of it, from who is named; with nobody, from peers that are known or
/// found. Blocks the thread.
pub(crate) fn from_sources(
    named: Named<'_>,
    root: Cid,
    scope: &Scope,
    into: Keeping<'_>,
) -> Result<PullReport, PullError> {
    let sources = Sources::open(named, root)?;
    let Keeping {
        store,
        created,
        arrivals,
        progress,
    } = into;
    let (nudges, nudged) = bounded::<()>(1);
    let (fetched, committed) = thread::scope(|threads| {
        let committer = threads.spawn(move || nudged.iter().try_for_each(|()| store.commit()));
        let mut pull = Pull {
            store,
            peers: Peers::new(&sources.gateways(), sources.has_peers()),
            sources,
            arrivals,
            progress,
            nudges,
            left_out: matches!(scope, Scope::Top).then_some(OBJECTS),
            nodes: Vec::new(),
            known: HashSet::new(),
            leaves: Vec::new(),
            wanted: HashMap::new(),
            uncommitted: 0,
            committed_at: Instant::now(),
            report: PullReport::default(),
        };
        let fetched = pull.run(root, scope);
        let report = pull.end();
        let committed = committer.join().unwrap_or(Err(StoreError::Stopped));
        (fetched.map(|()| report), committed)
    });
    // What came is kept, whatever else happened.
    committed.and_then(|()| store.commit())?;
    let report = fetched?;
    if *scope != Scope::Whole {
        return Ok(report);
    }
    if let Some(reason) = handover::list_if_whole(store, &root, created, progress)? {
        return Err(PullError::NotSnapshot { root, reason });
    }
    Ok(report)
}

struct Pull<'a> {
    store: &'a Store,
    sources: Sources,
    arrivals: &'a Arrivals,
    progress: &'a Progress,
    /// Ask for a commit.
    nudges: Sender<()>,
    /// The entry of directories that is not followed.
    left_out: Option<&'static str>,
    peers: Peers,
    /// Nodes that are stored, and whose links were not looked at.
    nodes: Vec<Cid>,
    /// All nodes that were come by.
    known: HashSet<[u8; 16]>,
    /// Leaves that may have to be asked for.
    leaves: Vec<Link>,
    /// Blocks that were asked for, and have not come.
    wanted: HashMap<[u8; 16], Cid>,
    uncommitted: u64,
    committed_at: Instant,
    report: PullReport,
}

impl Pull<'_> {
    fn run(&mut self, root: Cid, scope: &Scope) -> Result<(), PullError> {
        let mut asked = Vec::new();
        let link = |cid: &Cid| Link {
            cid: *cid,
            tsize: 0,
        };
        match scope {
            Scope::Whole | Scope::Top => self.come_by(link(&root), &mut asked)?,
            // From the end of the list the first one is taken first.
            Scope::Objects(objects) => self.leaves.extend(objects.iter().rev().map(link)),
        }
        loop {
            if self.progress.stop.load(Ordering::Relaxed) {
                return Err(PullError::Interrupted);
            }
            self.fill(&mut asked)?;
            if !asked.is_empty() {
                self.sources.want(std::mem::take(&mut asked))?;
            }
            if self.wanted.is_empty() {
                return Ok(());
            }
            match self.sources.next(LOOK_EVERY)? {
                Some(event) => self.on_event(event)?,
                None => {
                    let now = Instant::now();
                    if self.sources.are_held_back() {
                        self.peers.held_back(now);
                    }
                    self.peers.check(now, &root)?;
                }
            }
            self.commit_in_time()?;
        }
    }

    /// Finds more blocks to ask for, up to as many as are wanted at once.
    fn fill(&mut self, asked: &mut Vec<Wanted>) -> Result<(), PullError> {
        while self.wanted.len() < WANTED_MAX {
            if let Some(leaf) = self.leaves.pop() {
                self.come_by(leaf, asked)?;
            } else if let Some(node) = self.nodes.pop() {
                self.expand(node, asked)?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Looks at the links of a node that is stored.
    fn expand(&mut self, cid: Cid, asked: &mut Vec<Wanted>) -> Result<(), PullError> {
        let missing = PullError::Missing { cid };
        let block = self.store.get(&cid)?.and_then(|block| block.verify().ok());
        let links = dag::links_beside(&block.ok_or(missing)?, self.left_out)
            .map_err(|cause| PullError::Node { cid, cause })?;
        if self.known.len() == 1 {
            // The first node is the root, and its links say how much there is.
            let total = links.iter().map(|link| link.tsize).sum();
            self.progress.bytes_total.store(total, Ordering::Relaxed);
        }
        let (nodes, leaves): (Vec<Link>, Vec<Link>) = links
            .into_iter()
            .partition(|link| link.cid.codec() == CODEC_DAG_PB);
        // From the end of the list the first leaf is taken first.
        self.leaves.extend(leaves.into_iter().rev());
        nodes
            .into_iter()
            .try_for_each(|node| self.come_by(node, asked))
    }

    /// Asks for a block, unless it is here, or was asked for.
    fn come_by(&mut self, link: Link, asked: &mut Vec<Wanted>) -> Result<(), PullError> {
        let cid = link.cid;
        let is_node = cid.codec() == CODEC_DAG_PB;
        let short = dag::short(&cid).ok_or(PullError::Refused {
            cid,
            because: RefusedBecause::UnsupportedHash,
        })?;
        if self.wanted.contains_key(&short) || (is_node && !self.known.insert(short)) {
            return Ok(());
        }
        if self.known.len() > NODES_MAX {
            return Err(PullError::TooManyNodes);
        }
        // What a verification found damaged is fetched anew.
        if catalog::is_sound(self.store, &cid)?
            && let Some(len) = self.store.block_len(&cid)?
        {
            self.report.blocks_kept += 1;
            self.progress.bytes_read.fetch_add(len, Ordering::Relaxed);
            if is_node {
                self.nodes.push(cid);
            }
            return Ok(());
        }
        self.wanted.insert(short, cid);
        let size = dag::size(&link);
        asked.push(Wanted { cid, size });
        Ok(())
    }

    fn on_event(&mut self, event: SessionEvent) -> Result<(), PullError> {
        match event {
            SessionEvent::Block { peer, block } => {
                let from = peer.map(Provider::Peer);
                self.peers.sent(Instant::now(), from, block.bytes().len());
                self.keep(block)
            }
            SessionEvent::Fetched(fetched) => {
                self.peers.on_fetched(Instant::now(), &fetched);
                fetched.outcome.map_or(Ok(()), |block| self.keep(block))
            }
            SessionEvent::Refused { cid, because } => Err(PullError::Refused { cid, because }),
            other => {
                self.peers.on_event(Instant::now(), other);
                Ok(())
            }
        }
    }

    fn keep(&mut self, block: Block) -> Result<(), PullError> {
        let cid = *block.cid();
        let known = dag::short(&cid).is_some_and(|short| self.wanted.remove(&short).is_some());
        if !known {
            return Ok(());
        }
        let len = block.bytes().len() as u64;
        self.store.put_checked(block)?;
        self.arrivals.notify();
        self.report.blocks += 1;
        self.report.bytes += len;
        self.progress.bytes_read.fetch_add(len, Ordering::Relaxed);
        self.uncommitted += len + COMMIT_COST;
        if cid.codec() == CODEC_DAG_PB {
            self.nodes.push(cid);
        }
        Ok(())
    }

    fn commit_in_time(&mut self) -> Result<(), PullError> {
        let due = self.uncommitted >= COMMIT_EVERY || self.committed_at.elapsed() > COMMIT_AFTER;
        if !due || self.uncommitted == 0 {
            return Ok(());
        }
        match self.nudges.try_send(()) {
            Ok(()) => {
                self.uncommitted = 0;
                self.committed_at = Instant::now();
                Ok(())
            }
            Err(TrySendError::Full(())) => Ok(()),
            // The reason comes from the thread that commits.
            Err(TrySendError::Disconnected(())) => Err(PullError::Interrupted),
        }
    }

    /// What was done; and the thread that commits may end.
    fn end(self) -> PullReport {
        PullReport {
            peers: self.peers.shares(),
            ..self.report
        }
    }
}
