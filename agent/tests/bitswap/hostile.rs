//! Peers that do what no honest one does.

use bytes::Bytes;
use protocol::block::{raw_cid, sha256};
use souverain_agent::bitswap::message::{Entry, Payload, Presence, Request, Wantlist, WireMessage};

use crate::world::Rng;

/// What a hostile node is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hostile {
    /// Answers wants with other blocks.
    WrongBlocks,
    /// Sends blocks that nobody asked for.
    Unsolicited,
    /// Wants ever more blocks.
    EndlessWants,
    /// Answers nothing.
    Silent,
    /// Says HAVE and sends nothing.
    EmptyPromises,
    /// Says DONT_HAVE of everything.
    HasNothing,
    /// Sends presences that nobody asked for.
    PresenceFlood,
}

pub(crate) const ALL: [Hostile; 7] = [
    Hostile::WrongBlocks,
    Hostile::Unsolicited,
    Hostile::EndlessWants,
    Hostile::Silent,
    Hostile::EmptyPromises,
    Hostile::HasNothing,
    Hostile::PresenceFlood,
];

impl Hostile {
    /// Whether it goes on without being asked.
    pub(crate) fn acts_unasked(self) -> bool {
        matches!(
            self,
            Self::Unsolicited | Self::EndlessWants | Self::PresenceFlood
        )
    }

    /// What it sends to whom, on a message or on its own.
    pub(crate) fn act(
        self,
        rng: &mut Rng,
        peers: &[usize],
        heard: Option<(usize, WireMessage)>,
    ) -> Vec<(usize, WireMessage)> {
        match heard {
            Some((from, message)) => {
                let answer = self.answer(rng, &message);
                answer.into_iter().map(|message| (from, message)).collect()
            }
            None if self.acts_unasked() => {
                let peers = peers.iter();
                peers.map(|peer| (*peer, self.unasked(rng))).collect()
            }
            None => Vec::new(),
        }
    }

    fn answer(self, rng: &mut Rng, message: &WireMessage) -> Option<WireMessage> {
        let wants = message.wantlist.entries.iter();
        let wants: Vec<&Entry> = wants.filter(|e| e.request != Request::Cancel).collect();
        if wants.is_empty() {
            return None;
        }
        let say = |have: bool| WireMessage {
            presences: wants
                .iter()
                .map(|entry| Presence {
                    cid: entry.cid,
                    have,
                })
                .collect(),
            ..WireMessage::default()
        };
        match self {
            Self::WrongBlocks => Some(WireMessage {
                blocks: vec![junk(rng)],
                ..WireMessage::default()
            }),
            Self::EmptyPromises => Some(say(true)),
            Self::HasNothing => Some(say(false)),
            _ => None,
        }
    }

    fn unasked(self, rng: &mut Rng) -> WireMessage {
        let mut message = WireMessage::default();
        match self {
            Self::Unsolicited => message.blocks = vec![junk(rng)],
            Self::EndlessWants => {
                let entry = |_| Entry {
                    cid: raw_cid(&sha256(&rng.next().to_le_bytes())),
                    priority: 1,
                    request: Request::Block,
                    send_dont_have: true,
                };
                message.wantlist = Wantlist {
                    entries: (0..1000).map(entry).collect(),
                    full: false,
                };
            }
            Self::PresenceFlood => {
                let presence = |_| Presence {
                    cid: raw_cid(&sha256(&rng.next().to_le_bytes())),
                    have: true,
                };
                message.presences = (0..4000).map(presence).collect();
            }
            _ => {}
        }
        message
    }
}

fn junk(rng: &mut Rng) -> Payload {
    let bytes = rng.next().to_le_bytes();
    Payload::new(&raw_cid(&[0; 32]), Bytes::copy_from_slice(&bytes))
}
