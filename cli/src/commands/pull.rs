//! `pull`: a snapshot from peers.

use std::path::PathBuf;

use agent::{
    control::{Client, PullRequest},
    daemon,
    node::{Dht, Listen, Multiaddr, NodeOptions},
    pull::{PeerShare, PullReport},
};
use serde::Serialize;

use super::agent::swarm_key;
use crate::{context::Context, error::CliError, progress::Bar, reference::SnapshotRef, ui::Size};

/// Fetch a snapshot from peers, check it, and keep it
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
    #[arg(long, value_name = "MULTIADDR", required = true)]
    peer: Vec<Multiaddr>,
    /// Key of a private network, as Kubo has it in swarm.key; a running agent has its own
    #[arg(long, value_name = "FILE")]
    swarm_key: Option<PathBuf>,
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
