//! The whole tracker on a real listener, driven over plaintext and TLS.

mod administration;
mod bounds;
mod cmd;
mod doors;
mod harness;
mod legacy;
mod protection;
mod push;
mod restart;
mod secure;

pub(crate) use harness::POLICY;
