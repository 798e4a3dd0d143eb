//! A room and its members.

use crate::User;

/// Makes `#lab`, owned by the first of these users; the others join it.
///
/// # Panics
/// When one of them can't.
#[track_caller]
pub fn make_room(users: &[&User<'_>]) {
    for (number, user) in users.iter().enumerate() {
        let action = if number == 0 { "create" } else { "join" };
        user.peer(["room", action, "lab"]).run().exits(0);
    }
}
