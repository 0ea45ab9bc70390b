//! Services that hold snapshots for a home, by the IPFS Pinning Service API 1.0.0.
//!
//! A service is asked to pin a root, and fetches the blocks itself, from whoever gives them. What it says is
//! checked against its OpenAPI, and bounded.

mod client;
mod schema;
mod services;

use std::{net::IpAddr, time::Duration};

use cid::Cid;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::{node::Status, secret_file::SecretFileError, web::Cause};

pub use self::{
    client::PinningService,
    schema::{PinRequest, PinStatus},
    services::{Service, ServiceError, ServiceName, ServiceNameError, add, find, list, remove},
};

/// Why a pinning service did not do what it was asked. What it was asked before stands.
#[derive(Debug, thiserror::Error)]
pub enum PinningError {
    /// The service is not known, or its token cannot be read.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The token cannot be read.
    #[error("cannot read the token of the pinning service {name}")]
    Token {
        /// The service.
        name: ServiceName,
        /// Why not.
        #[source]
        cause: SecretFileError,
    },
    /// The system gives no threads, or no certificates for TLS.
    #[error("cannot make an HTTP client")]
    Client(#[source] Cause),
    /// It does not answer.
    #[error("the pinning service {name} does not answer")]
    Unreachable {
        /// The service.
        name: ServiceName,
        /// Why not.
        #[source]
        cause: Cause,
    },
    /// It does not take the token.
    #[error("the pinning service {name} does not take the token (HTTP status {status})")]
    Refused {
        /// The service.
        name: ServiceName,
        /// 401 or 403.
        status: u16,
    },
    /// It says that it cannot.
    #[error("the pinning service {name} says: {message} (HTTP status {status})")]
    Said {
        /// The service.
        name: ServiceName,
        /// The status.
        status: u16,
        /// Its words, cut and without control characters.
        message: String,
    },
    /// What it says does not follow the API.
    #[error("the answer of the pinning service {name} is not what its API says: {what}")]
    Malformed {
        /// The service.
        name: ServiceName,
        /// What is wrong.
        what: String,
    },
    /// It speaks of something else.
    #[error("the pinning service {name} speaks of {found}, not of {root}")]
    OtherCid {
        /// The service.
        name: ServiceName,
        /// What it was asked for.
        root: Cid,
        /// What it speaks of.
        found: Cid,
    },
    /// It gave up.
    #[error("the pinning service {name} failed to pin {root}{}", said(details))]
    Failed {
        /// The service.
        name: ServiceName,
        /// The root.
        root: Cid,
        /// What it says of it.
        details: Option<String>,
    },
    /// It is not done yet.
    #[error("the pinning service {name} has not pinned {root} after {} s: it is {status}{}", after.as_secs(), said(details))]
    NotYet {
        /// The service.
        name: ServiceName,
        /// The root.
        root: Cid,
        /// How far it is.
        status: PinStatus,
        /// What it says of it.
        details: Option<String>,
        /// How long it was waited for.
        after: Duration,
    },
    /// This home asked for no such pin there.
    #[error("this home has no pin of {root} at the pinning service {name}")]
    NotPinned {
        /// The service.
        name: ServiceName,
        /// The root.
        root: Cid,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// What a home calls its pins, at a service or a Kubo, so that it knows them again.
pub(crate) fn pin_name(home: &PeerId) -> String {
    format!("souverain/{home}")
}

fn said(details: &Option<String>) -> String {
    details.iter().map(|text| format!(": {text}")).collect()
}

/// Where a service can fetch from the running agent: its addresses that the whole internet can reach.
#[must_use]
pub fn origins(status: &Status) -> Vec<String> {
    let mut origins: Vec<String> = Vec::new();
    for text in status.external.iter().chain(&status.listening) {
        let Ok(address) = text.parse::<Multiaddr>() else {
            continue;
        };
        let named = match address.iter().last() {
            Some(Protocol::P2p(_)) => text.clone(),
            _ => format!("{text}/p2p/{}", status.peer),
        };
        if is_public(&address) && !origins.contains(&named) {
            origins.push(named);
        }
    }
    origins.truncate(schema::ADDRESSES_MAX);
    origins
}

fn is_public(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => is_global(ip.into()),
        Some(Protocol::Ip6(ip)) => is_global(ip.into()),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
            name != "localhost"
        }
        _ => false,
    }
}

/// Whether an address is none of those that mean something else in every network.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_documentation()
                || ip.is_multicast()
                || is_shared
                || a == 0
                || a >= 240)
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_global(ip.into()),
            // 2000::/3 is what is given out; 2001:db8::/32 is for documents.
            None => {
                let [first, second, ..] = ip.segments();
                first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0x0db8)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_the_internet_can_reach_are_told() {
        let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let status = Status {
            peer: peer.to_owned(),
            external: vec!["/ip4/8.8.4.4/tcp/4001".into()],
            listening: [
                "/ip4/127.0.0.1/tcp/1",
                "/ip4/10.1.2.3/tcp/1",
                "/ip4/100.64.0.1/tcp/1",
                "/ip4/169.254.1.1/tcp/1",
                "/ip4/0.0.0.0/tcp/1",
                "/ip6/::1/tcp/1",
                "/ip6/fe80::1/tcp/1",
                "/ip6/fc00::1/tcp/1",
                "/ip6/2001:db8::1/tcp/1",
                "/dns/localhost/tcp/1",
                "nonsense",
            ]
            .map(str::to_owned)
            .into_iter()
            .chain([
                format!("/dns4/node.example/tcp/1/p2p/{peer}"),
                format!("/ip4/8.8.4.4/tcp/4001/p2p/{peer}"),
            ])
            .chain(["/ip6/2a00::1/udp/1/quic-v1".to_owned()])
            .collect(),
            ..Status::default()
        };
        let expected = [
            "/ip4/8.8.4.4/tcp/4001",
            "/dns4/node.example/tcp/1",
            "/ip6/2a00::1/udp/1/quic-v1",
        ];
        assert_eq!(
            origins(&status),
            expected.map(|address| format!("{address}/p2p/{peer}"))
        );
    }
}
