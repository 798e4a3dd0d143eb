//! The whole tracker on a real listener, driven over plaintext and TLS.

mod account_lifetime;
mod admin_commands;
mod cmd_dialect;
mod event_push;
mod hostile_clients;
mod legacy_clients;
mod on_postgres;
mod presence_restart;
mod rate_limiting;
mod repetitions;
mod rooms;
mod tls_clients;
mod tracker_harness;
mod trusted_doors;

pub(crate) use tracker_harness::POLICY;
