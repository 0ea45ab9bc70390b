//! Each write of a follower fails in each way: what it told others is there afterwards, it cosigns one tree of a size, and
//! the logs go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use protocol::log::{
    entry::Action,
    replica::{AddCheckpoint, Range, Reading, Request, Stretch},
    tree::{Hash, prove_consistency},
};
use store::{Disk, FaultKind, Faults, log::LogReader};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    federation::{self, Invite},
    home::InitOptions,
    log::{Event, OwnLog},
};

/// Entries of the log when the node hears of it: of the second it is given two at a time, of the third more than a bundle.
const SIZES: [u64; 3] = [2, 5, 305];
/// How many entries the node is given at once.
const RANGES: [u64; 3] = [9, 2, 200];
const SESSION: [u8; 16] = [7, 7, 7, 7, 7, 7, 0x70, 7, 0x80, 7, 7, 7, 7, 7, 7, 7];

/// A log at some time: the home of the node whose own log it is.
struct Stage {
    home: Home,
    origin: Origin,
    head: SignedCheckpoint,
    /// How many of its entries are given at once.
    range: u64,
}

/// What does not change between runs.
struct Fixture {
    directory: TempDir,
    /// As it grows.
    stages: Vec<Stage>,
    /// As long as the last of them, and another.
    other: Stage,
    follower: Origin,
    peer: PeerId,
}

fn own(home: &Home) -> Origin {
    let recorded = OwnLog::new(home, SESSION).record(1, &[]).expect("records");
    Origin::new(recorded.vkey.name()).expect("an origin")
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("runs").success());
}

impl Stage {
    /// The log grows to a size, at a time by which it differs from others.
    fn grown(path: &Path, size: u64, now_ms: u64, range: u64) -> Self {
        let home = Home::open(path).expect("opens");
        let log = OwnLog::new(&home, SESSION);
        let recorded = log.record(now_ms, &[]).expect("records");
        let missing = usize::try_from(size - recorded.size).expect("few");
        let events: Vec<_> = (0..missing).map(|_| Event::of(Action::EXPORT)).collect();
        log.record(now_ms, &events).expect("records");
        let origin = own(&home);
        let mut files = Files::new(path, origin.clone(), Arc::default());
        let kept = files.load(&origin).expect("reads").expect("a log");
        let head = kept.checkpoint.expect("a checkpoint");
        assert_eq!(head.checkpoint().size(), size);
        Self {
            home,
            origin,
            head,
            range,
        }
    }

    fn read(&self, from: u64, entries_max: u64) -> Stretch {
        let files = Files::new(self.home.path(), self.origin.clone(), Arc::default());
        let wanted = Reading {
            origin: self.origin.clone(),
            from,
            size: self.head.checkpoint().size(),
            entries_max,
        };
        files.read(&wanted).expect("reads").expect("is all there")
    }

    fn answer(&self, request: &Request) -> Message {
        let stretch = self.read(request.from, request.entries_max.min(self.range));
        Message::Range(Box::new(Range {
            id: request.id,
            checkpoint: self.head.clone().into(),
            entries: stretch.entries,
            grown: stretch.grown,
            rest: stretch.rest,
            changes: stretch.changes,
        }))
    }
}

fn reader(stage: &Stage) -> LogReader {
    let opened = LogReader::open(&own_dir(stage.home.path()));
    opened.expect("reads").expect("a log")
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let options = InitOptions {
            recipients_only: Vec::new(),
            post_quantum: false,
        };
        let teller = Home::init(&at("0"), &options).expect("makes a home");
        let peer = teller.peer_id();
        let mut stages = Vec::new();
        for (n, (size, range)) in SIZES.into_iter().zip(RANGES).enumerate() {
            stages.push(Stage::grown(&at(&n.to_string()), size, n as u64 + 1, range));
            copy(&at(&n.to_string()), &at(&(n + 1).to_string()));
        }
        copy(&at("1"), &at("other"));
        let other = Stage::grown(&at("other"), SIZES[2], 9, RANGES[2]);
        assert_ne!(other.head.checkpoint(), stages[2].head.checkpoint());
        let home = Home::init(&at("follower"), &options).expect("makes a home");
        let mut federation = Federation::default();
        let recorded = OwnLog::new(&teller, SESSION).record(1, &[]);
        let member = federation::Member {
            roles: BTreeSet::from([federation::Role::Tenant]),
            invite: Invite {
                peer,
                addresses: vec![Multiaddr::empty().with_p2p(peer).expect("an address")],
                log: recorded.expect("records").vkey,
                witness: None,
                recipients: Vec::new(),
            },
        };
        federation.insert(member).expect("room");
        federation.save(&home).expect("writes");
        Self {
            follower: own(&home),
            directory,
            stages,
            other,
            peer,
        }
    }

    /// A new home of the node.
    fn home(&self) -> TempDir {
        let made = tempfile::tempdir().expect("a directory");
        copy(
            &self.directory.path().join("follower"),
            &made.path().join("home"),
        );
        made
    }

    fn origin(&self) -> &Origin {
        &self.other.origin
    }
}

/// What others were told by a node.
#[derive(Clone, Debug, Default)]
struct Word {
    size: u64,
    forked: bool,
    /// The trees of each size that it cosigned.
    cosigned: BTreeMap<u64, BTreeSet<Hash>>,
}

/// A node without its network.
struct Node<'a> {
    fixture: &'a Fixture,
    follower: Follower,
    says: mpsc::Receiver<Say>,
    told: Word,
}

impl<'a> Node<'a> {
    fn start(
        fixture: &'a Fixture,
        home: &TempDir,
        disk: Disk,
        told: Word,
    ) -> Result<Self, LogError> {
        let home = Home::open(&home.path().join("home")).expect("opens");
        let files = Files::new(home.path(), fixture.follower.clone(), Arc::new(disk));
        let (says, said) = mpsc::channel(1024);
        let (standing, _) = crossbeam_channel::bounded(1);
        let (ended, _) = oneshot::channel();
        let (size, _) = watch::channel(0);
        let follower = Follower::begin(&home, files, says, standing, ended, size)?;
        let mut node = Self {
            fixture,
            follower,
            says: said,
            told,
        };
        let peer = fixture.peer;
        node.follower.take(Told::Connected { peer, late: false });
        Ok(node)
    }

    /// Ends, and says what it had told others.
    fn stop(self) -> Word {
        self.told
    }

    /// A peer tells of a log as it is at a stage, and answers.
    fn hears(&mut self, stage: &Stage, head: &SignedCheckpoint) {
        self.said(Message::Announce(head.clone().into()));
        while let Ok(say) = self.says.try_recv() {
            match say {
                Say::Send { bytes, .. } => match Message::decode(&bytes).expect("a message") {
                    Message::Request(request) => self.said(stage.answer(&request)),
                    Message::Fork(_) => self.told.forked = true,
                    _ => {}
                },
                Say::Publish(bytes) => match Message::decode(&bytes).expect("a message") {
                    Message::Announce(head) => {
                        let said = head.checkpoint_unverified();
                        if said.origin() == self.fixture.origin() {
                            self.told.size = self.told.size.max(said.size());
                        }
                    }
                    Message::Fork(_) => self.told.forked = true,
                    _ => {}
                },
                Say::Blame(_, because) => panic!("{because:?}"),
                _ => {}
            }
        }
    }

    fn said(&mut self, message: Message) {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned();
        self.follower.take(Told::Said {
            peer: self.fixture.peer,
            message: Box::new(message),
            gossip: None,
            room: room.expect("room"),
        });
    }

    /// Has a stage cosigned, as one does who knows nothing of what was cosigned before.
    fn cosigns(&mut self, stage: &Stage) -> Option<SignatureLine> {
        let mut line = self.add_checkpoint(stage, 0);
        if let Err(Refusal::Conflict { size }) = line {
            line = self.add_checkpoint(stage, size);
        }
        let said = stage.head.checkpoint();
        if line.is_ok() {
            let trees = self.told.cosigned.entry(said.size()).or_default();
            trees.insert(*said.root());
            assert_eq!(trees.len(), 1, "two trees of {} are cosigned", said.size());
        }
        line.ok()
    }

    fn add_checkpoint(&mut self, stage: &Stage, old_size: u64) -> Result<SignatureLine, Refusal> {
        let size = stage.head.checkpoint().size();
        let node = |level, index| reader(stage).node(level, index);
        // Of a larger one there is none, and it says so.
        let proof = prove_consistency(old_size.min(size), size, node).expect("is there");
        let request = AddCheckpoint {
            old_size,
            proof,
            checkpoint: stage.head.clone().into(),
        };
        let (reply, mut answer) = oneshot::channel();
        self.follower.take(Told::Cosign((request, reply)));
        answer.try_recv().expect("an answer")
    }

    /// Everything that happens to the log, from where it is.
    fn goes_on(&mut self) {
        let fixture = self.fixture;
        let [first, second, third] = &fixture.stages[..] else {
            panic!("three stages");
        };
        self.hears(first, &first.head);
        self.hears(second, &second.head);
        if let Some(line) = self.cosigns(second) {
            let mut cosigned = second.head.clone();
            cosigned.push(line).expect("room");
            self.hears(second, &cosigned);
        }
        self.hears(third, &third.head);
        let _ = self.cosigns(third);
        if self.size() == SIZES[2] {
            self.contradicted();
        }
    }

    /// It is shown another tree of the last size: which it does not cosign, if it cosigned one.
    fn contradicted(&mut self) {
        let fixture = self.fixture;
        if self.told.cosigned.contains_key(&SIZES[2]) {
            let _ = self.cosigns(&fixture.other);
            self.hears(&fixture.other, &fixture.other.head);
        }
    }

    /// How much it has of the log.
    fn size(&self) -> u64 {
        let kept = self.follower.replica.checkpoint(self.fixture.origin());
        kept.map_or(0, |kept| kept.checkpoint().size())
    }

    /// What others were told is so.
    fn keeps_its_word(&self, context: &str) {
        let (origin, size) = (self.fixture.origin(), self.size());
        assert!(size >= self.told.size, "{context}: {size}");
        let forked = self.follower.replica.fork(origin).is_some();
        assert!(forked || !self.told.forked, "{context}");
        let cosigned = self.follower.files.cosigned().expect(context);
        let cosigned = cosigned
            .get(origin)
            .map_or(0, |one| one.checkpoint().size());
        let last = self.told.cosigned.keys().next_back().copied();
        assert!(cosigned >= last.unwrap_or(0), "{context}: {cosigned}");
    }

    /// All has come to its end.
    fn is_done(&self, context: &str) {
        self.keeps_its_word(context);
        assert!(self.told.forked, "{context}");
        assert!(self.told.cosigned.contains_key(&SIZES[2]), "{context}");
    }
}

fn writes(fixture: &Fixture) -> u64 {
    let home = fixture.home();
    let faults = Arc::new(Faults::none());
    let disk = Disk::faulty(faults.clone());
    let mut node = Node::start(fixture, &home, disk, Word::default()).expect("starts");
    node.goes_on();
    node.is_done("without faults");
    assert_eq!((node.told.size, node.told.cosigned.len()), (SIZES[2], 2));
    faults.writes()
}

fn survives(kind: FaultKind) {
    let fixture = Fixture::new();
    let writes = writes(&fixture);
    assert!(writes > 60, "{writes}");
    for nth in 0..writes {
        let context = format!("{kind:?} {nth}");
        let home = fixture.home();
        let faults = Arc::new(Faults::new(nth, kind));
        let disk = Disk::faulty(faults.clone());
        let mut node = Node::start(&fixture, &home, disk, Word::default()).expect(&context);
        node.goes_on();
        assert!(faults.is_dead(), "{context}");
        let told = node.stop();
        let mut node = Node::start(&fixture, &home, Disk::default(), told).expect(&context);
        node.keeps_its_word(&context);
        // First what contradicts it.
        node.contradicted();
        node.goes_on();
        node.keeps_its_word(&context);
        let told = node.stop();
        let mut node = Node::start(&fixture, &home, Disk::default(), told).expect(&context);
        node.goes_on();
        node.is_done(&context);
    }
}

#[test]
fn a_write_that_landed_before_a_crash_breaks_no_word() {
    survives(FaultKind::Landed);
}

#[test]
fn a_write_that_a_crash_lost_breaks_no_word() {
    survives(FaultKind::Lost);
}

#[test]
fn a_write_that_a_crash_tore_breaks_no_word() {
    survives(FaultKind::Torn);
}

#[test]
fn a_log_that_was_forgotten_is_still_known_to_be_forked_when_it_is_followed_again() {
    let fixture = Fixture::new();
    let home = fixture.home();
    let start = |told| Node::start(&fixture, &home, Disk::default(), told).expect("starts");
    let mut node = start(Word::default());
    node.goes_on();
    node.is_done("before");
    let dir = node.follower.files.dir(fixture.origin());
    node.stop();
    for file in std::fs::read_dir(&dir).expect("reads") {
        let path = file.expect("a file").path();
        if path.is_file() {
            std::fs::remove_file(path).expect("removes");
        }
    }
    let mut node = start(Word::default());
    assert!(node.follower.replica.fork(fixture.origin()).is_none());
    let first = &fixture.stages[0];
    node.hears(first, &first.head);
    assert!(node.follower.replica.fork(fixture.origin()).is_some());
    node.hears(first, &fixture.stages[2].head);
    assert_eq!((node.size(), node.told.forked), (SIZES[0], true));
}

#[test]
fn a_full_disk_is_not_the_end() {
    let fixture = Fixture::new();
    for nth in 0..writes(&fixture) {
        let context = format!("no space {nth}");
        let home = fixture.home();
        let disk = Disk::faulty(Arc::new(Faults::new(nth, FaultKind::NoSpace)));
        let mut node = Node::start(&fixture, &home, disk, Word::default()).expect(&context);
        node.goes_on();
        node.keeps_its_word(&context);
        // There is room again, and what could not be read is read.
        node.follower.federate().expect(&context);
        node.goes_on();
        node.is_done(&context);
        assert_eq!(node.size(), SIZES[2], "{context}");
        let told = node.stop();
        let node = Node::start(&fixture, &home, Disk::default(), told).expect(&context);
        node.is_done(&context);
    }
}
