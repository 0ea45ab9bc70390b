//! `pull`: a snapshot from peers, or from a Kubo.

use std::path::PathBuf;

use agent::{
    bitswap::{Rates, Schedule},
    blocks::Blocks,
    import::{self, Selection},
    node::{Dht, Listen, Multiaddr, NodeOptions},
    pull::{Arrivals, GatewayUrl, PeerShare, PullReport, PullRequest, Puller, Scope, pull_streams},
    url,
};
use cid::Cid;
use protocol::log::entry::Action;
use serde::Serialize;
use store::Store;

use super::agent::swarm_key;
use crate::{
    backend::BackendArgs, context::Context, error::CliError, progress::Bar, prompt::OpenWith,
    reference::SnapshotRef, ui::Size,
};

/// Fetch a snapshot from peers, gateways or a Kubo, check it, and keep it
///
/// Every block is checked against its CID as it comes, and becomes durable as it comes: run the
/// same command again after an interruption, and only what is missing is fetched. If an agent
/// runs on this home, it does the work. With --stream only the segments of some streams are fetched;
/// finding them takes a key of the snapshot.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot: a whole CID
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    backend: BackendArgs,
    /// Fetch only this stream: a table, or a tree, to import with the same option
    #[arg(long = "stream", value_name = "NAME")]
    streams: Vec<String>,
    #[command(flatten)]
    open_with: OpenWith,
}

/// Where a snapshot is pulled from, on the command line.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct From {
    /// Peer that may have it, as `souverain agent run` prints it: an address that ends with /p2p/PEER.
    /// Without one the running agent asks its peers, and its DHT
    #[arg(long, value_name = "MULTIADDR")]
    peer: Vec<Multiaddr>,
    /// Trustless gateway that may have it, of this program or of any IPFS: https://HOST
    #[arg(long, value_name = "URL")]
    gateway: Vec<GatewayUrl>,
    /// Key of a private network, as Kubo has it in swarm.key; a running agent has its own
    #[arg(long, value_name = "FILE")]
    swarm_key: Option<PathBuf>,
    /// Bytes per second at most: 10MiB; a running agent has its own limits
    #[arg(long, value_name = "RATE", default_value = "unlimited")]
    limit_download: Schedule,
}

impl From {
    /// Whether peers, or their network, are named.
    fn is_named(&self) -> bool {
        !self.peer.is_empty() || !self.gateway.is_empty() || self.swarm_key.is_some()
    }

    /// Makes ready to pull a snapshot.
    pub(super) fn puller(&self, context: &Context, root: Cid) -> Result<Puller, CliError> {
        let home = context.open_home()?;
        for peer in &self.peer {
            context.trail.detail("peer", &peer.to_string());
        }
        for gateway in &self.gateway {
            context
                .trail
                .detail("gateway", &url::redact(&gateway.to_string()));
        }
        let options = NodeOptions {
            listen: Listen::Nowhere,
            dht: Dht::Off,
            private: swarm_key(self.swarm_key.clone())?,
            rates: Rates {
                download: self.limit_download.clone(),
                ..Rates::default()
            },
            ..NodeOptions::default()
        };
        let wanted = PullRequest {
            root,
            peers: self.peer.clone(),
            gateways: self.gateway.clone(),
        };
        let puller = Puller::start(&home, &options, wanted)?;
        if !puller.is_of_agent() && self.peer.is_empty() && self.gateway.is_empty() {
            return Err(CliError::usage(
                "nobody is named to pull from, and no agent runs that knows somebody",
            )
            .hint("name one with `--peer` or `--gateway`, or run `souverain agent run --peer …` first"));
        }
        if puller.is_of_agent() && self.swarm_key.is_some() {
            return Err(CliError::usage(
                "the agent that runs on this home has a network of its own",
            )
            .hint("leave out `--swarm-key`, or stop the agent"));
        }
        Ok(puller)
    }
}

/// The root of a snapshot that is elsewhere.
pub(super) fn whole_cid(snapshot: &SnapshotRef) -> Result<Cid, CliError> {
    match snapshot {
        SnapshotRef::Cid(root) => Ok(*root),
        SnapshotRef::Prefix(_) => Err(CliError::usage("a snapshot is pulled by its whole CID")
            .hint("`souverain list` prints it, where the snapshot is")),
    }
}

#[derive(Serialize)]
struct Pulled {
    cid: String,
    blocks: u64,
    bytes: u64,
    blocks_kept: u64,
    peers: Vec<PeerShare>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let root = whole_cid(&self.snapshot)?;
        context.trail.begin(&context.open_home()?, Action::PULL)?;
        context.trail.about(&root);
        if let Some(kubo) = self.backend.connect(context)? {
            if self.from.is_named() || !self.streams.is_empty() {
                return Err(CliError::usage(
                    "a whole snapshot comes from a Kubo, and from nobody else",
                )
                .hint(
                    "leave out `--peer`, `--gateway`, `--swarm-key` and `--stream`, or `--backend`",
                ));
            }
            let home = context.open_home()?;
            let (store, _) = Store::open_salvaging(home.path(), "pull")?;
            let bar = Bar::follow(&context.ui, "pulling", &context.progress);
            let report = kubo.fetch(&store, &root, &context.now(), &context.progress)?;
            drop(bar);
            return answer(context, &root, report);
        }
        let puller = self.from.puller(context, root)?;
        let bar = Bar::follow(&context.ui, "pulling", &context.progress);
        let report = if self.streams.is_empty() {
            let (arrivals, progress) = (Arrivals::default(), &context.progress);
            puller.pull(&Scope::Whole, &context.now(), &arrivals, progress)?
        } else {
            self.pull_streams(context, &puller)?
        };
        drop(bar);
        answer(context, &root, report)
    }

    /// Pulls what says what the snapshot holds, and then what was named of it.
    fn pull_streams(&self, context: &Context, puller: &Puller) -> Result<PullReport, CliError> {
        let (arrivals, progress) = (Arrivals::default(), &context.progress);
        let mut report = puller.pull(&Scope::Top, &context.now(), &arrivals, progress)?;
        let store = puller.store()?;
        let blocks = Blocks::Store(&store);
        let snapshot = context.open(&blocks, &puller.root(), &self.open_with)?;
        let selection = Selection {
            sources: Vec::new(),
            streams: self.streams.clone(),
        };
        let streams = import::choose(&snapshot, &selection)?;
        let streams: Vec<_> = streams.into_iter().flat_map(|part| part.streams).collect();
        report.add(pull_streams(
            puller,
            &snapshot,
            &streams,
            &context.now(),
            &arrivals,
            progress,
        )?);
        Ok(report)
    }
}

fn answer(context: &Context, root: &Cid, report: PullReport) -> Result<(), CliError> {
    context.trail.detail("blocks", &report.blocks.to_string());
    context.trail.done()?;
    context.ui.note(summary(&report));
    let pulled = Pulled {
        cid: root.to_string(),
        blocks: report.blocks,
        bytes: report.bytes,
        blocks_kept: report.blocks_kept,
        peers: report.peers,
    };
    context.ui.answer("pulled", &pulled, root)
}

fn summary(report: &PullReport) -> String {
    let mut text = format!("fetched {} in {} blocks", Size(report.bytes), report.blocks);
    if report.blocks_kept > 0 {
        text.push_str(&format!(", had {} already", report.blocks_kept));
    }
    for peer in report.peers.iter().filter(|peer| peer.blocks > 0) {
        text.push_str(&format!("\n  {}  {}", peer.peer, Size(peer.bytes)));
    }
    text
}
