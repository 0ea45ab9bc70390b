//! `pull`: a snapshot from peers, or from a Kubo.

use std::path::PathBuf;

use agent::{
    control::{Client, PullRequest},
    daemon,
    node::{Dht, Listen, Multiaddr, NodeOptions},
    pull::{PeerShare, PullReport},
};
use cid::Cid;
use serde::Serialize;
use store::Store;

use super::agent::swarm_key;
use crate::{
    backend::BackendArgs, context::Context, error::CliError, progress::Bar, reference::SnapshotRef,
    ui::Size,
};

/// Fetch a snapshot from peers or a Kubo, check it, and keep it
///
/// Every block is checked against its CID as it comes, and becomes durable as it comes: run the
/// same command again after an interruption, and only what is missing is fetched. If an agent
/// runs on this home, it does the work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot: a whole CID
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    /// Peer that may have it, as `souverain agent run` prints it: an address that ends with /p2p/PEER
    #[arg(long, value_name = "MULTIADDR", required_unless_present = "backend")]
    peer: Vec<Multiaddr>,
    /// Key of a private network, as Kubo has it in swarm.key; a running agent has its own
    #[arg(long, value_name = "FILE")]
    swarm_key: Option<PathBuf>,
    #[command(flatten)]
    backend: BackendArgs,
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
        let SnapshotRef::Cid(root) = self.snapshot else {
            return Err(CliError::usage("a snapshot is pulled by its whole CID")
                .hint("`souverain list` prints it, where the snapshot is"));
        };
        let home = context.open_home()?;
        if let Some(kubo) = self.backend.connect(context)? {
            if !self.peer.is_empty() || self.swarm_key.is_some() {
                return Err(
                    CliError::usage("a snapshot comes from peers or from a Kubo")
                        .hint("leave out `--peer` and `--swarm-key`, or `--backend`"),
                );
            }
            let (store, _) = Store::open_salvaging(home.path(), "pull")?;
            let bar = Bar::follow(&context.ui, "pulling", &context.progress);
            let report = kubo.fetch(&store, &root, &context.now(), &context.progress)?;
            drop(bar);
            return answer(context, &root, report);
        }
        if self.peer.is_empty() {
            return Err(
                CliError::usage("it is not said where the snapshot comes from")
                    .hint("pass `--peer MULTIADDR`, or `--backend kubo=URL`"),
            );
        }
        let wanted = PullRequest {
            root,
            peers: self.peer,
        };
        let bar = Bar::follow(&context.ui, "pulling", &context.progress);
        let (now, progress) = (context.now(), &context.progress);
        let report = if let Some(agent) = Client::connect(home.path()) {
            if self.swarm_key.is_some() {
                return Err(CliError::usage(
                    "the agent that runs on this home has a network of its own",
                )
                .hint("leave out `--swarm-key`, or stop the agent"));
            }
            agent.pull(&wanted, &now, progress)?
        } else {
            let options = NodeOptions {
                listen: Listen::Nowhere,
                dht: Dht::Off,
                private: swarm_key(self.swarm_key)?,
                ..NodeOptions::default()
            };
            daemon::pull_alone(&home, &options, &wanted, &now, progress)?
        };
        drop(bar);
        answer(context, &root, report)
    }
}

fn answer(context: &Context, root: &Cid, report: PullReport) -> Result<(), CliError> {
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
