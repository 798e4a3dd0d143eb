//! Sources of a fetch: finds who has its files, orders the dials, opens the links and asks what each has.
//!
//! | question | module |
//! |---|---|
//! | which members of a room share the files | `room_sources` |
//! | who else has them | `source_finder`, by the tracker's lists `tracker_candidates` |
//! | who is dialled first, and how many at once | `candidate_dials` |
//! | how a link is opened, and which files its user has | `source_dialer` |
//! | which groups of a file a source has, now and later | `availability_watch` |

mod availability_watch;
mod candidate_dials;
mod room_sources;
mod source_dialer;
mod source_finder;
mod tracker_candidates;

pub(super) use self::availability_watch::watch_availability;
pub use self::room_sources::{MemberFiles, list_room_files};
pub(super) use self::room_sources::{RoomSources, connect_room};
pub(super) use self::source_dialer::{ConnectedSource, SourceDialer, SourceFiles, watch_chat_activity};
pub(super) use self::source_finder::{ExcludedUsers, SearchEvent, SourceFinder};
