//! Who may connect: not too often from one address or by one peer, and nobody who was caught lying.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
    time::Instant,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};

use super::{
    limits::{
        ADDRESS_BURST, ADDRESS_PER_SECOND, BAN, BANS_MAX, PEER_BURST, PEER_PER_SECOND, RATES_MAX,
    },
    rate::Rates,
};

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Its address connects too often.
    #[error("too many connections from this address")]
    Address,
    /// The peer connects too often.
    #[error("too many connections by this peer")]
    Peer,
    /// The peer was caught lying.
    #[error("the peer is kept out")]
    Banned,
}

/// Refuses connections, and closes those of peers that get banned.
#[derive(Debug)]
pub(super) struct Admission {
    addresses: Rates<IpAddr>,
    peers: Rates<PeerId>,
    bans: HashMap<PeerId, Instant>,
    closing: Vec<PeerId>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            addresses: Rates::new(ADDRESS_BURST, ADDRESS_PER_SECOND, RATES_MAX),
            peers: Rates::new(PEER_BURST, PEER_PER_SECOND, RATES_MAX),
            bans: HashMap::new(),
            closing: Vec::new(),
        }
    }
}

impl Admission {
    /// Closes the connections of a peer, and refuses new ones for some time. True if it was not
    /// banned already.
    pub(super) fn ban(&mut self, peer: PeerId) -> bool {
        let now = Instant::now();
        self.bans.retain(|_, until| *until > now);
        if self.bans.len() >= BANS_MAX
            && !self.bans.contains_key(&peer)
            && let Some(oldest) = self.bans.iter().min_by_key(|(_, until)| **until)
        {
            let oldest = *oldest.0;
            self.bans.remove(&oldest);
        }
        let new = self.bans.insert(peer, now + BAN).is_none();
        if !self.closing.contains(&peer) {
            self.closing.push(peer);
        }
        new
    }

    fn check(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        match self.bans.get(peer) {
            Some(until) if *until > Instant::now() => Err(ConnectionDenied::new(Refused::Banned)),
            _ => Ok(()),
        }
    }
}

/// What counts as one address: an IPv6 host has a whole /64.
fn source(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => {
            let network = u128::from(ip) >> 64 << 64;
            Some(std::net::Ipv6Addr::from(network).into())
        }
        _ => None,
    })
}

impl NetworkBehaviour for Admission {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match source(remote) {
            Some(ip) if !self.addresses.allows(Instant::now(), ip) => {
                Err(ConnectionDenied::new(Refused::Address))
            }
            _ => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(&peer)?;
        if !self.peers.allows(Instant::now(), peer) {
            return Err(ConnectionDenied::new(Refused::Peer));
        }
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(&peer)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.closing.pop() {
            Some(peer_id) => Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::All,
            }),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let of = |text: &str| source(&text.parse().expect("an address"));
        assert_eq!(
            of("/ip6/2001:db8::1/tcp/1"),
            of("/ip6/2001:db8::ffff:2/udp/9/quic-v1")
        );
        assert_ne!(
            of("/ip6/2001:db8::1/tcp/1"),
            of("/ip6/2001:db8:0:1::1/tcp/1")
        );
        assert_ne!(of("/ip4/10.0.0.1/tcp/1"), of("/ip4/10.0.0.2/tcp/1"));
        assert_eq!(of("/memory/1"), None);
    }

    #[test]
    fn a_banned_peer_is_refused_and_bans_are_bounded() {
        let mut admission = Admission::default();
        let peer = PeerId::random();
        assert!(admission.check(&peer).is_ok());
        assert!(admission.ban(peer));
        assert!(!admission.ban(peer));
        assert!(admission.check(&peer).is_err());
        for _ in 0..BANS_MAX + 9 {
            admission.ban(PeerId::random());
        }
        assert_eq!(admission.bans.len(), BANS_MAX);
    }

    #[test]
    fn a_flood_from_one_address_is_refused() {
        let mut admission = Admission::default();
        let local: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
        let accepted = (0..1000)
            .filter(|_| {
                admission
                    .handle_pending_inbound_connection(
                        ConnectionId::new_unchecked(1),
                        &local,
                        &local,
                    )
                    .is_ok()
            })
            .count();
        assert!(
            (ADDRESS_BURST as usize..2 * ADDRESS_BURST as usize).contains(&accepted),
            "{accepted}"
        );
    }
}
