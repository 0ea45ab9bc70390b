//! Answers, and why there is none, in the forms that all parts of the site share.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{Body, places::Busy};

/// What names never change may be kept for; a year, as that is what "for ever" is in HTTP.
pub(super) const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Why something is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code of HTTP.
    pub status: u16,
    /// What is wrong.
    pub reason: &'static str,
}

impl Refusal {
    pub(super) const NOT_FOUND: Self = Self {
        status: 404,
        reason: "not found",
    };

    pub(super) const fn bad(reason: &'static str) -> Self {
        Self {
            status: 400,
            reason,
        }
    }

    pub(super) const fn not_acceptable(reason: &'static str) -> Self {
        Self {
            status: 406,
            reason,
        }
    }
}

/// Bytes that are being sent, and what they hold until they are.
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    pub(super) _busy: Arc<Busy>,
    pub(super) _memory: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Says why there is no other answer.
pub(super) fn refused(refusal: Refusal) -> Response<Body> {
    let mut answer = Response::new(whole(Bytes::from(format!("{}\n", refusal.reason))));
    *answer.status_mut() =
        StatusCode::from_u16(refusal.status).expect("refusals have codes of HTTP");
    set(
        &mut answer,
        header::CONTENT_TYPE,
        "text/plain; charset=utf-8",
    );
    set(&mut answer, header::CACHE_CONTROL, "no-store");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    match refusal.status {
        405 => set(&mut answer, header::ALLOW, "GET, HEAD"),
        503 => set(&mut answer, header::RETRY_AFTER, "1"),
        _ => {}
    }
    answer
}

pub(super) fn whole(bytes: Bytes) -> Body {
    let never = |never: Infallible| match never {};
    Full::new(bytes).map_err(never).boxed_unsync()
}

/// Sets a header. What cannot be one, as a path may be, is left out.
pub(super) fn set(answer: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// Whether who asks has the answer with this tag already.
pub(super) fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || opaque(tag) == opaque(etag))
}
