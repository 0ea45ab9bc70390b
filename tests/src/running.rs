//! An agent that runs, as a process of its own.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use crate::program::Sandbox;

/// A running agent; killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: Arc<Mutex<String>>,
    saying: Option<JoinHandle<()>>,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Where it serves over HTTP, if it was told to.
    pub http: Option<String>,
}

impl Running {
    /// Starts the agent of a home, and waits until it is ready.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        Self::run(&mut sandbox.command(&[&["agent", "run"], args].concat()))
    }

    /// The same, by a command that starts it.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn run(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let said = Arc::new(Mutex::new(String::new()));
        let says = said.clone();
        let saying = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut said = says.lock().expect("no panic while it is held");
                said.push_str(&line);
                said.push('\n');
            }
        });
        let (mut addresses, mut http) = (Vec::new(), None);
        loop {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("reads");
            match line.trim_end().split_once(' ') {
                Some(("listening", address)) => addresses.push(address.to_owned()),
                Some(("http", url)) => http = Some(url.to_owned()),
                None if line == "ready\n" => break,
                _ => panic!("{line:?}"),
            }
        }
        Self {
            child,
            stdout,
            said,
            saying: Some(saying),
            addresses,
            http,
        }
    }

    /// The address over TCP.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn tcp(&self) -> &str {
        let found = self.addresses.iter().find(|a| a.contains("/tcp/"));
        found.expect("listens on TCP")
    }

    /// The URL of the path and query on its HTTP server.
    ///
    /// # Panics
    /// It has none.
    #[must_use]
    pub fn url(&self, target: &str) -> String {
        let http = self.http.as_deref();
        format!("{}{target}", http.expect("it serves over HTTP"))
    }

    /// Memory that it has resident, in KiB.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn memory_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("a number").parse().expect("a number")
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.expect("runs").success());
    }

    /// Stops it, which must work, and returns what it said on standard error.
    ///
    /// # Panics
    /// It does not stop cleanly.
    pub fn stop(mut self) -> String {
        self.signal("-TERM");
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("reads");
        let ended = self.child.wait().expect("ends");
        let saying = self.saying.take().map(JoinHandle::join);
        saying.expect("once").expect("no panic");
        assert!(ended.success(), "{}", self.said());
        self.said()
    }

    /// What it said on standard error so far.
    ///
    /// # Panics
    /// Who listens to it panicked.
    #[must_use]
    pub fn said(&self) -> String {
        let said = self.said.lock().expect("no panic while it is held");
        said.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
