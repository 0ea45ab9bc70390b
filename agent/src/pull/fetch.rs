//! A block from a trustless gateway over HTTP, checked before anything else sees it.

use std::{error::Error, fmt, str::FromStr, time::Duration};

use cid::Cid;
use protocol::block::{Block, FOREIGN_BLOCK_SIZE_MAX};
use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT, RETRY_AFTER},
    redirect::Policy,
};
use serde::{Deserialize, Serialize};

use crate::http::gateway::request::MEDIA_RAW;

/// How long it may take until there is a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long nothing may come.
const QUIET_WAIT: Duration = Duration::from_secs(15);
/// How long a block may take in all.
const BLOCK_WAIT: Duration = Duration::from_secs(120);
/// Most redirects, all within one origin.
const REDIRECTS_MAX: usize = 4;
/// How long to wait when a gateway does not say.
const LATER: Duration = Duration::from_secs(1);
/// Longest that a gateway may make wait.
const LATER_MAX: Duration = Duration::from_secs(30);
/// Bytes on their way on one stream of HTTP/2, and on all of a connection.
const HTTP2_STREAM_WINDOW: u32 = 2 << 20;
const HTTP2_CONNECTION_WINDOW: u32 = 32 << 20;
/// Most causes of a failure that are told.
const CAUSES_MAX: usize = 4;

/// Where a gateway is: what comes before `/ipfs/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GatewayUrl(String);

/// Why a text is not the URL of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayUrlError {
    /// It is no URL, or one of another kind.
    #[error("not a URL such as https://HOST or http://127.0.0.1:8080")]
    Malformed,
    /// It says more than where the gateway is.
    #[error("the URL of a gateway has no user, password, query or fragment")]
    More,
}

impl FromStr for GatewayUrl {
    type Err = GatewayUrlError;

    fn from_str(text: &str) -> Result<Self, GatewayUrlError> {
        let url = Url::parse(text).map_err(|_| GatewayUrlError::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(GatewayUrlError::Malformed);
        }
        let is_more = !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some();
        match is_more {
            true => Err(GatewayUrlError::More),
            false => Ok(Self(url.as_str().trim_end_matches('/').to_owned())),
        }
    }
}

impl TryFrom<String> for GatewayUrl {
    type Error = GatewayUrlError;

    fn try_from(text: String) -> Result<Self, GatewayUrlError> {
        text.parse()
    }
}

impl From<GatewayUrl> for String {
    fn from(GatewayUrl(text): GatewayUrl) -> Self {
        text
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a gateway gave no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// It does not have it, or gives it to nobody.
    #[error("it does not have the block")]
    Missing,
    /// It is to be asked again after a while.
    #[error("it is busy")]
    Later(Duration),
    /// It failed, and may do better next time.
    #[error("{0}")]
    Failed(String),
    /// It does what no gateway does, and is not to be asked again.
    #[error("{0}")]
    Refused(&'static str),
}

#[derive(Debug, thiserror::Error)]
#[error("it redirects elsewhere")]
struct Elsewhere;

/// What asks gateways.
#[derive(Debug)]
pub(super) struct Client(reqwest::Client);

impl Client {
    /// A client that keeps this many connections with a gateway.
    pub(super) fn new(connections: usize) -> Result<Self, reqwest::Error> {
        let policy = Policy::custom(|attempt| {
            let origin = attempt.previous().first().map(Url::origin);
            if attempt.previous().len() > REDIRECTS_MAX || origin != Some(attempt.url().origin()) {
                return attempt.error(Elsewhere);
            }
            attempt.follow()
        });
        let client = reqwest::Client::builder()
            .user_agent(concat!("souverain/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .referer(false)
            .redirect(policy)
            .connect_timeout(CONNECT_WAIT)
            .read_timeout(QUIET_WAIT)
            .pool_max_idle_per_host(connections)
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .build()?;
        Ok(Self(client))
    }

    /// Fetches a block, and checks it.
    pub(super) async fn fetch(&self, from: &GatewayUrl, cid: &Cid) -> Result<Block, FetchError> {
        let slow = |_| Err(FetchError::Failed("it is too slow".to_owned()));
        let fetched = tokio::time::timeout(BLOCK_WAIT, self.get(from, cid)).await;
        let (cid, bytes) = (*cid, fetched.unwrap_or_else(slow)?);
        let checked = tokio::task::spawn_blocking(move || Block::verify(cid, bytes)).await;
        let checked = checked.map_err(|error| FetchError::Failed(error.to_string()))?;
        checked.map_err(|_| FetchError::Refused("it sent a block that does not match its CID"))
    }

    async fn get(&self, from: &GatewayUrl, cid: &Cid) -> Result<Vec<u8>, FetchError> {
        let url = format!("{from}/ipfs/{cid}?format=raw");
        let asked = self.0.get(url).header(ACCEPT, MEDIA_RAW).send().await;
        let mut response = asked.map_err(failed)?;
        understand(&response)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > FOREIGN_BLOCK_SIZE_MAX {
                return Err(FetchError::Refused("it sends more than a block may have"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// What an answer says beside its body.
fn understand(response: &Response) -> Result<(), FetchError> {
    let status = response.status();
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::NOT_FOUND
        | StatusCode::GONE
        | StatusCode::PRECONDITION_FAILED
        | StatusCode::FORBIDDEN
        | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => Err(FetchError::Missing),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let after = response.headers().get(RETRY_AFTER);
            let seconds = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            let wait = seconds.map_or(LATER, Duration::from_secs);
            Err(FetchError::Later(wait.clamp(LATER, LATER_MAX)))
        }
        status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
            Err(FetchError::Failed(format!("it answers {status}")))
        }
        _ => Err(FetchError::Refused("it does not answer as a gateway does")),
    }
}

fn failed(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    if error.is_redirect() {
        return FetchError::Refused("it redirects elsewhere");
    }
    let first: &dyn Error = &error;
    let chain = std::iter::successors(Some(first), |&error| error.source());
    let texts: Vec<String> = chain.take(CAUSES_MAX).map(ToString::to_string).collect();
    FetchError::Failed(texts.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_a_gateway_is_and_nothing_else() {
        let parse = |text: &str| text.parse::<GatewayUrl>().map(|url| url.to_string());
        assert_eq!(
            parse("http://127.0.0.1:8080/").as_deref(),
            Ok("http://127.0.0.1:8080")
        );
        assert_eq!(
            parse("https://HOST/a/b/").as_deref(),
            Ok("https://host/a/b")
        );
        for bad in ["", "127.0.0.1:8080", "ftp://host", "file:///x", "http://"] {
            assert_eq!(parse(bad), Err(GatewayUrlError::Malformed), "{bad}");
        }
        for more in [
            "https://me:secret@host",
            "http://h/?x=1",
            "http://h/#x",
            "http://me@h",
        ] {
            assert_eq!(parse(more), Err(GatewayUrlError::More), "{more}");
        }
    }
}
