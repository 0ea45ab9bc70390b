//! Following the logs of others: one thread drives `protocol::log::replica`, with its files, for as long as an agent runs.
//!
//! What the node hears goes in as [`Told`], what it is to say comes out as [`Say`]; `crate::node` carries it.

mod files;
mod own;
mod port;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    error::Error,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use protocol::{
    log::{
        checkpoint::{Origin, SignedCheckpoint},
        cosignature::{self, CosignatureError},
        fork::Fork,
        keys::KeyHistory,
        replica::{
            Config, Effect, Input, Member, Message, Misbehaviour, Peer, Refusal, Replica, Role,
            Ticket, limits::PEERS_MAX,
        },
    },
    note::SignatureLine,
};
use store::StoreError;
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

pub(super) use files::forks;
pub(crate) use port::{Ends, GossipId, Port, Say, Standing, Told, Verdict, gossip_id, port};

use self::files::Files;
use super::{LogError, behind, key::WitnessKey, now_ms, places::own_dir};
use crate::{
    federation::{Federation, FederationError},
    home::Home,
};

/// How often it is looked whether the own log grew, where nobody told of it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long nothing may come of what is missing of the own log.
const MISSING_WAIT: Duration = Duration::from_secs(60);
/// When a log is loaded again that could not be, since the disk is full, say.
const LOAD_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Gossip that waits until it is known to be true, and is not passed on if there is more.
const UNDECIDED_MAX: usize = 1024;

/// Keeps a proof about the own log, as those are kept that members tell.
///
/// # Errors
/// It cannot be written.
pub(super) fn keep_own_fork(home: &Path, fork: &Fork) -> Result<(), LogError> {
    let origin = Origin::new(fork.origin())?;
    let kept = Files::new(home, origin.clone(), Arc::default()).keep_fork(&origin, fork);
    kept.map_err(|cause| {
        LogError::Store(StoreError::Io {
            what: "keep a fork proof in",
            path: own_dir(home),
            cause,
        })
    })
}

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Following {
    told: mpsc::UnboundedSender<Told>,
    thread: Option<JoinHandle<()>>,
}

impl Following {
    /// Starts the thread, which follows the members of the home's federation from then on. `standing` is told what
    /// members know of the own log, `ended` why the agent has to end, if it has to, and `size` how large the own log is. Must be called within a runtime.
    ///
    /// # Errors
    /// The federation or the own log cannot be read.
    pub(crate) fn start(
        home: &Home,
        own: &Origin,
        ends: Ends,
        told: mpsc::UnboundedSender<Told>,
        standing: crossbeam_channel::Sender<Standing>,
        ended: oneshot::Sender<LogError>,
        size: watch::Sender<u64>,
    ) -> Result<Self, LogError> {
        let files = Files::new(home.path(), own.clone(), Arc::default());
        let follower = Follower::begin(home, files, ends.says, standing, ended, size)?;
        let runtime = runtime::Handle::current();
        let thread = thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || follower.run(ends.told, &runtime))
            .map_err(|cause| {
                LogError::Store(StoreError::Io {
                    what: "start the thread for",
                    path: own_dir(home.path()),
                    cause,
                })
            })?;
        Ok(Self {
            told,
            thread: Some(thread),
        })
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.told.send(Told::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that follows logs ended before its end");
        }
    }
}

/// What the thread has.
struct Follower {
    home: PathBuf,
    own: Origin,
    files: Files,
    replica: Replica,
    started: Instant,
    wake_at: Option<Instant>,
    /// When logs are loaded again that could not be.
    load_at: Option<Instant>,
    peers: HashMap<PeerId, Peer>,
    numbers: HashMap<Peer, PeerId>,
    count: u64,
    witness: WitnessKey,
    /// Who waits for a cosignature.
    calls: HashMap<u64, oneshot::Sender<Result<SignatureLine, Refusal>>>,
    /// Cosignatures that are durable, and not answered yet.
    cosigned: HashMap<Origin, SignatureLine>,
    followed: HashMap<Origin, Member>,
    undecided: VecDeque<(GossipId, PeerId)>,
    says: mpsc::Sender<Say>,
    standing: crossbeam_channel::Sender<Standing>,
    ended: Option<oneshot::Sender<LogError>>,
    /// The checkpoint of the own log that the replica knows.
    grown: Option<SignedCheckpoint>,
    /// How many entries others have of it, if that is more.
    owed: u64,
    /// When something came last of what is missing of it, if anything is.
    missing: Option<Instant>,
    /// Says how large the own log is, and when others may cosign it.
    size: watch::Sender<u64>,
}

impl Follower {
    /// Goes on with what there is of the own log, and of those of the members.
    fn begin(
        home: &Home,
        mut files: Files,
        says: mpsc::Sender<Say>,
        standing: crossbeam_channel::Sender<Standing>,
        ended: oneshot::Sender<LogError>,
        size: watch::Sender<u64>,
    ) -> Result<Self, LogError> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|_| LogError::Random)?;
        let own = files.own().clone();
        let config = Config {
            seed: u64::from_be_bytes(seed),
            own: Some(own.clone()),
            cosigned: Some(files.cosigned()?),
        };
        let kept = files.load(&own)?.ok_or(LogError::Empty)?;
        let owed = behind::owed(home.path(), kept.edge.size())?;
        let mut follower = Self {
            home: home.path().to_owned(),
            own: own.clone(),
            files,
            replica: Replica::new(config),
            started: Instant::now(),
            wake_at: None,
            load_at: None,
            peers: HashMap::new(),
            numbers: HashMap::new(),
            count: 0,
            witness: home.witness_key().map_err(LogError::Key)?,
            calls: HashMap::new(),
            cosigned: HashMap::new(),
            followed: HashMap::new(),
            undecided: VecDeque::new(),
            says,
            standing,
            ended: Some(ended),
            grown: kept.checkpoint.clone(),
            owed: owed.unwrap_or(0),
            missing: owed.map(|_| Instant::now()),
            size,
        };
        let witness = Box::new(follower.witness.key().clone());
        let member = Member {
            origin: own,
            roles: vec![Role::Tenant, Role::Witness(witness)],
        };
        follower.handle(Input::Follow {
            member,
            kept: Some(Box::new(kept)),
        });
        if let Some(size) = owed {
            follower.handle(Input::Owed { size });
        }
        follower.federate()?;
        Ok(follower)
    }

    fn run(mut self, mut told: mpsc::UnboundedReceiver<Told>, runtime: &runtime::Handle) {
        loop {
            let wake = self
                .wake_at
                .map(|at| at.saturating_duration_since(Instant::now()));
            let wait = wake.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
            match runtime.block_on(async { timeout(wait, told.recv()).await }) {
                Ok(None | Some(Told::Stop)) => return,
                Ok(Some(told)) => self.take(told),
                Err(_) => self.grew(),
            }
            if self.wake_at.is_some_and(|at| at <= Instant::now()) {
                self.wake_at = None;
                self.handle(Input::Tick);
            }
            if self
                .missing
                .is_some_and(|since| since.elapsed() >= MISSING_WAIT)
            {
                self.end_behind();
            }
            if self.load_at.is_some_and(|at| at <= Instant::now()) {
                self.load_at = None;
                if let Err(error) = self.federate() {
                    tracing::error!(
                        error = &error as &dyn Error,
                        "the federation cannot be read"
                    );
                }
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Connected { peer, late } if self.peers.len() < PEERS_MAX => {
                self.count += 1;
                let number = Peer(self.count);
                if let Some(before) = self.peers.insert(peer, number) {
                    self.numbers.remove(&before);
                    self.handle(Input::Gone { peer: before });
                }
                self.numbers.insert(number, peer);
                self.handle(Input::Connected { peer: number, late });
            }
            Told::Gone(peer) => {
                if let Some(number) = self.peers.remove(&peer) {
                    self.numbers.remove(&number);
                    self.handle(Input::Gone { peer: number });
                }
            }
            Told::Said {
                peer,
                message,
                gossip,
                room,
            } => {
                self.said(peer, *message, gossip);
                drop(room);
            }
            Told::Cosign((request, reply)) => {
                self.count += 1;
                let call = self.count;
                self.calls.insert(call, reply);
                let request = Box::new(request);
                self.handle(Input::AddCheckpoint { call, request });
            }
            Told::Nonsense(peer) => self.say(Say::Blame(peer, Misbehaviour::WrongRange)),
            Told::Grew => self.grew(),
            Told::Shown(checkpoint) => drop(self.handle(Input::Seen { checkpoint })),
            Told::Doubted(error) => self.doubted(error),
            Told::Federation(reply) => drop(reply.send(self.federate())),
            Told::Connected { .. } | Told::Stop => {}
        }
    }

    fn said(&mut self, peer: PeerId, message: Message, gossip: Option<GossipId>) {
        let Some(number) = self.peers.get(&peer).copied() else {
            return;
        };
        if let Some(gossip) = gossip {
            self.undecided.push_back((gossip, peer));
            if self.undecided.len() > UNDECIDED_MAX
                && let Some((gossip, from)) = self.undecided.pop_front()
            {
                let verdict = Verdict::Unknown;
                self.say(Say::Judge {
                    gossip,
                    from,
                    verdict,
                });
            }
        }
        let lies = self.handle(Input::Message {
            peer: number,
            message,
        });
        if let Some(gossip) = gossip.filter(|_| lies) {
            self.judge(&gossip, Verdict::Lie);
        }
    }

    /// Tells the node of gossip that it waits to hear of. False if it does not.
    fn judge(&mut self, gossip: &GossipId, verdict: Verdict) -> bool {
        let at = self.undecided.iter().position(|(id, _)| id == gossip);
        let Some((gossip, from)) = at.and_then(|at| self.undecided.remove(at)) else {
            return false;
        };
        self.say(Say::Judge {
            gossip,
            from,
            verdict,
        });
        true
    }

    /// Looks whether the own log grew.
    fn grew(&mut self) {
        match self.files.load(&self.own) {
            Ok(Some(kept)) if kept.checkpoint != self.grown => {
                self.grown = kept.checkpoint.clone();
                let size = kept.edge.size();
                self.size
                    .send_if_modified(|known| std::mem::replace(known, size) != size);
                let kept = Box::new(kept);
                self.handle(Input::Grew { kept });
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn Error, "the own log cannot be read")
            }
        }
    }

    /// Follows who is in the federation now, and nobody else.
    fn federate(&mut self) -> Result<(), FederationError> {
        let federation = Federation::load(&self.home)?;
        let own = self.own.clone();
        let members = federation.members().filter(|m| m.invite.origin() != own);
        let (mut followed, mut reached) = (HashMap::new(), HashMap::new());
        for member in members {
            let invite = &member.invite;
            let addresses: &mut Vec<Multiaddr> = reached.entry(invite.peer).or_default();
            addresses.extend(invite.addresses.iter().cloned());
            let origin = invite.origin();
            let kept = match self.followed.contains_key(&origin) {
                true => None,
                false => match self.files.load(&origin) {
                    Ok(kept) => kept.map(Box::new),
                    Err(error) => {
                        self.not_loaded(&origin, &error);
                        continue;
                    }
                },
            };
            let member = member.for_replica();
            followed.insert(origin, member.clone());
            self.handle(Input::Follow { member, kept });
        }
        for origin in std::mem::take(&mut self.followed).into_keys() {
            if !followed.contains_key(&origin) {
                self.files.release(&origin);
                self.handle(Input::Unfollow { origin });
            }
        }
        self.followed = followed;
        self.say(Say::Members(reached));
        self.size.send_modify(|_| {});
        Ok(())
    }

    /// Lets the replica take something in, and does what it says. True if it blames somebody for a lie.
    fn handle(&mut self, input: Input) -> bool {
        let mut lies = false;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.started.elapsed().as_millis() as u64;
            for effect in self.replica.handle(now, input) {
                if let Effect::Score { because, .. } = &effect {
                    let forged = [Misbehaviour::ForgedCheckpoint, Misbehaviour::WrongFork];
                    lies |= forged.contains(because);
                }
                self.perform(effect, &mut inputs);
            }
        }
        lies
    }

    /// Does what the replica says, and adds what it is to be told of that.
    fn perform(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Send { peer, message } => {
                if let Some(peer) = self.numbers.get(&peer).copied() {
                    let bytes = message.encode();
                    self.say(Say::Send { peer, bytes });
                }
            }
            Effect::Announce { message } => {
                let bytes = message.encode();
                if !self.judge(&gossip_id(&bytes), Verdict::True) {
                    self.say(Say::Publish(bytes));
                }
            }
            Effect::Read { ticket, wanted } => {
                let stretch = self.files.read(&wanted).unwrap_or_else(|error| {
                    tracing::error!(origin = %wanted.origin, %error, "a log cannot be read");
                    None
                });
                inputs.push_back(Input::Read { ticket, stretch });
            }
            Effect::Keep {
                ticket,
                origin,
                first,
                entries,
                checkpoint,
            } => match self.files.keep(&origin, first, &entries, &checkpoint) {
                Ok(()) => {
                    inputs.push_back(Input::Kept { ticket });
                    if origin == self.own {
                        self.missing = Some(Instant::now());
                    } else if first == 0 && self.files.has_forks(&origin) {
                        // They are from before it was forgotten, and are held against it still.
                        self.load_again(origin, inputs);
                    }
                }
                Err(error) => self.not_kept(ticket, origin, error, inputs),
            },
            Effect::KeepFork {
                ticket,
                origin,
                fork,
                frozen,
            } => inputs.push_back(self.keep_fork(ticket, &origin, &fork, frozen)),
            Effect::Frozen { origin } if origin == self.own => {
                // The proof is on its way to the others by now.
                self.end(LogError::Forked {
                    proof: behind::forked_file(&self.home),
                });
            }
            Effect::Frozen { origin } => {
                tracing::error!(%origin, "a log was forked, and nothing more is taken of it");
            }
            Effect::Behind { seen, heals } => self.behind(&seen, heals),
            Effect::Healed => self.healed(),
            Effect::Agrees { .. } => drop(self.standing.try_send(Standing::Agreed)),
            Effect::Score { peer, because } => {
                if let Some(peer) = self.numbers.get(&peer).copied() {
                    self.say(Say::Blame(peer, because));
                }
            }
            Effect::Wake { at_ms } => {
                self.wake_at = self.started.checked_add(Duration::from_millis(at_ms));
            }
            Effect::KeepCosigned { ticket, checkpoint } => {
                inputs.push_back(self.keep_cosigned(ticket, &checkpoint));
            }
            Effect::Cosign { call, checkpoint } => {
                let line = match self.cosigned.remove(checkpoint.checkpoint().origin()) {
                    Some(line) => Ok(line),
                    // It was cosigned before.
                    None => self.cosign(&checkpoint),
                };
                self.answer(call, line.map_err(|_| Refusal::Busy));
            }
            Effect::Refuse { call, because } => self.answer(call, Err(because)),
        }
    }

    /// If it is not known what is durable of a log, it is read again, as after a crash.
    fn not_kept(
        &mut self,
        ticket: Ticket,
        origin: Origin,
        error: LogError,
        inputs: &mut VecDeque<Input>,
    ) {
        tracing::error!(%origin, error = &error as &dyn Error, "entries of a log are not kept");
        inputs.push_back(Input::NotKept { ticket });
        if origin == self.own {
            return self.end(error);
        }
        if matches!(error, LogError::Store(StoreError::LogFull { .. })) {
            return;
        }
        self.load_again(origin, inputs);
    }

    /// Takes a log as it is on the disk.
    fn load_again(&mut self, origin: Origin, inputs: &mut VecDeque<Input>) {
        let Some(member) = self.followed.get(&origin).cloned() else {
            return;
        };
        match self.files.load(&origin) {
            Ok(kept) => {
                let kept = kept.map(Box::new);
                inputs.push_back(Input::Unfollow { origin });
                inputs.push_back(Input::Follow { member, kept });
            }
            Err(error) => {
                self.not_loaded(&origin, &error);
                self.followed.remove(&origin);
                inputs.push_back(Input::Unfollow { origin });
            }
        }
    }

    /// A log is not followed, as it cannot be loaded. If its files are good, that may be over soon.
    fn not_loaded(&mut self, origin: &Origin, error: &LogError) {
        tracing::error!(%origin, error = error as &dyn Error, "a log cannot be read, and is not followed");
        if matches!(
            error,
            LogError::Store(StoreError::Io { .. } | StoreError::LogFull { .. })
        ) {
            self.load_at = Some(Instant::now() + LOAD_AGAIN_AFTER);
        }
    }

    fn cosign(&self, checkpoint: &SignedCheckpoint) -> Result<SignatureLine, CosignatureError> {
        (self.witness).cosign(checkpoint.checkpoint(), now_ms() / 1000)
    }

    /// Remembers a checkpoint with the cosignature that is answered then, so that who asks what was cosigned is told of
    /// both.
    fn keep_cosigned(&mut self, ticket: Ticket, checkpoint: &SignedCheckpoint) -> Input {
        let origin = checkpoint.checkpoint().origin();
        let keys = self.replica.keys(origin);
        let mut keys = keys.into_iter().flat_map(KeyHistory::keys);
        let key = keys.find(|key| checkpoint.note().verify(key).is_ok());
        let cosigned = self.cosign(checkpoint).and_then(|line| {
            let mut cosigned = checkpoint.clone();
            cosignature::put(&mut cosigned, self.witness.key(), line.clone())?;
            Ok((line, cosigned))
        });
        let kept = match (key, cosigned) {
            (Some(key), Ok((line, cosigned))) => {
                let kept = self.files.keep_cosigned(key, &cosigned);
                kept.map(|()| self.cosigned.insert(origin.clone(), line))
            }
            (None, _) => Err(io::Error::other("it is not known who signed it")),
            (_, Err(error)) => Err(io::Error::other(error)),
        };
        match kept {
            Ok(_) => Input::Kept { ticket },
            Err(error) => {
                tracing::error!(%origin, %error, "what was to be cosigned is not remembered");
                Input::NotKept { ticket }
            }
        }
    }

    fn answer(&mut self, call: u64, with: Result<SignatureLine, Refusal>) {
        if let Some(reply) = self.calls.remove(&call) {
            // Who asked may not wait for the answer any more.
            let _ = reply.send(with);
        }
    }

    fn keep_fork(&mut self, ticket: Ticket, origin: &Origin, fork: &Fork, frozen: bool) -> Input {
        let kept = self.files.keep_fork(origin, fork);
        let stops = frozen && *origin == self.own;
        if stops && let Err(error) = behind::remember_fork(&self.home, fork) {
            tracing::error!(
                error = &error as &dyn Error,
                "it is not remembered that the log was forked"
            );
        }
        match kept {
            Ok(()) => Input::Kept { ticket },
            Err(error) => {
                tracing::error!(%origin, %error, "a fork proof is not kept");
                Input::NotKept { ticket }
            }
        }
    }

    fn say(&mut self, say: Say) {
        // A node that has stopped says nothing more.
        let _ = self.says.blocking_send(say);
    }
}
