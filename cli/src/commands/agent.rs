//! `agent`: the node among its peers.

use std::{path::PathBuf, str::FromStr};

use agent::{
    bitswap::{Rates, Schedule, ScheduleError},
    control::Client,
    daemon::Daemon,
    http::{HttpAddress, HttpOptions},
    node::{Dht, Listen, Multiaddr, NodeOptions, PeerId, PeerStatus, Status, SwarmKey},
};
use clap::ValueEnum;
use jiff::Span;
use serde::Serialize;

use crate::{
    context::Context,
    error::CliError,
    signals,
    ui::{Printable, Size},
};

/// Run the node, and see what it does
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Run(Box<RunArgs>),
    Status(StatusArgs),
}

/// Run the node of this home until it is told to stop
///
/// Prints a line `listening MULTIADDR` for each address, `http URL` if that is asked for, and then
/// `ready`. Other verbs go on working on the same home meanwhile.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Address to listen on [default: 127.0.0.1, TCP and QUIC on free ports]
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<Multiaddr>,
    /// Peer to stay connected with; the address ends with /p2p/PEER
    #[arg(long, value_name = "MULTIADDR")]
    peer: Vec<Multiaddr>,
    /// Which DHT to take part in
    #[arg(long, value_enum, default_value_t = DhtChoice::Own)]
    dht: DhtChoice,
    /// Look for peers on the local network, and be found there
    #[arg(long)]
    mdns: bool,
    /// Carry connections of peers that cannot reach each other
    #[arg(long)]
    relay: bool,
    /// Key of a private network (TCP only), as Kubo has it in swarm.key
    #[arg(long, value_name = "FILE")]
    swarm_key: Option<PathBuf>,
    /// Bytes per second of blocks to all peers: 10MiB, or by local time 08:00-18:00=2MiB,10MiB
    #[arg(long, value_name = "RATE", default_value = "unlimited")]
    limit_upload: Schedule,
    /// The same to each peer
    #[arg(long, value_name = "RATE", default_value = "unlimited")]
    limit_upload_per_peer: Schedule,
    /// The same to one peer, in place of what holds for each
    #[arg(long, value_name = "PEER=RATE")]
    limit_upload_to: Vec<PeerRate>,
    /// Bytes per second of blocks from all peers
    #[arg(long, value_name = "RATE", default_value = "unlimited")]
    limit_download: Schedule,
    /// Address to serve HTTP on: IP:PORT, or PORT on 127.0.0.1
    #[arg(long, value_name = "ADDR")]
    http: Option<HttpAddress>,
    /// Serve what is shared with `public` as a trustless gateway, below /ipfs/ of the HTTP server
    #[arg(long, requires = "http")]
    gateway: bool,
    /// Archive entries of the log that are older, 4,096 or more at a time: 90d, 1y
    #[arg(long, value_name = "AGE")]
    archive_log: Option<Span>,
}

/// A rate to one peer.
#[derive(Clone, Debug)]
struct PeerRate(PeerId, Schedule);

/// Why a word is not a rate to a peer.
#[derive(Debug, thiserror::Error)]
enum PeerRateError {
    /// It has another form.
    #[error("not PEER=RATE, with the id of a peer")]
    Form,
    /// Its rate is none.
    #[error(transparent)]
    Rate(#[from] ScheduleError),
}

impl FromStr for PeerRate {
    type Err = PeerRateError;

    fn from_str(text: &str) -> Result<Self, PeerRateError> {
        let (peer, rate) = text.split_once('=').ok_or(PeerRateError::Form)?;
        let peer = peer.parse().map_err(|_| PeerRateError::Form)?;
        Ok(Self(peer, rate.parse()?))
    }
}

/// Say what the running agent does: peers, addresses, bytes, uptime
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {}

/// A DHT.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DhtChoice {
    /// None
    Off,
    /// The one of nodes of this program
    Own,
    /// The one that IPFS nodes share
    Public,
}

#[derive(Serialize)]
struct Listening {
    address: String,
}

#[derive(Serialize)]
struct Http {
    url: String,
}

#[derive(Serialize)]
struct Ready {
    peer: String,
    pid: u32,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Run(args) => args.run(context),
            Self::Status(args) => args.run(context),
        }
    }
}

impl RunArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let http = self.http.map(|listen| HttpOptions {
            listen,
            gateway: self.gateway,
        });
        let archive_log = self.archive_log;
        let options = self.options()?;
        let stop = signals::pipe()?;
        let daemon = Daemon::start(
            &home,
            &options,
            http.as_ref(),
            archive_log,
            context.session.into_bytes(),
        )?;
        for address in daemon.addresses() {
            let listening = Listening {
                address: address.to_string(),
            };
            let text = format!("listening {address}");
            context.ui.answer("listening", &listening, text)?;
        }
        if let Some(url) = daemon.http_url() {
            let text = format!("http {url}");
            context.ui.answer("http", &Http { url }, text)?;
        }
        let ready = Ready {
            peer: home.peer_id().to_string(),
            pid: std::process::id(),
        };
        context.ui.answer("ready", &ready, "ready")?;
        Ok(daemon.run(stop)?)
    }

    fn options(self) -> Result<NodeOptions, CliError> {
        Ok(NodeOptions {
            listen: match self.listen {
                addresses if addresses.is_empty() => Listen::Loopback,
                addresses => Listen::At(addresses),
            },
            peers: self.peer,
            dht: match self.dht {
                DhtChoice::Off => Dht::Off,
                DhtChoice::Own => Dht::Own,
                DhtChoice::Public => Dht::Public,
            },
            mdns: self.mdns,
            relay: self.relay,
            private: swarm_key(self.swarm_key)?,
            rates: Rates {
                upload: self.limit_upload,
                upload_per_peer: self.limit_upload_per_peer,
                upload_of_peer: self
                    .limit_upload_to
                    .into_iter()
                    .map(|PeerRate(peer, rate)| (peer, rate))
                    .collect(),
                download: self.limit_download,
            },
        })
    }
}

/// Reads the key of a private network, if there is to be one.
pub(super) fn swarm_key(path: Option<PathBuf>) -> Result<Option<SwarmKey>, CliError> {
    let Some(path) = path else {
        return Ok(None);
    };
    SwarmKey::read(&path).map(Some).map_err(|cause| {
        CliError::failed(format!("cannot use the swarm key {}", path.display()))
            .cause(&cause)
            .hint("name a file as Kubo has it in swarm.key, the same for all nodes")
    })
}

impl StatusArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let Some(client) = Client::connect(home.path()) else {
            return Err(CliError::failed("no agent runs on this home")
                .hint("`souverain agent run` starts one"));
        };
        let status = client.status()?;
        context.ui.answer("status", &status, text(&status))
    }
}

fn text(status: &Status) -> String {
    let mut lines = vec![
        format!("peer       {}", status.peer),
        format!("version    {} (process {})", status.version, status.pid),
        format!("uptime     {} s", status.uptime_s),
    ];
    let addresses = |label: &str, list: &[String]| -> Vec<String> {
        list.iter().map(|a| format!("{label}  {a}")).collect()
    };
    lines.extend(addresses("listening", &status.listening));
    lines.extend(addresses("external ", &status.external));
    lines.push(format!("received   {}", Size(status.bytes_received)));
    lines.push(format!("sent       {}", Size(status.bytes_sent)));
    lines.push(format!("provided   {} snapshots", status.provided));
    lines.push(format!("peers      {}", status.peers.len()));
    lines.extend(status.peers.iter().map(peer_line));
    lines.join("\n")
}

fn peer_line(peer: &PeerStatus) -> String {
    let direction = if peer.inbound { "from" } else { "to" };
    let mut line = format!("  {}  {direction} {}", peer.peer, peer.address);
    if let Some(rtt) = peer.rtt_us {
        line.push_str(&format!("  {}.{} ms", rtt / 1000, rtt % 1000 / 100));
    }
    if let Some(agent) = &peer.agent {
        line.push_str(&format!("  {}", Printable(agent)));
    }
    line
}
