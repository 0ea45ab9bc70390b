//! The trustless gateway: blocks and CARs of what is shared with everyone, over HTTP.
//!
//! Only what whoever asks can verify is served. What may not be had is answered as what is not
//! here. Blocks are checked before they are sent; a CAR in which one fails is cut off.

mod car;
pub mod request;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cid::Cid;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Body as _, Frame, Incoming},
    header::{self, HeaderName},
};
use libp2p::futures::stream;
use protocol::block::HASH_IDENTITY;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Body,
    answers::{FOR_EVER, Held, Refusal, matches_etag, refused, set, whole},
    limits::{
        BLOCK_BYTES_MAX, BLOCK_BYTES_WAIT, BLOCK_RATE_WAIT, CAR_RATE_WAIT, CAR_STEP_SIZE, CARS_MAX,
        READS_MAX,
    },
    places::Busy,
};
use crate::{node::Budget, shelf::Shelf};
use car::{CarFailure, Walk};
use request::{Ask, CarAsk, MEDIA_RAW, PREFIX};

const MEDIA_CAR_SERVED: &str = "application/vnd.ipld.car; version=1; order=dfs; dups=n";
/// What memory of blocks is counted in, in bytes.
const UNIT: usize = 1 << 10;
const X_IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");

const BUSY: Refusal = Refusal {
    status: 503,
    reason: "too much is being sent already",
};

/// The gateway, and what it may spend.
#[derive(Debug)]
pub(super) struct Gateway {
    shelf: Arc<Shelf>,
    upload: Budget,
    reads: Semaphore,
    /// Units of memory for blocks.
    memory: Arc<Semaphore>,
    cars: Arc<Semaphore>,
}

/// A CAR that is being sent.
struct Sending {
    gateway: Arc<Gateway>,
    walk: Walk,
    busy: Arc<Busy>,
    _place: OwnedSemaphorePermit,
}

impl Gateway {
    pub(super) fn new(shelf: Arc<Shelf>, upload: Budget) -> Self {
        Self {
            shelf,
            upload,
            reads: Semaphore::new(READS_MAX),
            memory: Arc::new(Semaphore::new(BLOCK_BYTES_MAX / UNIT)),
            cars: Arc::new(Semaphore::new(CARS_MAX)),
        }
    }

    /// Answers a request for something below `/ipfs/` or `/ipns/`.
    pub(super) async fn answer(
        self: &Arc<Self>,
        asked: &Request<Incoming>,
        busy: Busy,
    ) -> Response<Body> {
        let answer = self.understand(asked, busy).await;
        answer.unwrap_or_else(|refusal| {
            let only_cached = asked
                .headers()
                .get_all(header::CACHE_CONTROL)
                .iter()
                .any(|value| value.as_bytes() == b"only-if-cached");
            refused(match refusal.status {
                404 if only_cached => Refusal {
                    status: 412,
                    ..refusal
                },
                _ => refusal,
            })
        })
    }

    async fn understand(
        self: &Arc<Self>,
        asked: &Request<Incoming>,
        busy: Busy,
    ) -> Result<Response<Body>, Refusal> {
        if !asked.uri().path().starts_with(PREFIX) {
            return Err(Refusal {
                status: 501,
                reason: "names of IPNS are not resolved",
            });
        }
        if !asked.body().is_end_stream() {
            return Err(Refusal {
                status: 400,
                reason: "a request has no body here",
            });
        }
        let accept = asked.headers().get_all(header::ACCEPT).iter();
        let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
        let ask = Ask::parse(asked.uri().path(), asked.uri().query(), &accept)?;
        match &ask {
            Ask::Raw(cid) => self.raw(asked, &ask, cid, busy).await,
            Ask::Car(_) if asked.version() < Version::HTTP_11 => Err(Refusal {
                status: 505,
                reason: "the end of a CAR cannot be told from its being cut off before HTTP/1.1",
            }),
            Ask::Car(car) => self.car(asked, &ask, car, busy).await,
        }
    }

    /// Counts bytes that are to be sent, once the rate of uploads lets them go.
    async fn draw(&self, bytes: u64, patience: Duration) -> Result<(), Refusal> {
        let deadline = Instant::now() + patience;
        let mut upload = self.upload.clone();
        while let Err(wait) = upload.opens() {
            let at = Instant::now() + wait;
            if at > deadline {
                return Err(BUSY);
            }
            sleep_until(at).await;
        }
        upload.draw(bytes);
        Ok(())
    }

    /// Runs what asks the store, on a thread that may wait for the disk.
    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let _turn = self.reads.acquire().await.expect("it is never closed");
        spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "a read for the gateway failed");
            car::UNREADABLE
        })
    }

    async fn raw(
        &self,
        asked: &Request<Incoming>,
        ask: &Ask,
        cid: &Cid,
        busy: Busy,
    ) -> Result<Response<Body>, Refusal> {
        let size = self.size(*cid).await?.ok_or(Refusal::NOT_FOUND)?;
        let etag = format!("\"{cid}.raw\"");
        let mut answer = served(asked, ask, &etag);
        if matches_etag(asked.headers(), &etag) {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(answer);
        }
        set(&mut answer, header::CONTENT_TYPE, MEDIA_RAW);
        attach(&mut answer, &format!("{cid}.bin"));
        set(&mut answer, header::CONTENT_LENGTH, &size.to_string());
        if asked.method() == Method::HEAD || size == 0 {
            return Ok(answer);
        }
        let units = u32::try_from(size.div_ceil(UNIT as u64)).map_err(|_| car::UNREADABLE)?;
        let room = self.memory.clone().acquire_many_owned(units);
        let memory = timeout(BLOCK_BYTES_WAIT, room).await.map_err(|_| BUSY)?;
        self.draw(size, BLOCK_RATE_WAIT).await?;
        let (shelf, wanted) = (self.shelf.clone(), *cid);
        let block = self
            .reading(move || shelf.for_everyone().load(&wanted))
            .await?;
        let block = block.map_err(|error| {
            tracing::error!(%cid, %error, "a block cannot be read");
            car::UNREADABLE
        })?;
        let held = Held {
            bytes: block.ok_or(Refusal::NOT_FOUND)?.into_bytes(),
            _busy: Arc::new(busy),
            _memory: Some(memory.expect("it is never closed")),
        };
        *answer.body_mut() = whole(Bytes::from_owner(held));
        Ok(answer)
    }

    /// The size of a block that everyone may have.
    async fn size(&self, cid: Cid) -> Result<Option<u64>, Refusal> {
        if cid.hash().code() == HASH_IDENTITY {
            // The one of no bytes asks whether this is a gateway.
            return Ok((cid.hash().size() == 0).then_some(0));
        }
        let shelf = self.shelf.clone();
        let size = self
            .reading(move || shelf.for_everyone().size(&cid))
            .await?;
        size.map_err(|error| {
            tracing::error!(%cid, %error, "a block cannot be looked up");
            car::UNREADABLE
        })
    }

    async fn car(
        self: &Arc<Self>,
        asked: &Request<Incoming>,
        ask: &Ask,
        car: &CarAsk,
        busy: Busy,
    ) -> Result<Response<Body>, Refusal> {
        let place = self.cars.clone().try_acquire_owned().map_err(|_| BUSY)?;
        let (shelf, wanted) = (self.shelf.clone(), car.clone());
        let walk = self.reading(move || Walk::begin(&shelf, &wanted)).await??;
        let hash = blake3::hash(ask.target().as_bytes()).to_hex();
        let etag = format!("W/\"{}.{}.car\"", car.scope.name(), &hash[..32]);
        let mut answer = served(asked, ask, &etag);
        if matches_etag(asked.headers(), &etag) {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(answer);
        }
        set(&mut answer, header::CONTENT_TYPE, MEDIA_CAR_SERVED);
        attach(&mut answer, &format!("{}.car", car.root));
        if asked.method() == Method::HEAD {
            return Ok(answer);
        }
        let sending = Sending {
            gateway: self.clone(),
            walk,
            busy: Arc::new(busy),
            _place: place,
        };
        let steps = stream::unfold(Some(sending), |sending| async {
            let (step, sending) = sending?.step().await;
            step.map(|step| (step.map(Frame::data), sending))
        });
        *answer.body_mut() = StreamBody::new(steps).boxed_unsync();
        Ok(answer)
    }
}

impl Sending {
    /// The next bytes, none at the end; and what goes on, if anything does.
    async fn step(mut self) -> (Option<Result<Bytes, super::BodyError>>, Option<Self>) {
        let upload = self.gateway.upload.clone();
        let drawn = CAR_STEP_SIZE as u64;
        if self.gateway.draw(drawn, CAR_RATE_WAIT).await.is_err() {
            tracing::warn!("a CAR was cut off, as the rate of uploads lets nothing go");
            return (Some(Err("the rate lets nothing go".into())), None);
        }
        let mut walk = self.walk;
        let work = move || {
            let step = walk.step();
            (walk, step)
        };
        let Ok((walk, step)) = self.gateway.reading(work).await else {
            return (Some(Err("a read failed".into())), None);
        };
        self.walk = walk;
        upload.give_back(drawn);
        upload.draw(step.as_ref().map_or(0, |bytes| bytes.len() as u64));
        match step {
            Ok(bytes) if bytes.is_empty() => (None, None),
            Ok(bytes) => {
                let held = Held {
                    bytes,
                    _busy: self.busy.clone(),
                    _memory: None,
                };
                (Some(Ok(Bytes::from_owner(held))), Some(self))
            }
            Err(failure) => {
                tell(&failure);
                (Some(Err(failure.into())), None)
            }
        }
    }
}

fn tell(failure: &CarFailure) {
    let cause = std::error::Error::source(failure).map(ToString::to_string);
    tracing::error!(%failure, cause, "a CAR was cut off");
}

/// An answer with a body to come, and with what all of them say.
fn served(asked: &Request<Incoming>, ask: &Ask, etag: &str) -> Response<Body> {
    let mut answer = Response::new(whole(Bytes::new()));
    set(&mut answer, header::ETAG, etag);
    set(&mut answer, header::CACHE_CONTROL, FOR_EVER);
    set(&mut answer, header::VARY, "Accept");
    set(&mut answer, header::ACCEPT_RANGES, "none");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut answer, X_IPFS_PATH, asked.uri().path());
    let query = asked.uri().query().unwrap_or_default();
    if !query.split('&').any(|part| part.starts_with("format=")) {
        set(&mut answer, header::CONTENT_LOCATION, &ask.target());
    }
    answer
}

fn attach(answer: &mut Response<Body>, name: &str) {
    let value = format!("attachment; filename=\"{name}\"");
    set(answer, header::CONTENT_DISPOSITION, &value);
}
