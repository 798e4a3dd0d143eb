//! The Vizinho tracker: who is online on this network and what they share.
//!
//! The protocol it speaks is specified in [`shared::tracker`]. Each layer knows only those below it:
//!
//! ```text
//! main ─► daemon      arguments, the data folder, signals, exit code
//!          ├► admin       what an administrator asks of the running tracker
//!          ├► backup      the data folder in one file, and back
//!          └► server      the listener, the order of the shutdown
//!              └► connection  first byte, TLS, requests in, replies out, deadlines
//!                  ├► places     the cap on connections: who gives way to whom
//!                  └► service     the actions
//!                      ├► registry   presence, sessions, catalogue, events: pure, `now` is an argument
//!                      ├► accounts   what survives: SQLite behind a narrow trait, on a thread of its own
//!                      ├► memory     who was present, for the next process
//!                      ├► passwords  Argon2id off the runtime
//!                      ├► limits     who may try how often: pure
//!                      └► metrics    what is counted
//!
//! beside these: folder_lock (one tracker a data folder), sqlite_file (databases on any file system)
//! ```
//!
//! Each of these modules has a table of what it bounds and what happens beyond the bound.

#![warn(missing_docs)]

pub mod accounts;
pub mod admin;
pub mod backup;
pub mod connection;
pub mod connection_slots;
pub mod daemon;
mod fair_semaphore;
mod folder_lock;
pub mod metrics;
pub mod passwords;
pub mod presence_store;
pub mod rate_limits;
pub mod registry;
pub mod server;
pub mod service;
mod sqlite_file;
#[cfg(test)]
mod tests;
