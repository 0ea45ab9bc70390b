//! What is asked of a Kubo over HTTP, and its answers: within limits of size and time.
//!
//! The one file that names `ipfs-api-backend-hyper`: what a request is and how it becomes a URL, and what the
//! simple answers are, is that crate's. Its transport is not used: it reads answers of any length into memory,
//! hides their HTTP status, has a TLS with known holes, and neither tokens nor Unix sockets.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use bytes::Bytes;
use ipfs_api_backend_hyper::{
    ApiError, IpfsApi, IpfsClient, TryFromUri,
    request::{ApiRequest, PinRm, Version},
    response::{PinRmResponse, VersionResponse},
};
use reqwest::{Body, Client, Method, StatusCode, header::CONTENT_TYPE};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::{Credentials, Endpoint, KuboError, reply::Reply};
use crate::web::{self, Cause, Impatience, Pulse, shown};

/// The RPC of one Kubo.
pub(super) struct Rpc {
    urls: IpfsClient,
    client: Client,
    credentials: Option<Credentials>,
    pub(super) endpoint: Endpoint,
    stop: Arc<AtomicBool>,
}

#[derive(Serialize)]
struct DagImport {
    #[serde(rename = "pin-roots")]
    pin_roots: bool,
    stats: bool,
}

#[derive(Serialize)]
struct DagExport<'a> {
    arg: &'a str,
    progress: bool,
    offline: bool,
}

#[derive(Serialize)]
struct PinAdd<'a> {
    arg: &'a str,
    name: &'a str,
    recursive: bool,
    progress: bool,
    offline: bool,
}

#[derive(Serialize)]
struct PinLs<'a> {
    arg: Option<&'a str>,
    name: Option<&'a str>,
    r#type: &'static str,
    names: bool,
    stream: bool,
    offline: bool,
}

#[derive(Serialize)]
struct BlockStat<'a> {
    arg: &'a str,
    offline: bool,
}

impl<'a> PinLs<'a> {
    fn recursive(arg: Option<&'a str>, name: Option<&'a str>) -> Self {
        Self {
            arg,
            name,
            r#type: "recursive",
            names: true,
            stream: true,
            offline: true,
        }
    }
}

impl ApiRequest for DagImport {
    const PATH: &'static str = "/dag/import";
}
impl ApiRequest for DagExport<'_> {
    const PATH: &'static str = "/dag/export";
}
impl ApiRequest for PinAdd<'_> {
    const PATH: &'static str = "/pin/add";
}
impl ApiRequest for PinLs<'_> {
    const PATH: &'static str = "/pin/ls";
}
impl ApiRequest for BlockStat<'_> {
    const PATH: &'static str = "/block/stat";
}

/// A line of the answer to `dag/import`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Imported {
    stats: Option<ImportStats>,
}

/// What Kubo counted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImportStats {
    pub(super) block_count: u64,
}

/// A line of the answer to `pin/add`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PinAdded {
    #[serde(default)]
    pins: Vec<String>,
}

/// A line of the answer to `pin/ls`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PinLine {
    pub(super) cid: String,
    #[serde(default)]
    pub(super) name: String,
}

impl Rpc {
    pub(super) fn new(
        endpoint: &Endpoint,
        credentials: Option<Credentials>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, KuboError> {
        let mut client = web::client();
        if let Some(path) = &endpoint.socket {
            client = client.unix_socket(path.clone());
        }
        let base = endpoint.base.as_str().parse();
        let base = base.map_err(|error| KuboError::Client(Box::new(error)))?;
        Ok(Self {
            urls: IpfsClient::build_with_base_uri(base),
            client: client
                .build()
                .map_err(|error| KuboError::Client(Box::new(error)))?,
            credentials,
            endpoint: endpoint.clone(),
            stop,
        })
    }

    pub(super) async fn version(&self) -> Result<String, KuboError> {
        let reply = self.call(Version, None, &Pulse::new()).await?;
        let version: VersionResponse = reply.object().await?;
        Ok(version.version)
    }

    /// Sends a CAR, of which nothing is pinned yet.
    pub(super) async fn dag_import(&self, car: Car) -> Result<ImportStats, KuboError> {
        let request = DagImport {
            pin_roots: false,
            stats: true,
        };
        let Car { kind, mut parts } = car;
        let pulse = Pulse::new();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let stream = libp2p::futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        // What the client holds may outlive this call; what feeds it must not, or its thread would wait for ever.
        let feed = async {
            while let Some(part) = parts.recv().await {
                if sender.send(part).await.is_err() {
                    break;
                }
                pulse.beat();
            }
            drop(sender);
            std::future::pending().await
        };
        let answer = async {
            let body = (kind, Body::wrap_stream(stream));
            let mut reply = self.call(request, Some(body), &pulse).await?;
            let call = reply.call;
            let mut stats = None;
            while let Some(line) = reply.line::<Imported>().await? {
                stats = line.stats.or(stats);
            }
            stats.ok_or(KuboError::CutOff { call })
        };
        tokio::select! {
            stats = answer => stats,
            never = feed => never,
        }
    }

    /// Begins to receive a DAG as a CAR.
    pub(super) async fn dag_export(&self, root: &str) -> Result<Reply<'_>, KuboError> {
        let request = DagExport {
            arg: root,
            progress: false,
            offline: true,
        };
        self.call(request, None, &Pulse::new()).await
    }

    /// Pins a DAG, all of which is there, and returns what Kubo says that it pinned.
    pub(super) async fn pin_add(&self, root: &str, name: &str) -> Result<Vec<String>, KuboError> {
        let request = PinAdd {
            arg: root,
            name,
            recursive: true,
            // It then shows every half second that it is at work.
            progress: true,
            offline: true,
        };
        let mut reply = self.call(request, None, &Pulse::new()).await?;
        let call = reply.call;
        while let Some(line) = reply.line::<PinAdded>().await? {
            if !line.pins.is_empty() {
                return Ok(line.pins);
            }
        }
        Err(KuboError::CutOff { call })
    }

    /// Goes through the recursive pins whose name holds `name`.
    pub(super) async fn pins(
        &self,
        name: &str,
        mut take: impl FnMut(PinLine),
    ) -> Result<(), KuboError> {
        let request = PinLs::recursive(None, Some(name));
        let mut reply = self.call(request, None, &Pulse::new()).await?;
        while let Some(pin) = reply.line().await? {
            take(pin);
        }
        Ok(())
    }

    /// Whether a DAG is pinned, under any name.
    pub(super) async fn is_pinned(&self, root: &str) -> Result<bool, KuboError> {
        let request = PinLs::recursive(Some(root), None);
        let reply = async {
            let mut reply = self.call(request, None, &Pulse::new()).await?;
            reply.line::<PinLine>().await
        };
        match reply.await {
            Ok(line) => Ok(line.is_some_and(|pin| pin.cid == root)),
            // That it is not pinned is an error to Kubo.
            Err(KuboError::Said { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn pin_rm(&self, root: &str) -> Result<Vec<String>, KuboError> {
        let request = PinRm {
            key: root,
            recursive: true,
        };
        let reply = self.call(request, None, &Pulse::new()).await?;
        let removed: PinRmResponse = reply.object().await?;
        Ok(removed.pins)
    }

    /// Whether a block is there.
    pub(super) async fn has(&self, cid: &str) -> Result<bool, KuboError> {
        let request = BlockStat {
            arg: cid,
            offline: true,
        };
        match self.call(request, None, &Pulse::new()).await {
            Ok(reply) => {
                let _: serde::de::IgnoredAny = reply.object().await?;
                Ok(true)
            }
            Err(KuboError::Said { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn call<R: ApiRequest>(
        &self,
        request: R,
        body: Option<(String, Body)>,
        pulse: &Pulse,
    ) -> Result<Reply<'_>, KuboError> {
        let call = R::PATH.trim_start_matches('/');
        let malformed = |error: &dyn fmt::Display| KuboError::Malformed {
            call,
            what: shown(&error.to_string()),
        };
        let url = built(&self.urls, request).map_err(|error| malformed(&error))?;
        let url = url.uri().to_string();
        let mut request = self.client.request(Method::POST, url);
        request = match &self.credentials {
            Some(Credentials::Bearer(token)) => request.bearer_auth(token.expose_secret()),
            Some(Credentials::Basic { user, password }) => {
                request.basic_auth(user, Some(password.expose_secret()))
            }
            None => request,
        };
        if let Some((kind, body)) = body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        let sent = self.patiently(call, pulse, request.send()).await?;
        let response = sent.map_err(|error| self.unanswered(call, error))?;
        let status = response.status();
        let mut reply = Reply::new(self, call, http::Response::from(response).into_body());
        match status {
            StatusCode::OK => Ok(reply),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(KuboError::Refused {
                endpoint: self.endpoint.clone(),
                call,
                status: status.as_u16(),
            }),
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_REQUEST => {
                let said = reply.all().await?;
                let said: Result<ApiError, _> = serde_json::from_slice(&said);
                match said {
                    Ok(ApiError { message, .. }) => Err(KuboError::Said {
                        call,
                        message: shown(&message),
                    }),
                    Err(_) => Err(self.not_kubo(status)),
                }
            }
            _ => Err(self.not_kubo(status)),
        }
    }

    fn not_kubo(&self, status: StatusCode) -> KuboError {
        KuboError::NotKubo {
            endpoint: self.endpoint.clone(),
            why: format!("HTTP status {}", status.as_u16()),
        }
    }

    fn unanswered(&self, call: &'static str, error: reqwest::Error) -> KuboError {
        let is_unreachable = error.is_connect();
        // The text of the error has the whole URL, which says nothing that is not said.
        let cause: Cause = Box::new(error.without_url());
        if is_unreachable {
            let endpoint = self.endpoint.clone();
            return KuboError::Unreachable { endpoint, cause };
        }
        KuboError::Broken { call, cause }
    }

    /// Waits as long as something moves.
    pub(super) async fn patiently<T>(
        &self,
        call: &'static str,
        pulse: &Pulse,
        awaited: impl Future<Output = T>,
    ) -> Result<T, KuboError> {
        let waited = web::patiently(&self.stop, pulse, awaited).await;
        waited.map_err(|impatience| match impatience {
            Impatience::Stalled(after) => KuboError::Stalled { call, after },
            Impatience::Interrupted => KuboError::Interrupted,
        })
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// The trait that builds requests is known by its child alone.
fn built<B: IpfsApi, R: ApiRequest>(urls: &B, request: R) -> Result<B::HttpRequest, B::Error> {
    urls.build_base_request(request, None)
}

/// A CAR on its way, as the one file of a form.
#[derive(Debug)]
pub(super) struct Car {
    /// The content type of the form.
    pub(super) kind: String,
    /// The form, in parts; an error ends it before its end.
    pub(super) parts: tokio::sync::mpsc::Receiver<Result<Bytes, std::io::Error>>,
}
