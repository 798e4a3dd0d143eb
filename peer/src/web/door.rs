//! The door for everybody: who has an account at the tracker, or may make one, logs in with a browser.
//!
//! ```text
//! DoorServer ─► api_router ─► handlers ─► AccountSeat          one for each account that is in use
//!     ├─► door_routes: POST /session, POST /accounts ─► DoorAccounts (the tracker checks the password)
//!     └─► DoorSeats: who is awake; rests, wakes, ends
//! ```
//!
//! A seat rests when no browser has been there for a while: its node leaves the tracker, and what others write waits with them.
//! The next call of a session wakes it. A restart of the door ends all sessions; accounts stay.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | accounts online at once | [`MAX_AWAKE_SEATS`] | the one that was unused longest rests; if a browser or work is at each, a login is refused |
//! | time online after the last browser left | `--stay-online`, 10 minutes unless told | the seat rests |
//! | a session without a call | 12 h | it ends |
//! | wrong passwords of one address (of IPv6: one /64) | 20, one regained every 30 s | refused for that time, right ones too |
//! | new accounts of one address | 40, one regained every 30 s | refused for that time |
//! | addresses that are remembered for these | 4,096 | those with most attempts left are forgotten |
//! | connections | 1,024, and 64 of one address | closed at once |
//! | uploads of an account | 10 GB ([`door_seats::UPLOAD_QUOTA`]), with those that run, and 1 GiB of the disk stays free | refused |
//! | uploads at once | 32, and 8 of one account | refused for the moment |
//! | fetched files of an account | 10 GB ([`door_seats::DOWNLOAD_QUOTA`]) | refused, or stopped when the size is known |
//! | accounts | [`crate::engine::door::MAX_DOOR_ACCOUNTS`] | no more are taken in |

mod door_refusal_answer;
mod door_routes;
mod door_seats;
mod door_server;

pub use self::door_seats::MAX_AWAKE_SEATS;
pub use self::door_server::{DoorServer, DoorServerConfig};
