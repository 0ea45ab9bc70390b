//! Passes the lock from one process to another, so that nobody can take it in between.
//!
//! A `flock` belongs to an open file description. Who receives the descriptor over a Unix socket
//! holds the same lock; when the sender closes its own, nothing is unlocked.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The byte that a descriptor travels with.
const CARRIER: u8 = b'L';

/// Sends a descriptor.
pub(super) fn send_file(to: &UnixStream, file: &File) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [file.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("there is no room for a descriptor"));
    }
    let carrier = [IoSlice::new(&[CARRIER])];
    let flags = SendFlags::NOSIGNAL;
    sendmsg(to, &carrier, &mut ancillary, flags)?;
    Ok(())
}

/// Receives a descriptor.
pub(super) fn receive_file(from: &UnixStream) -> io::Result<File> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = {
        let mut slices = [IoSliceMut::new(&mut byte)];
        recvmsg(from, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?
    };
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let found: Option<OwnedFd> = descriptors.next().and_then(|mut all| all.next());
    match found {
        Some(found) if received.bytes == 1 && byte == [CARRIER] => Ok(File::from(found)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use rustix::fs::{FlockOperation, flock};

    use super::*;

    #[test]
    fn a_lock_goes_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).unwrap()
        };
        let mut first = open();
        first.write_all(b"x").unwrap();
        flock(&first, FlockOperation::NonBlockingLockExclusive).unwrap();
        let (from, to) = UnixStream::pair().unwrap();
        send_file(&from, &first).unwrap();
        drop(first);
        let free = || flock(open(), FlockOperation::NonBlockingLockExclusive).is_ok();
        assert!(!free(), "it is held while it is on the way");
        let mut second = receive_file(&to).unwrap();
        assert!(!free());
        second.rewind().unwrap();
        let mut text = String::new();
        second.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        drop(second);
        assert!(free());
    }

    #[test]
    fn a_byte_without_a_file_is_refused() {
        let (mut from, to) = UnixStream::pair().unwrap();
        from.write_all(&[CARRIER]).unwrap();
        assert!(receive_file(&to).is_err());
        drop(from);
        assert!(receive_file(&to).is_err());
    }
}
