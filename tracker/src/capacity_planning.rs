//! How many people some trackers bear: a plan for 100,000 of them, by arithmetic from measured figures.
//!
//! # What was measured
//!
//! `cargo bench -p tests --bench tracker_cluster`, release, on a virtual machine with two cores that did everything: three
//! trackers, PostgreSQL 15 with each commit synced, and all clients. Trackers on machines of their own do better.
//!
//! | | embedded store | three trackers | ratio |
//! |---|---|---|---|
//! | one event to 5,000 subscribers, p50 / p99 | 43 / 99 ms | 63 / 131 ms | 1.3 |
//! | 100 events at once to 5,000 subscribers, unoptimised clients | 210,000 lines/s | 168,000 lines/s | 0.8 |
//! | logins by key on kept connections, 96 people | 33,500/s | 3,900/s; on one of them 5,000/s | 0.12 |
//! | the same, each with a TLS handshake | 1,900/s | 1,200/s; on one of them 1,000/s | 0.6 |
//! | LIST_PEERS of 1,000 peers, plaintext (69 kB) / TLS (1.3 MB) | 43,000 / 2,000/s | one of them 43,800 / 1,950/s | 1.0 |
//! | FIND among 10^6 files, p99 | 2 to 9 ms | 1 to 8 ms | 0.8 |
//! | REGISTER_FILES of 100,000 / a change of one of them | 0.19 s / 1 ms | 0.48 s / 7 ms | 2.6 / 6.5 |
//! | 1,000 lists of 1,000 files | 3.8 s | 22 to 35 s | 6 to 9 |
//! | 20,000 heartbeats in 30 s: commits / bytes of the database's log | | 399 / 11 kB; without them 386 / 12 kB | 1.0 |
//! | `peer serve` at another tracker after a kill -9 of its own, median of 10 | | 0.86 s | |
//! | 10^6 files of 1,000 people in the catalogue | 214 MiB | 214 MiB on each | 1.0 |
//! | 1,667 TLS connections beside 5,000 present users | | 32 MiB | |
//! | a password (Argon2id) | 37 ms of a core | the same | |
//!
//! # A plan
//!
//! 100,000 people present at a time with 50 files each, who come within an hour and go within an hour; three trackers of
//! eight cores (each four times what was measured here), of which one may be missing.
//!
//! | resource | needed | there is | what to set |
//! |---|---|---|---|
//! | accounts | 100,000 | [`MAX_ACCOUNTS`](crate::store::MAX_ACCOUNTS) by REGISTER | `tracker user add` makes the others |
//! | connections of a tracker | 33,334; 50,000 when one is missing | 16,384 by default | `--max-connections 60000`; the unit's `LimitNOFILE=65536` is enough |
//! | memory for them | 50,000 × 20 KiB = 1 GiB | `MemoryMax=2G` in the unit | with the line below: `MemoryMax=6G` |
//! | the catalogue, on each tracker | 5 × 10^6 files × 224 bytes = 1.1 GiB | 512 MiB by default | `--max-catalogue-mib 2048`: nobody's part gets short |
//! | heartbeats | 100,000 / 30 s = 3,300/s | as many short requests as a tracker answers, tens of thousands a second | nothing: the database has no part in them |
//! | changes of presence and lists in the morning | 2 × 100,000 / h = 56/s | 3,900/s | nothing |
//! | passwords on the first day | 100,000 × 37 ms = 62 min of a core | seven cores of each tracker | nothing: later logins are by key |
//! | the move after a tracker's end | 33,334 handshakes in the 18 s before the others are told (8 s lease, 10 s grace): 1,900/s | 2 × 4 × 1,000/s | nothing |
//! | events in the morning | 56/s to 100,000 subscribers: 5.6 × 10^6 lines/s | 3 × 4 × 168,000 = 2.0 × 10^6 lines/s | not enough by 2.8, see below |
//!
//! # What gives way first
//!
//! 1. Events. Everybody is told of everybody, so their number grows with the square of the people: `n` people who each
//!    cause two events in the same hour need `n² / 1800` lines a second. The three trackers of the plan bear 60,000 people
//!    who come within one hour, or 100,000 who come within three; the machine of the measurements bears 17,000 within one.
//!    A subscriber has no queue, so what a tracker can't send in time only comes later. Whoever is more than
//!    [`KEPT_EVENTS`](crate::registry::KEPT_EVENTS) behind, 73 s at 56 events a second, gets `resync` and asks for the list.
//!    The events of one person and of one address have a pace ([`crate::registry`]), so that nobody brings this about alone.
//! 2. Handshakes after the end of a tracker: machines of two cores bear the move of 33,334 people in about 30 s. Those who
//!    are not back after 18 s are told as gone, and come back with an event each, which is more of the first.
//! 3. The end of the log, which is written by one transaction after the other: 3,900 logins a second for all trackers
//!    together. More trackers bear more connections, but not more changes: each applies all of them. A database far away
//!    makes it slower: a transaction is about ten statements, each with a round trip.
//! 4. Memory for lists: each tracker holds all of them. Beyond `--max-catalogue-mib` lists no longer grow (`busy`).
//! 5. The database itself, last of all: it sees changes only, and its log is as long as what people share.
//!
//! Beyond that, a database and trackers of their own for each faculty are the way: people of different ones then don't see
//! each other.
