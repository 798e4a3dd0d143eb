//! What only one operating system has. Everything outside this module is portable Rust.

mod controls;
mod descriptors;
mod durable;
mod exclusive_rename;
mod extents;
mod file_system;
mod file_version;
mod folder;
mod hidden_input;
mod interfaces;
pub mod job;
mod keyboard;
mod message;
mod network_watch;
mod outlet;
pub mod path_text;
mod private_folder;
mod process_state;
mod room;
mod route;
mod time_zone;

pub use controls::HiddenControls;
pub use descriptors::{is_without_descriptors, open_files_limit};
pub use durable::{cannot_lock, clear, reserve, sync_all};
pub use extents::holes;
pub use file_system::{InodeKey, device, inode_key, is_pseudo};
pub use file_version::{FileId, VersionChange, file_id, hard_link, id_of, is_same_file};
pub use folder::{
    Entry, FileMark, Folder, FolderObstacle, FreeRoom, is_executable, is_name_refused, is_owner_only, make_executable,
    make_owner_only, on_disk, open_regular,
};
pub use hidden_input::{HiddenInput, TypedAhead, drop_typed_ahead, show_input};
pub use interfaces::{
    InterfaceKind, LocalAddress, interface_index, interface_mtu, interface_name, link_local_interfaces,
    local_addresses, source_of_route_to,
};
pub use keyboard::Keyboard;
pub use message::{is_device_failure, is_out_of_descriptors, plain_message};
pub use network_watch::{NetworkChange, NetworkWatch};
pub use outlet::{Outlet, is_stdout_closed, open_stream, outlet};
pub use private_folder::{has_no_locks, is_this_user, runtime_folder};
pub use process_state::{command_of, is_stopped};
pub use room::{RoomLimit, exhausted_room, is_out_of_inodes, is_read_only};
pub use route::route_mtu;
pub use time_zone::{tell_unknown_zone_with, time_zone};
