//! PostgreSQL, exported and imported with real servers and clients.

mod access;
mod failures;
mod import;
mod same;
mod snapshot;
mod streams;
mod torture;

use std::sync::LazyLock;

use souverain_tests::postgres::PostgresServer;

static SERVER: LazyLock<PostgresServer> = LazyLock::new(PostgresServer::start);
