//! Nodes that lie: logs that show each side another history, and peers that forge what they pass on.

use souverain_protocol::log::{
    checkpoint::{Checkpoint, SignedCheckpoint, UnverifiedCheckpoint},
    fork::{Evidence, Fork, Signer},
    replica::{Message, Range, Reading},
};
use souverain_protocol::note::VerifierKey;

use ed25519_dalek::Signer as _;

use crate::{
    logs::{cosigned, secret},
    world::World,
};

/// How a node lies.
#[derive(Clone, Debug)]
pub(crate) enum Liar {
    /// Its log has two histories; `sides` says which node is shown which.
    Equivocator {
        log: usize,
        sides: Vec<usize>,
        /// A witness that cosigns both.
        witness: Option<u64>,
    },
    /// It changes what it passes on.
    Forger,
}

/// The log of a node begins a second history.
pub(crate) fn fork(world: &mut World, log: usize) {
    let size = world.logs[log].branches[0].size();
    let least = world.logs[log].branches[0].last_change() + 1;
    let common = world.random.between(least, size);
    let branch = world.logs[log].branches[0].cut(common);
    let nodes = world.nodes.len();
    let sides = (0..nodes).map(|_| world.random.below(2) as usize).collect();
    let cosigns = world.random.chance(500);
    let witness = world.witness_roles.get(&log).copied().filter(|_| cosigns);
    world.logs[log].common = common;
    world.logs[log].branches.push(branch);
    world.nodes[log].liar = Some(Liar::Equivocator {
        log,
        sides,
        witness,
    });
    append(world, log, 2);
}

/// Both histories go on, not equally fast.
pub(crate) fn append(world: &mut World, log: usize, entries: u64) {
    for branch in 0..2 {
        for i in 0..world.random.below(entries + 1) {
            let salt = 2 * (world.now + i) + branch as u64;
            world.logs[log].branches[branch].append(salt, false);
        }
    }
    for peer in world.links[log].clone() {
        greet(world, log, peer);
    }
}

fn shown(world: &World, node: usize, peer: usize) -> Option<(usize, SignedCheckpoint)> {
    let Some(Liar::Equivocator {
        log,
        sides,
        witness,
    }) = &world.nodes[node].liar
    else {
        return None;
    };
    let side = sides[peer];
    let checkpoint = world.logs[*log].branches[side].checkpoint();
    let checkpoint = match witness {
        Some(witness) => cosigned(checkpoint, *witness),
        None => checkpoint,
    };
    Some((side, checkpoint))
}

/// Tells a peer what it is to believe.
pub(crate) fn greet(world: &mut World, node: usize, peer: usize) {
    if let Some((_, checkpoint)) = shown(world, node, peer) {
        let message = Message::Announce(checkpoint.into());
        world.tell(node, peer, &message);
    }
}

/// Answers for its log. False if a replica is to do it.
pub(crate) fn answer(world: &mut World, node: usize, from: usize, message: &Message) -> bool {
    let Some((side, checkpoint)) = shown(world, node, from) else {
        return false;
    };
    let branch = &world.logs[node].branches[side];
    match message {
        Message::Request(request) if request.origin == *branch.origin() => {
            let size = branch.size();
            let wanted = Reading {
                origin: request.origin.clone(),
                from: request.from,
                size,
                entries_max: request.entries_max.min(world.settings.range_max),
            };
            let stretch = match request.from < size {
                true => branch.read(&wanted),
                false => Default::default(),
            };
            let range = Range {
                id: request.id,
                checkpoint: checkpoint.into(),
                entries: stretch.entries,
                grown: stretch.grown,
                rest: stretch.rest,
                changes: stretch.changes,
            };
            world.tell(node, from, &Message::Range(Box::new(range)));
            true
        }
        _ => false,
    }
}

/// What becomes of what a node says.
pub(crate) fn twist(world: &mut World, node: usize, message: Message) -> Option<Message> {
    match &world.nodes[node].liar {
        None => Some(message),
        Some(Liar::Equivocator { log, .. }) => {
            // It shows its own log in other ways, and is silent about forks.
            let own = world.logs[*log].origin.clone();
            let is_own =
                |head: &UnverifiedCheckpoint| *head.checkpoint_unverified().origin() == own;
            match message {
                Message::Fork(_) => None,
                Message::Announce(head) if is_own(&head) => None,
                Message::Frontiers(mut frontiers) => {
                    frontiers.heads.retain(|head| !is_own(head));
                    Some(Message::Frontiers(frontiers))
                }
                other => Some(other),
            }
        }
        Some(Liar::Forger) if world.random.chance(300) => forged(world, message),
        Some(Liar::Forger) => Some(message),
    }
}

fn forged(world: &mut World, message: Message) -> Option<Message> {
    let random = &mut world.random;
    match message {
        Message::Announce(head) if random.chance(500) => {
            let more = random.between(0, 3);
            Some(Message::Announce(forged_head(&head, more)?.0.into()))
        }
        Message::Announce(head) => {
            let ((one, key), (two, _)) = (forged_head(&head, 0)?, forged_head(&head, 1)?);
            let two = Checkpoint::new(
                one.checkpoint().origin().clone(),
                one.checkpoint().size(),
                *two.checkpoint().root(),
            );
            let sign = |text: &[u8]| secret(99).sign(text).to_bytes();
            let two = two.ok()?.sign(&key, sign).ok()?;
            let signer = Signer::Log(key);
            let evidence = Evidence::Roots([one.into(), two.into()]);
            let fork = Fork::new(evidence, [signer.clone(), signer]).ok()?;
            Some(Message::Fork(Box::new(fork.into())))
        }
        Message::Frontiers(mut frontiers) => {
            let head = frontiers.heads.first()?;
            frontiers.heads[0] = forged_head(head, random.between(0, 3))?.0.into();
            Some(Message::Frontiers(frontiers))
        }
        Message::Range(mut range) => {
            let which = random.below(4);
            let at = random.next() as usize;
            let entry = range
                .entries
                .len()
                .checked_sub(1)
                .map(|last| at % (last + 1));
            match (which, entry) {
                (0, Some(entry)) => {
                    let entry = &mut range.entries[entry];
                    let byte = at % entry.len();
                    entry[byte] ^= 1;
                }
                (1, Some(entry)) => {
                    range.entries.remove(entry);
                }
                (2, _) if !range.grown.is_empty() => range.grown[0][at % 32] ^= 1,
                _ => range.checkpoint = forged_head(&range.checkpoint, 1)?.0.into(),
            }
            Some(Message::Range(range))
        }
        Message::Fork(_) => None,
        other => Some(other),
    }
}

/// A checkpoint that a stranger signed in the name of a log.
fn forged_head(head: &UnverifiedCheckpoint, more: u64) -> Option<(SignedCheckpoint, VerifierKey)> {
    let said = head.checkpoint_unverified();
    let key = secret(99);
    let name = said.origin().as_str();
    let key = VerifierKey::new(name, key.verifying_key().as_bytes()).ok()?;
    let root = [more as u8; 32];
    let checkpoint = Checkpoint::new(said.origin().clone(), said.size() + more, root).ok()?;
    let sign = |text: &[u8]| secret(99).sign(text).to_bytes();
    Some((checkpoint.sign(&key, sign).ok()?, key))
}
