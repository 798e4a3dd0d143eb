//! What the end-to-end tests are made of: the real binaries in a temporary home, terminals to run them in, and peers
//! and trackers that misbehave.
//!
//! * [`Lab`]: a tracker of its own on a free loopback port, and users with profiles of their own.
//! * [`Invocation`]: one run of a binary; states arguments, input and environment, and gives back an [`Outcome`] that
//!   demands standard output, standard error and status.
//! * [`Process`]: one that goes on; what it says is awaited, never slept for. It is killed when it is dropped.
//! * [`EventProgram`]: a program that talks to its node, for measurements.
//! * [`progress`]: how far a fetch with `--json` has come, and when.
//! * [`Terminal`]: one that runs in a pseudo-terminal, and what a person would see there ([`Screen`]).
//! * [`hostile`]: the other side, lying.
//! * [`Guest`]: somebody with curl and nothing else.
//! * [`page`]: what a browser does with `peer web`, without the browser.
//! * [`Browser`]: Chromium, where it is installed.
//! * [`Network`]: machines of their own for them, where root allows it.
//! * [`Tmpfs`] and [`OddMount`]: small, odd file systems, where root allows it.
//! * [`emulator`]: the network between, failing; [`CuttingProxy`]: a connection that breaks; [`DatabaseProxy`]: one that
//!   falls silent or breaks.
//! * [`earlier`] and [`transcript`]: an earlier version beside this one.
//! * [`ModuleGraph`]: which modules of a crate import which.
//!
//! A longer look: `VIZINHO_TEST_KILLS=100` kills a fetch that often, `VIZINHO_TEST_GONE_SECONDS=60` keeps all sources
//! away for so long, `VIZINHO_TEST_SEED=N` is another fate for everything that chance decides, `VIZINHO_LONG=1` runs what takes long.

#![warn(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "all of this is test code: what can't be done here must stop the test, loudly"
)]

pub mod binaries;
mod browser;
mod cutting_proxy;
mod database_proxy;
pub mod door;
pub mod earlier;
pub mod emulator;
mod event_program;
pub mod files;
mod guest;
pub mod hostile;
mod interrupted_read;
mod invocation;
mod lab;
mod module_graph;
mod network;
mod odd_mount;
pub mod open_page;
mod outcome;
pub mod page;
mod polling;
mod process;
pub mod progress;
mod room;
mod screen;
pub mod simulation;
mod terminal;
mod tmpfs;
pub mod transcript;

pub use browser::Browser;
pub use cutting_proxy::CuttingProxy;
pub use database_proxy::DatabaseProxy;
pub use event_program::{AnsweringProgram, EventProgram};
pub use guest::Guest;
pub use interrupted_read::read_available;
pub use invocation::Invocation;
pub use lab::{Lab, LabOptions, POSTGRES_RUN, User};
pub use module_graph::ModuleGraph;
pub use network::{Host, Network};
pub use odd_mount::OddMount;
pub use outcome::Outcome;
pub use polling::{poll_for, poll_until};
pub use process::Process;
pub use room::make_room;
pub use screen::Screen;
pub use terminal::Terminal;
pub use tmpfs::Tmpfs;

/// How long anything is waited for before a test fails. Nothing ever takes that long, even on a busy machine.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
