//! Asks the members of the federation how far the own log is, for what runs without an agent: it is one for as long as that
//! takes, and tells nobody where it is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};
use protocol::log::{checkpoint::Origin, replica::limits::PEERS_MAX};
use store::Store;
use tokio::sync::{oneshot, watch};

use super::following::{self, Following, Standing};
use crate::{
    daemon::{DaemonError, lock, threads},
    home::Home,
    node::{self, Budgets, Dht, Listen, NodeOptions},
    shelf::Shelf,
};

/// How long it is waited for other members when one has answered.
const OTHERS_WAIT: Duration = Duration::from_millis(500);

/// Whether a member agrees within some time that the own log is not longer than here; if one has more, whether all of that
/// is here by then. If it is not, that is remembered. Blocks the thread.
///
/// # Errors
/// An agent just starts, or the node cannot.
pub(super) fn agree(home: &Home, own: &Origin, wait: Duration) -> Result<bool, DaemonError> {
    let deadline = Instant::now() + wait;
    let _lock = lock(home.path())?;
    let store = Arc::new(Store::open_read(home.path(), "log")?);
    let shelf = Arc::new(Shelf::new(store));
    let runtime = threads()?;
    let (ends, port) = {
        let _entered = runtime.enter();
        following::port()
    };
    let told = port.told.clone();
    let options = NodeOptions {
        listen: Listen::Nowhere,
        dht: Dht::Off,
        ..NodeOptions::default()
    };
    let budgets = Budgets::new(&options.rates);
    let start = node::start(
        home.node_key(),
        &options,
        &budgets,
        shelf,
        Some(port),
        false,
    );
    let (node, _, task) = runtime.block_on(start)?;
    let (standing, heard) = bounded(PEERS_MAX);
    let (end, _ended) = oneshot::channel();
    let (size, _grown) = watch::channel(0);
    let following = {
        let _entered = runtime.enter();
        Following::start(home, own, ends, told, standing, end, size)?
    };
    let agreed = hear(&heard, deadline);
    runtime.block_on(async {
        node.stop().await;
        if let Err(error) = task.await {
            tracing::warn!(%error, "the node did not stop cleanly");
        }
    });
    drop(following);
    runtime.shutdown_background();
    Ok(agreed)
}

fn hear(standing: &Receiver<Standing>, mut deadline: Instant) -> bool {
    let mut agreed = false;
    loop {
        match standing.recv_deadline(deadline) {
            Ok(Standing::Agreed | Standing::Healed) if !agreed => {
                agreed = true;
                deadline = deadline.min(Instant::now() + OTHERS_WAIT);
            }
            Ok(Standing::Agreed | Standing::Healed) => {}
            Ok(Standing::Behind) => agreed = false,
            Ok(Standing::Stopped) => return false,
            Err(_) => return agreed,
        }
    }
}
