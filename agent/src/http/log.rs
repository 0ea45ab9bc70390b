//! The logs of a node over HTTP: checkpoints, and tiles as C2SP's `tlog-tiles` has them.
//!
//! `/log/checkpoint` and `/log/tile/…` are the node's own, `/log/CID/checkpoint` and so on those that it
//! follows. All of it is signed, and checked by who reads it; nothing here checks anything.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use cid::Cid;
use hyper::{Method, Request, Response, body::Incoming, header};
use protocol::log::tile::{TileKind, TilePath};
use store::{StoreError, log::LogReader};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    Body,
    answers::{FOR_EVER, Held, Refusal, refused, set, whole},
    limits::{BLOCK_BYTES_WAIT, LOG_READS_MAX},
    places::Busy,
};
use crate::log::places::{followed_dir, own_dir};

/// What the paths begin with.
pub(super) const PREFIX: &str = "/log/";

const UNREADABLE: Refusal = Refusal {
    status: 500,
    reason: "the log cannot be read",
};
const BUSY: Refusal = Refusal {
    status: 503,
    reason: "too much is being read already",
};

/// The logs of a home.
#[derive(Debug)]
pub(super) struct Logs {
    home: PathBuf,
    /// Each read holds a bundle at most.
    reads: Arc<Semaphore>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Checkpoint,
    Tile(TilePath),
}

impl Logs {
    pub(super) fn new(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
            reads: Arc::new(Semaphore::new(LOG_READS_MAX)),
        }
    }

    /// Answers a request for what the path below [`PREFIX`] names.
    pub(super) async fn answer(
        &self,
        asked: &Request<Incoming>,
        path: &str,
        busy: Busy,
    ) -> Response<Body> {
        let answer = self.understand(asked, path, busy).await;
        answer.unwrap_or_else(refused)
    }

    async fn understand(
        &self,
        asked: &Request<Incoming>,
        path: &str,
        busy: Busy,
    ) -> Result<Response<Body>, Refusal> {
        let (dir, path) = match path.split_once('/') {
            Some((first, rest)) if first != "tile" => {
                let cid = Cid::try_from(first).map_err(|_| Refusal::NOT_FOUND)?;
                (followed_dir(&self.home, &cid), rest)
            }
            _ => (own_dir(&self.home), path),
        };
        let ask = match path {
            "checkpoint" => Ask::Checkpoint,
            path => Ask::Tile(path.parse().map_err(|_| Refusal::NOT_FOUND)?),
        };
        let place = timeout(BLOCK_BYTES_WAIT, self.reads.clone().acquire_owned()).await;
        let place = place.map_err(|_| BUSY)?.expect("it is never closed");
        let read = spawn_blocking(move || read(&dir, ask)).await;
        let read = read.map_err(|_| UNREADABLE)?.map_err(|error| {
            tracing::error!(%error, "a log cannot be read");
            UNREADABLE
        })?;
        let bytes = read.ok_or(Refusal::NOT_FOUND)?;
        let mut answer = Response::new(whole(Bytes::new()));
        let (media, keep) = match ask {
            Ask::Checkpoint => ("text/plain; charset=utf-8", "no-cache"),
            Ask::Tile(_) => ("application/octet-stream", FOR_EVER),
        };
        set(&mut answer, header::CONTENT_TYPE, media);
        set(&mut answer, header::CACHE_CONTROL, keep);
        set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        set(
            &mut answer,
            header::CONTENT_LENGTH,
            &bytes.len().to_string(),
        );
        if asked.method() != Method::HEAD {
            let held = Held {
                bytes,
                _busy: Arc::new(busy),
                _memory: Some(place),
            };
            *answer.body_mut() = whole(Bytes::from_owner(held));
        }
        Ok(answer)
    }
}

/// Nothing if the log is not here, or does not have that yet.
fn read(dir: &Path, ask: Ask) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(reader) = LogReader::open(dir)? else {
        return Ok(None);
    };
    match ask {
        Ask::Checkpoint => Ok(Some(reader.head().note.clone())),
        Ask::Tile(path) if !path.is_in(reader.head().size) => Ok(None),
        Ask::Tile(path) if path.kind() == TileKind::Entries => reader.bundle(path).map(Some),
        Ask::Tile(path) => Ok(Some(reader.tile(path)?.bytes().to_vec())),
    }
}
