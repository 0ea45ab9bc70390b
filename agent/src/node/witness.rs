//! Cosignatures among members of a federation: what C2SP's `tlog-witness` has over HTTP, on a stream.
//!
//! Who asks writes the body of the request and closes its side; the answer is a status code in two bytes, big-endian,
//! and the body.

use std::io;

use libp2p::{
    PeerId, Stream, StreamProtocol,
    futures::{AsyncReadExt, AsyncWriteExt},
};
use libp2p_stream::Control;
use protocol::log::witness::{ANSWER_SIZE_MAX, REQUEST_SIZE_MAX};
use tokio::time::timeout;

use super::limits::{STREAM_OPEN_WAIT, STREAM_STEP_WAIT};
use crate::log::witnessing::{Witnessing, answer};

/// The protocol.
pub(super) const WITNESS_PROTOCOL: StreamProtocol = StreamProtocol::new("/souverain/witness/1");
/// Bytes of the status code.
const STATUS_SIZE: usize = 2;

/// Answers the request on a stream.
pub(super) async fn serve(mut stream: Stream, witnessing: &Witnessing) -> io::Result<()> {
    let body = read_all(&mut stream, REQUEST_SIZE_MAX).await?;
    let answer = answer(witnessing, &body).await;
    timeout(STREAM_STEP_WAIT, async {
        stream.write_all(&answer.status.to_be_bytes()).await?;
        stream.write_all(&answer.body).await?;
        stream.close().await
    })
    .await?
}

/// Asks a connected member; gives the status code and the body of its answer.
pub(super) async fn ask(
    mut control: Control,
    peer: PeerId,
    body: &[u8],
) -> io::Result<(u16, Vec<u8>)> {
    let opened = timeout(
        STREAM_OPEN_WAIT,
        control.open_stream(peer, WITNESS_PROTOCOL),
    )
    .await?;
    let mut stream = opened.map_err(io::Error::other)?;
    timeout(STREAM_STEP_WAIT, async {
        stream.write_all(body).await?;
        stream.close().await
    })
    .await??;
    let mut answer = read_all(&mut stream, STATUS_SIZE + ANSWER_SIZE_MAX).await?;
    let body = answer.split_off(STATUS_SIZE.min(answer.len()));
    let status = answer
        .try_into()
        .map_err(|_| io::ErrorKind::UnexpectedEof)?;
    Ok((u16::from_be_bytes(status), body))
}

/// All that comes, if it is not more than some bytes.
async fn read_all(stream: &mut Stream, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut limited = stream.take(limit as u64 + 1);
    timeout(STREAM_STEP_WAIT, limited.read_to_end(&mut bytes)).await??;
    match bytes.len() <= limit {
        true => Ok(bytes),
        false => Err(io::ErrorKind::FileTooLarge.into()),
    }
}
