//! Writes that are gathered, so that many small ones cost one system call and fill whole TLS records.
//!
//! Yamux writes the twelve bytes of a frame's header and up to 16 KiB of its body apart, and flushes after
//! each frame. What is written is held back here until there is enough of it, or nothing more comes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use libp2p::futures::{AsyncRead, AsyncWrite};

use super::limits::GATHERED_MAX;

/// A connection whose writes are gathered.
///
/// The first flush after a write does nothing but ask to be called again: the task that writes is woken,
/// and if it has nothing more to write, its next flush is a real one.
#[derive(Debug)]
pub(super) struct Gathered<C> {
    inner: C,
    /// What is held back. It has room only while something is.
    held: Vec<u8>,
    /// So much of it was taken.
    taken: usize,
    /// Something was written since the last flush.
    written: bool,
}

impl<C> Gathered<C> {
    pub(super) fn new(inner: C) -> Self {
        Self {
            inner,
            held: Vec::new(),
            taken: 0,
            written: false,
        }
    }
}

impl<C: AsyncWrite + Unpin> Gathered<C> {
    /// Gives on what is held back.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.held.len() {
            let rest = &self.held[self.taken..];
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.taken += written,
            }
        }
        self.held.clear();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Gathered<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() == GATHERED_MAX {
            ready!(self.poll_drain(cx))?;
        }
        if self.held.capacity() == 0 {
            self.held.reserve_exact(GATHERED_MAX);
        }
        let len = buf.len().min(GATHERED_MAX - self.held.len());
        self.held.extend_from_slice(&buf[..len]);
        self.written = true;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.written) {
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drain(cx))?;
        self.held = Vec::new();
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Gathered<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes so many bytes before it is full, and remembers each write.
    #[derive(Debug, Default)]
    struct Sink {
        writes: Vec<Vec<u8>>,
        room: usize,
        flushes: usize,
        closed: bool,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let len = buf.len().min(self.room);
            if len == 0 {
                return Poll::Pending;
            }
            self.room -= len;
            self.writes.push(buf[..len].to_vec());
            Poll::Ready(Ok(len))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.closed = true;
            Poll::Ready(Ok(()))
        }
    }

    fn gathered(room: usize) -> Gathered<Sink> {
        Gathered::new(Sink {
            room,
            ..Sink::default()
        })
    }

    /// Writes as much as is taken, and says how much that is.
    fn write(to: &mut Gathered<Sink>, mut bytes: &[u8]) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let all = bytes.len();
        while !bytes.is_empty()
            && let Poll::Ready(written) = Pin::new(&mut *to).poll_write(&mut cx, bytes)
        {
            bytes = &bytes[written.expect("a sink does not fail")..];
        }
        all - bytes.len()
    }

    fn flush(to: &mut Gathered<Sink>) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(to).poll_flush(&mut cx) {
            Poll::Ready(done) => {
                done.expect("a sink does not fail");
                true
            }
            Poll::Pending => false,
        }
    }

    #[test]
    fn frames_that_follow_each_other_are_one_write() {
        let mut to = gathered(usize::MAX);
        for frame in [b"one".as_slice(), b"two", b"three"] {
            assert_eq!(write(&mut to, frame), frame.len());
            assert!(flush(&mut to));
        }
        assert!(to.inner.writes.is_empty(), "more may come");
        assert!(flush(&mut to));
        assert_eq!(to.inner.writes, [b"onetwothree"]);
        assert_eq!(to.inner.flushes, 1);
        assert_eq!(to.held.capacity(), 0, "who is idle holds no memory");
    }

    #[test]
    fn no_more_is_held_back_than_the_limit() {
        let mut to = gathered(2 * GATHERED_MAX);
        let bytes: Vec<u8> = (0..4 * GATHERED_MAX).map(|n| (n % 251) as u8).collect();
        let taken = write(&mut to, &bytes);
        assert_eq!(taken, 3 * GATHERED_MAX, "two in the sink, one held back");
        assert!(flush(&mut to) && !flush(&mut to), "the sink is full");
        to.inner.room = usize::MAX;
        assert_eq!(write(&mut to, &bytes[taken..]), GATHERED_MAX);
        assert!(flush(&mut to) && flush(&mut to));
        assert!(to.inner.writes.iter().all(|one| one.len() == GATHERED_MAX));
        assert!(to.inner.writes.concat() == bytes);
    }

    #[test]
    fn what_is_held_back_is_written_before_the_end() {
        let mut to = gathered(2);
        write(&mut to, b"last");
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut to).poll_close(&mut cx).is_pending());
        assert!(!to.inner.closed);
        to.inner.room = 2;
        assert!(Pin::new(&mut to).poll_close(&mut cx).is_ready());
        assert!(to.inner.closed);
        assert_eq!(to.inner.writes.concat(), b"last");
    }
}
