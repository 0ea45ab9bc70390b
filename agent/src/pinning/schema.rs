//! What a pinning service says, checked against the schemas of its OpenAPI.

use std::{collections::BTreeMap, fmt};

use cid::Cid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::web::shown;

/// Most results of one answer.
pub(super) const RESULTS_MAX: usize = 1000;
/// Most addresses of a list.
pub(super) const ADDRESSES_MAX: usize = 20;
/// Longest name of a pin, in characters.
const NAME_LEN_MAX: usize = 255;
/// Longest id of a request, in bytes.
const REQUEST_ID_LEN_MAX: usize = 1024;

/// How far a pinning service is with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinStatus {
    /// It waits.
    Queued,
    /// The service fetches.
    Pinning,
    /// The service has all of it.
    Pinned,
    /// The service gave up.
    Failed,
}

impl fmt::Display for PinStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Pinning => "pinning",
            Self::Pinned => "pinned",
            Self::Failed => "failed",
        })
    }
}

/// What a service was asked to pin, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinRequest {
    /// The service's name for the request.
    pub id: String,
    /// The root.
    pub cid: Cid,
    /// How far it is.
    pub status: PinStatus,
    /// When it was asked, RFC 3339.
    pub created: String,
    /// The peers of the service that fetch it.
    pub delegates: Vec<String>,
    /// What the service says of its status, without control characters.
    pub details: Option<String>,
    pub(super) name: Option<String>,
    pub(super) at: Timestamp,
}

/// A request to pin, as it is sent.
#[derive(Debug, Serialize)]
pub(super) struct Pin<'a> {
    pub(super) cid: &'a str,
    pub(super) name: &'a str,
    pub(super) origins: &'a [String],
}

/// A `PinStatus` that was not looked at.
#[derive(Debug, Deserialize)]
pub(super) struct UnverifiedStatus {
    requestid: String,
    status: String,
    created: String,
    pin: UnverifiedPin,
    delegates: Vec<String>,
    info: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct UnverifiedPin {
    cid: String,
    name: Option<String>,
}

/// `PinResults` that were not looked at.
#[derive(Debug, Deserialize)]
pub(super) struct UnverifiedResults {
    pub(super) count: u32,
    pub(super) results: Vec<UnverifiedStatus>,
}

/// A `Failure`.
#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    pub(super) error: FailureError,
}

#[derive(Debug, Deserialize)]
pub(super) struct FailureError {
    pub(super) reason: String,
    pub(super) details: Option<String>,
}

impl UnverifiedStatus {
    /// Checks it; the error says what is wrong.
    pub(super) fn verify(self) -> Result<PinRequest, String> {
        let status = match self.status.as_str() {
            "queued" => PinStatus::Queued,
            "pinning" => PinStatus::Pinning,
            "pinned" => PinStatus::Pinned,
            "failed" => PinStatus::Failed,
            other => return Err(format!("there is no status {:?}", shown(other))),
        };
        let id_fits = (1..=REQUEST_ID_LEN_MAX).contains(&self.requestid.len())
            && !self.requestid.chars().any(char::is_control)
            // In the path of a URL these would name something else.
            && !matches!(self.requestid.as_str(), "." | "..");
        if !id_fits {
            return Err("a requestid is empty, too long or not text".to_owned());
        }
        let at = self.created.parse().map_err(|_| {
            let created = shown(&self.created);
            format!("{created:?} is not a time of RFC 3339")
        })?;
        let cid = self.pin.cid.parse().map_err(|_| {
            let cid = shown(&self.pin.cid);
            format!("{cid:?} is not a CID")
        })?;
        let name_fits = |name: &String| name.chars().count() <= NAME_LEN_MAX;
        if !self.pin.name.as_ref().is_none_or(name_fits) {
            return Err(format!("a name is longer than {NAME_LEN_MAX} characters"));
        }
        if self.delegates.len() > ADDRESSES_MAX {
            return Err(format!("more than {ADDRESSES_MAX} delegates"));
        }
        let details = self
            .info
            .as_ref()
            .and_then(|info| info.get("status_details"));
        Ok(PinRequest {
            id: self.requestid,
            cid,
            status,
            created: self.created,
            delegates: self
                .delegates
                .iter()
                .map(|address| shown(address))
                .collect(),
            details: details.map(|text| shown(text)),
            name: self.pin.name,
            at,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CID: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";

    fn status() -> Value {
        json!({
            "requestid": "id", "status": "queued", "created": "2020-07-27T17:32:28.276Z",
            "pin": { "cid": CID, "name": "n", "meta": { "app": "x" }, "origins": [] },
            "delegates": ["/ip4/203.0.113.1/tcp/4001/p2p/12D3"], "info": { "status_details": "7 of 9" },
            "later": "addition"
        })
    }

    fn verify(value: Value) -> Result<PinRequest, String> {
        let unverified: UnverifiedStatus =
            serde_json::from_value(value).map_err(|error| error.to_string())?;
        unverified.verify()
    }

    #[test]
    fn takes_what_follows_the_schema() {
        let request = verify(status()).expect("follows it");
        assert_eq!(
            (request.id.as_str(), request.status),
            ("id", PinStatus::Queued)
        );
        assert_eq!(request.details.as_deref(), Some("7 of 9"));
        let mut least = status();
        let fields = least.as_object_mut().expect("an object");
        fields.remove("info");
        fields["pin"] = json!({ "cid": CID });
        // Some services have no peers of their own to name.
        fields["delegates"] = json!([]);
        assert_eq!(verify(least).expect("follows it").details, None);
    }

    #[test]
    fn refuses_what_does_not() {
        let long = "x".repeat(1025);
        for (field, value) in [
            ("requestid", json!("")),
            ("requestid", json!(long)),
            ("requestid", json!("a\nb")),
            ("requestid", json!("..")),
            ("requestid", json!(7)),
            ("requestid", Value::Null),
            ("status", json!("done")),
            ("status", json!("Pinned")),
            ("status", Value::Null),
            ("created", json!("yesterday")),
            ("created", json!(1)),
            ("created", Value::Null),
            ("pin", json!({})),
            ("pin", json!({ "cid": "Qm" })),
            ("pin", json!({ "cid": CID, "name": long })),
            ("pin", json!([])),
            ("delegates", json!("x")),
            ("delegates", Value::Null),
            ("delegates", json!(vec!["x"; 21])),
            ("info", json!({ "status_details": 7 })),
            ("info", json!([])),
        ] {
            let mut changed = status();
            changed[field] = value.clone();
            if value.is_null() {
                changed.as_object_mut().expect("an object").remove(field);
            }
            assert!(verify(changed).is_err(), "{field}: {value}");
        }
    }
}
