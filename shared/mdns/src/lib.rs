//! Trackers on the local network: multicast DNS (RFC 6762) with service discovery (RFC 6763), as far as one service,
//! `_vizinho._tcp.local`, needs it.
//!
//! The tracker announces ([`Announcer`]), the peer browses ([`Browser`]). Anybody on the network can send anything to both,
//! so that neither has a cache: the announcer looks at questions only and keeps when it said what; the browser hands each
//! announcement on and forgets it. An announcement is one packet with all its records, as responders send it.
//!
//! ```text
//! announcer ─► responder ─► message     questions and time in, packets out: pure
//! browser   ─────────────► message      packets in, advertisements out: pure
//!     └───────► sockets ─► interfaces   one socket an interface and family, read and written by one thread
//! ```
//!
//! A socket is bound to the group's address: it takes only what was sent to the group, which no router passes on, and only
//! from its own interface. An interface that comes, goes or gets other addresses is noticed within
//! [`REFRESH_INTERVAL`] and announced anew.
//!
//! Left out of RFC 6762: probing, as an instance's name carries the key of its tracker and two of the same name are both
//! listed; known answers, which spare one packet a second; queries and answers in several packets.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | interfaces | 32, those with the lowest numbers | neither asked nor told |
//! | addresses of an interface that are announced | 16, link-local ones last | left out |
//! | services of one announcer | 8 | an error |
//! | bytes of a packet | 9,000 (RFC 6762, 17) | its end is cut off, and what is cut there left out |
//! | questions, records and instances of a packet that are looked at | 64, 128 and 8 | left out; of instances the browser says so |
//! | packets of one socket in a row | 64 | the other sockets and the announcements come first |
//! | multicast answers | one a second for each service and socket | one for all who asked meanwhile |
//! | unicast answers | 32 a second | a multicast answer, or none to a resolver that can't hear it |

#![warn(missing_docs)]

mod announcer;
mod browser;
mod interfaces;
mod message;
mod responder;
mod sockets;

pub use announcer::{Announcer, MAX_SERVICES};
pub use browser::{BrowseEvent, Browser};
pub use interfaces::is_same_network;
pub use message::{AdvertisedState, Advertisement, InvalidService, Service, ServiceDetails};
pub use responder::{AddressSelection, AnnouncedService};
pub use sockets::{REFRESH_INTERVAL, StopHandle, StopSignal, stop_pair};
