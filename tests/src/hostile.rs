//! The other side, lying.
//!
//! All of these have real keys and real TLS, and where they need one a real account at the lab's tracker: what they do
//! wrong is only what their name says.

mod caller;
mod crowd;
mod member;
mod offer;
mod peer;
mod plain;
mod responder;
mod session;
mod tracker;
mod wire;
mod withholder;

pub use caller::{Caller, Ending};
pub use crowd::Crowd;
pub use member::{CapturedRun, HostileMember, JoinedRoom};
pub use offer::Offer;
pub use peer::{HostilePeer, Stage, Trick};
pub use plain::PlainSession;
pub use responder::{Announcement, HostileResponder};
pub use session::Session;
pub use tracker::{HostileTracker, say_and_stay};
pub use withholder::{Withholding, WithholdingMember};
