//! The way from those who want a checkpoint cosigned to the one who decides.
//!
//! HTTP and streams between peers give the same bytes to [`answer`]; who owns the replica takes calls out of the channel.

use protocol::{
    log::{
        replica::{AddCheckpoint, Refusal},
        witness::Answer,
    },
    note::SignatureLine,
};
use tokio::sync::{mpsc, oneshot};

/// A call for a cosignature, and where its answer goes.
pub type Call = (
    AddCheckpoint,
    oneshot::Sender<Result<SignatureLine, Refusal>>,
);

/// Calls for cosignatures.
#[derive(Clone, Debug)]
pub struct Witnessing {
    /// To who decides. What does not fit in waits for nothing.
    pub calls: mpsc::Sender<Call>,
}

impl Witnessing {
    /// Has a checkpoint cosigned, or hears why not. Who does not wait for it may still be cosigned for.
    ///
    /// # Errors
    /// It is refused, or too many wait already, or nobody decides any more.
    pub async fn add_checkpoint(&self, request: AddCheckpoint) -> Result<SignatureLine, Refusal> {
        let (answer, answered) = oneshot::channel();
        let asked = self.calls.try_send((request, answer));
        asked.map_err(|_| Refusal::Busy)?;
        answered.await.unwrap_or(Err(Refusal::Busy))
    }
}

/// Answers the bytes of a request, whatever carried them.
pub async fn answer(witnessing: &Witnessing, body: &[u8]) -> Answer {
    match AddCheckpoint::parse(body) {
        Ok(request) => witnessing.add_checkpoint(request).await.into(),
        Err(because) => Answer::malformed(&because),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use protocol::log::{
        checkpoint::{Checkpoint, Origin},
        witness::Said,
    };
    use zeroize::Zeroizing;

    use super::*;
    use crate::log::key::{LogKey, WitnessKey};

    /// A request that a log signed.
    pub(crate) fn request(old_size: u64) -> AddCheckpoint {
        let key = LogKey::new(&Zeroizing::new([1; 32]));
        let name = "example.com/log";
        let vkey = protocol::note::VerifierKey::new(name, key.public().as_bytes());
        let origin = Origin::new(name).expect("a name");
        let checkpoint = Checkpoint::new(origin, 7, [9; 32]).expect("a checkpoint");
        let signed = checkpoint.sign(&vkey.expect("a key"), |text| key.sign(text));
        AddCheckpoint {
            old_size,
            proof: Vec::new(),
            checkpoint: signed.expect("signed").into(),
        }
    }

    /// What [`deciding`] cosigns with.
    pub(crate) fn key() -> WitnessKey {
        WitnessKey::new("witness.example", &Zeroizing::new([2; 32])).expect("a key")
    }

    /// Cosigns what comes with old size 0, and refuses all else.
    pub(crate) fn deciding() -> Witnessing {
        let (calls, mut called) = mpsc::channel::<Call>(1);
        tokio::spawn(async move {
            let key = key();
            while let Some((request, answer)) = called.recv().await {
                let checkpoint = request.checkpoint.checkpoint_unverified();
                let decided = match request.old_size {
                    0 => Ok(key.cosign(checkpoint, 5).expect("cosigned")),
                    _ => Err(Refusal::Conflict { size: 3 }),
                };
                let _ = answer.send(decided);
            }
        });
        Witnessing { calls }
    }

    #[tokio::test]
    async fn bytes_are_answered_as_it_was_decided() {
        let witnessing = deciding();
        let body = request(0).to_string();
        let said = answer(&witnessing, body.as_bytes()).await;
        let Ok(Said::Cosigned(lines)) = Said::parse(said.status, &said.body) else {
            panic!("{said:?}");
        };
        assert_eq!(lines[0].name(), "witness.example");
        let body = request(4).to_string();
        let said = answer(&witnessing, body.as_bytes()).await;
        assert_eq!((said.status, &said.body[..]), (409, &b"3\n"[..]));
        let said = answer(&witnessing, b"old 0\n").await;
        assert_eq!(said.status, 400);
    }

    #[tokio::test]
    async fn too_many_calls_and_calls_to_nobody_are_refused() {
        let (calls, called) = mpsc::channel(1);
        let witnessing = Witnessing { calls };
        let waiting = witnessing.add_checkpoint(request(0));
        let mut waiting = Box::pin(waiting);
        // It is sent when it is polled first.
        let first = tokio::select! {
            biased;
            first = &mut waiting => Some(first),
            second = witnessing.add_checkpoint(request(0)) => {
                assert_eq!(second, Err(Refusal::Busy));
                None
            }
        };
        assert_eq!(first, None);
        drop(called);
        assert_eq!(waiting.await, Err(Refusal::Busy));
        let body = request(0).to_string();
        assert_eq!(answer(&witnessing, body.as_bytes()).await.status, 503);
    }
}
