//! The node among its peers: one task owns the swarm, everything else holds a handle.
//!
//! Owns connections, who may make them and how many; knows nothing of what snapshots mean.
//! `docs/node.md` says what is bounded, and by how much.

mod admission;
mod behaviour;
mod budget;
mod clock;
mod dialling;
mod exchange;
mod frames;
mod gather;
pub mod limits;
mod rate;
mod read_ahead;
mod security;
mod session;
mod status;
mod swarm_key;
mod talk;
mod task;
mod traffic;
mod transport;
mod witness;

use std::{io, sync::Arc};

use crate::bitswap::{Rates, SessionId, Wanted};
use cid::Cid;
use libp2p::{TransportError, multiaddr::Protocol, noise, tls};
use tokio::sync::{mpsc, oneshot};

pub(crate) use budget::{Budget, Budgets};
pub use libp2p::{Multiaddr, PeerId};
pub(crate) use session::{Inbox, Session, SessionEvent};
pub use status::{PeerStatus, Status};
pub use swarm_key::{SwarmKey, SwarmKeyError};
pub(crate) use task::start;

/// Which DHT a node takes part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dht {
    /// None.
    Off,
    /// The one of nodes of this program.
    #[default]
    Own,
    /// The one that IPFS nodes share.
    Public,
}

/// Where a node listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// On 127.0.0.1, on free ports.
    #[default]
    Loopback,
    /// At these addresses.
    At(Vec<Multiaddr>),
    /// Nowhere: it only dials.
    Nowhere,
}

/// How a node is run.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Where to listen.
    pub listen: Listen,
    /// Peers to stay connected with: addresses that end with the peer's id.
    pub peers: Vec<Multiaddr>,
    /// Which DHT to take part in.
    pub dht: Dht,
    /// Whether to look for peers on the local network, and be found there.
    pub mdns: bool,
    /// Whether to carry connections of peers that cannot reach each other.
    pub relay: bool,
    /// Key of the private network, if the node is to be in one.
    pub private: Option<SwarmKey>,
    /// How fast blocks go.
    pub rates: Rates,
}

/// Why a node cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// QUIC has no private networks.
    #[error("{address} is QUIC, and private networks are over TCP only")]
    QuicInPrivate {
        /// What was asked for.
        address: Multiaddr,
    },
    /// An address of a peer does not say who is there.
    #[error("{address} does not end with the id of a peer, `/p2p/…`")]
    NoPeerId {
        /// What was asked for.
        address: Multiaddr,
    },
    /// It is not possible to listen on an address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why not.
        #[source]
        cause: TransportError<io::Error>,
    },
    /// A listener does not come up.
    #[error("no address of {address} came up")]
    ListenTimeout {
        /// What was asked for.
        address: Multiaddr,
    },
    /// The node's key cannot be used for encryption.
    #[error("cannot use the node's key")]
    Noise(#[source] noise::Error),
    /// The node's key cannot be used for a certificate.
    #[error("cannot use the node's key for TLS")]
    Tls(#[source] tls::certificate::GenError),
    /// The system's resolver of names is not configured.
    #[error("cannot read how names are resolved")]
    Resolver(#[source] io::Error),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
    /// Other nodes of the local network cannot be looked for.
    #[error("cannot look for peers on the local network")]
    Mdns(#[source] io::Error),
}

impl NodeOptions {
    /// Where to listen, checked.
    fn listen(&self) -> Result<Vec<Multiaddr>, NodeError> {
        let default = || {
            let tcp = "/ip4/127.0.0.1/tcp/0";
            let quic = "/ip4/127.0.0.1/udp/0/quic-v1";
            let all = [Some(tcp), self.private.is_none().then_some(quic)];
            all.into_iter()
                .flatten()
                .map(|text| text.parse().expect("it is an address"))
                .collect()
        };
        match &self.listen {
            Listen::Loopback => Ok(default()),
            Listen::Nowhere => Ok(Vec::new()),
            Listen::At(addresses) => addresses
                .iter()
                .map(|address| self.check(address).map(|()| address.clone()))
                .collect(),
        }
    }

    /// Peers to stay connected with, checked.
    fn peers(&self) -> Result<Vec<(PeerId, Multiaddr)>, NodeError> {
        self.peers_at(&self.peers)
    }

    /// The peers that addresses lead to, checked.
    pub(crate) fn peers_at(
        &self,
        addresses: &[Multiaddr],
    ) -> Result<Vec<(PeerId, Multiaddr)>, NodeError> {
        addresses.iter().map(|a| self.peer(a)).collect()
    }

    fn peer(&self, address: &Multiaddr) -> Result<(PeerId, Multiaddr), NodeError> {
        self.check(address)?;
        Ok((peer_of(address)?, address.clone()))
    }

    fn check(&self, address: &Multiaddr) -> Result<(), NodeError> {
        let quic = |part| matches!(part, Protocol::Quic | Protocol::QuicV1);
        if self.private.is_some() && address.iter().any(quic) {
            return Err(NodeError::QuicInPrivate {
                address: address.clone(),
            });
        }
        Ok(())
    }
}

/// The peer that an address leads to.
///
/// # Errors
/// It does not say.
pub fn peer_of(address: &Multiaddr) -> Result<PeerId, NodeError> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Ok(peer),
        _ => Err(NodeError::NoPeerId {
            address: address.clone(),
        }),
    }
}

/// What the task that owns the swarm is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Say what the node is and does.
    Status(oneshot::Sender<Status>),
    /// Open a session with peers.
    OpenSession {
        from: Providers,
        reply: oneshot::Sender<(SessionId, Arc<Inbox>)>,
    },
    /// Want more blocks.
    Want {
        session: SessionId,
        wants: Vec<Wanted>,
    },
    /// Ask for more again: what came was taken.
    GoOn { session: SessionId },
    /// Close a session.
    CloseSession { session: SessionId },
    /// Look again at what peers wait for, and tell the DHT that these snapshots are to be had here,
    /// and no others.
    Changed { public: Vec<Cid> },
    /// Ask a member to cosign: the body of a request, and where the answer goes, a status code and a body.
    Cosign {
        peer: PeerId,
        body: Vec<u8>,
        reply: oneshot::Sender<io::Result<(u16, Vec<u8>)>>,
    },
    /// Say goodbye to all peers, and end.
    Stop,
}

/// Whom a session asks.
#[derive(Debug)]
pub(crate) enum Providers {
    /// These peers, which are dialled.
    Named(Vec<(PeerId, Multiaddr)>),
    /// All peers that are connected, and who the DHT says has the snapshot.
    Known(Cid),
}

/// Speaks to the task that owns the swarm. When all handles are gone, the node stops too.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    download: Budget,
}

/// The node has stopped.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the node has stopped")]
pub(crate) struct Stopped;

impl Handle {
    /// What everybody together may be asked for.
    pub(crate) fn download(&self) -> &Budget {
        &self.download
    }

    /// What the node is and does.
    pub(crate) async fn status(&self) -> Result<Status, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Status(reply))
            .await
            .map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Says that there may be other blocks, or that others may have them; and which snapshots everyone
    /// may have. The DHT is told of these, and peers that wait are answered.
    pub(crate) async fn changed(&self, public: Vec<Cid>) {
        // A node that has stopped provides nothing.
        let _ = self.commands.send(Command::Changed { public }).await;
    }

    /// Asks a member of the federation that is connected to cosign: gives the status code and the body of its answer.
    pub(crate) async fn cosign(&self, peer: PeerId, body: Vec<u8>) -> io::Result<(u16, Vec<u8>)> {
        let (reply, answer) = oneshot::channel();
        let asked = Command::Cosign { peer, body, reply };
        self.commands
            .send(asked)
            .await
            .map_err(|_| io::Error::other(Stopped))?;
        answer.await.map_err(|_| io::ErrorKind::NotConnected)?
    }

    /// Lets the node say goodbye to its peers and end, whoever else has a handle.
    pub(crate) async fn stop(&self) {
        // If it has stopped already, there is nothing to do.
        let _ = self.commands.send(Command::Stop).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    fn private() -> Option<SwarmKey> {
        let text = format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n", "07".repeat(32));
        Some(SwarmKey::parse(&text).expect("a key"))
    }

    #[test]
    fn listens_on_loopback_unless_told_otherwise() {
        let listen = NodeOptions::default().listen().expect("addresses");
        let expected = addresses(&["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]);
        assert_eq!(listen, expected);
        let options = NodeOptions {
            private: private(),
            ..NodeOptions::default()
        };
        assert_eq!(options.listen().expect("addresses"), expected[..1]);
    }

    #[test]
    fn quic_in_a_private_network_is_refused() {
        for quic in ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip6/::1/udp/9/quic"] {
            let options = NodeOptions {
                listen: Listen::At(addresses(&["/ip4/127.0.0.1/tcp/0", quic])),
                private: private(),
                ..NodeOptions::default()
            };
            assert!(matches!(
                options.listen(),
                Err(NodeError::QuicInPrivate { .. })
            ));
        }
    }

    #[test]
    fn an_address_of_a_peer_says_who_is_there() {
        let peer = PeerId::random();
        let with = format!("/ip4/127.0.0.1/tcp/9/p2p/{peer}");
        assert_eq!(peer_of(&addresses(&[&with])[0]).expect("a peer"), peer);
        for without in ["/ip4/127.0.0.1/tcp/9", &format!("{with}/p2p-circuit")] {
            let options = NodeOptions {
                peers: addresses(&[without]),
                ..NodeOptions::default()
            };
            assert!(matches!(options.peers(), Err(NodeError::NoPeerId { .. })));
        }
    }
}
