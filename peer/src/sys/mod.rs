//! What only one operating system has. Everything outside this module is portable Rust.

mod controls;
mod durable;
mod file_system;
mod folder;
pub mod job;
mod message;
pub mod path_text;
mod room;
mod route;

pub use controls::HiddenControls;
pub use durable::{reserve, sync_all};
pub use file_system::{InodeKey, device, inode_key, is_pseudo};
pub use folder::{
    Entry, FileId, Folder, file_id, is_executable, is_name_refused, is_ours_alone, make_executable, open_regular,
};
pub use message::plain_message;
pub use room::is_full;
pub use route::route_mtu;
