//! An agent that runs, as a process of its own.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use super::Sandbox;

/// A running agent; killed when it is dropped.
pub(crate) struct Running {
    child: Option<Child>,
    stdout: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) addresses: Vec<String>,
    /// Where it serves over HTTP, if it was told to.
    pub(crate) http: Option<String>,
}

impl Running {
    /// Starts the agent of a home, and waits until it is ready.
    pub(crate) fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        let args = [&["agent", "run"], args].concat();
        let mut child = sandbox
            .command(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (mut addresses, mut http) = (Vec::new(), None);
        loop {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("reads");
            match line.trim_end().split_once(' ') {
                Some(("listening", address)) => addresses.push(address.to_owned()),
                Some(("http", url)) => http = Some(url.to_owned()),
                None if line == "ready\n" => break,
                _ => {
                    let mut said = String::new();
                    let mut stderr = child.stderr.take().expect("piped");
                    stderr.read_to_string(&mut said).expect("reads");
                    panic!("{line:?} {said}");
                }
            }
        }
        Self {
            child: Some(child),
            stdout,
            addresses,
            http,
        }
    }

    /// The address over TCP.
    pub(crate) fn tcp(&self) -> &str {
        let found = self.addresses.iter().find(|a| a.contains("/tcp/"));
        found.expect("listens on TCP")
    }

    /// The address over QUIC.
    pub(crate) fn quic(&self) -> &str {
        let found = self.addresses.iter().find(|a| a.contains("/quic-v1"));
        found.expect("listens on QUIC")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.expect("runs").success());
    }

    /// Waits until the process ends, and says what it printed after it was ready.
    pub(crate) fn wait(mut self) -> Output {
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).expect("reads");
        let child = self.child.take().expect("it runs");
        let mut output = child.wait_with_output().expect("ends");
        output.stdout = rest;
        output
    }

    /// Stops it, which must work.
    pub(crate) fn stop(self) {
        self.signal("-TERM");
        let output = self.wait();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
