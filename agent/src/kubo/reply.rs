//! An answer of a Kubo that has begun, and how much of it is read.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use reqwest::Body;
use serde::de::DeserializeOwned;

use super::{KuboError, rpc::Rpc};
use crate::web::{Pulse, shown};

/// Longest answer that is one object, and longest line of one that is several.
const OBJECT_SIZE_MAX: usize = 64 << 10;
/// Most lines of an answer.
const LINES_MAX: u64 = 1_000_000;
/// The trailer in which Kubo says what went wrong after it had begun to answer.
const STREAM_ERROR: &str = "x-stream-error";

/// An answer that has begun.
pub(super) struct Reply<'a> {
    rpc: &'a Rpc,
    pub(super) call: &'static str,
    body: Body,
    /// What came, and was not looked at.
    rest: Bytes,
    /// What was taken of an object.
    buffer: BytesMut,
    lines: u64,
}

impl<'a> Reply<'a> {
    pub(super) fn new(rpc: &'a Rpc, call: &'static str, body: Body) -> Self {
        Self {
            rpc,
            call,
            body,
            rest: Bytes::new(),
            buffer: BytesMut::new(),
            lines: 0,
        }
    }

    /// The next bytes; none at the end.
    pub(super) async fn bytes(&mut self) -> Result<Option<Bytes>, KuboError> {
        let call = self.call;
        loop {
            let pulse = Pulse::new();
            let frame = self.rpc.patiently(call, &pulse, self.body.frame());
            let frame = match frame.await? {
                None => return Ok(None),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    let cause = Box::new(error.without_url());
                    return Err(KuboError::Broken { call, cause });
                }
            };
            match frame.into_data() {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    if let Some(error) = trailers.get(STREAM_ERROR) {
                        let message = shown(&String::from_utf8_lossy(error.as_bytes()));
                        return Err(KuboError::Said { call, message });
                    }
                }
            }
        }
    }

    /// The whole answer.
    pub(super) async fn all(&mut self) -> Result<Bytes, KuboError> {
        while let Some(bytes) = self.bytes().await? {
            self.take(&bytes)?;
        }
        Ok(self.buffer.split().freeze())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), KuboError> {
        if self.buffer.len() + bytes.len() > OBJECT_SIZE_MAX {
            return Err(KuboError::TooLong {
                call: self.call,
                limit: OBJECT_SIZE_MAX,
            });
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The one object that the whole answer is.
    pub(super) async fn object<T: DeserializeOwned>(mut self) -> Result<T, KuboError> {
        let all = self.all().await?;
        self.parse(&all)
    }

    /// The next object of an answer that has one a line; none at the end.
    pub(super) async fn line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, KuboError> {
        let call = self.call;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                let last = self.rest.split_to(end);
                self.rest.advance(1);
                self.take(&last)?;
                let line = self.buffer.split();
                self.lines += 1;
                if self.lines > LINES_MAX {
                    let what = format!("more than {LINES_MAX} lines");
                    return Err(KuboError::Malformed { call, what });
                }
                return self.parse(&line).map(Some);
            }
            let begun = std::mem::take(&mut self.rest);
            self.take(&begun)?;
            match self.bytes().await? {
                Some(bytes) => self.rest = bytes,
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(KuboError::CutOff { call }),
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, json: &[u8]) -> Result<T, KuboError> {
        serde_json::from_slice(json).map_err(|error| KuboError::Malformed {
            call: self.call,
            what: shown(&error.to_string()),
        })
    }
}
