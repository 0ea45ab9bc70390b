//! Two engines joined without delay, and the processor time that each part takes.

use std::{collections::BTreeMap, fs, time::Duration};

use bytes::{Bytes, BytesMut};
use cid::Cid;
use libp2p_identity::PeerId;
use protocol::block::sha256;
use souverain_agent::bitswap::{
    Answer, Config, Effect, Engine, Input, Now, Protocol, SessionId, Wanted, message::WireMessage,
};

const SESSION: SessionId = SessionId(1);

/// Time that this thread has run on a processor, whoever else did meanwhile.
fn ran() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = stat.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.expect("three numbers"))
}

/// Moves all blocks; gives the time of the engines, of the wire's bytes, and of the hashes.
pub(crate) fn run(blocks: &[(Cid, Bytes)]) -> [Duration; 3] {
    let store: BTreeMap<Cid, Bytes> = blocks.iter().cloned().collect();
    let ids = [b"a", b"b"].map(|name| {
        let bytes = [&[0x12, 0x20], &sha256(name)[..]].concat();
        PeerId::from_bytes(&bytes).expect("a multihash")
    });
    let mut engines = [0, 1].map(|_| Engine::new(Config::default()));
    let mut times = [Duration::ZERO; 3];
    let mut inputs: Vec<(usize, Input)> = Vec::new();
    for side in [0, 1] {
        let peer = ids[1 - side];
        let protocol = Protocol::V1_2;
        inputs.push((side, Input::Connected { peer, protocol }));
    }
    let session = SESSION;
    let peer = ids[1];
    inputs.push((0, Input::OpenSession { session }));
    inputs.push((0, Input::AddPeer { session, peer }));
    let wanted = |(cid, _): &(Cid, Bytes)| Wanted {
        cid: *cid,
        size: None,
    };
    let wants = blocks.iter().map(wanted).collect();
    inputs.push((0, Input::Want { session, wants }));
    let mut came = 0;
    let now = Now {
        elapsed: Duration::ZERO,
        minute_of_day: 0,
    };
    while !inputs.is_empty() {
        for (side, input) in std::mem::take(&mut inputs) {
            let start = ran();
            engines[side].handle(now, input);
            let mut effects = Vec::new();
            while let Some(effect) = engines[side].effect() {
                effects.push(effect);
            }
            times[0] += ran() - start;
            for effect in effects {
                came += usize::from(matches!(effect, Effect::Block { .. }));
                let other = 1 - side;
                match effect {
                    Effect::Send {
                        peer, id, message, ..
                    } => {
                        inputs.push((side, Input::Sent { peer, message: id }));
                        let peer = ids[side];
                        let message = carry(&message, &mut times);
                        inputs.push((other, Input::Message { peer, message }));
                    }
                    Effect::Lookup { ticket, cids, .. } => {
                        let size = |cid| u32::try_from(store[cid].len()).expect("small");
                        let answers = cids.iter().map(|cid| Answer::Here(size(cid))).collect();
                        inputs.push((side, Input::Found { ticket, answers }));
                    }
                    Effect::Load { ticket, cids, .. } => {
                        let blocks = cids.iter().map(|cid| Some(store[cid].clone())).collect();
                        inputs.push((side, Input::Loaded { ticket, blocks }));
                    }
                    _ => {}
                }
            }
        }
    }
    assert_eq!(came, blocks.len());
    times
}

fn carry(
    message: &WireMessage,
    times: &mut [Duration; 3],
) -> souverain_agent::bitswap::message::VerifiedMessage {
    let start = ran();
    let mut bytes = BytesMut::with_capacity(message.encoded_len());
    for part in message.encode() {
        bytes.extend_from_slice(&part);
    }
    let message = WireMessage::decode(bytes.freeze()).expect("valid");
    times[1] += ran() - start;
    let start = ran();
    let message = message.verify().expect("small");
    times[2] += ran() - start;
    message
}
