//! A relay on loopback: in front of a real server, it speaks TLS for it, or breaks what goes through.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// From it.
    Down,
}

/// What happens once, after so many bytes that went one way over all connections.
pub struct Break {
    /// The way.
    pub way: Way,
    /// The bytes.
    pub after: u64,
    /// What happens; then the connection is closed.
    pub what: Box<dyn FnOnce() + Send>,
}

/// A running relay; it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    /// For a relay that speaks TLS, what to trust, as PEM.
    pub certificate: Option<String>,
    counted: Arc<[AtomicU64; 2]>,
    broken: Arc<AtomicBool>,
    _runtime: Runtime,
}

struct Shared {
    hold: bool,
    broken: Arc<AtomicBool>,
    target: SocketAddr,
    tls: Option<TlsAcceptor>,
    counted: Arc<[AtomicU64; 2]>,
    breaks: Mutex<Option<Break>>,
}

impl Relay {
    /// A relay that changes nothing until something is to break.
    #[must_use]
    pub fn breaking(target: SocketAddr, breaks: Option<Break>) -> Self {
        Self::start(target, None, breaks)
    }

    /// A relay whose connections stay open after something broke.
    #[must_use]
    pub fn hanging(target: SocketAddr, breaks: Break) -> Self {
        let hold = true;
        Self::with(target, None, Some(breaks), hold)
    }

    /// Whether it broke.
    ///
    /// # Panics
    /// What was to happen failed.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// A relay that speaks TLS to clients, as `localhost`, with a certificate of its own making.
    ///
    /// # Panics
    /// No certificate can be made.
    #[must_use]
    pub fn tls(target: SocketAddr) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("is made");
        let key = PrivateKeyDer::Pkcs8(made.key_pair.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a certificate with its key");
        let tls = (TlsAcceptor::from(Arc::new(config)), made.cert.pem());
        Self::start(target, Some(tls), None)
    }

    fn start(
        target: SocketAddr,
        tls: Option<(TlsAcceptor, String)>,
        breaks: Option<Break>,
    ) -> Self {
        Self::with(target, tls, breaks, false)
    }

    fn with(
        target: SocketAddr,
        tls: Option<(TlsAcceptor, String)>,
        breaks: Option<Break>,
        hold: bool,
    ) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("binds");
        let address = listener.local_addr().expect("an address");
        let (tls, certificate) = tls.unzip();
        let counted = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let broken = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            hold,
            broken: broken.clone(),
            target,
            tls,
            counted: counted.clone(),
            breaks: Mutex::new(breaks),
        });
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(shared.clone().carry(client));
            }
        });
        Self {
            address,
            certificate,
            counted,
            broken,
            _runtime: runtime,
        }
    }

    /// How many bytes went one way.
    #[must_use]
    pub fn counted(&self, way: Way) -> u64 {
        self.counted[way as usize].load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn carry(self: Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.target).await else {
            return;
        };
        match &self.tls {
            None => self.both(client, server).await,
            Some(tls) => {
                if let Ok(client) = tls.accept(client).await {
                    self.both(client, server).await;
                }
            }
        }
    }

    async fn both(&self, client: impl AsyncRead + AsyncWrite, server: TcpStream) {
        let (from_client, to_client) = tokio::io::split(client);
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            _ = self.one(Way::Up, from_client, to_server) => {}
            _ = self.one(Way::Down, from_server, to_client) => {}
        }
    }

    async fn one(
        &self,
        way: Way,
        from: impl AsyncRead,
        to: impl AsyncWrite,
    ) -> std::io::Result<()> {
        let (mut from, mut to) = (std::pin::pin!(from), std::pin::pin!(to));
        let mut buffer = vec![0; 16 << 10];
        loop {
            let len = from.read(&mut buffer).await?;
            if len == 0 {
                return to.shutdown().await;
            }
            let count = self.counted[way as usize].fetch_add(len as u64, Ordering::Relaxed);
            let due = {
                let mut breaks = self.breaks.lock().expect("not poisoned");
                breaks.take_if(|b| b.way == way && count + len as u64 > b.after)
            };
            if let Some(due) = due {
                (due.what)();
                self.broken.store(true, Ordering::Release);
                if !self.hold {
                    return Ok(());
                }
            }
            to.write_all(&buffer[..len]).await?;
        }
    }
}
