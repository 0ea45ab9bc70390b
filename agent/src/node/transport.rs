//! How bytes get to a peer: TCP with TLS or noise and yamux, QUIC, or TCP within a private network.

use std::{io, sync::Arc};

use libp2p::{
    PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, OptionalTransport},
        upgrade::Version,
    },
    dns,
    futures::{AsyncRead, AsyncWrite},
    identity::Keypair,
    pnet, quic, relay, tcp, yamux,
};

use super::{
    NodeError, SwarmKey,
    frames::Yamux,
    limits::{HANDSHAKE_WAIT, QUIC_CONNECTION_WINDOW, QUIC_STREAM_WINDOW, STREAMS_MAX},
    read_ahead::{ReadAhead, Spare},
    security::Security,
    traffic::{CountedMuxer, Traffic},
};

type Connection = (PeerId, StreamMuxerBox);

/// Builds the transport, and the behaviour that goes with its relayed part.
pub(super) fn build(
    key: &Keypair,
    private: Option<&SwarmKey>,
    traffic: Arc<Traffic>,
) -> Result<(Boxed<Connection>, relay::client::Behaviour), NodeError> {
    let (relayed, relay_client) = relay::client::new(key.public().to_peer_id());
    let spare = Spare::default();
    let relayed = upgraded(relayed, key, private, &spare)?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let tcp = upgraded(tcp, key, private, &spare)?;
    let quic = match private {
        None => OptionalTransport::some(quic::tokio::Transport::new(quic_config(key))),
        Some(_) => OptionalTransport::none(),
    }
    .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let direct = quic.or_transport(tcp).map(|either, _| either.into_inner());
    let direct = match dns::tokio::Transport::system(direct.boxed()) {
        Ok(named) => named.boxed(),
        Err(cause) => return Err(NodeError::Resolver(cause)),
    };
    let all = relayed
        .or_transport(direct)
        .map(|either, _| either.into_inner())
        .map(move |(peer, inner), _| {
            let traffic = traffic.clone();
            (peer, StreamMuxerBox::new(CountedMuxer { inner, traffic }))
        })
        .boxed();
    Ok((all, relay_client))
}

/// Authenticates, encrypts and multiplexes a plain stream; first within the private network.
fn upgraded<T>(
    transport: T,
    key: &Keypair,
    private: Option<&SwarmKey>,
    spare: &Spare,
) -> Result<Boxed<Connection>, NodeError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    let spare = spare.clone();
    let transport = transport.map(move |stream, _| ReadAhead::new(stream, spare.clone()));
    let security = Security::new(key)?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS_MAX as usize);
    let yamux = Yamux(yamux);
    let Some(private) = private else {
        return Ok(transport
            .upgrade(Version::V1Lazy)
            .authenticate(security)
            .multiplex(yamux)
            .timeout(HANDSHAKE_WAIT)
            .boxed());
    };
    let private = pnet::PnetConfig::new(private.pre_shared());
    Ok(transport
        .map_err(io::Error::other)
        .and_then(move |stream, _| async move {
            private.handshake(stream).await.map_err(io::Error::other)
        })
        .upgrade(Version::V1Lazy)
        .authenticate(security)
        .multiplex(yamux)
        .timeout(HANDSHAKE_WAIT)
        .boxed())
}

fn quic_config(key: &Keypair) -> quic::Config {
    let mut config = quic::Config::new(key);
    config.handshake_timeout = HANDSHAKE_WAIT;
    config.max_concurrent_stream_limit = STREAMS_MAX;
    config.max_stream_data = QUIC_STREAM_WINDOW;
    config.max_connection_data = QUIC_CONNECTION_WINDOW;
    config
}
