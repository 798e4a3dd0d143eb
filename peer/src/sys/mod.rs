//! What only one operating system has. Everything outside this module is portable Rust.

mod folder;
mod route;

pub use folder::{
    Entry, FileId, Folder, file_id, is_executable, is_ours_alone, make_executable, modified_ns, open_regular,
};
pub use route::route_mtu;
