//! An agent that runs beside the story.

use std::{
    io::{self, BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// A running agent, which is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    /// What it printed, up to `ready`.
    pub(super) told: String,
}

impl Running {
    /// Starts it, and waits until it is ready. One that ends before has told less.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let mut told = String::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                told.push_str(&format!("{}\n", line?));
                if told.ends_with("ready\n") {
                    break;
                }
            }
        }
        Ok(Self { child, told })
    }

    /// Where it listens over TCP.
    pub(super) fn address(&self) -> Option<&str> {
        let mut addresses = self
            .told
            .lines()
            .filter_map(|l| l.strip_prefix("listening "));
        addresses.find(|address| address.contains("/tcp/"))
    }

    /// Where it serves over HTTP.
    pub(super) fn http(&self) -> Option<&str> {
        self.told.lines().find_map(|l| l.strip_prefix("http "))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // If it has ended, there is nothing to stop.
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
