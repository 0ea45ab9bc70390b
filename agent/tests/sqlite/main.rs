//! SQLite as source and target, against the stock `sqlite3`.

mod flow;
mod hostile;
mod lacking;
mod places;
mod torture;
mod values;
