//! What only one operating system has. Everything outside this module is portable Rust.

mod durable;
mod folder;
pub mod job;
mod message;
pub mod path_text;
mod route;

pub use durable::{reserve, sync_all};
pub use folder::{
    Entry, FileId, Folder, file_id, is_executable, is_name_refused, is_ours_alone, make_executable, open_regular,
};
pub use message::plain_message;
pub use route::route_mtu;
