//! What the PostgreSQL source and target share: reaching a server, and the SQL that passes between them.
//!
//! Owns connection URLs, passwords, session settings, quoting and the check of SQL scripts. What is
//! exported and how it is restored is decided in [`crate::source::postgres`] and [`crate::target::postgres`].

pub(crate) mod endpoint;
pub(crate) mod failure;
pub(crate) mod name;
pub(crate) mod passfile;
pub(crate) mod script;
pub(crate) mod session;
