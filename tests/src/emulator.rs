//! A bad network between real processes: a UDP relay that delays, loses, reorders, repeats, damages and holds back.
//!
//! * [`Weather`]: what a path does to datagrams. Any of it can be changed while datagrams are under way.
//! * [`Path`]: one direction, pure: datagrams and the time go in, datagrams that are due come out. The same seed and
//!   the same datagrams have the same fate.
//! * [`Relay`]: two paths and the sockets at their ends. A peer that serves with `--announce` is reached through it,
//!   and sees each of its callers come from a port of its own.

mod path;
mod relay;
mod weather;

pub use path::{Counts, Path};
pub use relay::{Passed, Relay, Way};
pub use weather::{Bottleneck, Bursts, Weather};
