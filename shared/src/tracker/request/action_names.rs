//! The names of the actions, ours and the exercise's.

const ACTIONS: [&str; 12] = [
    "REGISTER",
    "LOGIN",
    "REGISTER_FILES",
    "LIST_PEERS",
    "LOGOUT",
    "HEARTBEAT",
    "RESUME",
    "WHOIS",
    "FIND",
    "SUBSCRIBE",
    "PASSWD",
    "FORWARDED",
];
/// Number of leading [`ACTIONS`] that the exercise has.
const EXERCISE_ACTION_COUNT: usize = 6;
/// The exercise's actions for rooms. They are known only to be refused by name.
const ROOM_ACTIONS: [&str; 5] = ["CREATE_ROOM", "JOIN_ROOM", "LIST_ROOMS", "GET_ROOM_MEMBERS", "KICK_MEMBER"];

/// Lists the actions.
pub(super) fn action_names() -> String {
    ACTIONS.join(", ")
}

/// Lists the actions of the exercise.
pub(super) fn exercise_action_names() -> String {
    ACTIONS.get(..EXERCISE_ACTION_COUNT).unwrap_or_default().join(", ")
}

/// Returns the action or room action with this name, in any case of letters.
pub(super) fn known_action(name: &str) -> Option<&'static str> {
    ACTIONS.iter().chain(&ROOM_ACTIONS).find(|known| known.eq_ignore_ascii_case(name.trim())).copied()
}
