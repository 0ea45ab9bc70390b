//! What is asked of an agent, and what it says.

use serde::{Deserialize, Serialize};

use crate::node::Status;

/// What is asked of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What it is and does.
    Status,
}

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", content = "what", rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// What it is and does.
    Status(Box<Status>),
    /// Why it did not do what it was asked.
    Failed(String),
}

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
        for bad in [
            r#"{"ask":"explode"}"#,
            r#"{"ask":"status","x":1}"#,
            "[]",
            "",
        ] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
