//! Has witnesses cosign the node's own log, over HTTP as <https://c2sp.org/tlog-witness> has it.
//!
//! Nothing is remembered of what a witness cosigned last: it says so itself, and is given the proof from there. That is
//! also how a node hears that it was put back from a backup. A witness that says so is asked what it cosigned, which the
//! log signed: that is no word of the witness alone.

use std::{path::Path, time::Duration};

use data_encoding::HEXLOWER;
use libp2p::{
    PeerId,
    futures::{StreamExt, stream},
};
use protocol::{
    log::{
        checkpoint::{Checkpoint, SignedCheckpoint, UnverifiedCheckpoint},
        cosignature::{self, CosignatureError, CosignerKey},
        fork::{Blame, Evidence, Fork, Signer},
        keys::KeyHistory,
        replica::AddCheckpoint,
        tree::{prove_consistency, prove_prefix},
        witness::{ANSWER_SIZE_MAX, Said, WitnessError},
    },
    note::{NoteError, SignatureLine},
};
use reqwest::{Client, RequestBuilder, Url};
use sha2::{Digest, Sha256};
use store::{
    StoreError,
    log::{LogReader, LogWriter},
};
use tokio::{runtime::Builder, time::timeout};

use super::{
    LogError,
    own::{is_control, keys_of, signed_head},
    places::own_dir,
};
use crate::{node::Handle, web};

/// How long a witness may take for one answer.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Witnesses that are asked at the same time.
const ASKED_MAX: usize = 32;
/// How long it may take with one witness, all its answers together.
pub(super) const WITNESS_WAIT: Duration = Duration::from_secs(60);
/// Times that a witness is asked: it says what it cosigned last, and then others may have it cosign more.
const TIMES_MAX: usize = 3;

/// A witness that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// What checks its cosignatures.
    pub key: CosignerKey,
    /// The prefix that `/add-checkpoint` is below.
    pub url: Url,
}

/// Why a witness did not cosign.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// It cannot be reached, or stops in the middle.
    #[error("it cannot be asked")]
    Reach(#[source] web::Cause),
    /// Its answer is none.
    #[error("its answer cannot be read")]
    Answer(#[source] WitnessError),
    /// It refuses.
    #[error("it answers {status}: {}", meaning(*status))]
    Refused {
        /// The status code.
        status: u16,
    },
    /// Its answer has no good cosignature of it.
    #[error("its cosignature does not hold")]
    Cosignature(#[source] CosignatureError),
    /// It cosigned more of the log than there is.
    #[error("it cosigned {seen} entries of this log before, which has {size} now")]
    Behind {
        /// How many it cosigned.
        seen: u64,
        /// How many there are.
        size: u64,
        /// What it cosigned, signed by the log, if it shows it.
        shown: Option<Box<SignedCheckpoint>>,
    },
    /// It cosigned another history of the log.
    #[error("it cosigned {seen} other entries of this log before")]
    Forked {
        /// How many it cosigned.
        seen: u64,
        /// What it cosigned, signed by the log, if it shows it, and the proof that it does not go with what there is.
        proof: Option<Box<(SignedCheckpoint, Fork)>>,
    },
    /// It takes too long.
    #[error("it takes too long")]
    Slow,
    /// Others have it cosign the log at the same time.
    #[error("the log is cosigned for others at the same time")]
    Overtaken,
    /// The tree of the log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CosignError {
    /// Whether the log is not what its witness saw of it: it was put back from a backup, or its key is used elsewhere.
    #[must_use]
    pub fn is_of_the_log(&self) -> bool {
        matches!(self, Self::Behind { .. } | Self::Forked { .. })
    }
}

/// What a status code means where it is not what the specification has it for.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => "it does not understand what it was asked",
        403 => "it has another key of this log",
        404 => "it does not know this log, or nothing is there",
        422 => "the log does not hold",
        503 => "it is busy",
        300..400 => "it is elsewhere",
        _ => "that is no answer of a witness",
    }
}

/// What became of asking witnesses, in their order.
pub type Answers = Vec<Result<SignatureLine, CosignError>>;

/// Asks witnesses for their cosignatures of the checkpoint of a log, all at once, and gives that and their answers.
/// Blocks the thread.
///
/// # Errors
/// The log does not hold, or the system gives no threads or sockets.
pub fn cosign(
    reader: &LogReader,
    witnesses: &[Witness],
) -> Result<(Checkpoint, Answers), LogError> {
    cosign_within(reader, witnesses, WITNESS_WAIT)
}

/// The same, with less patience.
pub(super) fn cosign_within(
    reader: &LogReader,
    witnesses: &[Witness],
    patience: Duration,
) -> Result<(Checkpoint, Answers), LogError> {
    let client = client()?;
    let witnesses = witnesses.iter().map(|Witness { key, url }| {
        let way = Way::Web(&client, url);
        (key, way)
    });
    let witnesses = witnesses.collect();
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| LogError::Client(cause.into()))?;
    runtime.block_on(async { ask_all(reader, witnesses, patience).await })
}

pub(super) fn client() -> Result<Client, LogError> {
    let client = web::client().timeout(ANSWER_WAIT).build();
    client.map_err(|cause| LogError::Client(cause.into()))
}

/// Asks witnesses, each by the way that leads to it.
///
/// # Errors
/// The log does not hold.
pub(super) async fn ask_all(
    reader: &LogReader,
    witnesses: Vec<(&CosignerKey, Way<'_>)>,
    patience: Duration,
) -> Result<(Checkpoint, Answers), LogError> {
    let keys = keys_of(reader)?;
    let checkpoint = signed_head(reader, &keys)?;
    // Witnesses have little use for what others cosigned, and small limits.
    let of_log = keys.checkpoint_keys(checkpoint.checkpoint().size());
    let bare = of_log.into_iter().find_map(|key| checkpoint.only(key).ok());
    let checkpoint = bare.unwrap_or(checkpoint);
    let asking = witnesses.into_iter().map(|(key, way)| Asking {
        way,
        reader,
        keys: &keys,
        checkpoint: &checkpoint,
        key,
    });
    let answers: Vec<_> = asking.map(|asking| asking.ask_within(patience)).collect();
    let answers = stream::iter(answers).buffered(ASKED_MAX).collect().await;
    Ok((checkpoint.checkpoint().clone(), answers))
}

/// Puts cosignatures under the checkpoint of a home's own log, beside those that it has. It is durable when this
/// returns. Nothing, if the log has another checkpoint by now.
///
/// # Errors
/// The log cannot be written, or does not hold; or a cosignature does not.
pub fn keep_cosignatures(
    home: &Path,
    checkpoint: &Checkpoint,
    cosignatures: &[(&CosignerKey, SignatureLine)],
) -> Result<Option<SignedCheckpoint>, LogError> {
    let (mut writer, _) = LogWriter::open(&own_dir(home), is_control)?;
    let reader = writer.reader()?.ok_or(LogError::Empty)?;
    let keys = keys_of(&reader)?;
    let mut cosigned = signed_head(&reader, &keys)?;
    if cosigned.checkpoint() != checkpoint {
        return Ok(None);
    }
    for (key, line) in cosignatures {
        cosignature::put(&mut cosigned, key, line.clone())?;
    }
    let note = cosigned.to_string();
    if note.as_bytes() != reader.head().note {
        writer.publish(note.as_bytes())?;
    }
    Ok(Some(cosigned))
}

/// How a witness is asked.
pub(super) enum Way<'a> {
    /// Over HTTP, below this URL.
    Web(&'a Client, &'a Url),
    /// As a member of the federation, by the node.
    Member(&'a Handle, PeerId),
}

/// One witness that is being asked.
struct Asking<'a> {
    way: Way<'a>,
    reader: &'a LogReader,
    keys: &'a KeyHistory,
    checkpoint: &'a SignedCheckpoint,
    key: &'a CosignerKey,
}

impl Asking<'_> {
    async fn ask_within(self, patience: Duration) -> Result<SignatureLine, CosignError> {
        let answer = timeout(patience, self.ask()).await;
        answer.unwrap_or(Err(CosignError::Slow))
    }

    async fn ask(self) -> Result<SignatureLine, CosignError> {
        let size = self.checkpoint.checkpoint().size();
        let mut old_size = 0;
        for _ in 0..TIMES_MAX {
            let node = |level, index| self.reader.node(level, index);
            let request = AddCheckpoint {
                old_size,
                proof: prove_consistency(old_size, size, node)?,
                checkpoint: self.checkpoint.clone().into(),
            };
            match self.send(request.to_string()).await? {
                Said::Cosigned(lines) => return self.find(lines),
                Said::Conflict { size: seen } if seen > size => {
                    let shown = self.shown().await.filter(|shown| {
                        // A rotation among what is missing is not known of here: then it is not known who signed.
                        shown.checkpoint().size() > size
                    });
                    let shown = shown.map(Box::new);
                    return Err(CosignError::Behind { seen, size, shown });
                }
                // As the specification had it once, if the roots differ.
                Said::Conflict { size: seen } if seen == size && old_size == size => {
                    return Err(self.forked(seen).await);
                }
                Said::Conflict { size: seen } => old_size = seen,
                Said::Refused { status: 422 } if old_size > 0 => {
                    return Err(self.forked(old_size).await);
                }
                Said::Refused { status } => return Err(CosignError::Refused { status }),
            }
        }
        Err(CosignError::Overtaken)
    }

    /// What the witness cosigned last of this log, if it shows that, and the log signed it.
    async fn shown(&self) -> Option<SignedCheckpoint> {
        let Way::Web(client, url) = self.way else {
            // Members tell one another anyway.
            return None;
        };
        let origin = self.checkpoint.checkpoint().origin();
        let hash = HEXLOWER.encode(&Sha256::digest(origin.as_str()));
        let asked = client.get(format!("{}/{hash}/checkpoint", prefix(url)));
        let (status, note) = read(asked).await.ok()?;
        let shown = UnverifiedCheckpoint::parse(&note).ok()?;
        let (_, shown) = self.keys.verify(&shown).ok()?;
        (status == 200).then_some(shown)
    }

    /// The witness cosigned another history: perhaps it shows that the log signed it.
    async fn forked(&self, seen: u64) -> CosignError {
        let shown = self.shown().await;
        let proof = shown.and_then(|shown| {
            let fork = self.contradiction(&shown)?;
            Some(Box::new((shown, fork)))
        });
        CosignError::Forked { seen, proof }
    }

    /// The proof that a checkpoint of the log does not go with what there is, if it does not.
    fn contradiction(&self, shown: &SignedCheckpoint) -> Option<Fork> {
        let own = self.checkpoint;
        let (seen, size) = (shown.checkpoint().size(), own.checkpoint().size());
        let checkpoints = [shown, own].map(|signed| signed.clone().into());
        let evidence = if seen == size {
            Evidence::Roots(checkpoints)
        } else {
            let node = |level, index| self.reader.node(level, index);
            let hashes: Result<_, StoreError> = prove_prefix(seen, size, node);
            Evidence::Growth {
                checkpoints,
                hashes: hashes.ok()?,
            }
        };
        let signer = |signed: &SignedCheckpoint| {
            let mut keys = self.keys.keys();
            let key = keys.find(|key| signed.note().verify(key).is_ok());
            key.cloned().map(Signer::Log)
        };
        let fork = Fork::new(evidence, [signer(shown)?, signer(own)?]).ok()?;
        (fork.blame(self.keys) == Blame::Log).then_some(fork)
    }

    /// The cosignature among lines, which may be others' too.
    fn find(&self, lines: Vec<SignatureLine>) -> Result<SignatureLine, CosignError> {
        let key = self.key;
        for line in lines {
            match cosignature::put(&mut self.checkpoint.clone(), key, line.clone()) {
                Ok(_) => return Ok(line),
                Err(CosignatureError::Note(NoteError::Unsigned(_))) => {}
                Err(wrong) => return Err(CosignError::Cosignature(wrong)),
            }
        }
        let unsigned = NoteError::Unsigned(key.name().to_owned());
        Err(CosignError::Cosignature(unsigned.into()))
    }

    async fn send(&self, body: String) -> Result<Said, CosignError> {
        let (status, answer) = match self.way {
            Way::Web(client, url) => post(client, url, body).await,
            Way::Member(node, peer) => {
                let asked = node.cosign(peer, body.into_bytes()).await;
                asked.map_err(|cause| CosignError::Reach(cause.into()))
            }
        }?;
        Said::parse(status, &answer).map_err(CosignError::Answer)
    }
}

fn prefix(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

async fn post(client: &Client, url: &Url, body: String) -> Result<(u16, Vec<u8>), CosignError> {
    let asked = client.post(format!("{}/add-checkpoint", prefix(url)));
    read(asked.body(body)).await
}

/// An answer, as much of it as is read.
async fn read(asked: RequestBuilder) -> Result<(u16, Vec<u8>), CosignError> {
    let failed = |cause: reqwest::Error| CosignError::Reach(cause.without_url().into());
    let mut answer = asked.send().await.map_err(failed)?;
    let status = answer.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_SIZE_MAX {
            break;
        }
    }
    Ok((status, bytes))
}

#[cfg(test)]
mod tests {
    use protocol::log::entry::Action;

    use super::*;
    use crate::{
        home::{Home, InitOptions},
        log::{Event, OwnLog, open_own},
    };

    const SESSION: [u8; 16] = *b"\x01\x9b\x7c\x5e\x9d\x08\x7c\xc3\x98\xc4\xdc\x0c\x0c\x07\x39\x8f";

    #[test]
    fn cosignatures_stay_under_a_checkpoint_until_the_log_grows() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("home");
        let home = Home::init(&path, &InitOptions::default()).expect("a home");
        let log = OwnLog::new(&home, SESSION);
        let event = Event::of(Action::EXPORT);
        log.record(5, std::slice::from_ref(&event))
            .expect("records");
        let reader = open_own(&path).expect("reads").expect("a log");
        let keys = keys_of(&reader).expect("it holds");
        let checkpoint = signed_head(&reader, &keys).expect("it holds");
        let checkpoint = checkpoint.checkpoint();
        let witness = home.witness_key().expect("a key");
        let keep = |time_s| {
            let line = witness.cosign(checkpoint, time_s).expect("cosigned");
            keep_cosignatures(&path, checkpoint, &[(witness.key(), line)]).expect("keeps")
        };
        keep(6).expect("the same size");
        let kept = keep(7).expect("the same size");
        assert_eq!(cosignature::verify(kept.note(), witness.key()), Ok(7));
        assert_eq!(kept.note().signatures().len(), 2);
        // Opened to append, with nothing to append.
        log.record(8, &[]).expect("records");
        let head = open_own(&path).expect("reads").expect("a log");
        assert_eq!(head.head().note, kept.to_string().into_bytes());
        let other = home.log_key(1).expect("a key").public();
        let other = CosignerKey::new("other", other.as_bytes()).expect("a key");
        let line = witness.cosign(checkpoint, 9).expect("cosigned");
        assert!(keep_cosignatures(&path, checkpoint, &[(&other, line)]).is_err());
        log.record(9, &[event]).expect("records");
        assert_eq!(keep(10), None);
    }
}
