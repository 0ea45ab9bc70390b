//! Reading back: what is missing here of a snapshot comes from a Kubo in CARs.

use std::{
    io::{self, BufReader, Read},
    thread,
};

use bytes::{Buf, Bytes};
use cid::Cid;
use store::Store;
use tokio::sync::mpsc::{self, Receiver};

use super::{Kubo, KuboError};
use crate::{
    progress::Progress,
    pull::{CarPull, PullError, PullReport},
};

/// Parts of an answer that wait to be read; of up to some 100 KiB each.
const PARTS_MAX: usize = 16;
/// Bytes that are read at once.
const BUFFER_SIZE: usize = 64 << 10;

impl Kubo {
    /// Fetches what is missing of a snapshot, checks it, keeps it, and lists the snapshot when it is whole. The
    /// Kubo gives what it has itself, and does not ask its own peers.
    ///
    /// # Errors
    /// The Kubo does not have all of it, or fails or lies. What was durable is kept, and not fetched again.
    pub fn fetch(
        &self,
        store: &Store,
        root: &Cid,
        created: &str,
        progress: &Progress,
    ) -> Result<PullReport, KuboError> {
        let not_there = |cause| match cause {
            KuboError::Said { .. } | KuboError::Pull(PullError::Missing { .. }) => {
                KuboError::NotThere {
                    root: *root,
                    cause: Box::new(cause),
                }
            }
            other => other,
        };
        let mut pull = CarPull::new(store, *root, progress)?;
        while let Some(dag) = pull.next() {
            self.receive(&dag, &mut pull).map_err(not_there)?;
        }
        pull.finish(created)
            .map_err(|error| not_there(KuboError::from(error)))
    }

    /// Receives one DAG. A thread waits for the network, this one for the disk.
    fn receive(&self, dag: &Cid, pull: &mut CarPull<'_>) -> Result<(), KuboError> {
        let (sender, parts) = mpsc::channel(PARTS_MAX);
        thread::scope(|scope| {
            let receiving = thread::Builder::new()
                .name("fetch".into())
                .spawn_scoped(scope, move || {
                    self.runtime.block_on(async {
                        let mut reply = self.rpc.dag_export(&dag.to_string()).await?;
                        while let Some(part) = reply.bytes().await? {
                            if sender.send(part).await.is_err() {
                                break;
                            }
                        }
                        Ok(())
                    })
                })
                .map_err(KuboError::Thread)?;
            let part = Bytes::new();
            let input = BufReader::with_capacity(BUFFER_SIZE, Incoming { parts, part });
            let taken = pull.take(dag, input);
            let received = receiving.join().expect("the thread does not panic");
            // That the CAR ends early does not say why, the connection does.
            received.and(taken.map_err(KuboError::from))
        })
    }
}

/// The bytes of an answer, as they come.
struct Incoming {
    parts: Receiver<Bytes>,
    part: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.blocking_recv() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let len = bytes.len().min(self.part.len());
        self.part.copy_to_slice(&mut bytes[..len]);
        Ok(len)
    }
}
