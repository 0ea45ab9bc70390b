//! Where a Kubo is, and what lets one in.

use std::{fmt, path::PathBuf, str::FromStr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    secret_file,
    url::{is_here, redact},
};

/// Where the RPC of a Kubo is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    shown: String,
    /// Up to `/api/v0`.
    pub(super) base: Url,
    pub(super) socket: Option<PathBuf>,
}

/// Why a text does not say where a Kubo is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// There is a user or password in it.
    #[error("a user and password in a URL can be read by every user of this machine")]
    Secret,
    /// It is no address.
    #[error("{0:?} is not the address of a Kubo")]
    Malformed(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Takes `http://…`, `https://…`, `unix:PATH`, and the multiaddrs that Kubo has in `Addresses.API`.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(redact(text));
        let socket = |path: &str| {
            path.starts_with('/').then(|| Self {
                shown: text.to_owned(),
                base: Url::parse("http://localhost/api/v0").expect("a URL"),
                socket: Some(PathBuf::from(path)),
            })
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return socket(path).ok_or_else(malformed);
        }
        if let Some(path) = text.strip_prefix("/unix/") {
            return socket(&format!("/{path}")).ok_or_else(malformed);
        }
        let url = if text.starts_with('/') {
            text.parse()
                .ok()
                .and_then(|address| from_multiaddr(&address))
        } else {
            Some(text.to_owned())
        };
        let mut url = url
            .and_then(|url| Url::parse(&url).ok())
            .ok_or_else(malformed)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Secret);
        }
        let is_plain = url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain {
            return Err(malformed());
        }
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/api/v0").unwrap_or(path);
        let path = format!("{path}/api/v0");
        url.set_path(&path);
        Ok(Self {
            shown: text.to_owned(),
            base: url,
            socket: None,
        })
    }
}

fn from_multiaddr(address: &Multiaddr) -> Option<String> {
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => format!("[{ip}]"),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.into_owned(),
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else {
        return None;
    };
    let scheme = match (parts.next(), parts.next()) {
        (None | Some(Protocol::Http), None) => "http",
        (Some(Protocol::Https), None) | (Some(Protocol::Tls), Some(Protocol::Http)) => "https",
        _ => return None,
    };
    Some(format!("{scheme}://{host}:{port}"))
}

impl Endpoint {
    /// Whether what is said to it crosses a network in clear.
    #[must_use]
    pub fn is_in_clear(&self) -> bool {
        self.base.scheme() == "http" && self.socket.is_none() && !is_here(&self.base)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What a Kubo, or a proxy before it, wants to see in the `Authorization` header.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A token.
    Bearer(SecretString),
    /// A user's name and password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: SecretString,
    },
}

/// Why a text is no credentials. Says nothing of the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("neither `bearer:TOKEN` nor `basic:USER:PASSWORD`")]
pub struct CredentialsError;

impl Credentials {
    /// Reads what `ipfs --api-auth` takes: `bearer:TOKEN`, `basic:USER:PASSWORD`, or a token alone.
    ///
    /// # Errors
    /// It is of another kind, or holds what no header can.
    pub fn parse(text: &SecretString) -> Result<Self, CredentialsError> {
        let text = text.expose_secret();
        if !secret_file::is_secret(text) {
            return Err(CredentialsError);
        }
        match text.split_once(':') {
            None => Ok(Self::Bearer(text.into())),
            Some(("bearer", token)) if !token.is_empty() => Ok(Self::Bearer(token.into())),
            Some(("basic", pair)) => {
                let (user, password) = pair.split_once(':').ok_or(CredentialsError)?;
                Ok(Self::Basic {
                    user: user.to_owned(),
                    password: password.into(),
                })
            }
            Some(_) => Err(CredentialsError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_sockets_and_multiaddrs() {
        for (text, base) in [
            ("http://127.0.0.1:5001", "http://127.0.0.1:5001/api/v0"),
            ("http://[::1]:5001/api/v0/", "http://[::1]:5001/api/v0"),
            (
                "https://kubo.example/some/",
                "https://kubo.example/some/api/v0",
            ),
            ("/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001/api/v0"),
            ("/ip6/::1/tcp/5001/http", "http://[::1]:5001/api/v0"),
            (
                "/dns4/kubo.example/tcp/443/https",
                "https://kubo.example/api/v0",
            ),
            (
                "/dns/kubo.example/tcp/1/tls/http",
                "https://kubo.example:1/api/v0",
            ),
        ] {
            let endpoint: Endpoint = text.parse().expect("an address");
            assert_eq!(endpoint.base.as_str(), base);
            assert_eq!(
                (endpoint.to_string().as_str(), &endpoint.socket),
                (text, &None)
            );
        }
        for text in ["unix:/run/kubo.sock", "/unix/run/kubo.sock"] {
            let endpoint: Endpoint = text.parse().expect("an address");
            assert_eq!(endpoint.socket, Some("/run/kubo.sock".into()));
            assert!(!endpoint.is_in_clear());
        }
    }

    #[test]
    fn refuses_what_is_no_address_or_holds_a_secret() {
        for text in [
            "",
            "127.0.0.1:5001",
            "localhost:5001",
            "ftp://x",
            "http://",
            "http://x/?arg=1",
            "http://x/#y",
            "unix:",
            "unix:relative",
            "/ip4/127.0.0.1/udp/5001",
            "/ip4/127.0.0.1",
            "/ip4/1.2.3.4/tcp/1/ws",
        ] {
            let found = text.parse::<Endpoint>();
            assert!(
                matches!(found, Err(EndpointError::Malformed(_))),
                "{text}: {found:?}"
            );
        }
        for text in ["http://me:pw@x", "http://me@x:5001", "https://:pw@x"] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError::Secret));
        }
        let error = "ftp://me:hidden@x"
            .parse::<Endpoint>()
            .expect_err("another scheme");
        assert!(!error.to_string().contains("hidden"), "{error}");
    }

    #[test]
    fn knows_what_crosses_a_network_in_clear() {
        let in_clear = |text: &str| text.parse::<Endpoint>().expect("an address").is_in_clear();
        for text in [
            "http://10.0.0.1:5001",
            "http://kubo.example",
            "http://[fe80::1]:1",
        ] {
            assert!(in_clear(text), "{text}");
        }
        for text in [
            "https://kubo.example",
            "http://127.0.0.2:1",
            "http://[::1]:1",
            "http://localhost:1",
        ] {
            assert!(!in_clear(text), "{text}");
        }
    }

    #[test]
    fn credentials_are_in_the_form_that_kubo_takes_and_do_not_print() {
        let parse = |text: &str| Credentials::parse(&text.into());
        let bearer = |text: &str| match parse(text) {
            Ok(Credentials::Bearer(token)) => token.expose_secret().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(bearer("s3cret"), "s3cret");
        assert_eq!(bearer("bearer:s3:cret"), "s3:cret");
        let basic = parse("basic:me:s3:cret").expect("a pair");
        assert!(!format!("{basic:?}").contains("s3:cret"), "{basic:?}");
        let Credentials::Basic { user, password } = basic else {
            panic!("of another kind");
        };
        assert_eq!((user.as_str(), password.expose_secret()), ("me", "s3:cret"));
        for text in ["", "bearer:", "basic:me", "digest:x", "two words", "a\r\nb"] {
            assert_eq!(parse(text).err(), Some(CredentialsError), "{text}");
        }
    }
}
