//! The Vizinho tracker: who is online on this network and what they share.
//!
//! The protocol is specified in [`shared::tracker`], the words in the glossary of [`shared`]. Each layer knows only those
//! below it:
//!
//! ```text
//! main ─► daemon      arguments, data folder, signals, exit code
//!          ├► admin       requests of an administrator to the running tracker
//!          ├► backup      the data folder in one file, and back
//!          └► server      listener, order of the shutdown
//!              └► connection  first byte, TLS, requests in, replies out, timeouts
//!                  ├► connection_slots  the limit of connections, and which one gives way
//!                  └► service     the actions
//!                      ├► registry        presence, sessions, events: pure, `now` is an argument
//!                      │   └► catalogue   the lists of files, their search, their memory: pure
//!                      ├► membership      rooms: who may do what, and its records: pure
//!                      ├► store           accounts and rooms, and present users for the next process: SQLite or PostgreSQL behind async methods
//!                      ├► passwords       Argon2id off the runtime
//!                      ├► rate_limits     how often each origin may try: pure
//!                      └► metrics         counters and histograms
//!
//! used by several: quota_table (amounts in use, and their limits), keyed_counter (below it), fair_semaphore (permits in
//! turn), folder_lock (one tracker a data folder)
//! ```
//!
//! | capability | folder or file |
//! |---|---|
//! | options, configuration file, reload | `daemon/{args,settings,config_reload}.rs` |
//! | languages: translations, which one a run has | `../translations`, `daemon/translations.rs`, the `localization` and `arguments` crates |
//! | `tracker user`, `room`, `status`, `export` | `daemon/commands.rs`, `admin/`, `service/account_administration.rs` |
//! | a request's way | `connection/conversation.rs` → `service.rs` → `service/*_actions.rs` → `connection/reply_writer.rs` |
//! | refusals and their texts in both dialects | `service/{refusal_reason,refusal_text,room_refusal_text}.rs`, `shared::tracker::dialect` |
//! | LIST_PEERS, FIND | `registry/{peer_list,peer_list_cache,bounded_list}.rs`, `catalogue/file_search.rs` |
//! | quotas by user and origin | `quota_table.rs`, `catalogue/catalogue_quota.rs`, `connection/memory_quota.rs`, `connection_slots/`, `rate_limits/` |
//! | all limits | the table at the head of `rate_limits.rs` (attempts and changes), `connection_slots.rs`, `connection.rs`, `server.rs` (connections), `service.rs`, `passwords.rs`, `store.rs`, `store/{presence_store,sqlite_presence,postgres}.rs`, `service/replication.rs` (work that waits), `registry.rs`, `registry/address_filter.rs`, `catalogue/catalogue_quota.rs`, `membership.rs` (users, events, lists, rooms), `admin.rs`, `daemon/metrics_server.rs` (those who run it); sizes on the wire in `shared::limits` |
//! | rooms | `service/room_actions.rs` → `store/room_rules.rs` → `membership/room_policy.rs`; events in `registry/room_heads.rs` |
//! | events to subscribers | `registry/{event_pacer,event_log,event_publisher}.rs` |
//! | announcement on the local network (mDNS) | `daemon/mdns_announcement.rs`, the `mdns` crate (`shared/mdns`) |
//! | accounts in SQLite or PostgreSQL | `store/{account_rules,room_rules,store_rows}.rs`, `store/sqlite_*`, `store/postgres/`, `store/store_copy.rs` |
//! | several trackers on one database | `registry/{replicated_change,replica,log_application}.rs`, `service/{replication,change_queue,replicator}.rs`, `store/postgres/{log_session,node_lease}.rs` |
//! | how many people some trackers bear | `capacity_planning.rs` |
//! | accounts that lapse | `service/account_lifetime.rs`, `store.rs` |
//! | restart without logouts | `store/presence_store.rs`, `service/presence_writer.rs` |
//!
//! Modules that bound a resource have a table: resource, bound, and what happens beyond it.

#![warn(missing_docs)]

pub mod admin;
pub mod backup;
pub mod capacity_planning;
pub mod catalogue;
pub mod connection;
pub mod connection_slots;
pub mod daemon;
mod fair_semaphore;
mod folder_lock;
mod keyed_counter;
pub mod membership;
pub mod metrics;
pub mod passwords;
mod quota_table;
pub mod rate_limits;
pub mod registry;
pub mod server;
pub mod service;
pub mod store;
#[cfg(test)]
mod tests;
