//! What happens at links, for whoever runs the server.

use std::net::IpAddr;
use std::sync::Arc;

use shared::ContentHash;

use crate::engine::guest_links::GuestPost;

/// An event of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A browser opened the link.
    Opened {
        /// The link's number.
        link: i64,
        /// The guest's address.
        address: IpAddr,
    },
    /// A download of a file, or of an archive, began at its beginning.
    Taken {
        /// The link's number.
        link: i64,
        /// The guest's address.
        address: IpAddr,
        /// The file's name, or a description of the archive, for people.
        name: String,
    },
    /// A guest wrote a message, which is stored.
    Written {
        /// The guest's address.
        address: IpAddr,
        /// The message.
        post: GuestPost,
    },
    /// A file arrived whole.
    Received {
        /// The link's number.
        link: i64,
        /// The guest's address.
        address: IpAddr,
        /// The name that it got.
        name: String,
        /// Its size.
        size: u64,
        /// Its hash.
        hash: ContentHash,
    },
}

/// A handler of events of links; it must not block.
pub type LinkEventHandler = Arc<dyn Fn(LinkEvent) + Send + Sync>;
