//! Why a Kubo did not do what it was asked.

use std::{io, time::Duration};

use cid::Cid;

use super::{Endpoint, VERSION_MIN};
use crate::{blocks::BlocksError, handover::HandoverError, pull::PullError, web::Cause};

/// Why a Kubo did not do what it was asked. What it has by then, it keeps; what came is kept here.
#[derive(Debug, thiserror::Error)]
pub enum KuboError {
    /// The system gives no threads, or no certificates for TLS.
    #[error("cannot make an HTTP client")]
    Client(#[source] Cause),
    /// Nobody answers there.
    #[error("no Kubo answers at {endpoint}")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why not.
        #[source]
        cause: Cause,
    },
    /// It wants other credentials, or any at all.
    #[error("the Kubo at {endpoint} refuses {call} (HTTP status {status})")]
    Refused {
        /// Where.
        endpoint: Endpoint,
        /// What was asked of it.
        call: &'static str,
        /// 401 or 403.
        status: u16,
    },
    /// What answers there is something else.
    #[error("what answers at {endpoint} is not the RPC of a Kubo: {why}")]
    NotKubo {
        /// Where.
        endpoint: Endpoint,
        /// What shows it.
        why: String,
    },
    /// It is too old.
    #[error("the Kubo is of version {found}; {VERSION_MIN} is the first one that will do")]
    Old {
        /// Its version.
        found: String,
    },
    /// It says that it failed.
    #[error("Kubo says of {call}: {message}")]
    Said {
        /// What was asked of it.
        call: &'static str,
        /// Its words, cut and without control characters.
        message: String,
    },
    /// The connection ended before the answer.
    #[error("the connection with the Kubo broke during {call}")]
    Broken {
        /// What was asked of it.
        call: &'static str,
        /// What broke it.
        #[source]
        cause: Cause,
    },
    /// The answer ended before it was whole.
    #[error("the answer of the Kubo to {call} is not whole")]
    CutOff {
        /// What was asked of it.
        call: &'static str,
    },
    /// The answer is not in the form that it should be.
    #[error("the answer of the Kubo to {call} makes no sense: {what}")]
    Malformed {
        /// What was asked of it.
        call: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The answer is longer than any can be.
    #[error("the answer of the Kubo to {call} is longer than {limit} bytes")]
    TooLong {
        /// What was asked of it.
        call: &'static str,
        /// The limit.
        limit: usize,
    },
    /// It neither takes nor gives anything.
    #[error("the Kubo did nothing for {} s during {call}", after.as_secs())]
    Stalled {
        /// What was asked of it.
        call: &'static str,
        /// How long.
        after: Duration,
    },
    /// It pinned something else.
    #[error("the Kubo pinned {found}, not {root}")]
    OtherRoot {
        /// What should be pinned.
        root: Cid,
        /// What it says that it pinned, without control characters.
        found: String,
    },
    /// It does not have the snapshot, or not all of it.
    #[error("the Kubo does not have all of {root}")]
    NotThere {
        /// The root.
        root: Cid,
        /// What it said.
        #[source]
        cause: Box<KuboError>,
    },
    /// The snapshot is not pinned there under this home's name.
    #[error("this home has not pinned {root} there")]
    NotPinned {
        /// The root.
        root: Cid,
    },
    /// The snapshot here cannot be read.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// What came is not what was asked for.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The store failed.
    #[error(transparent)]
    Blocks(#[from] BlocksError),
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}
