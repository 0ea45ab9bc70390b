//! Reads ahead of TLS, which asks a socket for a few KiB at a time.
//!
//! Buffers are borrowed from a pool while something is in them, so that idle connections hold none.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use libp2p::futures::{AsyncRead, AsyncWrite};

use super::limits::{READ_AHEAD_MAX, READ_AHEAD_SPARE_MAX};

/// Buffers that nobody uses, to be used again without being cleared.
#[derive(Clone, Debug, Default)]
pub(super) struct Spare(Arc<Mutex<Vec<Box<[u8]>>>>);

impl Spare {
    fn take(&self) -> Box<[u8]> {
        let spare = self.0.lock().expect("no panic while it is held").pop();
        spare.unwrap_or_else(|| vec![0; READ_AHEAD_MAX].into())
    }

    fn give(&self, buffer: Box<[u8]>) {
        let mut spare = self.0.lock().expect("no panic while it is held");
        if spare.len() < READ_AHEAD_SPARE_MAX {
            spare.push(buffer);
        }
    }
}

/// A connection that is read in large steps.
#[derive(Debug)]
pub(super) struct ReadAhead<C> {
    inner: C,
    spare: Spare,
    /// What was read and not taken yet; never empty.
    ahead: Option<Ahead>,
}

#[derive(Debug)]
struct Ahead {
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
}

impl<C> ReadAhead<C> {
    pub(super) fn new(inner: C, spare: Spare) -> Self {
        Self {
            inner,
            spare,
            ahead: None,
        }
    }
}

impl<C> Drop for ReadAhead<C> {
    fn drop(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            self.spare.give(ahead.buffer);
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for ReadAhead<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut ahead = match this.ahead.take() {
            Some(ahead) => ahead,
            None if buf.len() >= READ_AHEAD_MAX => {
                return Pin::new(&mut this.inner).poll_read(cx, buf);
            }
            None => {
                let mut buffer = this.spare.take();
                match Pin::new(&mut this.inner).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(end @ 1..)) => Ahead {
                        buffer,
                        begin: 0,
                        end,
                    },
                    other => {
                        this.spare.give(buffer);
                        return other;
                    }
                }
            }
        };
        let len = buf.len().min(ahead.end - ahead.begin);
        buf[..len].copy_from_slice(&ahead.buffer[ahead.begin..ahead.begin + len]);
        ahead.begin += len;
        if ahead.begin < ahead.end {
            this.ahead = Some(ahead);
        } else {
            this.spare.give(ahead.buffer);
        }
        Poll::Ready(Ok(len))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for ReadAhead<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
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

    #[test]
    fn bytes_come_as_they_were_whatever_the_size_of_reads() {
        let len = 2 * READ_AHEAD_MAX + 77;
        let sent: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        let spare = Spare::default();
        for step in [1_000, 4_096, READ_AHEAD_MAX, 2 * READ_AHEAD_MAX] {
            let mut ahead = ReadAhead::new(Cursor::new(&sent), spare.clone());
            let (mut all, mut buf) = (Vec::new(), vec![0; step]);
            loop {
                match block_on(ahead.read(&mut buf)).expect("memory is read") {
                    0 => break,
                    read => all.extend_from_slice(&buf[..read]),
                }
            }
            assert!(all == sent, "{step}");
        }
    }

    #[test]
    fn who_is_idle_has_no_buffer() {
        let spare = Spare::default();
        let kept = || spare.0.lock().expect("no panic").len();
        let mut ahead = ReadAhead::new(Cursor::new(b"four"), spare.clone());
        let mut two = [0; 2];
        block_on(ahead.read_exact(&mut two)).expect("reads");
        assert_eq!(kept(), 0, "there is more in it");
        block_on(ahead.read_exact(&mut two)).expect("reads");
        assert_eq!(kept(), 1);
        assert_eq!(block_on(ahead.read(&mut two)).expect("the end"), 0);
        assert_eq!(kept(), 1);

        let full: Vec<_> = (0..2 * READ_AHEAD_SPARE_MAX)
            .map(|_| {
                let mut one = ReadAhead::new(Cursor::new(b"two"), spare.clone());
                block_on(one.read_exact(&mut two)).expect("reads");
                one
            })
            .collect();
        drop(full);
        assert_eq!(kept(), READ_AHEAD_SPARE_MAX, "no more are kept");
    }
}
