//! Messages on a stream: a length as a varint, and that many bytes, again and again.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    bitswap::{
        limits::MESSAGE_SIZE_MAX,
        message::{MessageError, VerifiedMessage, WireMessage},
    },
    buffers::Buffers,
    node::limits::{INBOUND_BYTES_MAX, STREAM_IDLE_WAIT, STREAM_STEP_WAIT},
};

/// Bytes that are read or written in one step.
const STEP_SIZE: usize = 64 << 10;
/// Most bytes of a length: a longer one is above every limit.
const LENGTH_SIZE_MAX: usize = 4;
/// Room that is made for a message before its bytes come: a block of ours and what is around it.
const ROOM_MAX: usize = (1 << 20) + STEP_SIZE;
/// Messages up to this size are decoded and hashed where they are read.
const SMALL: usize = 16 << 10;

/// Memory for messages that are being read, for all connections together. It is taken as bytes
/// come, so that a length that is only announced costs nothing.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    free: Arc<Semaphore>,
    buffers: Buffers,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(INBOUND_BYTES_MAX / STEP_SIZE)),
            buffers: Buffers::default(),
        }
    }
}

impl Memory {
    async fn step(&self) -> OwnedSemaphorePermit {
        let permit = self.free.clone().acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }
}

/// What the streams of a connection are doing, for who cannot see into them.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Messages that are being read.
    pub(super) reading: AtomicUsize,
    /// Bytes came.
    pub(super) received: AtomicBool,
    /// Bytes were taken.
    pub(super) sent: AtomicBool,
}

/// What came on a stream.
#[derive(Debug)]
pub(super) enum Received {
    /// A message.
    Message(VerifiedMessage),
    /// Something else.
    Malformed(MessageError),
    /// Nothing more: the stream has ended, or failed, or was idle or stalled for too long.
    Ended,
}

/// Reads the next message.
pub(super) async fn next_message(
    stream: &mut (impl AsyncRead + Unpin),
    activity: &Activity,
    memory: &Memory,
) -> Received {
    let Ok(Some(size)) = in_time(STREAM_IDLE_WAIT, length(stream)).await else {
        return Received::Ended;
    };
    if size > MESSAGE_SIZE_MAX {
        return Received::Malformed(MessageError::TooLarge { size });
    }
    activity.reading.fetch_add(1, Ordering::Relaxed);
    let read = body(stream, size, activity, memory).await;
    activity.reading.fetch_sub(1, Ordering::Relaxed);
    let Ok((bytes, taken)) = read else {
        return Received::Ended;
    };
    let verify = move || WireMessage::decode(bytes).and_then(WireMessage::verify);
    let verified = if size <= SMALL {
        verify()
    } else {
        match tokio::task::spawn_blocking(verify).await {
            Ok(verified) => verified,
            Err(_) => return Received::Ended,
        }
    };
    drop(taken);
    match verified {
        Ok(message) => Received::Message(message),
        Err(error) => Received::Malformed(error),
    }
}

/// The length of the next message; nothing at the end of the stream.
async fn length(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<usize>> {
    let mut value = 0;
    for place in 0..LENGTH_SIZE_MAX {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return match place {
                0 => Ok(None),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        value |= usize::from(byte[0] & 0x7f) << (7 * place);
        if byte[0] & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Ok(Some(usize::MAX))
}

async fn body(
    stream: &mut (impl AsyncRead + Unpin),
    size: usize,
    activity: &Activity,
    memory: &Memory,
) -> io::Result<(Bytes, Vec<OwnedSemaphorePermit>)> {
    // Room is only promised by this: pages that nothing is written to cost nothing, and of buffers that were
    // used before there are a few.
    let mut bytes = memory.buffers.take(size.min(ROOM_MAX));
    let mut taken = Vec::new();
    let (mut filled, mut room) = (0, 0);
    while filled < size {
        if filled == room {
            taken.push(memory.step().await);
            room = (filled + STEP_SIZE).min(size);
            if bytes.len() < room {
                bytes.resize(room, 0);
            }
        }
        let read = in_time(STREAM_STEP_WAIT, stream.read(&mut bytes[filled..room])).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        activity.received.store(true, Ordering::Relaxed);
    }
    bytes.truncate(size);
    Ok((memory.buffers.lend(bytes), taken))
}

/// Writes a message; when this returns, the transport has all its bytes.
pub(super) async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &WireMessage,
    activity: &Activity,
) -> io::Result<()> {
    let parts = message.encode();
    let size: usize = parts.iter().map(Bytes::len).sum();
    let mut buffer = unsigned_varint::encode::usize_buffer();
    let length = Bytes::copy_from_slice(unsigned_varint::encode::usize(size, &mut buffer));
    for part in std::iter::once(length).chain(parts) {
        let mut rest = &part[..];
        while !rest.is_empty() {
            let step = &rest[..rest.len().min(STEP_SIZE)];
            let written = in_time(STREAM_STEP_WAIT, stream.write(step)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[written..];
            activity.sent.store(true, Ordering::Relaxed);
        }
    }
    in_time(STREAM_STEP_WAIT, stream.flush()).await
}

async fn in_time<T>(limit: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, step).await?
}

#[cfg(test)]
mod tests {
    use libp2p::futures::io::Cursor;

    use super::*;
    use crate::bitswap::message::Payload;

    fn message(blocks: usize) -> WireMessage {
        let block = |n: usize| {
            let bytes = Bytes::from(vec![n as u8; 100_000]);
            let cid = protocol::block::raw_cid(&protocol::block::sha256(&bytes));
            Payload::new(&cid, bytes)
        };
        WireMessage {
            blocks: (0..blocks).map(block).collect(),
            ..WireMessage::default()
        }
    }

    fn read_all(bytes: Vec<u8>) -> Vec<Received> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let (mut stream, memory) = (Cursor::new(bytes), Memory::default());
            let activity = Activity::default();
            let mut all = Vec::new();
            loop {
                let received = next_message(&mut stream, &activity, &memory).await;
                let last = !matches!(received, Received::Message(_));
                all.push(received);
                if last {
                    let free = memory.free.available_permits();
                    assert_eq!(free, INBOUND_BYTES_MAX / STEP_SIZE, "memory is given back");
                    assert_eq!(activity.reading.load(Ordering::Relaxed), 0);
                    return all;
                }
            }
        })
    }

    fn written(messages: &[WireMessage]) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let mut stream = Cursor::new(Vec::new());
            for message in messages {
                let activity = Activity::default();
                let done = write_message(&mut stream, message, &activity).await;
                done.expect("memory takes everything");
            }
            stream.into_inner()
        })
    }

    #[test]
    fn messages_come_through_one_after_the_other() {
        let received = read_all(written(&[message(0), message(3), message(1)]));
        let blocks: Vec<Option<usize>> = received
            .iter()
            .map(|received| match received {
                Received::Message(message) => Some(message.blocks.len()),
                _ => None,
            })
            .collect();
        assert_eq!(blocks, [Some(0), Some(3), Some(1), None]);
        assert!(matches!(received.last(), Some(Received::Ended)));
    }

    #[test]
    fn what_is_cut_off_or_malformed_is_told() {
        let whole = written(&[message(2)]);
        for end in [1, 3, 50_000, whole.len() - 1] {
            let received = read_all(whole[..end].to_vec());
            assert!(matches!(received[..], [Received::Ended]), "{end}");
        }
        for (bytes, why) in [
            (b"\xff\xff\xff\xff\x7f".to_vec(), "larger than any message"),
            (b"\x81\x80\x80\x02".to_vec(), "a byte larger than a message"),
            (b"\x02\xff\xff".to_vec(), "no message"),
        ] {
            let received = read_all(bytes);
            assert!(matches!(received[..], [Received::Malformed(_)]), "{why}");
        }
    }
}
