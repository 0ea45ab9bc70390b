//! HTTP as tests need it: a real client, and servers that answer as a test wants them to.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// What curl was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code; 0 if there was no answer.
    pub status: u16,
    /// Header fields, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// curl's exit code: 0 if the answer was whole, 18 if it was cut off.
    pub exit: i32,
}

impl Answer {
    /// A header field, or nothing as "".
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Asks with curl; `args` are options of curl.
///
/// # Panics
/// curl cannot be run.
#[must_use]
pub fn curl(url: &str, args: &[&str]) -> Answer {
    let place = tempfile::tempdir().expect("a directory");
    let (head, body) = (place.path().join("head"), place.path().join("body"));
    let output = Command::new("curl")
        .args([
            "-q",
            "--silent",
            "--globoff",
            "--noproxy",
            "*",
            "--path-as-is",
        ])
        .args(["--max-time", "120", "--dump-header"])
        .arg(&head)
        .arg("--output")
        .arg(&body)
        .args(args)
        .arg(url)
        .output()
        .expect("curl is installed");
    let head = std::fs::read_to_string(head).unwrap_or_default();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Answer {
        status: status.and_then(|code| code.parse().ok()).unwrap_or(0),
        headers: lines.filter_map(field).collect(),
        body: std::fs::read(body).unwrap_or_default(),
        exit: output.status.code().unwrap_or(-1),
    }
}

/// A request that came to a [`Scripted`] server.
#[derive(Debug)]
pub struct Asked {
    /// The path and query.
    pub target: String,
    /// The connection, for an answer.
    pub stream: TcpStream,
}

impl Asked {
    /// Answers, with a length, and keeps the connection.
    ///
    /// # Panics
    /// The status has no code.
    pub fn answer(&mut self, status: &str, headers: &str, body: &[u8]) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
        // Whoever asked may be gone.
        let _ = self.stream.write_all(&[head.as_bytes(), body].concat());
    }
}

/// A server of the test's own. It stops when it is dropped.
#[derive(Debug)]
pub struct Scripted {
    /// Where it is: `http://127.0.0.1:PORT`.
    pub url: String,
    /// The paths and queries that were asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Scripted {
    /// Starts a server that lets `answer` answer each request, on a thread for each connection,
    /// which goes on as long as that says so.
    ///
    /// # Panics
    /// It cannot listen.
    #[must_use]
    pub fn start(answer: impl Fn(&mut Asked) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (answer, heard, ended) = (Arc::new(answer), asked.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (answer, heard) = (answer.clone(), heard.clone());
                std::thread::spawn(move || connection(stream, &*answer, &heard));
            }
        });
        Self {
            url: format!("http://{address}"),
            asked,
            stop,
        }
    }

    /// How many requests came.
    ///
    /// # Panics
    /// A thread that answers did.
    #[must_use]
    pub fn count(&self) -> usize {
        self.asked.lock().expect("no panic while it is held").len()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let address = self.url.trim_start_matches("http://");
        drop(TcpStream::connect(address));
    }
}

fn connection(
    stream: TcpStream,
    answer: &(impl Fn(&mut Asked) -> bool + ?Sized),
    heard: &Mutex<Vec<String>>,
) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).is_err() || first.is_empty() {
            return;
        }
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if !matches!(reader.read_line(&mut line), Ok(1..)) {
                return;
            }
        }
        let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
        heard
            .lock()
            .expect("no panic while it is held")
            .push(target.clone());
        let stream = stream.try_clone().expect("a second handle");
        if !answer(&mut Asked { target, stream }) {
            return;
        }
    }
}
