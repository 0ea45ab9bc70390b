//! The HTTP server of an agent: who may connect, for how long, and which part of it answers.
//!
//! Owns connections and their limits. What is below `/ipfs/` is the [`gateway`]'s, if it is asked for;
//! below `/log/` are the node's logs, below `/witness/` is the witness that it may be.

mod answers;
pub mod gateway;
pub mod limits;
mod log;
mod pace;
mod places;
mod witness;

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    str::FromStr,
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{log::witnessing::Witnessing, node::Budget, shelf::Shelf};
use answers::{Refusal, refused};
use gateway::Gateway;
use limits::{ACCEPT_WAIT, HEAD_SIZE_MAX, HEADER_WAIT, HEADERS_MAX};
use log::Logs;
use pace::Paced;
use places::{Busy, Place, Places};
use protocol::log::cosignature::CosignerKey;
use witness::Witness;

type BodyError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BodyError>;

/// What to serve over HTTP, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// Where to listen.
    pub listen: HttpAddress,
    /// Whether to serve what is shared with everyone below `/ipfs/`.
    pub gateway: bool,
}

/// Where to listen: `IP:PORT`, or `PORT` on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpAddress(SocketAddr);

/// Why a text is no address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address such as 127.0.0.1:8080, [::1]:8080 or 8080")]
pub struct HttpAddressError;

impl FromStr for HttpAddress {
    type Err = HttpAddressError;

    fn from_str(text: &str) -> Result<Self, HttpAddressError> {
        let port = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        text.parse()
            .or_else(|_| text.parse().map(port))
            .map(Self)
            .map_err(|_| HttpAddressError)
    }
}

/// Why nothing is served over HTTP.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct HttpError {
    /// Where to.
    address: SocketAddr,
    /// Why not.
    #[source]
    cause: io::Error,
}

/// The server, which listens.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
    site: Arc<Site>,
}

/// What answers.
#[derive(Debug)]
struct Site {
    gateway: Option<Arc<Gateway>>,
    logs: Logs,
    witness: Option<Witness>,
}

impl Server {
    /// Begins to listen. Blocks draw on `upload`. If the node is a witness, it cosigns with a key what is decided to be.
    pub(crate) async fn bind(
        home: &Path,
        options: &HttpOptions,
        shelf: Arc<Shelf>,
        upload: Budget,
        witness: Option<(CosignerKey, Witnessing)>,
    ) -> Result<Self, HttpError> {
        let HttpAddress(address) = options.listen;
        let failed = |cause| HttpError { address, cause };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let gateway = options
            .gateway
            .then(|| Arc::new(Gateway::new(shelf, upload)));
        Ok(Self {
            listener,
            address,
            site: Arc::new(Site {
                gateway,
                logs: Logs::new(home),
                witness: witness.map(|(key, witnessing)| Witness::new(home, key, witnessing)),
            }),
        })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves for as long as it is polled. Connections end when this is dropped.
    pub(crate) async fn serve(&self) {
        let places = Arc::new(Places::default());
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "an HTTP connection was not accepted");
                    tokio::time::sleep(ACCEPT_WAIT).await;
                    continue;
                }
            };
            let Some(place) = places.enter(from.ip()) else {
                tracing::debug!(%from, "no room for an HTTP connection");
                continue;
            };
            connections.spawn(serve(stream, place, self.site.clone()));
        }
    }
}

async fn serve(stream: TcpStream, place: Place, site: Arc<Site>) {
    // A small answer does not wait for more to send.
    let _ = stream.set_nodelay(true);
    let answer = |asked| {
        let (site, busy) = (site.clone(), place.busy());
        async move { Ok::<_, Infallible>(site.answer(asked, busy).await) }
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEAD_SIZE_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Paced::new(stream)), service_fn(answer));
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP connection failed");
            }
        }
        () = place.left() => tracing::debug!("an idle HTTP connection made room"),
    }
}

impl Site {
    async fn answer(&self, asked: Request<Incoming>, busy: Busy) -> Response<Body> {
        let path = asked.uri().path();
        let of_witness = path.starts_with(witness::PREFIX);
        if let Some(witness) = self.witness.as_ref().filter(|_| of_witness) {
            return witness.answer(asked, busy).await;
        }
        let gateway = self
            .gateway
            .as_ref()
            .filter(|_| path.starts_with("/ipfs/") || path.starts_with("/ipns/"));
        let of_log = path.strip_prefix(log::PREFIX);
        if gateway.is_none() && of_log.is_none() {
            return refused(Refusal::NOT_FOUND);
        }
        if !matches!(*asked.method(), Method::GET | Method::HEAD) {
            return refused(Refusal {
                status: 405,
                reason: "only GET and HEAD are served",
            });
        }
        match (gateway, of_log) {
            (Some(gateway), _) => gateway.answer(&asked, busy).await,
            (None, Some(path)) => self.logs.answer(&asked, path, busy).await,
            (None, None) => refused(Refusal::NOT_FOUND),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        let parse = |text: &str| text.parse().map(|HttpAddress(address)| address.to_string());
        assert_eq!(parse("8080").as_deref(), Ok("127.0.0.1:8080"));
        assert_eq!(parse("0.0.0.0:0").as_deref(), Ok("0.0.0.0:0"));
        assert_eq!(parse("[::1]:80").as_deref(), Ok("[::1]:80"));
        for bad in ["", ":8080", "localhost:8080", "127.0.0.1", "70000"] {
            assert_eq!(parse(bad), Err(HttpAddressError), "{bad}");
        }
    }
}
