//! What everybody needs who asks other programs over HTTP: a client that goes nowhere else, patience that ends,
//! and answers that do.

use std::{
    error::Error,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{ClientBuilder, redirect::Policy};

/// How long it may take until there is a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long nothing may be taken or given.
const STALLED_WAIT: Duration = Duration::from_secs(120);
/// How long to wait before looking whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Most characters of a text of others that are shown.
const SHOWN_LEN_MAX: usize = 300;

/// What the cause of an error of the HTTP client is kept as.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// A client that follows no redirects, so that no secret goes elsewhere, and uses no proxies.
pub(crate) fn client() -> ClientBuilder {
    reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_WAIT)
        .user_agent(concat!("souverain/", env!("CARGO_PKG_VERSION")))
}

/// When something moved last.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Instant>);

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(crate) fn beat(&self) {
        *self.0.lock().expect("no panic while it is held") = Instant::now();
    }

    fn quiet(&self) -> Duration {
        self.0.lock().expect("no panic while it is held").elapsed()
    }
}

/// Why there is no more waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Impatience {
    /// Nothing moved for this long.
    Stalled(Duration),
    /// The user wants to stop.
    Interrupted,
}

/// Waits for something, unless nothing moves for too long, or the user wants to stop.
pub(crate) async fn patiently<T>(
    stop: &Arc<AtomicBool>,
    pulse: &Pulse,
    awaited: impl Future<Output = T>,
) -> Result<T, Impatience> {
    let mut awaited = pin!(awaited);
    loop {
        tokio::select! {
            biased;
            done = &mut awaited => return Ok(done),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Impatience::Interrupted);
        }
        let quiet = pulse.quiet();
        if quiet > STALLED_WAIT {
            return Err(Impatience::Stalled(quiet));
        }
    }
}

/// A text of others, cut, and without what steers a terminal.
pub(crate) fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let cut: String = text.chars().take(SHOWN_LEN_MAX).map(plain).collect();
    cut.trim().to_owned()
}
