//! Intake of receipts: what receivers tell of the sends of this node's user.

use shared::UserName;
use shared::peer::{PeerReply, SendReceipt};

use super::request_refusal::{RequestRefusal, internal_refusal, not_found_refusal};
use super::share_access::FileRequester;
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::rooms::Rooms;
use crate::engine::sends::{ReceiptRecord, record_receipt};
use crate::engine::{LocalUser, run_blocking};

/// Records what a receiver tells of a send of ours.
pub(super) async fn take_receipt(
    me: &LocalUser,
    rooms: &Rooms,
    events: &EventBus,
    user: &UserName,
    by: &FileRequester,
    receipt: SendReceipt,
) -> Result<PeerReply, RequestRefusal> {
    let others = match receipt.room {
        None => 0,
        // Only a member's word counts, as only members may have what was sent.
        Some(room) => {
            let directory = rooms.directory();
            if !directory.is_member(room, user, &by.key) {
                return Err(not_found_refusal());
            }
            let room = directory.rooms().into_iter().find(|known| known.id() == room);
            // Without the user, who is a member as well.
            room.map_or(0, |room| room.members().len().saturating_sub(1))
        }
    };
    let (profile, from, outcome) = (me.profile.clone(), user.clone(), receipt.outcome);
    let recorded = run_blocking(move || record_receipt(&profile, &from, &receipt, others)).await;
    let record = recorded.map_err(internal_refusal)?.ok_or_else(not_found_refusal)?;
    if record.is_new {
        let ReceiptRecord { number, send, room, .. } = record;
        let (by, is_room) = (user.clone(), room.is_some());
        events.send(NodeEvent::SendSettled { by, number, send, is_room, outcome });
    }
    Ok(PeerReply::ReceiptStored {})
}
