//! Trustless gateways as sources of blocks: which of them is asked for what, and what becomes of it.
//!
//! Each is asked for several blocks at once. What one of them does not have, or sends too slowly, is asked for
//! elsewhere; one that sends something else than a block is not asked again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use cid::Cid;
use tokio::{runtime, task::JoinSet};

use super::{
    PullError,
    fetch::{Client, FetchError, GatewayUrl},
};
use crate::{
    bitswap::Wanted,
    node::{Budget, Inbox, SessionEvent},
};
use protocol::block::Block;

/// Most gateways of a pull.
pub(crate) const GATEWAYS_MAX: usize = 16;
/// Blocks that one gateway is asked for at once: at 100 ms, enough for 100 MB/s and more.
const WINDOW: usize = 32;
/// Blocks that all of them are asked for at once, where each is asked for few already.
const WINDOW_OF_ALL: usize = 96;
/// Blocks that one gateway is asked for at least.
const WINDOW_MIN: usize = 4;
/// Bytes that a block of unknown size counts as until it came: it is a directory, or the first of a file.
const SIZE_EXPECTED: u64 = 64 << 10;
/// Blocks that peers are asked for while gateways are asked for others.
const PEERS_WINDOW: usize = 256;
/// After how long a block is asked for elsewhere too, when there is nothing else to ask for.
const SLOW_WAIT: Duration = Duration::from_secs(3);
/// First wait after a failure; it doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Longest of these waits.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Failures one after the other, after which nobody waits for a gateway any more.
const FAILURES_MAX: u32 = 5;

/// What became of asking a gateway for a block.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Which gateway, in the order in which they were named.
    pub(crate) gateway: usize,
    /// The block.
    pub(crate) cid: Cid,
    /// Bytes that it counted as.
    pub(crate) drawn: u64,
    pub(crate) outcome: Result<Block, FetchError>,
}

/// The gateways of a pull, and the blocks that are wanted.
#[derive(Debug)]
pub(super) struct Gateways {
    client: Arc<Client>,
    threads: runtime::Handle,
    inbox: Arc<Inbox>,
    download: Budget,
    /// Bytes that were drawn for what has not come.
    drawn: u64,
    /// Ended when this is dropped.
    tasks: JoinSet<()>,
    gateways: Vec<Gateway>,
    window: usize,
    wants: HashMap<Cid, Want>,
    /// Wants that nobody is asked for; and some that are gone.
    waiting: VecDeque<Cid>,
    /// Whether there are peers to be asked too, and how many are connected.
    peers: Option<usize>,
    /// Wants that peers are asked for.
    at_peers: usize,
}

#[derive(Debug)]
struct Gateway {
    url: GatewayUrl,
    in_flight: usize,
    /// Failures one after the other.
    failures: u32,
    paused_until: Option<Instant>,
    kept_out: bool,
}

#[derive(Debug)]
struct Want {
    wanted: Wanted,
    /// Gateways that are being asked, a bit each.
    asked: u32,
    /// Gateways that do not have it.
    lacking: u32,
    peers: AtPeers,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtPeers {
    NotAsked,
    Asked,
    Lacking,
}

/// What can be done about a want now.
enum Chance {
    Gateway(usize),
    Peers,
    /// There is nobody to be asked now.
    None,
}

impl Gateways {
    /// Makes ready to ask gateways; what comes is put into `inbox`.
    pub(super) fn new(
        urls: &[GatewayUrl],
        threads: &runtime::Handle,
        inbox: Arc<Inbox>,
        download: Budget,
        has_peers: bool,
    ) -> Result<Self, PullError> {
        let mut gateways: Vec<Gateway> = Vec::new();
        for url in urls {
            if gateways.iter().all(|gateway| gateway.url != *url) {
                gateways.push(Gateway {
                    url: url.clone(),
                    in_flight: 0,
                    failures: 0,
                    paused_until: None,
                    kept_out: false,
                });
            }
        }
        if gateways.len() > GATEWAYS_MAX {
            return Err(PullError::TooManyGateways);
        }
        Ok(Self {
            client: Arc::new(Client::new(WINDOW).map_err(PullError::Client)?),
            threads: threads.clone(),
            inbox,
            download,
            drawn: 0,
            tasks: JoinSet::new(),
            window: (WINDOW_OF_ALL / gateways.len().max(1)).clamp(WINDOW_MIN, WINDOW),
            gateways,
            wants: HashMap::new(),
            waiting: VecDeque::new(),
            peers: has_peers.then_some(0),
            at_peers: 0,
        })
    }

    /// The gateways, in order.
    pub(super) fn urls(&self) -> impl Iterator<Item = &GatewayUrl> {
        self.gateways.iter().map(|gateway| &gateway.url)
    }

    /// Wants more blocks.
    pub(super) fn want(&mut self, wants: Vec<Wanted>) {
        let since = Instant::now();
        for wanted in wants {
            let want = Want {
                wanted,
                asked: 0,
                lacking: 0,
                peers: AtPeers::NotAsked,
                since,
            };
            self.waiting.push_back(want.wanted.cid);
            self.wants.insert(want.wanted.cid, want);
        }
    }

    /// Notes that a block is here, whoever sent it.
    pub(super) fn came(&mut self, cid: &Cid) {
        if let Some(want) = self.wants.remove(cid)
            && want.peers == AtPeers::Asked
        {
            self.at_peers -= 1;
        }
    }

    /// Notes that a peer is connected, or is not any more.
    pub(super) fn peers(&mut self, connected: bool) {
        if let Some(peers) = &mut self.peers {
            *peers = match connected {
                true => *peers + 1,
                false => peers.saturating_sub(1),
            };
        }
    }

    /// Notes that no peer has these blocks; they are asked for at gateways then.
    pub(super) fn peers_lack(&mut self, cids: &[Cid]) {
        for cid in cids {
            let Some(want) = self.wants.get_mut(cid) else {
                continue;
            };
            if want.peers == AtPeers::Asked {
                self.at_peers -= 1;
            }
            want.peers = AtPeers::Lacking;
            if want.asked == 0 {
                self.waiting.push_back(*cid);
            }
        }
    }

    /// Notes what became of asking a gateway.
    pub(super) fn fetched(&mut self, fetched: &Fetched) {
        let now = Instant::now();
        let bit = 1 << fetched.gateway;
        let gateway = &mut self.gateways[fetched.gateway];
        gateway.in_flight -= 1;
        self.drawn -= fetched.drawn;
        match &fetched.outcome {
            Ok(block) => {
                gateway.failures = 0;
                self.download.give_back(fetched.drawn);
                self.download.draw(block.bytes().len() as u64);
            }
            Err(FetchError::Missing) => {
                gateway.failures = 0;
                self.download.give_back(fetched.drawn);
            }
            Err(FetchError::Later(wait)) => {
                gateway.pause(now, *wait);
                self.download.give_back(fetched.drawn);
            }
            // Nobody knows what came before that.
            Err(FetchError::Failed(_)) => gateway.fail(now),
            Err(FetchError::Refused(reason)) => {
                if !gateway.kept_out {
                    tracing::warn!(gateway = %gateway.url, %reason, "a gateway is kept out");
                }
                gateway.kept_out = true;
            }
        }
        let Some(want) = self.wants.get_mut(&fetched.cid) else {
            return;
        };
        want.asked &= !bit;
        if matches!(fetched.outcome, Err(FetchError::Missing)) {
            want.lacking |= bit;
        }
        if fetched.outcome.is_err() && want.asked == 0 && want.peers != AtPeers::Asked {
            self.waiting.push_front(fetched.cid);
        }
    }

    /// Asks gateways for what they have room for. Returns what peers are to be asked for.
    pub(super) fn ask(&mut self) -> Vec<Wanted> {
        while self.tasks.try_join_next().is_some() {}
        let now = Instant::now();
        let (mut for_peers, mut later) = (Vec::new(), Vec::new());
        loop {
            let gateways = self.gateways_have_room(now);
            if !gateways && !self.peers_have_room() {
                break;
            }
            let Some(cid) = self.waiting.pop_front() else {
                break;
            };
            let Some(want) = self.wants.get(&cid) else {
                continue;
            };
            if want.asked != 0 || want.peers == AtPeers::Asked {
                continue;
            }
            match self.chance(want, gateways, now) {
                Chance::Gateway(gateway) => self.fetch(gateway, cid, now),
                Chance::Peers => {
                    let want = self.wants.get_mut(&cid).expect("it was just found");
                    (want.peers, want.since) = (AtPeers::Asked, now);
                    self.at_peers += 1;
                    for_peers.push(want.wanted);
                }
                Chance::None => later.push(cid),
            }
        }
        self.waiting.extend(later);
        self.ask_elsewhere(now);
        for_peers
    }

    /// Blocks that nobody has who is there. To be asked now and then.
    pub(super) fn missing(&self) -> Vec<Cid> {
        let is_missing = |want: &&Want| {
            let mut gateways = self.gateways.iter().enumerate();
            let none_has_it = gateways.all(|(index, gateway)| {
                let lacks_it = want.lacking >> index & 1 == 1;
                lacks_it || gateway.kept_out || gateway.failures >= FAILURES_MAX
            });
            let peers_may = want.peers != AtPeers::Lacking && self.peers.is_some_and(|n| n > 0);
            want.asked == 0 && none_has_it && !peers_may
        };
        let missing = self.wants.values().filter(is_missing);
        missing.map(|want| want.wanted.cid).collect()
    }

    /// Whether a gateway can be asked for anything.
    fn gateways_have_room(&mut self, now: Instant) -> bool {
        let window = self.window;
        self.gateways.iter().any(|g| g.has_room(window, now)) && self.download.opens().is_ok()
    }

    fn peers_have_room(&self) -> bool {
        self.peers.is_some_and(|connected| connected > 0) && self.at_peers < PEERS_WINDOW
    }

    fn chance(&self, want: &Want, gateways: bool, now: Instant) -> Chance {
        let mut best: Option<usize> = None;
        for (index, gateway) in self.gateways.iter().enumerate() {
            let may_ask = gateways && (want.lacking | want.asked) >> index & 1 == 0;
            if may_ask
                && gateway.has_room(self.window, now)
                && best.is_none_or(|best| gateway.in_flight < self.gateways[best].in_flight)
            {
                best = Some(index);
            }
        }
        let may_peers = want.peers == AtPeers::NotAsked && self.peers_have_room();
        match best {
            // A part of what is wanted is left to the peers.
            Some(index) if !may_peers || self.at_peers >= self.gateways[index].in_flight => {
                Chance::Gateway(index)
            }
            _ if may_peers => Chance::Peers,
            _ => Chance::None,
        }
    }

    /// Asks idle gateways for what others are slow with.
    fn ask_elsewhere(&mut self, now: Instant) {
        if !self.gateways_have_room(now) {
            return;
        }
        let is_slow = |want: &&Want| {
            now.saturating_duration_since(want.since) > SLOW_WAIT && want.asked.count_ones() < 2
        };
        let slow: Vec<Cid> = self
            .wants
            .values()
            .filter(is_slow)
            .map(|w| w.wanted.cid)
            .collect();
        for cid in slow {
            let gateways = self.gateways_have_room(now);
            let want = self.wants.get(&cid).expect("it was just found");
            if let Chance::Gateway(gateway) = self.chance(want, gateways, now) {
                self.fetch(gateway, cid, now);
            }
        }
    }

    fn fetch(&mut self, index: usize, cid: Cid, now: Instant) {
        let gateway = &mut self.gateways[index];
        gateway.in_flight += 1;
        let mut drawn = SIZE_EXPECTED;
        if let Some(want) = self.wants.get_mut(&cid) {
            want.asked |= 1 << index;
            want.since = now;
            drawn = want.wanted.size.map_or(SIZE_EXPECTED, u64::from);
        }
        self.download.draw(drawn);
        self.drawn += drawn;
        let (client, url, inbox) = (self.client.clone(), gateway.url.clone(), self.inbox.clone());
        let fetch = async move {
            let outcome = client.fetch(&url, &cid).await;
            // What waits is bounded by what is asked for: it counts as such until it is taken.
            inbox.put(SessionEvent::Fetched(Fetched {
                gateway: index,
                cid,
                drawn,
                outcome,
            }));
        };
        self.tasks.spawn_on(fetch, &self.threads);
    }
}

impl Drop for Gateways {
    fn drop(&mut self) {
        // What is on its way is not waited for.
        self.download.give_back(self.drawn);
    }
}

impl Gateway {
    fn has_room(&self, window: usize, now: Instant) -> bool {
        // After a failure one request has to show that it works again.
        let window = if self.failures > 0 { 1 } else { window };
        !self.kept_out
            && self.in_flight < window
            && self.paused_until.is_none_or(|until| until <= now)
    }

    fn fail(&mut self, now: Instant) {
        if self.paused_until.is_none_or(|until| until <= now) {
            let pause = PAUSE_FIRST * 2u32.saturating_pow(self.failures);
            self.failures = self.failures.saturating_add(1);
            self.pause(now, pause);
        }
    }

    fn pause(&mut self, now: Instant, wait: Duration) {
        self.paused_until = Some(now + wait.min(PAUSE_MAX));
    }
}
