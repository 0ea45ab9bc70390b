//! Where a database is and who asks: `postgres://` URLs, as libpq reads them, over the `PG…` environment.

use std::{net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use secrecy::SecretString;

use super::{
    failure::Failure,
    passfile::{self, Login},
};

/// How far a connection must be encrypted and the server known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// A name, an address, or the directory of a Unix socket.
    pub(crate) name: String,
    /// Address to connect to instead of looking the name up.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

/// Where a database is and who asks for it. Its password is in no output.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) tls: TlsMode,
    pub(crate) root_certificate: Option<PathBuf>,
    pub(crate) options: Option<String>,
    pub(crate) connect_timeout: Duration,
    password: Option<SecretString>,
    passfile: Option<PathBuf>,
}

/// `user@host:port/database`.
impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|h| format!("{}:{}", h.name, h.port))
            .collect();
        write!(f, "{}@{}/{}", self.user, hosts.join(","), self.database)
    }
}

/// Looks an environment variable up.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Given {
    host: Option<String>,
    hostaddr: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<SecretString>,
    dbname: Option<String>,
    passfile: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    options: Option<String>,
    connect_timeout: Option<String>,
}

impl Endpoint {
    /// Reads a URL over the process's environment.
    pub(crate) fn from_url(url: &str) -> Result<Self, Failure> {
        Self::parse(url, &|name| std::env::var(name).ok())
    }

    /// Reads a URL; what it leaves open comes from `environment`.
    pub(crate) fn parse(url: &str, environment: Environment<'_>) -> Result<Self, Failure> {
        let mut given = Given::from_url(url)?;
        given.fill(environment);
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let user = given
            .user
            .or_else(system_user)
            .or_else(|| set("USER"))
            .ok_or_else(|| Failure::plain("the URL names no user"))?;
        let passfile = given.passfile.map(PathBuf::from);
        let home = || set("HOME").map(PathBuf::from);
        Ok(Self {
            hosts: hosts(given.host, given.hostaddr, given.port)?,
            database: given.dbname.unwrap_or_else(|| user.clone()),
            user,
            tls: tls_mode(given.sslmode.as_deref().unwrap_or("prefer"))?,
            root_certificate: given.sslrootcert.map(PathBuf::from).or_else(|| {
                let default = home()?.join(".postgresql/root.crt");
                default.exists().then_some(default)
            }),
            options: given.options,
            connect_timeout: match given.connect_timeout {
                None => CONNECT_TIMEOUT,
                Some(text) => match number::<u64>("connect_timeout", &text)? {
                    0 => CONNECT_TIMEOUT,
                    seconds => Duration::from_secs(seconds.max(2)),
                },
            },
            password: given.password,
            passfile: passfile.or_else(|| home().map(|home| home.join(".pgpass"))),
        })
    }

    /// The password for one of the hosts, if one is known.
    pub(crate) fn password(&self, host: &Host) -> Option<SecretString> {
        self.password.clone().or_else(|| {
            let is_default = DEFAULT_SOCKETS.contains(&host.name.as_str());
            let login = Login {
                host: if is_default { "localhost" } else { &host.name },
                port: host.port,
                database: &self.database,
                user: &self.user,
            };
            passfile::find(self.passfile.as_ref()?, login)
        })
    }
}

const DEFAULT_SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

impl Given {
    fn from_url(url: &str) -> Result<Self, Failure> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .ok_or_else(|| Failure::plain("the URL does not begin with postgres://"))?;
        let mut given = Self::default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        given.user = decoded(user)?;
        given.password = decoded(password)?.map(SecretString::from);
        given.dbname = decoded(database)?;
        let mut names = Vec::new();
        let mut ports = Vec::new();
        for host in hosts.split(',') {
            let bracket = host.strip_prefix('[').and_then(|h| h.split_once(']'));
            let (name, port) = match bracket {
                Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
                None => host.rsplit_once(':').unwrap_or((host, "")),
            };
            names.push(decoded(name)?.unwrap_or_default());
            ports.push(port);
        }
        let names = names.join(",");
        given.host = (!names.is_empty()).then_some(names);
        if ports.iter().any(|port| !port.is_empty()) {
            given.port = Some(ports.join(","));
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = decoded(key)?.unwrap_or_default();
            given.set(&key, decoded(value)?.unwrap_or_default())?;
        }
        Ok(given)
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), Failure> {
        let slot = match key {
            "host" => &mut self.host,
            "hostaddr" => &mut self.hostaddr,
            "port" => &mut self.port,
            "user" => &mut self.user,
            "password" => {
                self.password = Some(SecretString::from(value));
                return Ok(());
            }
            "dbname" => &mut self.dbname,
            "passfile" => &mut self.passfile,
            "sslmode" => &mut self.sslmode,
            "sslrootcert" => &mut self.sslrootcert,
            "options" => &mut self.options,
            "connect_timeout" => &mut self.connect_timeout,
            "ssl" if value == "true" => {
                self.sslmode = Some("require".into());
                return Ok(());
            }
            // We choose these ourselves, or they say how libpq should do what we do anyway.
            "application_name"
            | "fallback_application_name"
            | "client_encoding"
            | "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "keepalives_count"
            | "tcp_user_timeout"
            | "gssencmode" => return Ok(()),
            _ => {
                return Err(Failure::plain(format!(
                    "the URL parameter {key} is not supported"
                )));
            }
        };
        *slot = Some(value);
        Ok(())
    }

    fn fill(&mut self, environment: Environment<'_>) {
        let table = [
            ("PGHOST", &mut self.host),
            ("PGHOSTADDR", &mut self.hostaddr),
            ("PGPORT", &mut self.port),
            ("PGUSER", &mut self.user),
            ("PGDATABASE", &mut self.dbname),
            ("PGPASSFILE", &mut self.passfile),
            ("PGSSLMODE", &mut self.sslmode),
            ("PGSSLROOTCERT", &mut self.sslrootcert),
            ("PGOPTIONS", &mut self.options),
            ("PGCONNECT_TIMEOUT", &mut self.connect_timeout),
        ];
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        for (name, slot) in table {
            if slot.as_ref().is_none_or(String::is_empty) {
                *slot = set(name);
            }
        }
        if self.password.is_none() {
            self.password = set("PGPASSWORD").map(SecretString::from);
        }
    }
}

fn hosts(
    names: Option<String>,
    addresses: Option<String>,
    ports: Option<String>,
) -> Result<Vec<Host>, Failure> {
    let ports: Vec<u16> = ports
        .as_deref()
        .unwrap_or("5432")
        .split(',')
        .map(|port| {
            if port.is_empty() {
                Ok(5432)
            } else {
                number("port", port)
            }
        })
        .collect::<Result<_, _>>()?;
    let addresses: Vec<Option<IpAddr>> = match &addresses {
        None => Vec::new(),
        Some(list) => list
            .split(',')
            .map(|text| match text {
                "" => Ok(None),
                text => number("hostaddr", text).map(Some),
            })
            .collect::<Result<_, _>>()?,
    };
    let port = |i: usize| ports.get(i).or(ports.first()).copied().unwrap_or(5432);
    let names: Vec<String> = match names {
        Some(names) => names.split(',').map(str::to_owned).collect(),
        None if !addresses.is_empty() => vec![String::new(); addresses.len()],
        None => vec![String::new()],
    };
    if ports.len() > 1 && ports.len() != names.len()
        || !addresses.is_empty() && addresses.len() != names.len()
    {
        return Err(Failure::plain(
            "the URL has not as many ports or addresses as hosts",
        ));
    }
    let host = |(i, name): (usize, String)| {
        let address = addresses.get(i).copied().flatten();
        let name = match (name.as_str(), address) {
            ("", Some(address)) => address.to_string(),
            ("", None) => default_host(port(i)),
            _ => name,
        };
        Host {
            name,
            address,
            port: port(i),
        }
    };
    Ok(names.into_iter().enumerate().map(host).collect())
}

fn default_host(port: u16) -> String {
    let socket = |dir: &&str| PathBuf::from(dir).join(format!(".s.PGSQL.{port}")).exists();
    DEFAULT_SOCKETS
        .into_iter()
        .find(socket)
        .unwrap_or("localhost")
        .to_owned()
}

fn tls_mode(text: &str) -> Result<TlsMode, Failure> {
    match text {
        "disable" => Ok(TlsMode::Disable),
        "allow" | "prefer" => Ok(TlsMode::Prefer),
        "require" => Ok(TlsMode::Require),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        "verify-full" => Ok(TlsMode::VerifyFull),
        _ => Err(Failure::plain("sslmode is none that libpq knows")),
    }
}

fn number<T: FromStr>(what: &str, text: &str) -> Result<T, Failure> {
    text.trim()
        .parse()
        .map_err(|_| Failure::plain(format!("{what} in the URL is malformed")))
}

/// Undoes percent encoding; nothing for an empty text. Never repeats the text in an error.
fn decoded(text: &str) -> Result<Option<String>, Failure> {
    let malformed = || Failure::plain("the URL has a malformed percent encoding");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest
            .get(..2)
            .filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let digits = digits
            .and_then(|d| std::str::from_utf8(d).ok())
            .ok_or_else(malformed)?;
        let byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
        if byte == 0 {
            return Err(malformed());
        }
        bytes.push(byte);
        rest = &rest[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| malformed())?;
    Ok((!text.is_empty()).then_some(text))
}

/// The name of the user that runs the process.
fn system_user() -> Option<String> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn parse(url: &str) -> Endpoint {
        Endpoint::parse(url, &|_| None).expect(url)
    }

    #[test]
    fn reads_urls_as_libpq_does() {
        let e = parse(
            "postgres://me:s%3Acret@db.example:6543/my%20shop?sslmode=require&connect_timeout=5",
        );
        assert_eq!(e.to_string(), "me@db.example:6543/my shop");
        assert_eq!(e.tls, TlsMode::Require);
        let password = e.password(&e.hosts[0]).expect("given");
        assert_eq!(password.expose_secret(), "s:cret");
        assert!(!format!("{e:?}").contains("s:cret"));
        assert_eq!(
            parse("postgresql://u@%2Frun%2Fpg:1/d").to_string(),
            "u@/run/pg:1/d"
        );
        assert_eq!(
            parse("postgresql:///d?host=/run/pg&user=u").to_string(),
            "u@/run/pg:5432/d"
        );
        assert_eq!(parse("postgresql://u@[::1]:7/").to_string(), "u@::1:7/u");
        assert_eq!(parse("postgres://u@a,b:2/d").to_string(), "u@a:5432,b:2/d");
        assert_eq!(
            parse("postgres://u@x/d?hostaddr=10.0.0.1").hosts[0].address,
            "10.0.0.1".parse().ok()
        );
    }

    #[test]
    fn the_environment_fills_what_the_url_leaves_open() {
        let env = |name: &str| {
            let value = match name {
                "PGHOST" => "h",
                "PGUSER" => "u",
                "PGPORT" => "99",
                "PGPASSWORD" => "pw",
                "PGDATABASE" => "env",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let e = Endpoint::parse("postgres:///db", &env).expect("parses");
        assert_eq!(e.to_string(), "u@h:99/db");
        assert_eq!(
            e.password(&e.hosts[0]).expect("given").expose_secret(),
            "pw"
        );
    }

    #[test]
    fn rejects_what_it_cannot_honour_and_never_tells_the_password() {
        let bad = [
            "mysql://me:secret@h/d",
            "postgres://me:secret%@h/d",
            "postgres://me:secret@h:port/d",
            "postgres://me:secret@h/d?sslmode=sometimes",
            "postgres://me:secret@h/d?service=x",
            "postgres://me:secret@h/%00",
            "postgres://me:secret@a,b,c:1,2/d?port=1,2",
        ];
        for url in bad {
            let error = Endpoint::parse(url, &|_| None).expect_err(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
