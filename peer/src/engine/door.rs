//! Accounts behind a door: users who have nothing but a browser, and whose identities this machine holds.
//!
//! Each account has a profile of its own below the door's folder, and a node of its own while it is in use. Its password
//! is checked by the tracker at each login and is stored nowhere.
//!
//! ```text
//! open(user, password, consent) ─► the tracker checks the password
//!    ├─ the account's key is here ────────────────────────────► LocalUser
//!    ├─ its key is on another machine ─► MoveNeeded ── consent: Move ─► bound to a key here, `key_changed` for others
//!    └─ it has no key (the exercise's) ► BindNeeded ── consent: Bind ─► bound to a key here, no plaintext any more
//! register(user, password) ─► a new account, bound to a key here
//! ```
//!
//! | what is in the door's folder | |
//! |---|---|
//! | `NAME` | the profile of an account; how a user's name is written there: [`AccountFolder`] |
//! | `~new-N` | the profile of an account that is being taken in; removed, or finished, at the next start |
//! | `~NAME-N` | the profile of an account that was removed at the tracker, and whose name somebody else has now |
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | accounts of a door | [`MAX_DOOR_ACCOUNTS`] | no account is taken in or made |
//! | fetched files | a day after a browser took them, a month otherwise | removed |
//! | changes of one account's profile | one at a time | they wait |
//! | passwords | those of the tracker, and of the server that asks ([`crate::web`]) | refused |

mod account_folder;
mod account_status;
mod account_turns;
mod door_accounts;
mod door_refusal;
mod download_folders;
mod new_account_folder;

pub use self::account_folder::AccountFolder;
pub use self::account_turns::{AccountTurn, AccountTurns};
pub use self::door_accounts::{DoorAccounts, DoorConsent, DoorTracker, MAX_DOOR_ACCOUNTS};
pub use self::door_refusal::DoorRefusal;
pub use self::download_folders::{download_folder, mark_taken, used_bytes};
