//! The names of the actions, ours and the exercise's.

const ACTIONS: [&str; 32] = [
    "REGISTER",
    "LOGIN",
    "REGISTER_FILES",
    "LIST_PEERS",
    "LOGOUT",
    "HEARTBEAT",
    "CREATE_ROOM",
    "JOIN_ROOM",
    "LIST_ROOMS",
    "GET_ROOM_MEMBERS",
    "KICK_MEMBER",
    "RESUME",
    "WHOIS",
    "FIND",
    "SUBSCRIBE",
    "PASSWD",
    "FORWARDED",
    "ROOM_CREATE",
    "ROOM_JOIN",
    "ROOM_LEAVE",
    "ROOM_LIST",
    "ROOM_MEMBERS",
    "ROOM_INVITE",
    "ROOM_KICK",
    "ROOM_BAN",
    "ROOM_UNBAN",
    "ROOM_CUT",
    "ROOM_ROLE",
    "ROOM_TOPIC",
    "ROOM_PASSWD",
    "ROOM_OWNER",
    "ROOM_DELETE",
];
/// Number of leading [`ACTIONS`] that the exercise has.
const EXERCISE_ACTION_COUNT: usize = 11;

/// Lists the actions.
pub(super) fn action_names() -> String {
    ACTIONS.join(", ")
}

/// Lists the actions of the exercise.
pub(super) fn exercise_action_names() -> String {
    ACTIONS.get(..EXERCISE_ACTION_COUNT).unwrap_or_default().join(", ")
}

/// Returns the action with this name, in any case of letters.
pub(super) fn known_action(name: &str) -> Option<&'static str> {
    // The listed spelling and not the client's: actions are labels of counters, which nobody may choose.
    ACTIONS.iter().find(|known| known.eq_ignore_ascii_case(name.trim())).copied()
}
