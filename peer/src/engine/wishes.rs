//! Wishes: searches that wait until somebody shares a file that matches. Pure: [`WishQuery`] reads what the user wrote, and
//! [`decide`] chooses among the files that the tracker found.
//!
//! ```text
//! tracker ── "the files of alice changed" ──► the node asks for each wish that waits ──► decide ──► told once
//!                                                                                              └──► fetched
//! ```
//!
//! The running node looks ([`node`](super::node)), [`wish_fetch`](super::wish_fetch) fetches.

mod wish_decision;
mod wish_fetch_outcome;
mod wish_query;

pub use wish_decision::{WishDecision, WishHoldReason, decide, hold_reason};
pub use wish_fetch_outcome::WishFetchOutcome;
pub use wish_query::WishQuery;

pub use crate::profile::WishMatch;
