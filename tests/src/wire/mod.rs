//! A wire between network namespaces, with delay, jitter, loss, rate, and cuts.
//!
//! Each port is a namespace with a TAP device; a switch in user space carries frames between them
//! as each port's link says. The program `wire` does it, for tests and benchmarks alike; [`Wire`]
//! starts and tells it.

mod link;
mod namespace;
mod switch;

use std::{
    io::{self, BufRead, BufReader, Write},
    net::Ipv4Addr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

pub use self::link::Link;
use self::{namespace::Namespace, switch::Switch};

/// A wire; it ends when it is dropped, and its namespaces with the last process in them.
#[derive(Debug)]
pub struct Wire {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    links: Vec<Link>,
    ports: Vec<Port>,
}

/// A namespace, with an address on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Its address.
    pub address: Ipv4Addr,
    holder: u32,
    as_root: bool,
}

impl Wire {
    /// Starts a wire with a port for each link. Nothing, said loudly, if this user may not.
    ///
    /// # Panics
    /// Programs are missing.
    #[must_use]
    pub fn start(seed: u64, links: &[Link]) -> Option<Self> {
        crate::program::note(format_args!("wire: seed {seed}"));
        for as_root in [true, false] {
            if let Some(wire) = Self::start_as(as_root, seed, links) {
                return Some(wire);
            }
        }
        crate::program::note(
            "NOT TESTED: this user may not make network namespaces, so nothing has delay and loss here",
        );
        None
    }

    fn start_as(as_root: bool, seed: u64, links: &[Link]) -> Option<Self> {
        let program = crate::program::beside("wire");
        let mut command = if as_root {
            Command::new(program)
        } else {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user"]).arg(program);
            command
        };
        let mut process = command
            .arg(seed.to_string())
            .args(links.iter().map(Link::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let stdin = process.stdin.take().expect("piped");
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut ports = Vec::new();
        loop {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("reads");
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["port", address, holder] => ports.push(Port {
                    address: address.parse().expect("an address"),
                    holder: holder.parse().expect("a process"),
                    as_root,
                }),
                ["ready"] => break,
                _ => {
                    let _ = process.wait();
                    return None;
                }
            }
        }
        Some(Self {
            process,
            stdin,
            stdout,
            links: links.to_vec(),
            ports,
        })
    }

    /// A port.
    #[must_use]
    pub fn port(&self, number: usize) -> Port {
        self.ports[number]
    }

    /// Loses everything to and from a port, from now on.
    pub fn cut(&mut self, number: usize) {
        self.set(number, self.links[number].cut());
    }

    /// Ends a cut.
    pub fn heal(&mut self, number: usize) {
        self.set(number, self.links[number]);
    }

    /// Makes a link another one, from now on. Its loss is that of frames, which are packets only if
    /// some link had loss at the start; else the kernel gives many to the wire as one.
    ///
    /// # Panics
    /// The wire has ended.
    pub fn set(&mut self, number: usize, link: Link) {
        writeln!(self.stdin, "{number} {link}").expect("it runs");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it runs");
        assert_eq!(line, "set\n");
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Port {
    /// A program, to be run in the namespace. The process is the program's own.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.holder));
        if !self.as_root {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--net").arg("--").arg(program.as_ref());
        command
    }

    /// The addresses to listen on over TCP and QUIC.
    #[must_use]
    pub fn listen(&self) -> [String; 2] {
        let address = self.address;
        [
            format!("/ip4/{address}/tcp/0"),
            format!("/ip4/{address}/udp/0/quic-v1"),
        ]
    }
}

/// What the program `wire` does: `wire SEED LINK…` prints `port ADDRESS PID` for each port and
/// `ready`, obeys lines `PORT LINK` and answers `set`, and ends when standard input does. To run
/// something at a port: `nsenter --target=PID --net PROGRAM…`.
///
/// # Errors
/// The arguments are wrong, or the user may not do this.
pub fn serve(
    mut args: impl Iterator<Item = String>,
    input: impl BufRead,
    mut output: impl Write,
) -> io::Result<()> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let seed = args.next().and_then(|seed| seed.parse().ok());
    let seed = seed.ok_or_else(|| wrong("usage: wire SEED LINK…".to_owned()))?;
    let links: Vec<Link> = args
        .map(|text| text.parse().map_err(wrong))
        .collect::<io::Result<_>>()?;
    // Loss is of packets, so that the kernel must not put many of them in one frame.
    let offload = links.iter().all(|link| link.loss_ppm == 0);
    let mut namespaces = Vec::new();
    let mut devices = Vec::new();
    for (port, link) in links.iter().enumerate() {
        let namespace = Namespace::new()?;
        devices.push((namespace.device(port, links.len(), offload)?, *link));
        namespaces.push(namespace);
    }
    let switch = Switch::new(seed, devices, offload).run();
    for (port, namespace) in namespaces.iter().enumerate() {
        let address = namespace::address(port);
        writeln!(output, "port {address} {}", namespace.holder())?;
    }
    writeln!(output, "ready")?;
    output.flush()?;
    for line in input.lines() {
        let line = line?;
        let (port, link) = line.split_once(' ').unwrap_or((&line, ""));
        let port = port.parse().map_err(|_| wrong(line.clone()))?;
        if !switch.set(port, link.parse().map_err(wrong)?) {
            return Err(wrong(format!("{port}: no such port")));
        }
        writeln!(output, "set")?;
        output.flush()?;
    }
    Ok(())
}
