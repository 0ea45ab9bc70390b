//! What is asked of an agent, and what it says.

use serde::{Deserialize, Serialize};

use crate::{
    node::{Multiaddr, Status},
    pull::{GatewayUrl, PullReport, Scope},
};

/// What is asked of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// What it is and does.
    Status,
    /// Take in changes of who may have what.
    Refresh,
    /// Take in that the log of the home grew.
    Grew,
    /// Take in changes of the federation.
    Federation,
    /// Pull a snapshot.
    Pull {
        /// Its root.
        root: String,
        /// How much of it.
        scope: Scope,
        /// Addresses of peers, with their ids.
        peers: Vec<Multiaddr>,
        /// Gateways.
        gateways: Vec<GatewayUrl>,
        /// The time to list it under.
        created: String,
    },
}

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", content = "what", rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// What it is and does.
    Status(Box<Status>),
    /// It has done what it was asked.
    Done,
    /// How far it is.
    Progress {
        /// Bytes that are here.
        bytes: u64,
        /// Bytes that there are in all; 0 while that is not known.
        total: u64,
    },
    /// A snapshot was pulled.
    Pulled(PullReport),
    /// Why it did not do what it was asked.
    Failed {
        /// What failed.
        error: String,
        /// Its causes.
        causes: Vec<String>,
        /// Of what kind the failure is.
        kind: FailureKind,
    },
}

/// What a verb says of a failure depends on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Nobody has something, or gives it.
    Missing,
    /// Nobody can be reached.
    Unreachable,
    /// Something is not what it should be.
    Unverified,
    /// Any other.
    Other,
}

impl Reply {
    /// Says why something was not done.
    pub(crate) fn failed(error: &dyn std::error::Error, kind: FailureKind) -> Self {
        let causes = std::iter::successors(error.source(), |error| error.source());
        Self::Failed {
            error: error.to_string(),
            causes: causes.take(CAUSES_MAX).map(ToString::to_string).collect(),
            kind,
        }
    }
}

/// Most causes of an error that are told.
const CAUSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_through_and_others_are_refused() {
        let text = serde_json::to_string(&Request::Status).expect("it serializes");
        assert_eq!(text, r#"{"ask":"status"}"#);
        assert_eq!(
            serde_json::from_str::<Request>(&text).expect("a request"),
            Request::Status
        );
        let pull = Request::Pull {
            root: "bafy".to_owned(),
            scope: Scope::Objects(vec![protocol::block::raw_cid(&[7; 32])]),
            peers: vec!["/ip4/127.0.0.1/tcp/1".parse().expect("an address")],
            gateways: vec!["http://127.0.0.1:1".parse().expect("a URL")],
            created: "2026-01-02T03:04:05Z".to_owned(),
        };
        let text = serde_json::to_string(&pull).expect("it serializes");
        let back: Request = serde_json::from_str(&text).expect("a request");
        assert_eq!(back, pull);
        for bad in [r#"{"ask":"explode"}"#, r#"{"ask":"pull","x":1}"#, "[]", ""] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
