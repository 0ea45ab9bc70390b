//! What is pulled: which snapshot, how much of it, from whom.

use cid::Cid;
use serde::{Deserialize, Serialize};

use super::GatewayUrl;
use crate::node::Multiaddr;

/// A snapshot that is to be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// Its root.
    pub root: Cid,
    /// Addresses of peers that may have it, with their ids.
    pub peers: Vec<Multiaddr>,
    /// Gateways that may have it.
    pub gateways: Vec<GatewayUrl>,
}

/// How much of a snapshot is pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All of it. Then it is listed.
    Whole,
    /// The root and the files beside its segments, which say what it holds.
    Top,
    /// Some of its lists and segments, in this order: at most [`Scope::OBJECTS_MAX`].
    Objects(#[serde(with = "texts")] Vec<Cid>),
}

impl Scope {
    /// Most objects at once: their CIDs fit into one request.
    pub const OBJECTS_MAX: usize = 768;
}

/// CIDs as they are written everywhere else.
mod texts {
    use cid::Cid;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Scope;

    pub(super) fn serialize<S: Serializer>(cids: &[Cid], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(cids.iter().map(Cid::to_string))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<Cid>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        if texts.len() > Scope::OBJECTS_MAX {
            return Err(D::Error::custom("too many objects at once"));
        }
        let cids = texts
            .iter()
            .map(|text| text.parse().map_err(D::Error::custom));
        cids.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_objects_are_refused() {
        let scope = |count| Scope::Objects(vec![protocol::block::raw_cid(&[1; 32]); count]);
        let text = |count| serde_json::to_string(&scope(count)).expect("it serializes");
        let most = text(Scope::OBJECTS_MAX);
        assert!(most.len() < 60 << 10, "{} bytes", most.len());
        let back: Scope = serde_json::from_str(&most).expect("a scope");
        assert_eq!(back, scope(Scope::OBJECTS_MAX));
        assert!(serde_json::from_str::<Scope>(&text(Scope::OBJECTS_MAX + 1)).is_err());
        assert!(serde_json::from_str::<Scope>(r#"{"objects":["x"]}"#).is_err());
    }
}
