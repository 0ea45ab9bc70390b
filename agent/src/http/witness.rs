//! The witness over HTTP, as C2SP's `tlog-witness` has it below the prefix `URL/witness`, which is that of submission
//! and of monitoring: `POST add-checkpoint`, and `GET HASH/checkpoint`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use protocol::log::{
    cosignature::CosignerKey,
    witness::{MEDIA_TEXT, REQUEST_SIZE_MAX},
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    Body,
    answers::{Held, Refusal, refused, set, whole},
    limits::{REQUEST_WAIT, WITNESS_CALLS_MAX},
    places::Busy,
};
use crate::log::{
    witnessed,
    witnessing::{Witnessing, answer},
};

/// What the paths begin with.
pub(super) const PREFIX: &str = "/witness/";

const TOO_LONG: Refusal = Refusal {
    status: 413,
    reason: "the request is longer than any",
};
const SLOW: Refusal = Refusal {
    status: 408,
    reason: "the request took too long to arrive",
};
const BUSY: Refusal = Refusal {
    status: 503,
    reason: "too much is being cosigned already",
};

const UNREADABLE: Refusal = Refusal {
    status: 500,
    reason: "what was cosigned cannot be read",
};

/// The witness that a node is.
#[derive(Debug)]
pub(super) struct Witness {
    home: PathBuf,
    key: CosignerKey,
    witnessing: Witnessing,
    /// Each call holds a request, or a checkpoint.
    calls: Arc<Semaphore>,
}

impl Witness {
    pub(super) fn new(home: &Path, key: CosignerKey, witnessing: Witnessing) -> Self {
        Self {
            home: home.to_owned(),
            key,
            witnessing,
            calls: Arc::new(Semaphore::new(WITNESS_CALLS_MAX)),
        }
    }

    /// Answers a request for what the path below [`PREFIX`] names.
    pub(super) async fn answer(&self, asked: Request<Incoming>, busy: Busy) -> Response<Body> {
        let path = asked.uri().path();
        let path = path.strip_prefix(PREFIX).unwrap_or(path);
        let hash = path.strip_suffix("/checkpoint").map(str::to_owned);
        let (method, other) = match &hash {
            _ if path == "add-checkpoint" => (Method::POST, "checkpoints are sent with POST"),
            Some(_) => (Method::GET, "what was cosigned is read with GET"),
            None => return refused(Refusal::NOT_FOUND),
        };
        if asked.method() != method {
            let mut answer = refused(Refusal {
                status: 405,
                reason: other,
            });
            set(&mut answer, header::ALLOW, method.as_str());
            return answer;
        }
        let answer = match hash {
            Some(hash) => self.cosigned(hash, busy).await,
            None => self.understand(asked, busy).await,
        };
        answer.unwrap_or_else(refused)
    }

    /// Gives the checkpoint of a log that was cosigned last.
    async fn cosigned(&self, hash: String, busy: Busy) -> Result<Response<Body>, Refusal> {
        let place = self.calls.clone().try_acquire_owned().map_err(|_| BUSY)?;
        let (home, key) = (self.home.clone(), self.key.clone());
        let found = spawn_blocking(move || witnessed::find(&home, &key, &hash)).await;
        let found = found.map_err(|_| UNREADABLE)?.map_err(|error| {
            tracing::error!(%error, "what was cosigned cannot be read");
            UNREADABLE
        })?;
        let held = Held {
            bytes: found.ok_or(Refusal::NOT_FOUND)?.to_string().into_bytes(),
            _busy: Arc::new(busy),
            _memory: Some(place),
        };
        let mut answer = Response::new(whole(Bytes::from_owner(held)));
        set(&mut answer, header::CONTENT_TYPE, MEDIA_TEXT);
        set(&mut answer, header::CACHE_CONTROL, "no-cache");
        set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        Ok(answer)
    }

    async fn understand(
        &self,
        asked: Request<Incoming>,
        busy: Busy,
    ) -> Result<Response<Body>, Refusal> {
        let place = self.calls.clone().try_acquire_owned().map_err(|_| BUSY)?;
        let body = Limited::new(asked.into_body(), REQUEST_SIZE_MAX).collect();
        let body = timeout(REQUEST_WAIT, body).await.map_err(|_| SLOW)?;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => TOO_LONG,
            false => Refusal::bad("the request was cut off"),
        })?;
        let said = answer(&self.witnessing, &body.to_bytes()).await;
        let held = Held {
            bytes: said.body,
            _busy: Arc::new(busy),
            _memory: Some(place),
        };
        let mut answer = Response::new(whole(Bytes::from_owner(held)));
        *answer.status_mut() =
            StatusCode::from_u16(said.status).expect("answers have codes of HTTP");
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(said.media));
        set(&mut answer, header::CACHE_CONTROL, "no-store");
        set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if said.status == 503 {
            set(&mut answer, header::RETRY_AFTER, "1");
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use protocol::log::witness::{MEDIA_SIZE, MEDIA_TEXT};
    use reqwest::Client;
    use store::Store;

    use super::super::{HttpOptions, Server};
    use super::*;
    use crate::{
        bitswap::Rates,
        log::witnessing::tests::{deciding, key, request},
        node::Budgets,
        shelf::Shelf,
    };

    const PATH: &str = "/witness/add-checkpoint";

    /// A server that runs as long as the test, and the URL of a path on it.
    async fn served(home: &tempfile::TempDir, witnessing: Option<Witnessing>) -> String {
        let store = Arc::new(Store::open(home.path(), "test").expect("opens"));
        let options = HttpOptions {
            listen: "0".parse().expect("an address"),
            gateway: false,
        };
        let shelf = Arc::new(Shelf::new(store));
        let upload = Budgets::new(&Rates::default()).upload;
        let witness = witnessing.map(|witnessing| (key().key().clone(), witnessing));
        let server = Server::bind(home.path(), &options, shelf, upload, witness);
        let server = server.await.expect("listens");
        let url = server.url();
        tokio::spawn(async move { server.serve().await });
        url
    }

    #[tokio::test]
    async fn statuses_and_media_types_are_those_of_the_specification() {
        let home = tempfile::tempdir().expect("a directory");
        let url = served(&home, Some(deciding())).await + PATH;
        let client = Client::builder().no_proxy().build().expect("a client");
        let long = "x".repeat(REQUEST_SIZE_MAX + 1);
        for (body, status, media, text) in [
            (
                request(0).to_string(),
                200,
                MEDIA_TEXT,
                "\u{2014} witness.example ",
            ),
            (request(4).to_string(), 409, MEDIA_SIZE, "3\n"),
            ("old 0\n".to_owned(), 400, MEDIA_TEXT, "not of the form"),
            (long, 413, MEDIA_TEXT, "the request is longer"),
        ] {
            let answer = client.post(&url).body(body).send().await.expect("answers");
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers()[header::CONTENT_TYPE], media);
            let body = answer.text().await.expect("a text");
            assert!(body.starts_with(text), "{body}");
        }
        let answer = client.get(&url).send().await.expect("answers");
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()[header::ALLOW], "POST");
        // It has cosigned nothing that it remembers.
        let nothing = url.replace("add-checkpoint", &format!("{}/checkpoint", "0".repeat(64)));
        let answer = client.get(&nothing).send().await.expect("answers");
        assert_eq!(answer.status(), 404);
        let answer = client.post(&nothing).send().await.expect("answers");
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()[header::ALLOW], "GET");
        for other in ["", "checkpoint", "add-checkpoint/"] {
            let url = url.replace("add-checkpoint", other);
            let answer = client.get(&url).send().await.expect("answers");
            assert_eq!(answer.status(), 404, "{other}");
        }
    }

    #[tokio::test]
    async fn a_node_that_is_no_witness_has_no_such_place() {
        let home = tempfile::tempdir().expect("a directory");
        let url = served(&home, None).await + PATH;
        let client = Client::builder().no_proxy().build().expect("a client");
        let answer = client.post(&url).body(request(0).to_string()).send().await;
        assert_eq!(answer.expect("answers").status(), 404);
    }
}
