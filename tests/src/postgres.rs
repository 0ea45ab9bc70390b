//! A real PostgreSQL server for tests, private to them and gone with them.
//!
//! Start one per test binary and make a database per test:
//!
//! ```no_run
//! use std::sync::{LazyLock, Mutex};
//! use souverain_tests::postgres::PostgresServer;
//!
//! static SERVER: LazyLock<PostgresServer> = LazyLock::new(PostgresServer::start);
//!
//! let url = SERVER.create_database("shop");
//! SERVER.psql(&url, "CREATE TABLE t (a int)");
//! ```
//!
//! The server runs under a guard, a shell that stops it and removes its files when its standard input
//! ends. So nothing is left when the server is dropped, and nothing when the test binary just ends, is
//! killed, or holds the server in a `static`.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::Mutex,
};

use postgres::{Client, NoTls};

/// Takes `start`, `crash`, and the end of its input; answers every command with a line.
const GUARD: &str = r#"
bin=$1 dir=$2 options=$3
while read -r command; do
    case $command in
    start) "$bin/pg_ctl" start -w -t 120 -s -D "$dir/data" -l "$dir/log" -o "$options" </dev/null >/dev/null 2>&1 ;;
    crash) "$bin/pg_ctl" stop -w -m immediate -s -D "$dir/data" </dev/null >/dev/null 2>&1 ;;
    esac
    echo "$?"
done
"$bin/pg_ctl" stop -w -m immediate -s -D "$dir/data" >/dev/null 2>&1
rm -rf "$dir"
"#;

/// Fast rather than safe against power loss: the data is of no value.
const OPTIONS: &str = "-c fsync=off -c full_page_writes=off -c max_connections=60 \
    -c shared_buffers=64MB -c max_wal_size=4GB -c wal_level=minimal -c max_wal_senders=0 \
    -c autovacuum=off -c listen_addresses=127.0.0.1 -c logging_collector=off";

/// Everyone is trusted, but for the role `scram`, which needs its password.
const HBA: &str = "local all all trust\nhost all scram 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";

/// A running server. Dropped, it is stopped and its files removed.
#[derive(Debug)]
pub struct PostgresServer {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    guard: Child,
    commands: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl PostgresServer {
    /// Makes a cluster in a temporary directory and starts a server on it.
    ///
    /// # Panics
    /// PostgreSQL is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// As [`PostgresServer::start`], with further options of `postgres`, such as `-c ssl=on`.
    ///
    /// # Panics
    /// PostgreSQL is not installed, or does not start.
    #[must_use]
    pub fn start_with(options: &str) -> Self {
        let bin = binaries();
        let dir = tempfile::Builder::new()
            .prefix("pg-")
            .tempdir_in("/tmp")
            .expect("a temporary directory")
            .keep();
        let port = free_port();
        if let Some((uid, gid)) = postgres_user() {
            std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).expect("chown");
        }
        let data = dir.join("data");
        let init = as_postgres(bin.join("initdb"))
            .args([
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-A",
                "trust",
                "-N",
                "-D",
            ])
            .arg(&data)
            .output()
            .expect("initdb starts");
        assert_success("initdb", &init);
        std::fs::write(data.join("pg_hba.conf"), HBA).expect("pg_hba.conf");
        let options = format!(
            "{OPTIONS} -c port={port} -c unix_socket_directories={} {options}",
            dir.display()
        );
        let mut guard = as_postgres("sh")
            .args(["-c", GUARD, "guard"])
            .args([bin.as_os_str(), dir.as_os_str(), OsStr::new(&options)])
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let commands = guard
            .stdin
            .take()
            .zip(guard.stdout.take().map(BufReader::new));
        let server = Self {
            bin,
            dir,
            port,
            guard,
            commands: Mutex::new(commands),
        };
        server.restart();
        server
    }

    /// The URL of a database, by Unix socket.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let host = self.dir.display().to_string().replace('/', "%2F");
        format!(
            "postgresql://postgres@{host}:{}/{}",
            self.port,
            encoded(database)
        )
    }

    /// The URL of a database, by TCP on the loopback interface.
    #[must_use]
    pub fn tcp_url(&self, database: &str) -> String {
        format!(
            "postgresql://postgres@127.0.0.1:{}/{}",
            self.port,
            encoded(database)
        )
    }

    /// The port, on 127.0.0.1 and as part of the socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's data directory.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Makes a database and returns its URL.
    ///
    /// # Panics
    /// The server refuses.
    pub fn create_database(&self, name: &str) -> String {
        self.create_database_with(name, "")
    }

    /// Makes a database with options of `CREATE DATABASE`, and returns its URL.
    ///
    /// # Panics
    /// The server refuses.
    pub fn create_database_with(&self, name: &str, options: &str) -> String {
        let name_quoted = name.replace('"', "\"\"");
        self.connect(&self.url("postgres"))
            .batch_execute(&format!("CREATE DATABASE \"{name_quoted}\" {options}"))
            .expect("the database is made");
        self.url(name)
    }

    /// Connects to a URL of this server.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    pub fn connect(&self, url: &str) -> Client {
        Client::connect(url, NoTls).expect("the server answers")
    }

    /// Runs SQL with psql, stopping at the first error, and returns what it prints, unaligned.
    ///
    /// # Panics
    /// An error in the SQL.
    pub fn psql(&self, url: &str, sql: &str) -> String {
        let output = self
            .tool("psql")
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                url,
                "-c",
                sql,
            ])
            .output()
            .expect("psql starts");
        assert_success("psql", &output);
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Loads a script as a stranger would: `psql -X -v ON_ERROR_STOP=1 -f FILE`.
    ///
    /// # Panics
    /// An error in the script.
    pub fn load(&self, url: &str, file: &Path) {
        let output = self
            .tool("psql")
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-o",
                "/dev/null",
                "-d",
                url,
                "-f",
            ])
            .arg(file)
            .output()
            .expect("psql starts");
        assert_success("psql", &output);
    }

    /// A client program of this server's version, such as `pg_dump`.
    #[must_use]
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    /// Ends the server as a crash does.
    ///
    /// # Panics
    /// It was not running.
    pub fn crash(&self) {
        self.command("crash");
    }

    /// Starts the server again after [`PostgresServer::crash`].
    ///
    /// # Panics
    /// It does not start; its log is part of the message.
    pub fn restart(&self) {
        self.command("start");
    }

    fn command(&self, word: &str) {
        let mut commands = self.commands.lock().expect("no command panicked");
        let (input, output) = commands.as_mut().expect("the guard runs until the drop");
        writeln!(input, "{word}").expect("the guard reads");
        let mut answer = String::new();
        output.read_line(&mut answer).expect("the guard answers");
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        assert_eq!(answer, "0\n", "cannot {word} PostgreSQL:\n{log}");
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Ok(mut commands) = self.commands.lock() {
            *commands = None;
        }
        // Its input has ended: it stops the server, cleans up and ends.
        let _ = self.guard.wait();
    }
}

fn assert_success(program: &str, output: &Output) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed:\n{complaint}");
}

/// The directory of the newest server's programs.
fn binaries() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut found: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        })
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found
        .into_iter()
        .rev()
        .map(|(_, dir)| dir)
        .chain(std::env::split_paths(&path))
        .find(|dir| ["initdb", "pg_ctl", "psql", "pg_dump"].iter().all(|name| dir.join(name).is_file()))
        .expect("PostgreSQL is needed for this test: apt-get install postgresql postgresql-contrib, or put initdb, pg_ctl, psql and pg_dump into PATH")
}

/// The system's user `postgres`, if we are root: the server refuses to run as root.
fn postgres_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("as root, a user `postgres` is needed: install Debian's postgresql, or run as another user");
    let fields: Vec<&str> = line.split(':').collect();
    Some((
        fields[2].parse().expect("a number"),
        fields[3].parse().expect("a number"),
    ))
}

fn as_postgres(program: impl AsRef<OsStr>) -> Command {
    let mut command = match postgres_user() {
        None => Command::new(program),
        Some((uid, gid)) => {
            let mut command = Command::new(program);
            command.uid(uid).gid(gid);
            command
        }
    };
    command.env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn encoded(name: &str) -> String {
    name.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}
