//! Password files, as libpq reads them: `host:port:database:user:password`, `*` for any, `\` before `:` and `\`.

use std::{fs::File, io::Read, os::unix::fs::PermissionsExt, path::Path};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// Largest password file that is read.
const PASSFILE_SIZE_MAX: u64 = 1 << 20;

/// What a password is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
}

/// Looks a password up. Nothing if the file is missing, unreadable, or open to others.
pub(crate) fn find(path: &Path, login: Login<'_>) -> Option<SecretString> {
    let file = File::open(path).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() {
        return None;
    }
    if meta.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "password file is open to others and is not used; set its mode to 0600"
        );
        return None;
    }
    let mut text = Zeroizing::new(String::new());
    file.take(PASSFILE_SIZE_MAX)
        .read_to_string(&mut text)
        .ok()?;
    text.lines().find_map(|line| matching(line, login))
}

fn matching(line: &str, login: Login<'_>) -> Option<SecretString> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for wanted in [
        login.host,
        &login.port.to_string(),
        login.database,
        login.user,
    ] {
        let (field, after) = field(rest);
        if after.is_none() || (*field != "*" && *field != wanted) {
            return None;
        }
        rest = after?;
    }
    let (password, _) = field(rest);
    (!password.is_empty()).then(|| SecretString::from(password.as_str()))
}

/// One field without its backslashes, and what follows its colon.
fn field(text: &str) -> (Zeroizing<String>, Option<&str>) {
    let mut out = Zeroizing::new(String::new());
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ':' => return (out, Some(&text[at + 1..])),
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    (out, None)
}

/// Writes a password file that matches everything, for a child process; mode 0600, gone when dropped.
pub(crate) fn temporary(password: &SecretString) -> std::io::Result<tempfile::NamedTempFile> {
    use std::io::Write;
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile()?;
    let escaped = password
        .expose_secret()
        .replace('\\', "\\\\")
        .replace(':', "\\:");
    let line = Zeroizing::new(format!("*:*:*:*:{}\n", *Zeroizing::new(escaped)));
    file.write_all(line.as_bytes())?;
    file.flush()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Login<'_> = Login {
        host: "db.example",
        port: 5432,
        database: "shop",
        user: "me",
    };

    fn found(line: &str) -> Option<String> {
        matching(line, LOGIN).map(|p| p.expose_secret().to_owned())
    }

    #[test]
    fn lines_match_as_in_libpq() {
        assert_eq!(found("db.example:5432:shop:me:pw").as_deref(), Some("pw"));
        assert_eq!(found("*:*:*:*:a\\:b\\\\c").as_deref(), Some("a:b\\c"));
        for line in [
            "db.example:5433:*:*:pw",
            "*:*:*:you:pw",
            "*:*:*:me",
            "#*:*:*:*:pw",
            "",
            "*:*:*:*:",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }

    #[test]
    fn written_file_is_private_and_read_back() {
        let file = temporary(&SecretString::from("p:w\\d")).expect("temp file");
        let mode = file
            .as_file()
            .metadata()
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let found = find(file.path(), LOGIN).expect("found");
        assert_eq!(found.expose_secret(), "p:w\\d");
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o644)).expect("chmod");
        assert!(find(file.path(), LOGIN).is_none());
    }
}
