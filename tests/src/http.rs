//! An HTTP server on loopback that answers as a test says.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{Request, Response, body::Frame, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

/// A body of known bytes, or one that never ends.
pub type Body = BoxBody<Bytes, Infallible>;

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    /// Where it listens.
    pub address: SocketAddr,
    _runtime: Runtime,
}

impl HttpServer {
    /// Starts a server.
    ///
    /// # Panics
    /// It cannot listen.
    #[must_use]
    pub fn start(
        answer: impl Fn(Request<Bytes>) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("binds");
        let address = listener.local_addr().expect("an address");
        let answer = Arc::new(answer);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer.clone();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        Ok::<_, hyper::Error>(answer(Request::from_parts(head, body)))
                    }
                });
                let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving);
            }
        });
        Self {
            address,
            _runtime: runtime,
        }
    }
}

/// A body of these bytes.
#[must_use]
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// A body that repeats bytes for ever.
#[must_use]
pub fn endless(bytes: &'static [u8]) -> Body {
    let frames = std::iter::repeat_with(move || Ok(Frame::data(Bytes::from_static(bytes))));
    BodyExt::boxed(StreamBody::new(libp2p::futures::stream::iter(frames)))
}

/// An answer with a status and a body.
///
/// # Panics
/// The status is none.
#[must_use]
pub fn reply(status: u16, body: Body) -> Response<Body> {
    let response = Response::builder().status(status).body(body);
    response.expect("a status")
}
