//! Code for one operating system or family. Everything outside this module is portable Rust.

mod browser_launch;
mod clipboard;
mod control_echo;
mod descriptor_limit;
mod disk_space;
mod durability;
mod exclusive_rename;
mod file_holes;
mod file_locks;
mod file_system;
mod file_version;
mod firewall;
mod folder_handle;
mod folder_moves;
mod hidden_input;
mod host_name;
mod interfaces;
pub mod job_control;
mod journal_stream;
mod keyboard;
mod mount_points;
mod neighbour;
mod network_monitor;
mod output_target;
pub mod path_text;
mod private_file;
mod process_state;
mod processor_priority;
mod route;
mod runtime_folder;
mod system_error;
mod time_zone;
mod user_notifier;

pub use browser_launch::open_in_browser;
pub use clipboard::{ClipboardError, ClipboardKind, read_clipboard, write_clipboard};
pub use control_echo::ControlEchoGuard;
pub use descriptor_limit::{is_descriptor_limit_reached, open_files_limit};
pub use disk_space::{SpaceLimit, exhausted_space, is_out_of_inodes, is_read_only_mount};
pub use durability::{reserve_space, sync_all, zero_range};
pub use file_holes::holes;
pub use file_locks::{is_locking_unsupported, write_lock_holders};
pub use file_system::{InodeKey, device, inode_key, is_changed_elsewhere, is_pseudo_file_system};
pub use file_version::{FileVersion, VersionChange, file_version, hard_link, is_same_file, open_file_version};
pub use firewall::{FilterChain, FirewallManager, active_firewall};
pub use folder_handle::{
    EntryKind, FileIdentity, FolderHandle, FreeSpace, UnwritableReason, disk_name, is_executable, is_name_refused,
    is_owner_only, make_executable, make_owner_only, open_regular,
};
pub use folder_moves::{FileStamp, LocalEntry, exchange, local_entry, move_no_replace, remove_empty_folder};
pub use hidden_input::{HiddenInputGuard, TypeAheadPolicy, discard_typed_ahead, restore_echo};
pub use host_name::host_name;
pub use interfaces::{
    InterfaceKind, LocalAddress, interface_index, interface_mtu, interface_name, link_local_interfaces,
    local_addresses, route_source,
};
pub use journal_stream::is_stderr_journal;
pub use keyboard::KeyboardReader;
pub use mount_points::mount_points;
pub use neighbour::{NeighbourState, neighbour_state};
pub use network_monitor::{NetworkChange, NetworkMonitor};
pub use output_target::{OutputTarget, classify_output, is_stdout_closed, open_stream};
pub use private_file::replace_private_file;
pub use process_state::{is_process_running, is_process_stopped, process_command};
pub use processor_priority::lower_process_priority;
pub use route::route_mtu;
pub use runtime_folder::{current_uid, is_trusted_uid, runtime_folder};
pub use system_error::{is_device_failure, is_too_many_open_files, plain_message};
pub use time_zone::{TIME_ZONE_NOTIFIER, time_zone};
pub use user_notifier::UserNotifier;
