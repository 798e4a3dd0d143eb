//! The real binaries, end to end. One test binary: it links once and runs its tests side by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "all of this is test code, the helpers of the tests as well"
)]

mod at_home;
mod attention;
mod background;
mod bad_network;
mod certificates;
mod changing_files;
mod chat;
mod chat_faults;
mod clipboard;
mod clocks;
mod cloned_profiles;
mod colliding_names;
mod completions;
mod copies;
mod desktop;
mod destinations;
mod discovery;
mod doctor;
mod earlier;
mod endings;
mod events;
mod exercise;
mod faults;
mod fetch_json;
mod file_systems;
mod first_contact;
mod follows;
mod full_view;
mod history;
mod hostile_addresses;
mod hostile_caller;
mod hostile_chat;
mod hostile_discovery;
mod hostile_guests;
mod hostile_lines;
mod hostile_links;
mod hostile_members;
mod hostile_names;
mod hostile_paths;
mod hostile_peer;
mod hostile_sharers;
mod hostile_tracker;
mod hostile_words;
mod house;
mod identity;
mod interruptions;
mod keyboard;
mod kill_loop;
mod languages;
mod lasting;
mod leaving;
mod limits;
mod line_view;
mod link_pages;
mod link_uploads;
mod links;
mod looking_around;
mod machines;
mod main_job;
mod mishaps;
mod names;
mod node_api;
mod node_life;
mod offers;
mod outbox;
mod passwords;
mod portuguese_commands;
mod portuguese_errors;
mod portuguese_lists;
mod portuguese_views;
mod profile_folder;
mod restart;
mod resume;
mod room_commands;
mod room_crowds;
mod room_files;
mod room_history;
mod room_views;
mod rooms;
mod seeking;
mod sends;
mod serving;
mod shares;
mod silent_tracker;
mod sources;
mod streams;
mod terminal;
mod tracker_faults;
mod tracker_memory;
mod tracker_postgres;
mod tracker_rooms;
mod trees;
mod view_faults;
mod watching;
mod wishes;
