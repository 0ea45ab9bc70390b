//! The schema, as `pg_dump` writes it.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use crate::postgres::{
    endpoint::{Endpoint, TlsMode},
    failure::Failure,
    passfile, script,
};

/// Largest schema that is exported, in bytes of SQL.
const SCRIPT_SIZE_MAX: u64 = 64 << 20;
/// Bytes of pg_dump's complaints that are kept.
const COMPLAINT_SIZE_MAX: u64 = 4 << 10;
/// How long pg_dump waits for a lock. The export's leader has all the same locks: whoever holds one up
/// waits for the leader, and waiting for them is in vain.
const LOCK_TIMEOUT_MS: u32 = 2_000;

/// A part of the schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum Section {
    /// Types, tables, functions, views.
    PreData,
    /// Indexes, constraints, triggers, rules.
    PostData,
}

/// A `pg_dump` that knows the server.
#[derive(Debug)]
pub(super) struct Dumper {
    program: PathBuf,
}

impl Dumper {
    /// Finds the oldest `pg_dump` that is at least as new as the server: what it writes is sure to
    /// load into a server of its own version or later.
    pub(super) fn find(server_major: u32) -> Result<Self, Failure> {
        let mut found: Vec<(u32, PathBuf)> = candidates()
            .into_iter()
            .filter_map(|program| Some((major_version(&program)?, program)))
            .collect();
        found.sort_by_key(|(major, _)| *major);
        let newest = found.last().map(|(major, _)| *major);
        let hint = format!(
            "install PostgreSQL's client programs (Debian: postgresql-client-{server_major})"
        );
        found
            .into_iter()
            .find(|(major, _)| *major >= server_major)
            .map(|(_, program)| Self { program })
            .ok_or_else(|| match newest {
                None => Failure::new("pg_dump is not installed", hint),
                Some(newest) => Failure::new(
                    format!("pg_dump {newest} is older than the server, which is {server_major}"),
                    hint,
                ),
            })
    }

    /// Writes a section as pure SQL, without pg_dump's own settings and psql commands.
    pub(super) fn run(
        &self,
        endpoint: &Endpoint,
        section: Section,
        snapshot: &str,
        encoding: &str,
    ) -> Result<String, Failure> {
        let mut command = Command::new(&self.program);
        let section = match section {
            Section::PreData => "pre-data",
            Section::PostData => "post-data",
        };
        command
            .arg(format!("--section={section}"))
            .arg(format!("--snapshot={snapshot}"))
            .arg(format!("--encoding={encoding}"))
            .arg(format!("--lock-wait-timeout={LOCK_TIMEOUT_MS}"))
            .args(["--no-password", "--no-blobs", "--no-tablespaces"])
            .args(["--no-owner", "--no-privileges"])
            .args([
                "--no-publications",
                "--no-subscriptions",
                "--no-security-labels",
            ]);
        let password = endpoint
            .hosts
            .first()
            .and_then(|host| endpoint.password(host));
        let passfile = password.map(|p| passfile::temporary(&p)).transpose()?;
        environment(&mut command, endpoint, passfile.as_ref().map(|f| f.path()));
        let text = capture(&mut command)?;
        let text = String::from_utf8(text).map_err(|_| {
            Failure::new(
                "the schema is not UTF-8",
                "give the database an encoding other than SQL_ASCII",
            )
        })?;
        let text = pure(&text);
        script::statements(text.as_bytes()).map_err(|what| {
            Failure::plain(format!("pg_dump wrote {what}, which a schema has not"))
        })?;
        Ok(text.to_owned())
    }
}

/// Every `pg_dump` in Debian's places and in PATH; the former first, since Debian's own
/// `/usr/bin/pg_dump` chooses among them by other rules.
fn candidates() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/pg_dump")))
        .collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&path).map(|dir| dir.join("pg_dump")));
    found.retain(|program| program.is_file());
    found
}

fn major_version(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_once(") ")?.1;
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    version[..digits].parse().ok()
}

fn environment(command: &mut Command, endpoint: &Endpoint, passfile: Option<&Path>) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    let tls = match endpoint.tls {
        TlsMode::Disable => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    };
    command
        .env("LC_ALL", "C")
        .env("PGUSER", &endpoint.user)
        .env("PGDATABASE", &endpoint.database)
        .env("PGSSLMODE", tls)
        .env("PGAPPNAME", "souverain")
        .env(
            "PGCONNECT_TIMEOUT",
            endpoint.connect_timeout.as_secs().to_string(),
        )
        .env("PGPASSFILE", passfile.unwrap_or(Path::new("/dev/null")));
    if let Some(host) = endpoint.hosts.first() {
        command
            .env("PGHOST", &host.name)
            .env("PGPORT", host.port.to_string());
        if let Some(address) = host.address {
            command.env("PGHOSTADDR", address.to_string());
        }
    }
    if let Some(path) = &endpoint.root_certificate {
        command.env("PGSSLROOTCERT", path);
    }
    if let Some(options) = &endpoint.options {
        command.env("PGOPTIONS", options);
    }
}

/// Kills the child if it is left behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn capture(command: &mut Command) -> Result<Vec<u8>, Failure> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Failure::plain(format!("cannot start pg_dump: {e}")))?;
    let mut running = Running(child);
    let stdout = running.0.stdout.take().expect("it is piped");
    let mut stderr = running.0.stderr.take().expect("it is piped");
    let complaints = thread::spawn(move || {
        let mut text = Vec::new();
        let kept = stderr
            .by_ref()
            .take(COMPLAINT_SIZE_MAX)
            .read_to_end(&mut text);
        // The rest is read so that pg_dump is not held up by it.
        kept.and_then(|_| std::io::copy(&mut stderr, &mut std::io::sink()))
            .map(|_| text)
    });
    let mut text = Vec::new();
    stdout.take(SCRIPT_SIZE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > SCRIPT_SIZE_MAX {
        return Err(Failure::plain(format!(
            "the schema is larger than {SCRIPT_SIZE_MAX} bytes"
        )));
    }
    let status = running.0.wait()?;
    let complaints = complaints.join().expect("reading does not panic")?;
    if status.success() {
        return Ok(text);
    }
    let complaints = String::from_utf8_lossy(&complaints);
    Err(Failure::plain(format!(
        "pg_dump failed: {}",
        complaints.trim().replace('\n', "; ")
    )))
}

/// Cuts off what pg_dump writes around a schema: settings, for which scripts have their own, and the
/// `\restrict` and `\unrestrict` commands of psql.
fn pure(text: &str) -> &str {
    let Some(start) = text.find("\n--\n-- Name: ") else {
        return "";
    };
    let body = &text[start + 1..];
    match body.rsplit_once("\n\\unrestrict ") {
        Some((body, key)) if key.trim().bytes().all(|b| b.is_ascii_alphanumeric()) => body,
        _ => body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_off_settings_and_psql_commands() {
        let body = "--\n-- Name: t; Type: TABLE\n--\n\nCREATE TABLE t (a text DEFAULT 'a\n\\unrestrict x');\n";
        let dump = format!(
            "--\n-- Dump\n--\n\n\\restrict aB1\n\nSET a = 1;\n\n{body}\n--\n\n\\unrestrict aB1\n\n"
        );
        assert_eq!(pure(&dump), format!("{body}\n--\n"));
        assert_eq!(pure(&format!("SET a = 1;\n\n{body}")), body);
        assert_eq!(pure("\\restrict a\nSET a = 1;\n\\unrestrict a\n"), "");
    }
}
