//! The test binary itself, as another process that uses a store.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const HOME: &str = "SOUVERAIN_STORE_TEST_HOME";

/// Another process, with pipes to it.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts an ignored test as another process.
    pub(crate) fn start(test: &str, home: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", test]);
        Self::spawn(command, home)
    }

    pub(crate) fn spawn(mut command: Command, home: &Path) -> Self {
        let mut child = command
            .env(HOME, home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// The next line that the process says to us; nothing if it ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // A line that is cut was not acknowledged.
            if let Some(said) = line
                .strip_suffix('\n')
                .and_then(|l| l.strip_prefix("child: "))
            {
                return Some(said.to_owned());
            }
        }
    }

    pub(crate) fn tell(&mut self, what: &str) {
        writeln!(self.stdin, "{what}").unwrap();
    }

    /// Lets the process end by itself.
    pub(crate) fn end(mut self) {
        drop(self.stdin);
        assert!(self.child.wait().unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The home that this process was started for.
pub(crate) fn home() -> std::path::PathBuf {
    std::env::var_os(HOME).unwrap().into()
}

/// Says a line to the process that started this one.
pub(crate) fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    // The leading newline ends what the test runner may have begun to say.
    out.write_all(format!("\nchild: {what}\n").as_bytes())
        .unwrap();
    out.flush().unwrap();
}

/// Waits for a line from the process that started this one.
pub(crate) fn listen() -> Option<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.strip_suffix('\n').map(str::to_owned)
}
