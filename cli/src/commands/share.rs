//! `share`: who may have a snapshot.

use std::{fmt, str::FromStr};

use agent::{
    control::Client,
    node::PeerId,
    sharing::{self, GroupName, Share},
};
use protocol::log::entry::Action;
use serde::Serialize;
use store::Store;

use crate::{context::Context, error::CliError, reference::SnapshotRef};

/// Say or change who may have a snapshot: nobody, unless told otherwise
///
/// What is shared with a group goes to whoever is in it at the time: see `souverain group`. What is shared are sealed bytes: who has them can carry and check them, and only key holders
/// can read them. Without options, prints with whom the snapshot is shared now.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot: a CID, or its first 8 or more characters
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    /// A peer or a group that may have it, or `public` for everyone who asks
    #[arg(long, value_name = "PEER|GROUP|public")]
    with: Vec<Who>,
    /// A peer or a group that may not have it any more, `public`, or `all` for nobody at all
    #[arg(long, value_name = "PEER|GROUP|public|all")]
    without: Vec<Who>,
}

/// Whom a snapshot can be shared with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Public,
    All,
    Peer(PeerId),
    Group(GroupName),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::All => f.write_str("all"),
            Self::Peer(peer) => peer.fmt(f),
            Self::Group(group) => group.fmt(f),
        }
    }
}

/// Why a word names nobody.
#[derive(Debug, thiserror::Error)]
#[error("neither the id of a peer, 12D3…, nor the name of a group, nor `public`")]
struct WhoError;

impl FromStr for Who {
    type Err = WhoError;

    fn from_str(text: &str) -> Result<Self, WhoError> {
        match text {
            "public" => Ok(Self::Public),
            "all" => Ok(Self::All),
            // An address that ends with the peer will do.
            text => peer(text)
                .map(Self::Peer)
                .or_else(|| text.parse().ok().map(Self::Group))
                .ok_or(WhoError),
        }
    }
}

/// The peer that a text is the id of, or an address of.
pub(super) fn peer(text: &str) -> Option<PeerId> {
    text.rsplit('/').next()?.parse().ok()
}

/// Lets the agent that runs, if one does, take in who may have what.
pub(super) fn tell_agent(context: &Context) -> Result<(), CliError> {
    let home = context.home()?;
    if let Some(Err(error)) = Client::connect(&home).map(Client::refresh) {
        context.ui.warn(format!(
            "the running agent has not taken in the change yet: {error}"
        ))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Shared {
    cid: String,
    public: bool,
    groups: Vec<String>,
    peers: Vec<String>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        if self.with.contains(&Who::All) {
            return Err(CliError::usage("`--with all` says nothing")
                .hint("`--with public` shares with everyone who asks"));
        }
        let reads_only = self.with.is_empty() && self.without.is_empty();
        let store = if reads_only {
            context.open_store_to_read("share")?
        } else {
            let action = match self.with.is_empty() {
                true => Action::UNSHARE,
                false => Action::SHARE,
            };
            context.open_store_to_change("share", action)?
        };
        let root = self.snapshot.resolve(&store)?;
        context.trail.about(&root);
        self.tell(context);
        let mut share = sharing::share(&store, &root)?;
        if !reads_only {
            self.check_groups(&store)?;
            self.change(&mut share);
            sharing::set_share(&store, &root, &share)?;
            drop(store);
            context.trail.done()?;
            tell_agent(context)?;
        }
        let shared = Shared {
            cid: root.to_string(),
            public: share.public,
            groups: share.groups.iter().map(ToString::to_string).collect(),
            peers: share.peers.iter().map(ToString::to_string).collect(),
        };
        let named = shared.groups.iter().chain(&shared.peers);
        let mut lines: Vec<&str> = named.map(String::as_str).collect();
        if share.public {
            lines.insert(0, "public");
        }
        if lines.is_empty() && !context.ui.is_json() {
            context.ui.note("nobody may have it");
            return Ok(());
        }
        context.ui.answer("share", &shared, lines.join("\n"))
    }

    /// Says in the log with whom.
    fn tell(&self, context: &Context) {
        for (name, list) in [("with", &self.with), ("without", &self.without)] {
            for who in list {
                context.trail.detail(name, &who.to_string());
            }
        }
    }

    /// A group that nobody is in is more likely a slip than meant.
    fn check_groups(&self, store: &Store) -> Result<(), CliError> {
        let groups = sharing::groups(store)?;
        for who in &self.with {
            if let Who::Group(group) = who
                && !groups.contains_key(group)
            {
                return Err(CliError::usage(format!("there is no group {group}"))
                    .hint(format!("`souverain group {group} --add PEER` makes one")));
            }
        }
        Ok(())
    }

    fn change(&self, share: &mut Share) {
        for who in &self.without {
            match who {
                Who::All => *share = Share::default(),
                Who::Public => share.public = false,
                Who::Peer(peer) => drop(share.peers.remove(peer)),
                Who::Group(group) => drop(share.groups.remove(group)),
            }
        }
        for who in &self.with {
            match who {
                Who::Public => share.public = true,
                Who::Peer(peer) => drop(share.peers.insert(*peer)),
                Who::Group(group) => drop(share.groups.insert(group.clone())),
                Who::All => {}
            }
        }
    }
}
