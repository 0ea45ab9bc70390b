//! `group`: names for peers who may have the same.

use std::{collections::BTreeSet, str::FromStr};

use agent::{
    node::PeerId,
    sharing::{self, GroupName},
};
use protocol::log::entry::Action;
use serde::Serialize;

use super::share::{peer, tell_agent};
use crate::{context::Context, error::CliError};

/// Name peers that snapshots are shared with, and say or change who they are
///
/// Without a name, lists the groups. A change holds at once for all that is shared with the group, by
/// `souverain share CID --with GROUP`. A group that nobody is in is none.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The group
    #[arg(value_name = "GROUP")]
    group: Option<GroupName>,
    /// A peer that is to be in it
    #[arg(long, value_name = "PEER", requires = "group")]
    add: Vec<Member>,
    /// A peer that is not to be in it any more, or `all`
    #[arg(long, value_name = "PEER|all", requires = "group")]
    remove: Vec<Leaving>,
}

#[derive(Clone, Copy, Debug)]
struct Member(PeerId);

#[derive(Clone, Copy, Debug)]
enum Leaving {
    Peer(PeerId),
    All,
}

/// Why a word names no peer.
#[derive(Debug, thiserror::Error)]
#[error("not the id of a peer, 12D3…")]
struct MemberError;

impl FromStr for Member {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Self, MemberError> {
        peer(text).map(Self).ok_or(MemberError)
    }
}

impl FromStr for Leaving {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Self, MemberError> {
        match text {
            "all" => Ok(Self::All),
            text => text.parse().map(|Member(peer)| Self::Peer(peer)),
        }
    }
}

#[derive(Serialize)]
struct Group {
    name: String,
    peers: Vec<String>,
}

impl Group {
    fn new(name: &GroupName, peers: &BTreeSet<PeerId>) -> Self {
        Self {
            name: name.to_string(),
            peers: peers.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let Some(name) = &self.group else {
            return list(context);
        };
        let reads_only = self.add.is_empty() && self.remove.is_empty();
        let store = if reads_only {
            context.open_store_to_read("group")?
        } else {
            let store = context.open_store_to_change("group", Action::GROUP)?;
            context.trail.detail("group", &name.to_string());
            store
        };
        let mut peers = sharing::groups(&store)?.remove(name).unwrap_or_default();
        if !reads_only {
            for leaving in &self.remove {
                match leaving {
                    Leaving::All => peers.clear(),
                    Leaving::Peer(peer) => drop(peers.remove(peer)),
                }
            }
            peers.extend(self.add.iter().map(|Member(peer)| *peer));
            sharing::set_group(&store, name, &peers)?;
            drop(store);
            for peer in &peers {
                context.trail.detail("peers", &peer.to_string());
            }
            context.trail.done()?;
            tell_agent(context)?;
        }
        let group = Group::new(name, &peers);
        if peers.is_empty() && !context.ui.is_json() {
            context.ui.note("nobody is in it");
            return Ok(());
        }
        context.ui.answer("group", &group, group.peers.join("\n"))
    }
}

fn list(context: &Context) -> Result<(), CliError> {
    let store = context.open_store_to_read("group")?;
    for (name, peers) in sharing::groups(&store)? {
        let group = Group::new(&name, &peers);
        let line = format!("{name}  {} peers", peers.len());
        context.ui.answer("group", &group, line)?;
    }
    Ok(())
}
