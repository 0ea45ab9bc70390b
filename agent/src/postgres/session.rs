//! Connections, and the settings under which values have one lossless text form.

use std::{fmt::Write as _, time::Duration};

use postgres::{CancelToken, Client, Config, NoTls, config::SslMode};
use secrecy::ExposeSecret;

use super::{
    endpoint::{Endpoint, Host, TlsMode},
    failure::Failure,
    name::literal,
};

const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 4;
/// How long a server may leave sent bytes unacknowledged.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);

/// Settings under which values are written and read. Scripts begin with them, and both of our sides
/// use them: only so does the text of a value mean the same on both.
const SETTINGS: [(&str, &str); 17] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("standard_conforming_strings", "on"),
    ("check_function_bodies", "off"),
    ("client_min_messages", "warning"),
    ("row_security", "off"),
    ("xmloption", "content"),
    ("array_nulls", "on"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("quote_all_identifiers", "off"),
    ("transform_null_equals", "off"),
];

/// Settings that not every server has, set where it has them.
const SETTINGS_IF_KNOWN: [&str; 2] = ["transaction_timeout", "idle_session_timeout"];

/// The statements that scripts begin with.
pub(crate) fn preamble(encoding: &str) -> String {
    let mut out = format!("SET client_encoding = {};\n", literal(encoding));
    for (name, value) in SETTINGS {
        writeln!(out, "SET {name} = {};", literal(value)).expect("writing to a string");
    }
    out.push_str("SELECT pg_catalog.set_config('search_path', '', false);\n\n");
    out
}

/// Connects to the first host that answers, with all settings in place, and forgets the other hosts.
pub(crate) fn connect(endpoint: &mut Endpoint) -> Result<Client, Failure> {
    let mut last = Failure::plain("no host");
    for host in endpoint.hosts.clone() {
        match connect_to(endpoint, &host) {
            Ok(mut client) => {
                settle(&mut client)?;
                endpoint.hosts = vec![host];
                return Ok(client);
            }
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

fn connect_to(endpoint: &Endpoint, host: &Host) -> Result<Client, Failure> {
    let mut config = Config::new();
    config
        .user(&endpoint.user)
        .dbname(&endpoint.database)
        .port(host.port)
        .application_name("souverain")
        .connect_timeout(endpoint.connect_timeout)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(UNACKNOWLEDGED_MAX)
        .notice_callback(|notice| tracing::debug!(message = notice.message(), "server notice"));
    if host.name.starts_with('/') {
        config.host_path(&host.name);
    } else {
        config.host(&host.name);
    }
    if let Some(address) = host.address {
        config.hostaddr(address);
    }
    if let Some(options) = &endpoint.options {
        config.options(options);
    }
    if let Some(password) = endpoint.password(host) {
        config.password(password.expose_secret());
    }
    if endpoint.tls > TlsMode::Prefer && !host.name.starts_with('/') {
        return Err(Failure::new(
            "TLS to PostgreSQL is not yet supported",
            "use a tunnel or a Unix socket, and sslmode=disable",
        ));
    }
    config.ssl_mode(SslMode::Disable);
    Ok(config.connect(NoTls)?)
}

fn settle(client: &mut Client) -> Result<(), Failure> {
    let mut sql = preamble("UTF8");
    for name in SETTINGS_IF_KNOWN {
        writeln!(
            sql,
            "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = '{name}';"
        )
        .expect("writing to a string");
    }
    Ok(client.batch_execute(&sql)?)
}

/// The server's version, such as 150018 and `15.18`.
pub(crate) fn version(client: &mut Client) -> Result<(u32, String), Failure> {
    let row = client.query_one(
        "SELECT current_setting('server_version_num')::int4, split_part(current_setting('server_version'), ' ', 1)",
        &[],
    )?;
    let number: i32 = row.try_get(0)?;
    let number = u32::try_from(number).unwrap_or_default();
    Ok((number, row.try_get(1)?))
}

/// Stops the statement that the session of `token` is running; whether that works is not known.
pub(crate) fn cancel(token: &CancelToken) {
    if let Err(error) = token.cancel_query(NoTls) {
        tracing::debug!(%error, "cannot cancel");
    }
}
