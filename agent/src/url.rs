//! What the paths and URLs of sources and targets look like.

use std::{ffi::OsStr, net::IpAddr, os::unix::ffi::OsStrExt, path::Path};

use reqwest::Url;

/// What follows the scheme of a source or target that names a file.
pub(crate) fn strip_scheme<'a>(text: &'a OsStr, scheme: &str) -> Option<&'a OsStr> {
    text.as_bytes()
        .strip_prefix(scheme.as_bytes())
        .map(OsStr::from_bytes)
}

/// The scheme of something that looks like a URL: letters and digits, then a colon.
#[must_use]
pub fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (scheme.len() > 1 && scheme.bytes().all(plain)).then_some(scheme)
}

/// Whether a source or target is neither the path of something nor a URL of a known kind.
pub(crate) fn is_unknown(given: &OsStr) -> bool {
    let text = given.to_str().unwrap_or_default();
    let is_known = match scheme(text) {
        None => !given.is_empty(),
        Some("sqlite") => text != "sqlite:",
        Some(_) => is_postgres(text),
    };
    !is_known && !Path::new(given).exists()
}

/// Whether it is the URL of a PostgreSQL database.
pub(crate) fn is_postgres(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// Whether what is sent to a URL stays within this machine.
pub(crate) fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// A path or URL without what may be secret in it: the password before the host, and all
/// parameters after a question mark.
#[must_use]
pub fn redact(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    // A password may hold any character but a slash that is not escaped; the last @ ends it.
    let Some((user, host)) = rest.rsplit_once('@') else {
        return format!("{scheme}://{rest}");
    };
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    format!("{scheme}://{user}@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacts_passwords_wherever_they_stand() {
        for (text, shown) in [
            ("/srv/data:1", "/srv/data:1"),
            ("postgres://db/shop", "postgres://db/shop"),
            ("postgres://me@db/shop", "postgres://me@db/shop"),
            ("postgres://me:secret@db:5/shop", "postgres://me@db:5/shop"),
            ("postgres://me:se/cr@et@db/shop", "postgres://me@db/shop"),
            ("postgres://db/shop?password=secret", "postgres://db/shop"),
            ("mysql://me:secret@db/shop?x=1", "mysql://me@db/shop"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn knows_what_could_be_a_source_or_target() {
        for known in [
            "x",
            "/a:b",
            "sqlite:x",
            "postgres://h/d",
            "postgresql://h/d",
        ] {
            assert!(!is_unknown(OsStr::new(known)), "{known}");
        }
        for unknown in ["", "sqlite:", "mysql://h/d", "csv:x", "postgres:h"] {
            assert!(is_unknown(OsStr::new(unknown)), "{unknown}");
        }
    }

    #[test]
    fn tells_urls_from_paths() {
        assert_eq!(scheme("mysql://db"), Some("mysql"));
        assert_eq!(scheme("s3://bucket"), Some("s3"));
        for path in ["/a:b", "./a:b", "C:\\x", "plain", ":x"] {
            assert_eq!(scheme(path), None, "{path}");
        }
    }
}
