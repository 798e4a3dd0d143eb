//! Receipts, as the sender's profile records them. All functions block.

use shared::peer::{FileSend, SendReceipt};
use shared::{RoomId, UserName};

use super::send_creation::clear_settled_sends;
use crate::engine::Error;
use crate::profile::{Audience, Profile, SendState};

/// A receipt, as the sender's profile took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRecord {
    /// The send that it is about.
    pub number: i64,
    /// What was sent.
    pub send: FileSend,
    /// The room to which it was sent, if it was one.
    pub room: Option<RoomId>,
    /// False if the same was said before.
    pub is_new: bool,
}

/// Records what became of a send; `None` if there is no such send to that user. `others` is the number of the room's other
/// members.
pub fn record_receipt(
    profile: &Profile,
    from: &UserName,
    receipt: &SendReceipt,
    others: usize,
) -> Result<Option<ReceiptRecord>, Error> {
    let SendReceipt { id, room, hash, outcome } = receipt;
    let audience = match (id, room) {
        (Some(_), None) => Audience::Person(from.clone()),
        (None, Some(room)) => Audience::Room(*room),
        _ => return Ok(None),
    };
    let sends = profile.sends()?;
    // The newest: to a room the same may have been sent before.
    let meant = sends.into_iter().rev().find(|send| {
        send.audience == audience && send.id == *id && send.send.hash == *hash && send.state != SendState::Ended
    });
    let Some(meant) = meant else { return Ok(None) };
    let is_new = match room {
        None => profile.settle_send(meant.number, (*outcome).into())?,
        Some(_) => {
            let is_new = profile.add_room_receipt(meant.number, from, *outcome)?;
            let (done, declined) = profile.room_receipt_counts(meant.number)?;
            // At least so many: members may have gone since they answered.
            if done + declined >= others {
                profile.settle_send(meant.number, if done > 0 { SendState::Done } else { SendState::Declined })?;
            }
            is_new
        }
    };
    clear_settled_sends(profile)?;
    Ok(Some(ReceiptRecord { number: meant.number, send: meant.send, room: *room, is_new }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::ContentHash;
    use shared::peer::{MessageId, ReceiptOutcome, SendKind};

    use super::*;
    use crate::profile::NewSend;

    fn file(name: &str, content: &str) -> FileSend {
        let (name, hash) = (name.parse().unwrap(), ContentHash::of(content.as_bytes()));
        FileSend { name, kind: SendKind::File, files: 1, size: 1, hash }
    }

    fn add(profile: &Profile, audience: &Audience, id: Option<MessageId>, send: &FileSend) -> i64 {
        let new = NewSend { audience, id, send, path: Path::new("/x"), is_copy: false, keeps_shares: true };
        profile.add_send(new, 1).unwrap().unwrap()
    }

    #[test]
    fn only_the_receiver_settles_a_send_and_only_what_was_sent() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let [bob, carol]: [UserName; 2] = ["bob", "carol"].map(|name| name.parse().unwrap());
        let (id, send) = (MessageId::from_bytes([1; 16]), file("plan", "1"));
        let number = add(&profile, &Audience::Person(bob.clone()), Some(id), &send);
        let receipt = |hash, outcome| SendReceipt { id: Some(id), room: None, hash, outcome };
        let done = receipt(send.hash, ReceiptOutcome::Done);
        let record = |from: &UserName, receipt: &SendReceipt| record_receipt(&profile, from, receipt, 0).unwrap();
        assert_eq!(record(&carol, &done), None);
        assert_eq!(record(&bob, &receipt(ContentHash::of(b"2"), ReceiptOutcome::Done)), None);
        assert_eq!(record(&bob, &SendReceipt { id: None, ..done.clone() }), None);
        assert!(record(&bob, &done).unwrap().is_new);
        assert!(!record(&bob, &receipt(send.hash, ReceiptOutcome::Declined)).unwrap().is_new);
        assert_eq!(profile.send(number).unwrap().unwrap().state, SendState::Done, "the first word counts");
    }

    #[test]
    fn a_room_s_send_is_over_when_everybody_spoke() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let (room, send) = (RoomId::from_bytes([1; 16]), file("slides", "1"));
        let number = add(&profile, &Audience::Room(room), None, &send);
        let state = || profile.send(number).unwrap().unwrap().state;
        let users: Vec<UserName> = ["bob", "carol", "dave"].map(|name| name.parse().unwrap()).into();
        for (count, (user, outcome)) in
            (1..).zip(users.iter().zip([ReceiptOutcome::Done, ReceiptOutcome::Done, ReceiptOutcome::Declined]))
        {
            assert_eq!(state(), SendState::Waiting);
            let receipt = SendReceipt { id: None, room: Some(room), hash: send.hash, outcome };
            assert!(record_receipt(&profile, user, &receipt, 3).unwrap().unwrap().is_new);
            let (done, declined) = profile.room_receipt_counts(number).unwrap();
            assert_eq!(done + declined, count);
        }
        assert_eq!(state(), SendState::Done);
    }
}
