//! Who may be connected: a bounded number, and few of one address. Who asks nothing makes room for
//! who comes.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;

use super::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX};

/// The places for connections.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Counts connections, and the times when one began to wait.
    count: u64,
    places: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    network: IpAddr,
    /// Answers that are made or sent.
    busy: u32,
    /// Since when there are none.
    since: u64,
    leave: Arc<Notify>,
}

/// A place of a connection, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    places: Arc<Places>,
    leave: Arc<Notify>,
}

/// Keeps a connection from having to leave, until this is dropped.
#[derive(Debug)]
pub(super) struct Busy {
    id: u64,
    places: Arc<Places>,
}

impl Places {
    /// A place for a connection from an address, if there is one, or another connection can leave.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut taken = self.taken();
        let of_network = taken.places.values().filter(|e| e.network == network);
        if of_network.count() >= CONNECTIONS_PER_ADDRESS_MAX {
            taken.make_room(|entry| entry.network == network)?;
        } else if taken.places.len() >= CONNECTIONS_MAX {
            taken.make_room(|_| true)?;
        }
        let id = taken.next();
        let leave = Arc::new(Notify::new());
        let entry = Entry {
            network,
            busy: 0,
            since: id,
            leave: leave.clone(),
        };
        taken.places.insert(id, entry);
        let places = self.clone();
        Some(Place { id, places, leave })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().expect("no panic while it is held")
    }
}

impl Taken {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Lets the connection leave that has waited longest.
    fn make_room(&mut self, among: impl Fn(&Entry) -> bool) -> Option<()> {
        let waiting = self.places.iter().filter(|(_, e)| e.busy == 0 && among(e));
        let (_, id) = waiting.map(|(id, entry)| (entry.since, *id)).min()?;
        self.places.remove(&id)?.leave.notify_one();
        Some(())
    }
}

impl Place {
    /// Waits until the connection has to leave.
    pub(super) async fn left(&self) {
        self.leave.notified().await;
    }

    /// Says that the connection is busy with an answer.
    pub(super) fn busy(&self) -> Busy {
        if let Some(entry) = self.places.taken().places.get_mut(&self.id) {
            entry.busy += 1;
        }
        Busy {
            id: self.id,
            places: self.places.clone(),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        let now = taken.next();
        if let Some(entry) = taken.places.get_mut(&self.id) {
            entry.busy -= 1;
            entry.since = now;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().places.remove(&self.id);
    }
}

/// What counts as one address: an IPv6 host has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, n])
    }

    fn has_to_leave(place: &Place) -> bool {
        !place.places.taken().places.contains_key(&place.id)
    }

    #[test]
    fn who_waits_longest_makes_room_and_who_is_busy_stays() {
        let places = Arc::new(Places::default());
        let mut inside: Vec<Place> = Vec::new();
        for n in 0..CONNECTIONS_MAX {
            let source = u8::try_from(n / CONNECTIONS_PER_ADDRESS_MAX).expect("few");
            inside.push(places.enter(address(source)).expect("there is room"));
        }
        let busy = inside[0].busy();
        drop(inside[1].busy());
        let new = places.enter(address(200)).expect("one makes room");
        assert!(has_to_leave(&inside[2]), "it waited longest");
        for stays in [&inside[0], &inside[1], &inside[3], &new] {
            assert!(!has_to_leave(stays));
        }
        drop(busy);
        let all: Vec<Busy> = inside.iter().map(Place::busy).collect();
        let newest = new.busy();
        assert!(places.enter(address(201)).is_none(), "all are busy");
        drop((all, newest, inside, new));
        assert!(places.taken().places.is_empty());
    }

    #[test]
    fn one_address_takes_from_itself_alone() {
        let places = Arc::new(Places::default());
        let other = places.enter(address(1)).expect("there is room");
        let flood: Vec<Place> = (0..3 * CONNECTIONS_PER_ADDRESS_MAX)
            .map(|_| places.enter(address(2)).expect("one makes room"))
            .collect();
        assert!(!has_to_leave(&other));
        let left = flood.iter().filter(|place| has_to_leave(place)).count();
        assert_eq!(left, 2 * CONNECTIONS_PER_ADDRESS_MAX);
        let _busy: Vec<Busy> = flood.iter().map(Place::busy).collect();
        assert!(places.enter(address(2)).is_none());
        assert!(places.enter(address(3)).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let ip = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::2:3:4:5"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::ffff:127.0.0.1"), ip("127.0.0.1"));
    }
}
