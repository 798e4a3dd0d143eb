//! The Vizinho peer: chat and file exchange between the people on one local network, from the terminal.
//!
//! Layers, each naming only those to its right:
//!
//! ```text
//! cli → commands → engine (chat, fetch, serve, share, node) → net (endpoint, links, streams, tracker)
//!          │           │
//!          └► ui       └► profile, sys
//! ```
//!
//! `cli` turns arguments into configuration and errors into exit codes. A command wires the engine to a view. The
//! engine knows nothing of terminals; `ui` consumes the engine's events and nothing else. `net` speaks the wire
//! protocols of the `shared` crate; `profile` is one user's state on one machine; `sys` holds what only one operating
//! system has.

pub mod cli;
pub mod commands;
pub mod engine;
pub mod net;
pub mod profile;
pub mod sys;
pub mod ui;
