//! Telling a room of a send: a message whose sender can't be asked to leave out one that it has sent already.

use shared::RoomName;

use super::chat::compose_room_send;
use super::node::NodeApi;
use super::{Error, now_ms, run_blocking};
use crate::profile::{OutgoingSend, Profile};

/// Tells a room of a send, unless that was done. A send goes on record before, so it may be one of which an earlier run could
/// not tell.
///
/// # Errors
/// The node's, or the profile's if it can't be recorded; then the room is told once more the next time.
pub async fn announce_in_room(
    node: &NodeApi,
    profile: &Profile,
    room: &RoomName,
    sent: &OutgoingSend,
) -> Result<(), Error> {
    if sent.announced_at.is_some() {
        return Ok(());
    }
    node.write_in_room(room, &compose_room_send(room, &sent.send), false).await?;
    let (profile, number) = (profile.clone(), sent.number);
    run_blocking(move || Ok(profile.mark_send_announced(number, now_ms())?)).await
}
