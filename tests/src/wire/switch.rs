//! Carries frames between ports: late, and not all of them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use tun_rs::SyncDevice;

use super::{Link, namespace::hardware};
use crate::program::Random;

/// Largest frame with its headers: what segmentation offload makes of TCP.
const FRAME_SIZE_MAX: usize = (64 << 10) + 128;
/// What comes before a frame when the kernel leaves segmenting to the device.
const OFFLOAD_HEADER_SIZE: usize = 10;
/// Bytes on the way to a port; what comes on top of that is lost.
const ON_THE_WAY_MAX: usize = 256 << 20;
/// How long a frame may wait for a link that is busy; it is lost otherwise.
const LINE_MAX: Duration = Duration::from_millis(200);

/// The ports.
#[derive(Debug)]
pub(super) struct Switch {
    ports: Vec<Port>,
    offload: bool,
}

struct Port {
    device: SyncDevice,
    state: Mutex<State>,
    came: Condvar,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A port's link, and what is on its way to the port.
#[derive(Debug)]
struct State {
    link: Link,
    random: Random,
    /// When the link has sent what it was given, to the switch and from it.
    up_free: Instant,
    down_free: Instant,
    frames: BinaryHeap<Reverse<Frame>>,
    bytes: usize,
    count: u64,
    /// When the last frame of each port comes.
    last: BTreeMap<usize, Instant>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Frame {
    at: Instant,
    number: u64,
    bytes: Vec<u8>,
}

impl Switch {
    /// Joins devices by links. `offload` is how they were made.
    pub(super) fn new(seed: u64, devices: Vec<(SyncDevice, Link)>, offload: bool) -> Self {
        let now = Instant::now();
        let port = |(number, (device, link))| Port {
            device,
            state: Mutex::new(State {
                link,
                random: Random::seeded(&format!("port {number}"), seed),
                up_free: now,
                down_free: now,
                frames: BinaryHeap::new(),
                bytes: 0,
                count: 0,
                last: BTreeMap::new(),
            }),
            came: Condvar::new(),
        };
        Self {
            ports: devices.into_iter().enumerate().map(port).collect(),
            offload,
        }
    }

    /// Carries frames from now on, on threads of its own, until the process ends.
    pub(super) fn run(self) -> Arc<Self> {
        let switch = Arc::new(self);
        for number in 0..switch.ports.len() {
            let taking = switch.clone();
            thread::spawn(move || taking.take(number));
            let delivering = switch.clone();
            thread::spawn(move || delivering.ports[number].deliver());
        }
        switch
    }

    /// Changes a link. False if there is no such port.
    pub(super) fn set(&self, port: usize, link: Link) -> bool {
        let Some(port) = self.ports.get(port) else {
            return false;
        };
        port.lock().link = link;
        true
    }

    /// Takes what a port sends.
    fn take(&self, from: usize) {
        let mut buffer = vec![0; FRAME_SIZE_MAX];
        while let Ok(len) = rustix::io::read(&self.ports[from].device, &mut buffer[..]) {
            let frame = &buffer[..len];
            if let Some(to) = self.destination(frame) {
                let sent = self.ports[from].lock().send(Instant::now(), len);
                if let Some(at) = sent {
                    self.ports[to].put(from, at, frame.to_vec());
                }
            }
        }
    }

    /// The port that a frame is for, if it is for one.
    fn destination(&self, frame: &[u8]) -> Option<usize> {
        let start = if self.offload { OFFLOAD_HEADER_SIZE } else { 0 };
        let address = frame.get(start..start + 6)?;
        (0..self.ports.len()).find(|port| hardware(*port) == address)
    }
}

impl Port {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    /// Adds a frame that is at the switch at a time.
    fn put(&self, from: usize, at: Instant, bytes: Vec<u8>) {
        let mut state = self.lock();
        let Some(at) = state.receive(at, bytes.len()) else {
            return;
        };
        if state.bytes + bytes.len() > ON_THE_WAY_MAX {
            return;
        }
        let last = state.last.entry(from).or_insert(at);
        *last = at.max(*last);
        let at = *last;
        state.bytes += bytes.len();
        state.count += 1;
        let number = state.count;
        state.frames.push(Reverse(Frame { at, number, bytes }));
        self.came.notify_one();
    }

    fn deliver(&self) {
        loop {
            let frame = self.next();
            // What a device does not take is lost, as on any wire.
            let _ = rustix::io::write(&self.device, &frame);
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let wait = match state.frames.peek() {
                Some(Reverse(frame)) if frame.at > now => Some(frame.at - now),
                Some(_) => None,
                None => Some(Duration::from_secs(3600)),
            };
            let Some(wait) = wait else {
                let Some(Reverse(frame)) = state.frames.pop() else {
                    continue;
                };
                state.bytes -= frame.bytes.len();
                if !state.link.cut {
                    return frame.bytes;
                }
                continue;
            };
            (state, _) = self
                .came
                .wait_timeout(state, wait)
                .expect("no panic while it is held");
        }
    }
}

impl State {
    /// When a frame that is sent now is at the switch, if it gets there.
    fn send(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let begins = self.up_free.max(now);
        if begins - now > LINE_MAX || self.is_lost() {
            return None;
        }
        self.up_free = begins + self.link.transmission(len);
        Some(self.up_free + self.delay())
    }

    /// When a frame that is at the switch at a time is here, if it gets here.
    fn receive(&mut self, at: Instant, len: usize) -> Option<Instant> {
        let begins = self.down_free.max(at);
        if begins - at > LINE_MAX || self.is_lost() {
            return None;
        }
        self.down_free = begins + self.link.transmission(len);
        Some(self.down_free + self.delay())
    }

    fn is_lost(&mut self) -> bool {
        let lost = self.link.loss_ppm > 0 && self.random.below(1_000_000) < self.link.loss_ppm;
        lost || self.link.cut
    }

    fn delay(&mut self) -> Duration {
        let jitter = match self.link.jitter_us {
            0 => 0,
            most => self.random.below(most),
        };
        Duration::from_micros(self.link.delay_us + jitter)
    }
}
