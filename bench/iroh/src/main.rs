//! iroh-blobs as the other side of `bench/network.py`: one blob from store to store, durable at the end.
//!
//! `serve STORE HOST FILE` imports a file, prints `ID ADDRESS HASH`, and serves until standard input
//! ends. `fetch STORE HOST ID ADDRESS HASH` fetches it. Nothing is looked up or relayed.

use std::{error::Error, net::SocketAddr};

use iroh::{Endpoint, EndpointAddr, RelayMode, TransportAddr, endpoint::presets, protocol::Router};
use iroh_blobs::{BlobsProtocol, Hash, store::fs::FsStore};
use tokio::io::AsyncReadExt;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

async fn endpoint(host: &str) -> Outcome<Endpoint> {
    let address: SocketAddr = format!("{host}:0").parse()?;
    let builder = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled);
    let builder = builder.clear_ip_transports().bind_addr(address)?;
    Ok(builder.bind().await?)
}

async fn serve(store: &str, host: &str, file: &str) -> Outcome<()> {
    let store = FsStore::load(store).await?;
    let tag = store.blobs().add_path(std::path::absolute(file)?).await?;
    let endpoint = endpoint(host).await?;
    let address = endpoint.bound_sockets()[0];
    println!("{} {address} {}", endpoint.id(), tag.hash);
    let blobs = BlobsProtocol::new(&store, None);
    let router = Router::builder(endpoint)
        .accept(iroh_blobs::ALPN, blobs)
        .spawn();
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    router.shutdown().await?;
    Ok(())
}

async fn fetch(store: &str, host: &str, id: &str, address: &str, hash: &str) -> Outcome<()> {
    let store = FsStore::load(store).await?;
    let endpoint = endpoint(host).await?;
    let address = TransportAddr::Ip(address.parse()?);
    let address = EndpointAddr::from_parts(id.parse()?, [address]);
    let connection = endpoint.connect(address, iroh_blobs::ALPN).await?;
    let hash: Hash = hash.parse()?;
    store.remote().fetch(connection, hash).await?;
    store.sync_db().await?;
    store.shutdown().await?;
    endpoint.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", store, host, file] => serve(store, host, file).await,
        ["fetch", store, host, id, address, hash] => fetch(store, host, id, address, hash).await,
        _ => Err("usage: serve STORE HOST FILE | fetch STORE HOST ID ADDRESS HASH".into()),
    }
}
