//! Which way a stream is authenticated and encrypted: TLS 1.3, or noise with those who have only that.

use libp2p::{
    PeerId,
    core::upgrade::{
        InboundConnectionUpgrade, OutboundConnectionUpgrade, SelectUpgrade, UpgradeInfo,
    },
    futures::{
        AsyncRead, AsyncWrite, FutureExt,
        future::{BoxFuture, Either},
    },
    identity::Keypair,
    noise, tls,
};

use super::NodeError;

/// TLS first: with AES it is faster than noise, which has ChaCha20-Poly1305 alone.
#[derive(Clone)]
pub(super) struct Security(SelectUpgrade<tls::Config, noise::Config>);

/// Why a stream is not secured.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecurityError {
    #[error(transparent)]
    Tls(tls::UpgradeError),
    #[error(transparent)]
    Noise(noise::Error),
}

type Secured<C> = (PeerId, Either<tls::TlsStream<C>, noise::Output<C>>);

impl Security {
    /// With a node's key.
    pub(super) fn new(key: &Keypair) -> Result<Self, NodeError> {
        let tls = tls::Config::new(key).map_err(NodeError::Tls)?;
        let noise = noise::Config::new(key).map_err(NodeError::Noise)?;
        Ok(Self(SelectUpgrade::new(tls, noise)))
    }
}

impl UpgradeInfo for Security {
    type Info = <SelectUpgrade<tls::Config, noise::Config> as UpgradeInfo>::Info;
    type InfoIter = <SelectUpgrade<tls::Config, noise::Config> as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Secured<C>;
    type Error = SecurityError;
    type Future = BoxFuture<'static, Result<Secured<C>, SecurityError>>;

    fn upgrade_inbound(self, stream: C, info: Self::Info) -> Self::Future {
        let secured = self.0.upgrade_inbound(stream, info);
        secured
            .map(|done| match done {
                Ok(secured) => Ok(of_peer(secured)),
                Err(error) => Err(error.either(SecurityError::Tls, SecurityError::Noise)),
            })
            .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Secured<C>;
    type Error = SecurityError;
    type Future = BoxFuture<'static, Result<Secured<C>, SecurityError>>;

    fn upgrade_outbound(self, stream: C, info: Self::Info) -> Self::Future {
        let secured = self.0.upgrade_outbound(stream, info);
        secured
            .map(|done| match done {
                Ok(secured) => Ok(of_peer(secured)),
                Err(error) => Err(error.either(SecurityError::Tls, SecurityError::Noise)),
            })
            .boxed()
    }
}

fn of_peer<A, B>(secured: Either<(PeerId, A), (PeerId, B)>) -> (PeerId, Either<A, B>) {
    match secured {
        Either::Left((peer, stream)) => (peer, Either::Left(stream)),
        Either::Right((peer, stream)) => (peer, Either::Right(stream)),
    }
}
