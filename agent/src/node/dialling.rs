//! Keeps the connections that were asked for: dials again, less and less often.

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::limits::{ADDRESSES_PER_PEER_MAX, REDIAL_FIRST, REDIAL_MAX};

/// Peers to stay connected with.
#[derive(Debug, Default)]
pub(super) struct Dialling {
    peers: HashMap<PeerId, Wanted>,
}

#[derive(Debug)]
struct Wanted {
    addresses: Vec<Multiaddr>,
    /// When to dial next; nothing while connected.
    next: Option<Instant>,
    wait: std::time::Duration,
}

impl Dialling {
    /// Wants a connection from now on, unless there is one.
    pub(super) fn want(&mut self, now: Instant, peer: PeerId, address: Multiaddr, connected: bool) {
        let wanted = self.peers.entry(peer).or_insert(Wanted {
            addresses: Vec::new(),
            next: (!connected).then_some(now),
            wait: REDIAL_FIRST,
        });
        if wanted.addresses.len() < ADDRESSES_PER_PEER_MAX && !wanted.addresses.contains(&address) {
            wanted.addresses.push(address);
            if !connected {
                wanted.next = Some(now);
                wanted.wait = REDIAL_FIRST;
            }
        }
    }

    /// Does not want a connection any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// When somebody is to be dialled next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.peers.values().filter_map(|wanted| wanted.next).min()
    }

    /// Who is to be dialled now. Each comes again later, unless it gets connected.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut due = Vec::new();
        for (peer, wanted) in &mut self.peers {
            if wanted.next.is_some_and(|next| next <= now) {
                wanted.next = Some(now + wanted.wait);
                wanted.wait = (wanted.wait * 2).min(REDIAL_MAX);
                due.push((*peer, wanted.addresses.clone()));
            }
        }
        due
    }

    /// Is told that a peer is connected.
    pub(super) fn connected(&mut self, peer: &PeerId) {
        if let Some(wanted) = self.peers.get_mut(peer) {
            wanted.next = None;
            wanted.wait = REDIAL_FIRST;
        }
    }

    /// Is told that the last connection with a peer is gone.
    pub(super) fn disconnected(&mut self, now: Instant, peer: &PeerId) {
        if let Some(wanted) = self.peers.get_mut(peer) {
            wanted.next = Some(now + wanted.wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dials_again_less_and_less_often_until_connected() {
        let (mut dialling, start, peer) = (Dialling::default(), Instant::now(), PeerId::random());
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
        dialling.want(start, peer, address.clone(), false);
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert_eq!(dialling.due(now), [(peer, vec![address.clone()])]);
            assert!(dialling.due(now).is_empty());
            let next = dialling.next().expect("not connected yet");
            waits.push(next - now);
            now = next;
        }
        assert_eq!((waits[0], waits[9]), (REDIAL_FIRST, REDIAL_MAX));
        dialling.connected(&peer);
        assert_eq!(dialling.next(), None);
        dialling.disconnected(now, &peer);
        assert_eq!(dialling.next(), Some(now + REDIAL_FIRST));
        // Another address is tried at once.
        dialling.want(now, peer, address.clone(), false);
        assert_eq!(dialling.next(), Some(now + REDIAL_FIRST));
        let other: Multiaddr = "/ip4/127.0.0.1/tcp/2".parse().expect("an address");
        dialling.want(now, peer, other.clone(), false);
        assert_eq!(dialling.due(now), [(peer, vec![address, other])]);
    }
}
