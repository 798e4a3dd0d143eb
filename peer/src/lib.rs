//! The Vizinho peer: chat and file exchange between the people on one local network, from the terminal.
//!
//! The words are those of the [`shared`] crate's glossary.
//!
//! # Layers
//!
//! Each names only those to its right or below it, which a test of the house keeps:
//!
//! ```text
//! cli → commands → engine (node, chat, rooms, fetch, serve, share) → net (endpoint, links, streams, tracker)
//!          │           │
//!          ├► ui       └► profile, sys                  (util below them all)
//!          └► web → engine, net, profile
//! ```
//!
//! * [`cli`]: arguments in, exit code out.
//! * [`commands`]: a file a command, with its arguments and its `run`; joins the engine to a view.
//! * [`ui`]: views, bars, text and JSON. Consumes the engine's events and knows no sockets.
//! * [`web`]: the servers for browsers: links for guests, the page of the user. Translates requests into what the engine
//!   decides.
//! * [`engine`]: everything a peer does, without a terminal.
//! * [`net`]: the wire protocols of the `shared` crate over QUIC and TLS.
//! * [`profile`]: one user's state on one machine: key, SQLite databases, locks.
//! * [`sys`]: what differs between operating systems.
//! * [`util`]: tools without a subject, below all others: back-off, rate limits, shell words, misspellings, lines of JSON,
//!   texts in each language.
//!
//! # Where is …?
//!
//! | capability | folder or file |
//! |---|---|
//! | a command: arguments, help, `run` | `commands/NAME.rs`; options of all commands: `cli/args.rs` |
//! | exit codes | `cli/exit_code.rs`, `engine/error.rs` |
//! | texts of errors | `engine/error.rs`, `engine/error/error_texts.rs`, `net/net_error.rs`, `profile/profile_error.rs`, `profile/profile_error/profile_texts.rs` |
//! | questions at the terminal | `commands/{questions,password_prompt,tracker_confirmation}.rs` |
//! | account, tracker's key, first contact | `engine/tracker_account.rs`, `engine/tracker_key.rs`, `commands/tracker_confirmation.rs` |
//! | being online: session, heartbeat, reconnect | `engine/node/tracker_session.rs` |
//! | transport: windows, congestion, MTU, batches of datagrams | `net/{transport_config,congestion,path_mtu,udp_batching}.rs` |
//! | TLS settings, verification of keys | the `certs` crate |
//! | trusted keys of users and trackers | `profile/{known_users,known_trackers}.rs`, `engine/{peer_lookup,tracker_key}.rs`, `commands/{trust,verify}.rs` |
//! | callers: handshake, identity, admission | `net/endpoint.rs`, `net/link/caller.rs`, `engine/node/{link_service,caller_identity,link_admission}.rs` |
//! | floods: handshakes, packets to those who never answered, callers that move | `net/{handshake_slots,amplification_limit,moved_callers,burst_limit}.rs` |
//! | dialling: addresses, their order | `engine/peer_lookup.rs`, `net/{addresses,happy_eyeballs}.rs`, `net/link/dialer.rs` |
//! | chat: send window, delivery, receiving | `engine/chat/`, `engine/node/delivery*.rs` |
//! | rooms: what members exchange, who is linked, the tracker's records | `engine/rooms/`, `engine/node/room_*.rs`, `profile/room_store/`, the `rooms` crate |
//! | who may get a share; offers | `profile/audience.rs`, `engine/serve/share_access.rs`, `engine/file_offers.rs` |
//! | sends, receipts, rules by which they are accepted | `engine/{sends,send_intake}/`, `engine/send_announcement.rs`, `engine/node/send_acceptor.rs`, `profile/{outgoing_sends,incoming_sends,accept_rules}.rs` |
//! | what lasts: `peer sends`, `accepts`, `wishes` with `pause`, `resume`, `end` | `commands/lasting_action.rs`, `profile/send_pausing.rs` |
//! | wishes: what they look for, what is told and fetched | `engine/wishes/`, `engine/{wish_fetch,unattended_fetch}.rs`, `engine/node/wish_watcher.rs`, `profile/wishes.rs` |
//! | the clipboard | `sys/clipboard.rs`, `ui/clipboard_sequence.rs`, `commands/clip.rs`, `commands/send/clipboard_copy.rs` |
//! | history, search, unread counts, of users and rooms | `profile/{history,conversations,history_removal,conversation_name}.rs` |
//! | block list, message requests | `profile/{known_users,message_requests}.rs` |
//! | fetch: names, sources, plan, download, disk | `engine/fetch/` (`name_resolution`, `destination`, `sources`, `parallel_links`, `plan`, `downloader`, `writer`) |
//! | followed folders: plan, comparison, the copy on the disk | `engine/follow/`, `engine/node/follow_worker.rs`, `profile/follows.rs`, `commands/{fetch/folder_follow,follows}.rs` |
//! | what followers are told: changes, removed names | `engine/serve/change_stream.rs`, `profile/removed_shares.rs` |
//! | answering requests, upload slots and rates | `engine/serve/` (`library`, `upload_slots`, `upload_scheduler`, `range_reader`) |
//! | sharing: walking, hashing, refreshing | `engine/share/`, `engine/node/share_refresher.rs` |
//! | folders that follow the disk | `engine/node/share_watcher/`, `engine/share/folder_sync.rs`, `profile/share_roots.rs` |
//! | what a node can be asked for, here or in another process | `engine/node/{api,node_handle}.rs`, `engine/node/{node_core,control}` |
//! | the profile on disk: folder, key, schema, migrations, settings | `profile/{profile_folder,profile_identity,schema,database_opening,settings}.rs` |
//! | JSON for programs, `peer events`, the hook | `ui/json.rs`, `engine/event_json.rs`, `commands/events.rs`, `engine/message_hook.rs` |
//! | conversations: model, in the scrollback, in panes | `ui/chat_model.rs`, `ui/line_view/`, `ui/full_view/`, `commands/view_session/` |
//! | a view's or a page's node, its fetches | `engine/node_connection.rs`, `engine/background_fetches/` |
//! | the page in a browser: sessions, API, events, uploads | `web/{page_server,page_session}.rs`, `web/{api,account_seat}/`, `engine/dropped_files.rs` |
//! | progress | `engine/progress_throttle.rs`, `ui/{fetch_bars,fetch_text,progress_row,transfer_list}.rs` |
//! | rooms: commands, actions at the tracker | `commands/{room,rooms}.rs`, `engine/room_actions.rs` |
//! | files of a room | `engine/room_contacts.rs`, `engine/fetch/sources/room_sources.rs` |
//! | links for guests: tokens, files, uploads | `engine/guest_links/`, `profile/{guest_links,guest_uploads}.rs`, `commands/link/` |
//! | links for guests: conversations | `engine/guest_links/guest_chat.rs`, `profile/{guest_chat,guest_name}.rs`, `web/chat_*.rs`, `commands/link/link_chat.rs` |
//! | links for guests: HTTP, pages, bounds | `web/` |
//! | the door: accounts and their folders, the pass for the tracker, login, who is awake | `engine/door/`, `engine/{door_pass,node_pool}.rs`, `web/door/`, `web/account_seat/seat_activity.rs`, `commands/web/door_command.rs` |
//! | doctor: probes, findings, report | `engine/doctor/`, `net/{port_probe,path_measurement,socket_abilities}.rs`, `sys/{firewall,neighbour}.rs`, `ui/doctor_text.rs` |
//! | probes for others' doctors | `engine/serve/port_prober.rs` |
//! | languages: translations, which one a run has | `../translations`, `cli/translations.rs`, `util/translated_text.rs`, the `localization` and `arguments` crates |
//! | configuration file; the help of one screen; man pages | `cli/{config_file,help_screens,command_overview,man_pages}.rs`, `commands/config.rs` |
//! | completion of command lines | `cli/completion_request.rs`, `commands/completions/` |
//! | calls for attention: bell, desktop | `engine/{message_attention,desktop_notifier}.rs`, `commands/bell.rs` |
//! | what a package installs | `../packaging`, `Cargo.toml` |
//! | discovery of trackers (mDNS) | `net/discovery/`, `engine/tracker_discovery.rs`, the `mdns` crate (`shared/mdns`) |
//!
//! # Two walks
//!
//! A message: `ui/composer` → `commands/view_session` → `engine/node/api` → `engine/node/delivery` →
//! `engine/chat/chat_sender` (with the pure `delivery_state`) → `net/link`; at the other side `engine/serve` →
//! `engine/chat/chat_receiver` → `profile/message_store`, and the acknowledgement back.
//!
//! A group of a file: `engine/fetch/plan` chooses it → `downloader` requests it → `net/stream` → `writer/group_verifier` →
//! `writer/group_writer` → `partial_file` → `writer/finalizer` → events → `ui/fetch_bars`.

pub mod cli;
pub mod commands;
pub mod engine;
pub mod net;
pub mod profile;
pub mod sys;
pub mod ui;
pub mod util;
pub mod web;
