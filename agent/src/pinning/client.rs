//! Asks a pinning service: to pin, how far it is, and to forget.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use cid::Cid;
use libp2p_identity::PeerId;
use reqwest::{Client, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use super::{
    PinRequest, PinStatus, PinningError, Service, ServiceName, pin_name,
    schema::{Failure, Pin, RESULTS_MAX, UnverifiedResults, UnverifiedStatus},
    services,
};
use crate::{
    secret_file,
    web::{self, Impatience, Pulse, shown},
};

/// How long one answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Longest answer, in bytes: a thousand results of 4 KiB.
const ANSWER_SIZE_MAX: usize = 4 << 20;
/// Most answers that a list is read in.
const PAGES_MAX: usize = 100;
/// Time between the first two looks at a request; it doubles.
const FIRST_LOOK_AFTER: Duration = Duration::from_millis(500);
/// Most time between two looks.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(30);

/// A pinning service, and what lets one in. Everything blocks the thread.
#[derive(Debug)]
pub struct PinningService {
    service: Service,
    token: SecretString,
    client: Client,
    runtime: Runtime,
    stop: Arc<AtomicBool>,
}

/// One question, and what becomes of it.
struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    query: Vec<(&'a str, String)>,
    pin: Option<Pin<'a>>,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: &'a [&'a str]) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            pin: None,
        }
    }
}

impl PinningService {
    /// Makes ready to ask a service that a home knows. Setting `stop` ends whatever is being waited for.
    ///
    /// # Errors
    /// The home does not know it, or its token cannot be read.
    pub fn open(
        home: &Path,
        name: &ServiceName,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, PinningError> {
        let service = services::find(home, name)?;
        let token = secret_file::read(&service.token_file).map_err(|cause| {
            let name = name.clone();
            PinningError::Token { name, cause }
        })?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let client = web::client().timeout(ANSWER_WAIT).build();
        Ok(Self {
            service,
            token,
            client: client.map_err(|error| PinningError::Client(Box::new(error)))?,
            runtime: runtime.map_err(|error| PinningError::Client(Box::new(error)))?,
            stop,
        })
    }

    /// Asks for one request, to see whether the service is there and takes the token.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self) -> Result<(), PinningError> {
        let mut call = Call::new(Method::GET, &["pins"]);
        call.query.push(("limit", "1".to_owned()));
        let _: UnverifiedResults = self.runtime.block_on(self.ask(call))?;
        Ok(())
    }

    /// Asks for a snapshot to be pinned, unless this home asked before, and waits until it is, at most for `wait`.
    /// With no time to wait, it is enough that the service took the request. One that failed is replaced.
    ///
    /// # Errors
    /// The service refuses, fails, or is not done in time; the request stands then, and a second run goes on with it.
    pub fn pin(
        &self,
        root: &Cid,
        home: &PeerId,
        origins: &[String],
        wait: Duration,
    ) -> Result<PinRequest, PinningError> {
        let earlier = self.requests(home, Some(root))?;
        let stands = |request: &&PinRequest| request.status != PinStatus::Failed;
        let request = match (earlier.iter().find(stands), earlier.first()) {
            (Some(request), _) => request.clone(),
            (None, failed) => self.post(root, home, origins, failed)?,
        };
        tracing::debug!(service = %self.service.name, id = %request.id, status = %request.status, "asked to pin");
        let request = self.runtime.block_on(self.wait_for(root, request, wait))?;
        match request.status {
            PinStatus::Pinned => Ok(request),
            PinStatus::Queued | PinStatus::Pinning if wait.is_zero() => Ok(request),
            PinStatus::Failed => Err(PinningError::Failed {
                name: self.name(),
                root: *root,
                details: request.details,
            }),
            status => Err(PinningError::NotYet {
                name: self.name(),
                root: *root,
                status,
                details: request.details,
                after: wait,
            }),
        }
    }

    /// What this home asked for, of one root or of all, the latest first.
    ///
    /// # Errors
    /// The service fails, or what it says does not follow the API.
    pub fn requests(
        &self,
        home: &PeerId,
        root: Option<&Cid>,
    ) -> Result<Vec<PinRequest>, PinningError> {
        let name = pin_name(home);
        let mut found: Vec<PinRequest> = Vec::new();
        let mut before: Option<PinRequest> = None;
        for _ in 0..PAGES_MAX {
            let mut call = Call::new(Method::GET, &["pins"]);
            call.query = vec![
                ("name", name.clone()),
                ("match", "exact".to_owned()),
                ("status", "queued,pinning,pinned,failed".to_owned()),
                ("limit", RESULTS_MAX.to_string()),
            ];
            call.query
                .extend(root.map(|root| ("cid", root.to_string())));
            call.query
                .extend(before.iter().map(|last| ("before", last.created.clone())));
            let page: UnverifiedResults = self.runtime.block_on(self.ask(call))?;
            let is_last = page.count as usize <= page.results.len();
            if page.results.len() > RESULTS_MAX {
                return Err(self.malformed(format!("more than {RESULTS_MAX} results")));
            }
            let page = page.results.into_iter().map(|result| self.verify(result));
            let page: Vec<PinRequest> = page.collect::<Result<_, _>>()?;
            let oldest = page.iter().min_by_key(|request| request.at).cloned();
            let Some(oldest) = oldest else {
                return Ok(found);
            };
            if before.is_some_and(|before| oldest.at >= before.at) {
                return Err(self.malformed("a list that does not come to its end".to_owned()));
            }
            // It is told to look for these alone, and may not do so.
            let is_ours = |request: &PinRequest| {
                request.name.as_ref() == Some(&name) && root.is_none_or(|root| request.cid == *root)
            };
            found.extend(page.into_iter().filter(is_ours));
            if is_last {
                return Ok(found);
            }
            before = Some(oldest);
        }
        Err(self.malformed(format!("a list of more than {PAGES_MAX} pages")))
    }

    /// Has the service forget all requests of this home for a root.
    ///
    /// # Errors
    /// There are none, or the service fails.
    pub fn unpin(&self, root: &Cid, home: &PeerId) -> Result<(), PinningError> {
        let requests = self.requests(home, Some(root))?;
        if requests.is_empty() {
            return Err(PinningError::NotPinned {
                name: self.name(),
                root: *root,
            });
        }
        for request in requests {
            let path = ["pins", &request.id];
            let call = Call::new(Method::DELETE, &path);
            self.runtime.block_on(self.answer(call))?;
        }
        Ok(())
    }

    fn post(
        &self,
        root: &Cid,
        home: &PeerId,
        origins: &[String],
        failed: Option<&PinRequest>,
    ) -> Result<PinRequest, PinningError> {
        let (cid, name) = (root.to_string(), pin_name(home));
        let mut path = vec!["pins"];
        path.extend(failed.map(|request| request.id.as_str()));
        let mut call = Call::new(Method::POST, &path);
        call.pin = Some(Pin {
            cid: &cid,
            name: &name,
            origins,
        });
        let status = self.runtime.block_on(self.ask(call))?;
        let request = self.verify(status)?;
        self.check_root(root, request)
    }

    /// Looks at a request again and again, until it is done or the time is over.
    async fn wait_for(
        &self,
        root: &Cid,
        mut request: PinRequest,
        wait: Duration,
    ) -> Result<PinRequest, PinningError> {
        let end = Instant::now() + wait;
        let mut pause = FIRST_LOOK_AFTER;
        while matches!(request.status, PinStatus::Queued | PinStatus::Pinning) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let pulse = Pulse::new();
            let sleep = tokio::time::sleep(pause.min(left));
            self.patiently(&pulse, sleep).await?;
            pause = LOOK_EVERY_MAX.min(pause * 2);
            let path = ["pins", &request.id];
            match self.ask(Call::new(Method::GET, &path)).await {
                Ok(status) => {
                    let next = self.check_root(root, self.verify(status)?)?;
                    if next.id != request.id {
                        return Err(
                            self.malformed("another request than the one asked for".to_owned())
                        );
                    }
                    request = next;
                }
                // It may be well again at the next look.
                Err(error) if error.is_passing() && Instant::now() < end => {
                    tracing::warn!(%error, "the pinning service is asked again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(request)
    }

    fn verify(&self, status: UnverifiedStatus) -> Result<PinRequest, PinningError> {
        status.verify().map_err(|what| self.malformed(what))
    }

    fn check_root(&self, root: &Cid, request: PinRequest) -> Result<PinRequest, PinningError> {
        if request.cid == *root {
            return Ok(request);
        }
        Err(PinningError::OtherCid {
            name: self.name(),
            root: *root,
            found: request.cid,
        })
    }

    fn name(&self) -> ServiceName {
        self.service.name.clone()
    }

    fn malformed(&self, what: String) -> PinningError {
        let name = self.name();
        PinningError::Malformed { name, what }
    }

    async fn ask<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, PinningError> {
        let json = self.answer(call).await?;
        serde_json::from_slice(&json).map_err(|error| self.malformed(shown(&error.to_string())))
    }

    /// Sends a question, and reads the answer if it is a good one.
    async fn answer(&self, call: Call<'_>) -> Result<Vec<u8>, PinningError> {
        let mut url = self.service.endpoint.clone();
        url.path_segments_mut()
            .expect("an HTTP URL has a path")
            .pop_if_empty()
            .extend(call.path);
        let mut request = self
            .client
            .request(call.method, url)
            .bearer_auth(self.token.expose_secret())
            .query(&call.query);
        if let Some(pin) = &call.pin {
            request = request.json(pin);
        }
        let unreachable = |error: reqwest::Error| PinningError::Unreachable {
            name: self.name(),
            cause: Box::new(error.without_url()),
        };
        let pulse = Pulse::new();
        let mut response = self
            .patiently(&pulse, request.send())
            .await?
            .map_err(unreachable)?;
        let mut body = Vec::new();
        while let Some(part) = self
            .patiently(&pulse, response.chunk())
            .await?
            .map_err(unreachable)?
        {
            if body.len() + part.len() > ANSWER_SIZE_MAX {
                return Err(self.malformed(format!("longer than {ANSWER_SIZE_MAX} bytes")));
            }
            body.extend_from_slice(&part);
        }
        self.judge(response.status(), body)
    }

    fn judge(&self, status: StatusCode, body: Vec<u8>) -> Result<Vec<u8>, PinningError> {
        let name = self.name();
        if status.is_success() {
            return Ok(body);
        }
        if status.is_redirection() {
            return Err(self.malformed("it sends us elsewhere".to_owned()));
        }
        let status = status.as_u16();
        if matches!(status, 401 | 403) {
            return Err(PinningError::Refused { name, status });
        }
        let message = match serde_json::from_slice::<Failure>(&body) {
            Ok(Failure { error }) => match error.details {
                Some(details) => shown(&format!("{}: {details}", error.reason)),
                None => shown(&error.reason),
            },
            Err(_) => "nothing that its API knows".to_owned(),
        };
        Err(PinningError::Said {
            name,
            status,
            message,
        })
    }

    async fn patiently<T>(
        &self,
        pulse: &Pulse,
        awaited: impl Future<Output = T>,
    ) -> Result<T, PinningError> {
        let waited = web::patiently(&self.stop, pulse, awaited).await;
        waited.map_err(|impatience| match impatience {
            Impatience::Interrupted => PinningError::Interrupted,
            Impatience::Stalled(after) => PinningError::Unreachable {
                name: self.name(),
                cause: format!("nothing came for {} s", after.as_secs()).into(),
            },
        })
    }
}

impl PinningError {
    /// Whether the same question may be answered a moment later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Said { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}
