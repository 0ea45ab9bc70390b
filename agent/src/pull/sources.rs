//! Where blocks are asked for: of peers in a session, of gateways, or of both.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cid::Cid;
use libp2p::{Multiaddr, PeerId};
use tokio::runtime;

use super::{
    PullError,
    fetch::GatewayUrl,
    gateways::{Fetched, Gateways},
};
use crate::{
    bitswap::Wanted,
    node::{Budget, Handle, Inbox, Providers, Session, SessionEvent, Stopped},
};

/// How often it is looked for what is slow, or missing.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Who a snapshot is pulled from.
pub(crate) struct Named<'a> {
    /// The node that asks peers. With gateways alone it asks nobody.
    pub(crate) node: Option<&'a Handle>,
    pub(crate) peers: Vec<(PeerId, Multiaddr)>,
    pub(crate) gateways: &'a [GatewayUrl],
    /// What all of them together are asked for; the node draws on it too.
    pub(crate) download: Budget,
    /// What gateways are asked on.
    pub(crate) threads: &'a runtime::Handle,
}

/// The sources of a pull that is on its way.
pub(super) struct Sources {
    session: Option<Session>,
    gateways: Option<Gateways>,
    download: Budget,
    inbox: Arc<Inbox>,
    looked: Instant,
}

impl Sources {
    /// Peers are dialled; with neither peers nor gateways, those are asked that are known or found.
    pub(super) fn open(named: Named<'_>, root: Cid) -> Result<Self, PullError> {
        let providers = match (named.peers.is_empty(), named.gateways.is_empty()) {
            (true, true) => Some(Providers::Known(root)),
            (true, false) => None,
            (false, _) => Some(Providers::Named(named.peers)),
        };
        let session = match providers {
            Some(from) => Some(named.node.ok_or(PullError::Stopped)?.open_session(from)?),
            None => None,
        };
        let inbox = session.as_ref().map_or_else(Arc::default, Session::inbox);
        let gateways = if named.gateways.is_empty() {
            None
        } else {
            let has_peers = session.is_some();
            let (urls, inbox) = (named.gateways, inbox.clone());
            let download = named.download.clone();
            Some(Gateways::new(
                urls,
                named.threads,
                inbox,
                download,
                has_peers,
            )?)
        };
        Ok(Self {
            session,
            gateways,
            download: named.download,
            inbox,
            looked: Instant::now(),
        })
    }

    /// The gateways, in order.
    pub(super) fn gateways(&self) -> Vec<String> {
        let gateways = self.gateways.as_ref();
        gateways.map_or_else(Vec::new, |all| {
            all.urls().map(ToString::to_string).collect()
        })
    }

    /// Whether the rate of downloads is what keeps anybody from being asked.
    pub(super) fn are_held_back(&mut self) -> bool {
        self.download.opens().is_err()
    }

    /// Whether peers are asked, beside gateways or alone.
    pub(super) fn has_peers(&self) -> bool {
        self.session.is_some()
    }

    /// Wants more blocks.
    pub(super) fn want(&mut self, wants: Vec<Wanted>) -> Result<(), Stopped> {
        match (&mut self.gateways, &self.session) {
            (Some(gateways), _) => {
                gateways.want(wants);
                self.ask()
            }
            (None, Some(session)) => session.want(wants),
            (None, None) => Ok(()),
        }
    }

    /// What comes next, if anything does in time.
    pub(super) fn next(&mut self, wait: Duration) -> Result<Option<SessionEvent>, Stopped> {
        let event = match &self.session {
            Some(session) => session.next(wait)?,
            None => self.inbox.take(wait).0,
        };
        let Some(gateways) = &mut self.gateways else {
            return Ok(event);
        };
        let event = event.and_then(|event| noted(gateways, event));
        self.ask()?;
        if event.is_none() && self.looked.elapsed() > LOOK_EVERY {
            self.looked = Instant::now();
            let missing = self.gateways.as_ref().map(Gateways::missing);
            return Ok(missing
                .filter(|cids| !cids.is_empty())
                .map(SessionEvent::Missing));
        }
        Ok(event)
    }

    fn ask(&mut self) -> Result<(), Stopped> {
        let Some(gateways) = &mut self.gateways else {
            return Ok(());
        };
        let for_peers = gateways.ask();
        match &self.session {
            Some(session) if !for_peers.is_empty() => session.want(for_peers),
            _ => Ok(()),
        }
    }
}

/// Notes what happened, and gives on what else is to be known of it.
fn noted(gateways: &mut Gateways, event: SessionEvent) -> Option<SessionEvent> {
    match &event {
        SessionEvent::Block { block, .. } => gateways.came(block.cid()),
        SessionEvent::Fetched(fetched) => {
            gateways.fetched(fetched);
            if let Fetched {
                outcome: Ok(block), ..
            } = fetched
            {
                gateways.came(block.cid());
            }
        }
        SessionEvent::Connected(_) => gateways.peers(true),
        SessionEvent::Disconnected(_) => gateways.peers(false),
        SessionEvent::Missing(cids) => {
            // Gateways may have them.
            gateways.peers_lack(cids);
            return None;
        }
        _ => {}
    }
    Some(event)
}
