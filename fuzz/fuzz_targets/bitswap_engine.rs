//! The exchange, told anything in any order: its limits and promises hold.
#![no_main]

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use bytes::Bytes;
use cid::Cid;
use libfuzzer_sys::fuzz_target;
use libp2p_identity::PeerId;
use souverain_agent::bitswap::{
    Answer, Config, Effect, Engine, Input, MessageId, Now, Protocol, Rates, Schedule, SessionId,
    Ticket, Wanted, limits,
    message::{Entry, Payload, Presence, Request, WireMessage},
};
use souverain_protocol::block::{raw_cid, sha256};

const PEERS: u8 = 6;
const BLOCKS: u8 = 24;
/// Blocks from this one on are not for anybody.
const DENIED: u8 = 18;

static PEER_IDS: LazyLock<Vec<PeerId>> = LazyLock::new(|| {
    let id = |i: u8| PeerId::from_bytes(&[&[0x12, 0x20], &sha256(&[i])[..]].concat());
    (0..PEERS).map(|i| id(i).expect("a multihash")).collect()
});
static BLOCK_BYTES: LazyLock<Vec<(Cid, Bytes)>> = LazyLock::new(|| {
    let block = |i: u8| {
        // The two largest do not fit into one message.
        let size = match i {
            0..14 => 1 << i,
            14 | 15 => 600 << 10,
            _ => 10_000,
        };
        let bytes = vec![i; size];
        (raw_cid(&sha256(&bytes)), Bytes::from(bytes))
    };
    (0..BLOCKS).map(block).collect()
});

struct Bench<'a> {
    script: &'a [u8],
    engine: Engine,
    now: Duration,
    connected: BTreeSet<PeerId>,
    banned: BTreeSet<PeerId>,
    wanted: BTreeSet<(SessionId, Cid)>,
    sent: Vec<(PeerId, MessageId)>,
    lookups: Vec<(Ticket, Vec<Cid>)>,
    loads: Vec<(Ticket, Vec<Cid>)>,
    found: BTreeSet<Cid>,
}

impl<'a> Bench<'a> {
    fn byte(&mut self) -> u8 {
        match self.script.split_first() {
            Some((first, rest)) => {
                self.script = rest;
                *first
            }
            None => 0,
        }
    }

    fn peer(&mut self) -> PeerId {
        PEER_IDS[usize::from(self.byte() % PEERS)]
    }

    fn block(&mut self) -> &'static (Cid, Bytes) {
        &BLOCK_BYTES[usize::from(self.byte() % BLOCKS)]
    }

    fn session(&mut self) -> SessionId {
        SessionId(u64::from(self.byte() % 3))
    }

    fn message(&mut self) -> WireMessage {
        let mut message = WireMessage::default();
        message.wantlist.full = self.byte() % 16 == 0;
        for _ in 0..self.byte() % 8 {
            let cid = self.block().0;
            let kind = self.byte();
            match kind % 8 {
                0 | 1 => message.presences.push(Presence {
                    cid,
                    have: kind & 8 == 0,
                }),
                2 | 3 => {
                    let bytes = self.block().1.clone();
                    message.blocks.push(Payload::new(&cid, bytes));
                }
                4 if kind & 8 != 0 => {
                    message
                        .blocks
                        .push(Payload::new(&cid, Bytes::from_static(b"wrong")));
                }
                other => message.wantlist.entries.push(Entry {
                    cid,
                    priority: i32::from(kind / 16),
                    request: match other {
                        5 => Request::Have,
                        6 => Request::Cancel,
                        _ => Request::Block,
                    },
                    send_dont_have: kind & 8 == 0,
                }),
            }
        }
        message
    }

    fn input(&mut self) -> Input {
        let kind = self.byte();
        match kind % 20 {
            0 => Input::Connected {
                peer: self.peer(),
                protocol: if kind < 200 {
                    Protocol::V1_2
                } else {
                    Protocol::V1_1
                },
            },
            1 if kind > 100 => Input::Disconnected { peer: self.peer() },
            2..=5 => {
                let peer = self.peer();
                let message = self.message().verify().expect("small");
                Input::Message { peer, message }
            }
            6 => {
                let peer = self.peer();
                let len = usize::from(self.byte()).min(self.script.len());
                let (bytes, rest) = self.script.split_at(len);
                self.script = rest;
                match WireMessage::decode(Bytes::copy_from_slice(bytes))
                    .and_then(WireMessage::verify)
                {
                    Ok(message) => Input::Message { peer, message },
                    Err(error) => Input::Malformed { peer, error },
                }
            }
            7 | 8 if !self.sent.is_empty() => {
                let i = usize::from(self.byte()) % self.sent.len();
                let (peer, message) = self.sent.swap_remove(i);
                if kind < 200 {
                    Input::Sent { peer, message }
                } else {
                    Input::SendFailed { peer, message }
                }
            }
            9 | 10 if !self.lookups.is_empty() => {
                let i = usize::from(self.byte()) % self.lookups.len();
                let (ticket, cids) = self.lookups.swap_remove(i);
                let answers = cids.iter().map(|cid| self.answer(cid)).collect();
                Input::Found { ticket, answers }
            }
            11 | 12 if !self.loads.is_empty() => {
                let i = usize::from(self.byte()) % self.loads.len();
                let (ticket, cids) = self.loads.swap_remove(i);
                let lost = self.byte() % 8 == 0;
                let load = |cid: &Cid| {
                    let block = BLOCK_BYTES.iter().find(|block| block.0 == *cid);
                    block.filter(|_| !lost).map(|block| block.1.clone())
                };
                let blocks = cids.iter().map(load).collect();
                Input::Loaded { ticket, blocks }
            }
            13 => {
                let session = self.session();
                if kind < 220 {
                    Input::OpenSession { session }
                } else {
                    self.wanted.retain(|(of, _)| *of != session);
                    Input::CloseSession { session }
                }
            }
            14 => Input::AddPeer {
                session: self.session(),
                peer: self.peer(),
            },
            15 | 16 => {
                let session = self.session();
                let cid = self.block().0;
                if kind > 240 {
                    self.wanted.remove(&(session, cid));
                    let cids = vec![cid];
                    return Input::Unwant { session, cids };
                }
                self.wanted.insert((session, cid));
                let size = (kind & 64 != 0).then_some(u32::from(kind) << 12);
                let wants = vec![Wanted { cid, size }];
                Input::Want { session, wants }
            }
            17 => Input::Changed,
            18 => match self.byte() % 4 {
                0 => Input::Hold {
                    session: self.session(),
                    held: kind < 128,
                },
                1 => Input::Receiving { peer: self.peer() },
                2 => Input::Sending { peer: self.peer() },
                _ => Input::SetRates {
                    rates: Rates {
                        upload: Schedule::constant(u64::from(self.byte()) << 12),
                        download: Schedule::constant(u64::from(self.byte()) << 12),
                        ..Rates::default()
                    },
                },
            },
            _ => {
                let passed = Duration::from_millis(u64::from(self.byte()) * 40);
                self.now += passed;
                Input::Tick
            }
        }
    }

    fn answer(&mut self, cid: &Cid) -> Answer {
        let index = BLOCK_BYTES.iter().position(|block| block.0 == *cid);
        match index {
            None => Answer::Absent,
            Some(i) if i >= usize::from(DENIED) => Answer::Denied,
            Some(_) if self.byte() % 4 == 0 => Answer::Absent,
            Some(i) => {
                self.found.insert(*cid);
                Answer::Here(u32::try_from(BLOCK_BYTES[i].1.len()).expect("small"))
            }
        }
    }

    fn step(&mut self, input: Input) {
        match &input {
            Input::Connected { peer, .. } if !self.banned.contains(peer) => {
                self.connected.insert(*peer);
            }
            Input::Disconnected { peer } => {
                self.connected.remove(peer);
                self.sent.retain(|(of, _)| of != peer);
            }
            _ => {}
        }
        let ticked = matches!(input, Input::Tick);
        let now = Now {
            elapsed: self.now,
            minute_of_day: 0,
        };
        self.engine.handle(now, input);
        while let Some(effect) = self.engine.effect() {
            self.effect(effect);
        }
        if ticked {
            let deadline = self.engine.deadline();
            assert!(deadline.is_none_or(|at| at > self.now), "busy");
        }
        let held = self.engine.held();
        assert_eq!(held.peers, self.connected.len());
        assert!(held.loads <= limits::LOADS_IN_FLIGHT_MAX);
        assert!(held.lookups <= usize::from(PEERS) + self.lookups.len());
        assert!(held.untaken_bytes <= limits::UNTAKEN_BYTES_MAX + limits::MESSAGE_SIZE_MAX);
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send {
                peer, id, message, ..
            } => {
                assert!(self.connected.contains(&peer), "sends to who is not there");
                assert!(!message.is_empty());
                assert!(message.encoded_len() <= limits::MESSAGE_SIZE_MAX);
                for payload in &message.blocks {
                    let same = |block: &&(Cid, Bytes)| block.1.as_ptr() == payload.bytes.as_ptr();
                    let block = BLOCK_BYTES.iter().find(same).expect("no copy");
                    assert!(self.found.contains(&block.0), "sends what was not allowed");
                }
                self.sent.push((peer, id));
            }
            Effect::Lookup { ticket, cids, .. } => self.lookups.push((ticket, cids)),
            Effect::Load { ticket, cids, .. } => {
                assert!(cids.iter().all(|cid| self.found.contains(cid)));
                self.loads.push((ticket, cids));
            }
            Effect::Block { session, block, .. } => {
                let wanted = self.wanted.remove(&(session, *block.cid()));
                assert!(wanted, "delivers what is not wanted, or twice");
                assert_eq!(raw_cid(&sha256(block.bytes())), *block.cid());
            }
            Effect::Refused { session, cid, .. } => {
                self.wanted.remove(&(session, cid));
            }
            Effect::Misbehaved { peer, .. } => {
                assert!(self.banned.insert(peer), "said twice");
                self.connected.remove(&peer);
                self.sent.retain(|(of, _)| *of != peer);
            }
            Effect::Missing { .. } | Effect::Silent { .. } | Effect::Stalled { .. } => {}
        }
    }
}

fuzz_target!(|script: &[u8]| {
    let mut bench = Bench {
        script,
        engine: Engine::new(Config::default()),
        now: Duration::ZERO,
        connected: BTreeSet::new(),
        banned: BTreeSet::new(),
        wanted: BTreeSet::new(),
        sent: Vec::new(),
        lookups: Vec::new(),
        loads: Vec::new(),
        found: BTreeSet::new(),
    };
    while !bench.script.is_empty() {
        let input = bench.input();
        bench.step(input);
    }
    // Whatever happened, nothing stays when everybody has gone.
    for peer in PEER_IDS.iter() {
        bench.step(Input::Disconnected { peer: *peer });
    }
    for session in (0..3).map(SessionId) {
        bench.step(Input::CloseSession { session });
    }
    for (ticket, _) in std::mem::take(&mut bench.loads) {
        let blocks = Vec::new();
        bench.step(Input::Loaded { ticket, blocks });
    }
    for (ticket, _) in std::mem::take(&mut bench.lookups) {
        let answers = Vec::new();
        bench.step(Input::Found { ticket, answers });
    }
    assert_eq!(bench.engine.held(), Default::default());
});
