//! Yamux for peers that send large frames.
//!
//! A data frame may be as long as the window that the receiver gave; js-libp2p sends such ones. The
//! library takes 1 MiB at most, and grants more than that where delay asks for it. So long
//! frames are cut into short ones below it, which means the same to a stream, and needs less memory.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use libp2p::{
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    futures::{AsyncRead, AsyncWrite},
    yamux::{Config, Muxer},
};

use super::{gather::Gathered, limits::YAMUX_FRAME_MAX};

const HEADER_SIZE: usize = 12;
const TYPE_DATA: u8 = 0;
/// Flags that begin a stream, or take it on: the first piece has them.
const FLAGS_FIRST: u8 = 1 | 2;
/// Flags that end a stream: the last piece has them.
const FLAGS_LAST: u8 = 4 | 8;

/// Yamux over [`ShortFrames`] and [`Gathered`].
#[derive(Clone, Debug)]
pub(super) struct Yamux(pub(super) Config);

impl UpgradeInfo for Yamux {
    type Info = <Config as UpgradeInfo>::Info;
    type InfoIter = <Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C> InboundConnectionUpgrade<C> for Yamux
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<ShortFrames<Gathered<C>>>;
    type Error = io::Error;
    type Future = <Config as InboundConnectionUpgrade<ShortFrames<Gathered<C>>>>::Future;

    fn upgrade_inbound(self, inner: C, info: Self::Info) -> Self::Future {
        self.0
            .upgrade_inbound(ShortFrames::new(Gathered::new(inner)), info)
    }
}

impl<C> OutboundConnectionUpgrade<C> for Yamux
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<ShortFrames<Gathered<C>>>;
    type Error = io::Error;
    type Future = <Config as OutboundConnectionUpgrade<ShortFrames<Gathered<C>>>>::Future;

    fn upgrade_outbound(self, inner: C, info: Self::Info) -> Self::Future {
        self.0
            .upgrade_outbound(ShortFrames::new(Gathered::new(inner)), info)
    }
}

/// A connection whose inbound frames are short.
#[derive(Debug)]
pub(super) struct ShortFrames<C> {
    inner: C,
    header: [u8; HEADER_SIZE],
    state: State,
    /// Bytes of the frame that come after this piece.
    rest: u32,
    /// What the last piece of the frame says.
    flags_last: u8,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of the header have come.
    Reading(usize),
    /// So many bytes of the header were passed on.
    Passing(usize),
    /// So many bytes of the piece are to come.
    Body(u32),
}

impl<C> ShortFrames<C> {
    fn new(inner: C) -> Self {
        Self {
            inner,
            header: [0; HEADER_SIZE],
            state: State::Reading(0),
            rest: 0,
            flags_last: 0,
        }
    }

    /// A header has come: makes it that of the first piece.
    fn first_piece(&mut self) {
        let len = self.len();
        if self.header[1] == TYPE_DATA && len > YAMUX_FRAME_MAX {
            self.rest = len - YAMUX_FRAME_MAX;
            self.flags_last = self.header[3] & FLAGS_LAST;
            self.header[3] &= FLAGS_FIRST;
            self.set_len(YAMUX_FRAME_MAX);
        }
        self.state = State::Passing(0);
    }

    /// A piece was passed on: makes the header that of the next one, if there is one.
    fn next_piece(&mut self) {
        if self.rest == 0 {
            self.state = State::Reading(0);
            return;
        }
        let len = self.rest.min(YAMUX_FRAME_MAX);
        self.rest -= len;
        self.header[3] = if self.rest == 0 { self.flags_last } else { 0 };
        self.set_len(len);
        self.state = State::Passing(0);
    }

    fn len(&self) -> u32 {
        let [.., a, b, c, d] = self.header;
        u32::from_be_bytes([a, b, c, d])
    }

    fn set_len(&mut self, len: u32) {
        self.header[8..].copy_from_slice(&len.to_be_bytes());
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for ShortFrames<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            match this.state {
                State::Reading(HEADER_SIZE) => this.first_piece(),
                State::Reading(filled) => {
                    let room = &mut this.header[filled..];
                    let read = ready!(Pin::new(&mut this.inner).poll_read(cx, room))?;
                    if read == 0 && filled > 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    if read == 0 {
                        return Poll::Ready(Ok(0));
                    }
                    this.state = State::Reading(filled + read);
                }
                State::Passing(HEADER_SIZE) => {
                    let has_body = this.header[1] == TYPE_DATA;
                    this.state = State::Body(if has_body { this.len() } else { 0 });
                }
                State::Passing(passed) => {
                    let len = buf.len().min(HEADER_SIZE - passed);
                    buf[..len].copy_from_slice(&this.header[passed..passed + len]);
                    this.state = State::Passing(passed + len);
                    return Poll::Ready(Ok(len));
                }
                State::Body(0) => this.next_piece(),
                State::Body(left) => {
                    let len = buf.len().min(left as usize);
                    let room = &mut buf[..len];
                    let read = ready!(Pin::new(&mut this.inner).poll_read(cx, room))?;
                    // As many as fit into what is left, which is a u32.
                    this.state = State::Body(left - read as u32);
                    return Poll::Ready(Ok(read));
                }
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for ShortFrames<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::futures::{AsyncReadExt, executor::block_on, io::Cursor};

    use super::*;

    const STREAM: u32 = 7;

    fn frame(kind: u8, flags: u8, len: u32) -> Vec<u8> {
        let mut bytes = vec![0, kind, 0, flags];
        bytes.extend(STREAM.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes
    }

    /// What comes out, by reads of this size.
    fn shortened(bytes: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut short = ShortFrames::new(Cursor::new(bytes));
        block_on(async {
            let (mut all, mut buf) = (Vec::new(), vec![0; step]);
            loop {
                match short.read(&mut buf).await? {
                    0 => return Ok(all),
                    read => all.extend(&buf[..read]),
                }
            }
        })
    }

    #[test]
    fn long_frames_are_cut_and_all_others_are_as_they_were() {
        let max = YAMUX_FRAME_MAX;
        let body = |len: u32| (0..len).map(|n| (n % 251) as u8).collect::<Vec<u8>>();
        let others = [
            frame(1, 1, u32::MAX),
            frame(0, 0, 3),
            body(3),
            frame(2, 1, 77),
            frame(0, 3, max),
            body(max),
            frame(0, 4, 0),
            frame(3, 0, 2),
        ]
        .concat();
        let long = body(2 * max + 5);
        let (one, two) = (max as usize, 2 * max as usize);
        let sent = [&others[..], &frame(0, 1 | 4, 2 * max + 5), &long, &others].concat();
        let expected = [
            &others[..],
            &frame(0, 1, max),
            &long[..one],
            &frame(0, 0, max),
            &long[one..two],
            &frame(0, 4, 5),
            &long[two..],
            &others,
        ]
        .concat();
        for step in [1, 7, 12, 100_000] {
            assert!(shortened(&sent, step).expect("reads") == expected, "{step}");
        }
    }

    #[test]
    fn a_header_that_is_cut_off_is_an_error() {
        let bytes = frame(0, 0, 3);
        assert!(shortened(&bytes[..5], 64).is_err());
        assert_eq!(shortened(&[], 64).expect("reads"), b"");
    }
}
